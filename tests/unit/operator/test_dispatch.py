"""Who may start: priority, then turns, the oldest first; never more than the cap, and nobody starves."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from typing_extensions import override

from pdfjob_operator.dispatch import Demand, Dispatcher, allocate


def demand(waiting: int, *, in_flight: int = 0, created: str = "2026-01-01T00:00:00Z", priority: int = 5) -> Demand:
    return Demand(created, in_flight, (priority,) * waiting)


demands = st.dictionaries(
    st.sampled_from(["a", "b", "c", "d"]),
    st.builds(
        Demand,
        created=st.sampled_from(["2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z"]),
        in_flight=st.integers(0, 5),
        waiting=st.lists(st.integers(0, 10), max_size=6).map(lambda items: tuple(sorted(items, reverse=True))),
    ),
)


def test_without_a_cap_everybody_starts() -> None:
    assert allocate({"a": demand(3), "b": demand(0), "c": demand(7)}, 0) == {"a": 3, "b": 0, "c": 7}


def test_higher_priority_goes_first() -> None:
    assert allocate({"low": demand(4, priority=4), "high": demand(3, priority=6)}, 4) == {"low": 1, "high": 3}


def test_equals_take_turns() -> None:
    assert allocate({"a": demand(9), "b": demand(9)}, 4) == {"a": 2, "b": 2}


def test_one_that_has_more_in_flight_waits_its_turn() -> None:
    assert allocate({"a": demand(9, in_flight=3), "b": demand(9)}, 6) == {"a": 0, "b": 3}


def test_the_oldest_goes_first() -> None:
    young, old = demand(2, created="2026-02-01T00:00:00Z"), demand(2, created="2026-01-01T00:00:00Z")
    assert allocate({"young": young, "old": old}, 1) == {"young": 0, "old": 1}


def test_a_chunk_with_a_priority_of_its_own_overtakes_other_jobs() -> None:
    urgent = Demand("2026-02-01T00:00:00Z", 0, (9, 5, 5))
    assert allocate({"urgent": urgent, "old": demand(3)}, 2) == {"urgent": 1, "old": 1}


def test_what_runs_is_not_taken_away() -> None:
    assert allocate({"a": demand(2, in_flight=6), "b": demand(2, priority=10)}, 4) == {"a": 0, "b": 0}


@given(demands, st.integers(1, 12))
def test_the_cap_holds_and_no_place_stays_empty(jobs: dict[str, Demand], cap: int) -> None:
    granted = allocate(jobs, cap)
    flying = sum(job.in_flight for job in jobs.values())
    wanted = sum(len(job.waiting) for job in jobs.values())
    assert all(0 <= granted[key] <= len(job.waiting) for key, job in jobs.items())
    assert sum(granted.values()) == min(wanted, max(cap - flying, 0))


@given(demands, st.integers(1, 12))
def test_nobody_with_a_lower_priority_starts_while_a_higher_one_waits(jobs: dict[str, Demand], cap: int) -> None:
    granted = allocate(jobs, cap)
    started = [priority for key, job in jobs.items() for priority in job.waiting[: granted[key]]]
    left = [job.waiting[granted[key]] for key, job in jobs.items() if granted[key] < len(job.waiting)]
    assert not started or not left or min(started) >= max(left)


@given(demands, st.integers(1, 12))
def test_each_place_goes_to_the_first_of_all_that_wait_then(jobs: dict[str, Demand], cap: int) -> None:
    free = cap - sum(job.in_flight for job in jobs.values())
    granted = dict.fromkeys(jobs, 0)
    for _ in range(free):
        ranks = [
            (-job.waiting[granted[key]], job.in_flight + granted[key], job.created, key)
            for key, job in jobs.items()
            if granted[key] < len(job.waiting)
        ]
        if ranks:
            granted[min(ranks)[-1]] += 1
    assert allocate(jobs, cap) == granted


class Looks(str):
    """A time of creation that counts how often it is compared."""

    __slots__ = ()
    taken = 0

    @override
    def __lt__(self, other: str) -> bool:
        Looks.taken += 1
        return super().__lt__(other)


def test_a_place_costs_no_look_at_every_job() -> None:
    jobs = {f"{number}": demand(20, created=Looks(f"{number:04d}")) for number in range(500)}
    Looks.taken = 0
    assert sum(allocate(jobs, 5000).values()) == 5000
    assert Looks.taken < 5000 * 30, "500 looks for each place would be 2,500,000"


@given(st.dictionaries(st.sampled_from("abcdef"), st.integers(1, 8), min_size=1), st.integers(1, 4))
def test_every_job_of_equal_priority_comes_to_its_end(chunks: dict[str, int], cap: int) -> None:
    """Chunks that started end, the places are granted anew: nobody waits for ever."""
    dispatcher, left, flying = Dispatcher(cap), dict(chunks), dict.fromkeys(chunks, 0)
    for _ in range(sum(chunks.values()) + 1):
        for key in chunks:
            granted, _ = dispatcher.grant(key, demand(left[key], in_flight=flying[key]))
            left[key] -= granted
            flying[key] += granted
        assert sum(flying.values()) <= cap
        for key in chunks:  # everything that runs ends, and its job tells so
            flying[key] = 0
            dispatcher.grant(key, Demand("2026-01-01T00:00:00Z", 0, ()))
    assert not any(left.values())


def test_what_was_granted_counts_at_once() -> None:
    dispatcher = Dispatcher(3)
    assert dispatcher.grant("a", demand(2)) == (2, False)
    assert dispatcher.grant("b", demand(2)) == (1, False)
    assert list(dispatcher.waiting()) == ["b"]


def test_a_place_given_back_is_told() -> None:
    dispatcher = Dispatcher(2)
    dispatcher.grant("a", demand(2))
    assert dispatcher.grant("b", demand(1)) == (0, False)
    assert dispatcher.grant("a", demand(0, in_flight=1)) == (0, True)
    assert dispatcher.grant("b", demand(1)) == (1, False)


def test_a_job_that_is_gone_frees_its_places() -> None:
    dispatcher = Dispatcher(1)
    dispatcher.grant("a", demand(1))
    dispatcher.forget("a")
    assert dispatcher.grant("b", demand(1)) == (1, False)


def test_without_a_cap_nobody_waits() -> None:
    dispatcher = Dispatcher(0)
    assert dispatcher.grant("a", demand(5)) == (5, False)
    assert not list(dispatcher.waiting())
