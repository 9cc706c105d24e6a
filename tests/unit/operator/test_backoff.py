"""Waiting times before retries: 10 s, doubled, at most 300 s, less up to a fifth."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pdfjob_api.pdfjob import Backoff
from pdfjob_operator.backoff import retry_delay

FULL = [10, 20, 40, 80, 160, 300, 300]


@pytest.mark.parametrize(("retry", "full"), list(enumerate(FULL, start=1)))
def test_the_delay_doubles_up_to_its_cap(retry: int, full: int) -> None:
    delays = [retry_delay(Backoff(), retry, f"chunk/{number}") for number in range(200)]
    assert all(0.8 * full <= delay <= full for delay in delays)
    assert max(delays) - min(delays) > 0.15 * full, "chunks that fail together start together"


def test_the_same_retry_always_waits_the_same_time() -> None:
    assert retry_delay(Backoff(), 2, "chunk/2") == retry_delay(Backoff(), 2, "chunk/2")
    assert retry_delay(Backoff(), 2, "chunk/2") != retry_delay(Backoff(), 2, "chunk/3")


def test_a_rate_limit_waits_four_times_as_long() -> None:
    assert retry_delay(Backoff(), 1, "s", rate_limited=True) == 4 * retry_delay(Backoff(), 1, "s")


def test_the_policy_of_the_job_counts() -> None:
    backoff = Backoff(initial_seconds=3, factor=10, max_seconds=1000)
    assert 24 <= retry_delay(backoff, 2, "s") <= 30


@given(
    initial=st.integers(1, 3600),
    factor=st.integers(1, 10),
    most=st.integers(1, 86400),
    retry=st.integers(-5, 10_000),
    seed=st.text(),
    limited=st.booleans(),
)
def test_the_delay_is_always_positive_and_capped(
    initial: int, factor: int, most: int, retry: int, seed: str, *, limited: bool
) -> None:
    backoff = Backoff(initial_seconds=initial, factor=factor, max_seconds=most)
    delay = retry_delay(backoff, retry, seed, rate_limited=limited)
    assert 0.8 * min(initial, most) <= delay <= most
