"""The clock of a job: it goes while the job is worked on, stands while it waits, and sums the stretches."""

from __future__ import annotations

from datetime import timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pdfjob_api.conditions import ChunkPhase, JobPhase, Reason
from pdfjob_api.jobstatus import Clock, PdfJobStatus
from pdfjob_api.pdfjob import Limits, PdfJob
from pdfjob_operator.decide import decide
from pdfjob_operator.jobclock import advance, elapsed, folded
from pdfjob_operator.observation import Facts, Observation, WorkKind
from tests.support.builders import NOW, at, observation, pdf_chunk, pdf_job, raw_job, raw_pod, running, split_facts
from tests.support.deciding import starts_of
from tests.support.peace import Peace
from tests.support.simulated_operator import SimulatedOperator
from tests.support.world import World


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


@given(st.lists(st.floats(0.01, 90), min_size=1, max_size=40))
def test_however_often_it_is_folded_no_second_is_lost_or_won(steps: list[float]) -> None:
    clock, now = Clock(since=at(0)), NOW
    for step in steps:
        now += timedelta(seconds=step)
        clock = folded(clock, now)
    assert elapsed(clock, now) == pytest.approx((now - NOW).total_seconds(), abs=1e-3)


def test_time_before_the_first_look_of_this_process_is_no_work() -> None:
    clock, looked = Clock(seconds=5, since=at(-5000)), NOW - timedelta(seconds=7)
    assert elapsed(clock, looked, looked) == 5
    assert elapsed(clock, NOW, looked) == 12
    assert folded(clock, NOW, looked) == Clock(seconds=12, since=at(0))
    assert advance(clock, NOW, working=False, looked=looked) == Clock(seconds=12)


def test_folding_a_clock_that_the_machine_has_set_back_takes_nothing_away() -> None:
    assert folded(Clock(seconds=5, since=at(10)), NOW) == Clock(seconds=5, since=at(10))


def works(job: PdfJob, looked: float) -> Observation:
    """Observe a job with one chunk that runs, looked at by this process since so many seconds after NOW."""
    chunk = pdf_chunk(0, phase=ChunkPhase.RUNNING, attempts=1, starts=1, started_at=at(-10))
    starts = starts_of(raw_job(), raw_pod(running(), phase="Running"))
    return observation(job, [chunk], split_facts(job, 2, 1, looked=NOW + timedelta(seconds=looked)), starts)


def told(job: PdfJob, looked: float, seconds: float) -> PdfJobStatus:
    """Return the status that is decided so many seconds after NOW."""
    status = decide(works(job, looked), NOW + timedelta(seconds=seconds)).status
    assert status is not None
    return status


def test_a_job_does_not_reach_its_limit_while_the_operator_is_down() -> None:
    limits = Limits(job_timeout_seconds=60)
    job = pdf_job(PdfJobStatus(clock=Clock(seconds=20, since=at(-5000))), limits=limits)
    status = told(job, looked=0, seconds=0)
    assert (status.phase, status.clock) == (JobPhase.RUNNING, Clock(seconds=20, since=at(0)))
    assert told(job, looked=0, seconds=41).current_step == "Time limit: runners save their pages"


@pytest.mark.parametrize(
    ("limit", "seconds", "folds"),
    [(None, 59, False), (None, 5000, False), (600, 59, False), (600, 60, True)],
)
def test_the_clock_alone_is_worth_a_write_once_a_minute_and_only_under_a_limit(
    limit: int | None, seconds: float, *, folds: bool
) -> None:
    job = pdf_job(limits=Limits(job_timeout_seconds=limit))
    job = pdf_job(told(job, 0, 0), limits=job.spec.limits)
    status = told(job, 0, seconds)
    assert (status != job.status) == folds
    assert status.clock == (Clock(seconds=60, since=at(60)) if folds else Clock(since=at(0)))


def test_it_is_written_with_any_other_change() -> None:
    job = pdf_job(told(pdf_job(), 0, 0))
    job = job.model_copy(update={"metadata": job.metadata.model_copy(update={"generation": 2})})
    assert told(job, 0, 30).clock == Clock(seconds=30, since=at(30))


def test_the_next_look_at_a_job_under_a_limit_comes_in_time_for_its_clock() -> None:
    """While the source is fetched nothing else asks for a look."""
    job = pdf_job(PdfJobStatus(clock=Clock(since=at(0))), limits=Limits(job_timeout_seconds=600))
    obs = observation(job, [], Facts(working=WorkKind.SPLIT, step=Reason.FETCHING))
    delay = decide(obs, NOW + timedelta(seconds=1)).requeue_seconds
    assert delay is not None
    assert 0 < delay <= 60


def test_an_operator_that_was_away_for_hours_goes_on_where_it_stood() -> None:
    world = World(chunks=2, limits={"jobTimeoutSeconds": 100})
    operator = SimulatedOperator(world)
    peace = Peace(world, operator)
    while not world.running():
        assert peace.round()
    for _ in range(30):
        operator.reconcile()
        world.now += timedelta(seconds=1)
    world.now += timedelta(hours=3)
    operator.crash()
    peace.until_finished()
    job = peace.job()
    assert job is not None
    assert job.status.phase is JobPhase.SUCCEEDED
