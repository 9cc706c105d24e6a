"""The pace of many runners under one rate limit, in virtual time."""

from __future__ import annotations

import heapq
import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from chunk_runner.processors.gemini.calls import PATIENCE
from chunk_runner.processors.gemini.pace import Pace

SECONDS = 1800.0
SETTLED = 300.0
CALLS_OF_A_START = 10

Limiter = Callable[[float], float | None]
"""Takes the time; returns None when the call is allowed, else how long to wait."""


def any_minute(allowed: int) -> Limiter:
    """Allow so many calls in any 60 seconds."""
    times: deque[float] = deque()

    def limit(now: float) -> float | None:
        while times and times[0] <= now - 60:
            times.popleft()
        if len(times) < allowed:
            times.append(now)
            return None
        return times[0] + 60 - now

    return limit


def each_minute(allowed: int) -> Limiter:
    """Allow so many calls in each minute of the clock."""
    counts: dict[int, int] = {}

    def limit(now: float) -> float | None:
        minute = int(now // 60)
        if counts.get(minute, 0) < allowed:
            counts[minute] = counts.get(minute, 0) + 1
            return None
        return (minute + 1) * 60 - now

    return limit


def any_minute_saying_20_s(allowed: int) -> Limiter:
    """Allow so many calls in any 60 seconds, and ask for the same wait whatever it really takes."""
    limit = any_minute(allowed)
    return lambda now: None if limit(now) is None else 20.0


@dataclass
class Runner:
    """A runner that is replaced by a new start after some calls; what it found out of the pace is handed on."""

    pace: Pace = field(default_factory=lambda: Pace(0))
    calls: int = 0
    waited: float = 0


def simulate(limit: Limiter, runners: int, latency: float, seed: int) -> tuple[int, int]:
    """Return how many calls were allowed and refused once things had settled."""
    chance = random.Random(seed)
    fleet = [Runner() for _ in range(runners)]
    queue = [(chance.random(), number) for number in range(runners)]
    heapq.heapify(queue)
    allowed = refused = 0
    while queue[0][0] < SECONDS:
        now, number = heapq.heappop(queue)
        runner = fleet[number]
        wait = limit(now)
        if wait is None:
            allowed += now > SETTLED
            took = latency * chance.uniform(0.7, 1.3)
            runner.pace.succeeded(took)
            runner.calls += 1
            runner.waited = 0
            then = now + took + runner.pace.seconds * chance.uniform(0.85, 1.15)
        else:
            refused += now > SETTLED
            runner.pace.refused(wait)
            runner.waited += wait
            then = now + max(wait * chance.uniform(1, 1.1), runner.pace.seconds * chance.uniform(0.85, 1.15))
        if runner.calls == CALLS_OF_A_START or runner.waited > PATIENCE:
            fleet[number] = Runner(Pace(runner.pace.seconds))
            then += 2
        heapq.heappush(queue, (then, number))
    return allowed, refused


@pytest.mark.parametrize("limit", [any_minute, each_minute])
@pytest.mark.parametrize(
    ("per_minute", "runners", "latency"),
    [(60, 1, 0.2), (60, 4, 2.0), (60, 16, 5.0), (60, 16, 10.0), (300, 16, 2.0), (600, 50, 3.0)],
)
def test_runners_use_what_the_limit_allows_and_few_calls_are_refused(
    limit: Callable[[int], Limiter], per_minute: int, runners: int, latency: float
) -> None:
    for seed in (1, 2):
        allowed, refused = simulate(limit(per_minute), runners, latency, seed)
        assert allowed >= 0.9 * per_minute * (SECONDS - SETTLED) / 60
        assert refused < 0.05 * (allowed + refused)


def test_a_service_that_names_the_same_wait_at_each_refusal_is_used_as_well() -> None:
    for per_minute, runners, latency in [(60, 1, 0.2), (60, 4, 2.0), (60, 16, 5.0), (300, 16, 2.0), (600, 50, 3.0)]:
        allowed, refused = simulate(any_minute_saying_20_s(per_minute), runners, latency, 1)
        assert allowed >= 0.85 * per_minute * (SECONDS - SETTLED) / 60
        assert refused < 0.05 * (allowed + refused)


def test_without_refusals_there_is_no_pause() -> None:
    allowed, refused = simulate(lambda _: None, 4, 2.0, 1)
    assert refused == 0
    assert allowed > 0.8 * 4 * (SECONDS - SETTLED) / 2.0


def test_a_refusal_makes_a_pause_that_the_latency_sets_and_successes_take_it_back() -> None:
    pace = Pace(0)
    pace.succeeded(10)
    assert pace.seconds == 0
    pace.refused(None)
    assert pace.seconds == pytest.approx(2.0)
    pace.succeeded(10)
    pace.refused(0)
    assert pace.seconds == pytest.approx(1.2 * 11.964 - 10, abs=0.001)
    for _ in range(200):
        pace.succeeded(10)
    assert pace.seconds == 0


@pytest.mark.parametrize(("wait", "interval"), [(6, 4.8), (20, 6.0), (30, 8.0), (38, 8.0), (90, 8.0), (-1, 4.8)])
def test_the_wait_tells_how_much_too_fast_the_calls_came(wait: float, interval: float) -> None:
    pace = Pace(0)
    pace.succeeded(4)
    pace.refused(wait)
    assert 4 + pace.seconds == pytest.approx(interval)


def test_a_refusal_tells_of_the_interval_only_after_an_answer() -> None:
    pace = Pace(3)
    pace.refused(30)
    assert pace.seconds == 3, "the first call of a start comes after no interval"
    pace.succeeded(1)
    pace.refused(30)
    widened = pace.seconds
    assert widened > 5
    pace.refused(30)
    assert pace.seconds == widened, "the same burst, told once more"


def test_the_pause_has_an_end_and_a_damaged_one_is_none() -> None:
    pace = Pace(1e9)
    assert pace.seconds == 60
    pace.succeeded(1)
    pace.refused(30)
    assert pace.seconds == 60
    assert Pace(-1).seconds == 0
