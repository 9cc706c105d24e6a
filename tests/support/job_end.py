"""How a PdfJob of the simulated world must have ended, whatever went wrong before."""

from __future__ import annotations

from collections.abc import Collection

from pdfjob_api.conditions import ChunkPhase, JobCondition, JobPhase
from pdfjob_api.errors import JobCode
from pdfjob_api.pdfchunk import PdfChunk
from pdfjob_api.pdfjob import PdfJob
from pdfjob_operator.bookings import reservation_of
from pdfjob_operator.conditions import is_true
from pdfjob_operator.observation import WorkKind
from pdfjob_operator.plan import merge_inputs

from .peace import Peace


def check_end(
    peace: Peace, job: PdfJob, *, final: Collection[WorkKind], meddled: bool = False, policy_edited: bool = False
) -> None:
    """Make sure that a PdfJob has ended as it should.

    Parameters
    ----------
    final
        Work that failed for good.
    meddled
        Whether PdfChunks were deleted by hand.
    policy_edited
        Whether the user has changed how many chunks may fail, perhaps after the end.
    """
    world, chunks = peace.world, peace.chunks()
    lacking = [chunk for chunk in chunks if chunk.status.phase is not ChunkPhase.SUCCEEDED]
    allowed = job.spec.failure_policy.allowed(len(chunks))
    code = job.status.last_error.code if job.status.last_error is not None else None
    assert job.status.history is not None, "a finished PdfJob has no record"
    assert world.storage.recorded == job.status.completion_time
    check_answers(job, chunks)
    check_credits(peace, job, meddled=meddled)
    match job.status.phase:
        case JobPhase.SUCCEEDED:
            assert len(lacking) <= allowed or policy_edited
            assert meddled or world.storage.merged == merge_inputs(
                chunk.status for chunk in sorted(chunks, key=lambda chunk: chunk.spec.index)
            ), "the result is not of these chunks"
        case JobPhase.STOPPED | JobPhase.CANCELLED:
            assert job.spec.shutdown is not None
            assert code is None
        case JobPhase.FAILED if code == JobCode.CHUNK_PROCESSING_ERROR:
            assert lacking or meddled
        case JobPhase.FAILED if code != JobCode.TASK_TIMEOUT:
            expected = {WorkKind.SPLIT: JobCode.INVALID_SOURCE, WorkKind.MERGE: JobCode.MERGE_ERROR}
            assert code in {expected.get(kind) for kind in final}
        case JobPhase.FAILED:
            assert job.status.clock is not None
        case phase:
            raise AssertionError(f"the end is {phase}")


def check_credits(peace: Peace, job: PdfJob, *, meddled: bool = False) -> None:
    """Make sure that each result was charged once, that the rest went back, and that the job says so.

    Of a PdfChunk that was deleted by hand before its result was charged nobody knows it any more.
    """
    world, told = peace.world, job.status.credits
    if world.bank is None:
        return
    charged, real = world.bank.charged.get(world.uid, 0), sum(world.delivered.values())
    assert charged == real or (meddled and charged < real), f"{charged} charged, {real} delivered"
    assert reservation_of(world.bank.account(), world.uid) is None, "the reservation of a finished PdfJob stays"
    assert is_true(job, JobCondition.CREDITS_SETTLED), "the PdfJob does not say that it is settled"
    if told is not None:
        assert told.charged_earlier + told.charged == charged
        assert told.refunded == max(told.reserved - told.charged, 0)


def check_answers(job: PdfJob, chunks: list[PdfChunk]) -> None:
    """Make sure that each request for a retry that stands has its answer."""
    asked = job.spec.retry_request
    assert asked is None or (job.status.last_retry is not None and job.status.last_retry.id == asked.id)
    for chunk in chunks:
        request, answer = chunk.spec.retry_request, chunk.status.last_retry
        assert request is None or (answer is not None and answer.id == request.id)
