"""An error of the merge holds for that merge: not once a chunk has another result, nor after the user asks again."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from typing import Final

import pytest

from pdfjob_api.conditions import ChunkPhase, JobCondition, JobPhase, Reason
from pdfjob_api.jobstatus import LastRetry, PdfJobStatus
from pdfjob_api.pdfchunk import PdfChunk
from pdfjob_api.pdfjob import PdfJob, RetryRequest
from pdfjob_operator.actions import Decision, StartWork
from pdfjob_operator.memory import JobMemory
from pdfjob_operator.observation import WorkError, WorkKind
from pdfjob_operator.plan import merge_mark
from tests.support.builders import NOW, at, failed, pdf_chunk, pdf_job, split_facts, succeeded
from tests.support.deciding import condition, decided, of_type, with_status
from tests.support.peace import Peace
from tests.support.simulated_operator import SimulatedOperator
from tests.support.simulated_work import WorkFailedError
from tests.support.world import World

GONE: Final = WorkError(Reason.MERGE_FAILED, "the result of chunk 1 is gone", None)
AWAY: Final = WorkError(Reason.STORAGE_UNREACHABLE, "away", NOW + timedelta(seconds=300))
ANSWERED: Final = LastRetry(id="again", number=1, message="Retrying 0 chunks", retried_count=0, chunks=[], time=at(0))


def two() -> list[PdfChunk]:
    return [succeeded(0), succeeded(1)]


def after(merged: Iterable[PdfChunk], error: WorkError, now: list[PdfChunk], job: PdfJob | None = None) -> Decision:
    """Decide with these chunks ``now``, when the merge of those others has failed."""
    job = job or pdf_job()
    memory = JobMemory(split_facts(job, 4, 2))
    memory.merging = merge_mark((chunk.status for chunk in merged), None)
    memory.work_failed(WorkKind.MERGE, error)
    return decided(job, now, memory.facts)


def merges(decision: Decision) -> bool:
    return StartWork(WorkKind.MERGE) in of_type(decision, StartWork)


def done_again(index: int) -> PdfChunk:
    """Return a chunk that a second start has brought to the very same result."""
    return with_status(succeeded(index), starts=2)


def test_it_ends_the_job_while_nothing_has_changed() -> None:
    decision = after(two(), GONE, two())
    assert decision.status is not None
    assert (decision.status.phase, merges(decision)) == (JobPhase.FAILED, False)


@pytest.mark.parametrize(
    "now",
    [[succeeded(0), succeeded(1, sha256="e" * 64)], [succeeded(0), done_again(1)]],
    ids=["another result", "the same result, stored anew"],
)
@pytest.mark.parametrize("error", [GONE, AWAY], ids=["final", "waits"])
def test_after_a_chunk_was_done_again_the_job_is_merged_at_once(error: WorkError, now: list[PdfChunk]) -> None:
    decision = after(two(), error, now)
    assert decision.status is not None
    assert merges(decision)
    assert condition(decision.status, JobCondition.FINISHED).status == "False"
    assert condition(decision.status, JobCondition.MERGED).reason == Reason.MERGING


def test_after_the_user_has_asked_for_a_retry_what_is_there_is_merged_again() -> None:
    assert merges(after(two(), GONE, two(), pdf_job(PdfJobStatus(last_retry=ANSWERED))))


def test_the_very_reconcile_that_answers_the_user_does_not_fail_for_it() -> None:
    decision = after(two(), GONE, two(), pdf_job(retry_request=RetryRequest(id="again")))
    assert decision.status is not None
    assert decision.status.last_retry is not None
    assert (decision.status.phase, merges(decision)) == (JobPhase.MERGING, True)


def test_of_a_chunk_that_failed_before_and_succeeded_now() -> None:
    assert merges(after([succeeded(0), failed(1)], GONE, two()))


def test_while_the_chunk_runs_again_nothing_is_said_of_the_old_merge() -> None:
    again = pdf_chunk(1, phase=ChunkPhase.RETRY_SCHEDULED, starts=1, attempts=0)
    status = after(two(), AWAY, [succeeded(0), again]).status
    assert condition(status, JobCondition.MERGED).reason == Reason.WAITING


@pytest.mark.parametrize("of", ["chunk", "job"])
def test_a_paused_job_whose_merge_failed_goes_on_after_a_retry(of: str) -> None:
    """The job is paused the moment its merge fails for good; the user mends it and resumes."""
    world = World(chunks=2)
    operator = SimulatedOperator(world)
    peace = Peace(world, operator)
    while operator.memory.facts.working is not WorkKind.MERGE:
        assert peace.round()
    world.edit(suspend=True)
    operator.work_fails = WorkFailedError(final=True)
    operator.work_step()
    settle(peace)
    assert operator.memory.facts.errors[WorkKind.MERGE].retry_at is None
    if of == "chunk":
        world.ask_retry([1], force=True)
    else:
        world.ask_retry(None, force=False)
    settle(peace)
    world.edit(suspend=False)
    peace.until_finished()
    job = peace.job()
    assert job is not None
    assert job.status.phase is JobPhase.SUCCEEDED


def settle(peace: Peace) -> None:
    for _ in range(60):
        peace.round()
