"""The clock of a job: it goes while the job is worked on, stands while it waits, and sums the stretches."""

from __future__ import annotations

from datetime import timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pdfjob_api.pdfjob import Clock
from pdfjob_operator.jobclock import advance, elapsed
from tests.support.builders import NOW, at


@pytest.mark.parametrize(
    ("clock", "working", "after"),
    [
        (None, False, None),
        (None, True, Clock(since=at(10))),
        (Clock(seconds=5), False, Clock(seconds=5)),
        (Clock(seconds=5), True, Clock(seconds=5, since=at(10))),
        (Clock(seconds=5, since=at(0)), True, Clock(seconds=5, since=at(0))),
        (Clock(seconds=5, since=at(0)), False, Clock(seconds=15)),
    ],
)
def test_the_clock_changes_only_when_work_begins_or_ends(
    clock: Clock | None, after: Clock | None, *, working: bool
) -> None:
    assert advance(clock, NOW + timedelta(seconds=10), working=working) == after


@pytest.mark.parametrize(
    ("clock", "seconds"),
    [
        (None, 0),
        (Clock(seconds=5), 5),
        (Clock(seconds=5, since=at(-10)), 15),
        (Clock(seconds=5, since=at(10)), 5),  # the clock of the machine was set back: no time is taken away
    ],
)
def test_the_time_worked_on(clock: Clock | None, seconds: float) -> None:
    assert elapsed(clock, NOW) == seconds


@given(st.lists(st.integers(1, 5000), min_size=2, max_size=12))
def test_stretches_of_work_sum_and_pauses_between_them_do_not(lengths: list[int]) -> None:
    clock, now, worked = None, NOW, 0
    for at_work, (length, _) in enumerate(pairwise([*lengths, 0])):
        working = at_work % 2 == 0
        clock = advance(clock, now, working=working)
        now += timedelta(seconds=length)
        worked += length if working else 0
        assert elapsed(clock, now) == worked
