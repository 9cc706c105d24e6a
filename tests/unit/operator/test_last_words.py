"""A job that its user ends waits until the last words of its runners are written down."""

from __future__ import annotations

import pytest

from pdfjob_api.conditions import ChunkPhase, JobCondition, JobPhase, Reason
from pdfjob_api.pdfchunk import Ending, EndReason, PdfChunk
from pdfjob_api.pdfjob import Shutdown
from tests.support.builders import pdf_chunk, pdf_job, raw_pod, split_facts, terminated
from tests.support.deciding import NOTHING, condition, decided


def ending(index: int, reason: EndReason) -> PdfChunk:
    return pdf_chunk(
        index, phase=ChunkPhase.RUNNING, attempts=1, starts=1, ending=Ending(start=1, reason=reason), job_name="j"
    )


@pytest.mark.parametrize("shutdown", list(Shutdown))
def test_a_job_does_not_end_before_the_end_of_each_start_is_recorded(shutdown: Shutdown) -> None:
    job = pdf_job(shutdown=shutdown)
    reason = EndReason.STOPPED if shutdown is Shutdown.STOP else EndReason.CANCELLED
    chunks = [ending(index, reason) for index in range(2)]
    pods = [raw_pod(terminated(75), chunk=index) for index in range(2)]
    one_read = split_facts(job, 4, 2, ends={("chunk-0", 1): NOTHING})
    status = decided(job, chunks, one_read, *pods).status
    assert status is not None
    assert status.phase not in {JobPhase.STOPPED, JobPhase.CANCELLED}
    both_read = split_facts(job, 4, 2, ends={(f"chunk-{index}", 1): NOTHING for index in range(2)})
    status = decided(job, chunks, both_read, *pods).status
    assert status is not None
    assert status.phase in {JobPhase.STOPPED, JobPhase.CANCELLED}
    chunks_succeeded = condition(status, JobCondition.CHUNKS_SUCCEEDED)
    assert (chunks_succeeded.reason, chunks_succeeded.message) == (
        Reason.CANCELLED,
        "2 of 2 chunks never ran to their end",
    )
