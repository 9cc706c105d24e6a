"""Which parts a partial result is made of."""

from __future__ import annotations

from typing import Any

from kubectl_pdfjob.partial import parts_of
from pdfjob_api.pdfchunk import PdfChunk
from pdfjob_api.pdfjob import PdfJob
from pdfjob_api.rendering import Gap

from .builders import failed_job, make_chunk, make_job

RESULT = {"uri": "s3://b/k", "sha256": "0", "bytes": 1, "sentences": 1}
SOURCE = {"sha256": "0" * 64, "sizeBytes": 1, "pages": 200, "fileName": "novel.pdf"}


def parts(job: PdfJob, *chunks: PdfChunk) -> list[Any]:
    return [part if isinstance(part, Gap) else part.spec.index for part in parts_of(job, chunks)]


def done(index: int) -> PdfChunk:
    return make_chunk(index, "Succeeded", result=RESULT)


def test_chunks_without_a_result_are_gaps_in_their_place() -> None:
    error = {"code": "TIMEOUT", "message": "too slow"}
    job = make_job(source=SOURCE)

    assert parts(job, done(0), make_chunk(1, "Failed", lastError=error), make_chunk(2, "Running"), done(3)) == [
        0,
        Gap(51, 100, "TIMEOUT"),
        Gap(101, 150, "not done yet"),
        3,
    ]


def test_a_chunk_that_will_be_tried_again_is_not_done_yet() -> None:
    again = make_chunk(0, "RetryScheduled", lastError={"code": "TIMEOUT", "message": "too slow"})

    assert parts(make_job(), again, done(1)) == [Gap(1, 50, "not done yet"), 1]


def test_chunks_that_are_not_made_yet_are_gaps_too() -> None:
    assert parts(make_job(source=SOURCE), done(1)) == [Gap(1, 50, "not done yet"), 1, Gap(101, 200, "not done yet")]


def test_in_a_job_that_has_ended_nothing_is_done_any_more() -> None:
    job = failed_job("CHUNK_PROCESSING_ERROR", {"type": "Split", "status": "True"} | _TIMES, "x")

    assert parts(job, make_chunk(0, "Cancelled"), done(1)) == [Gap(1, 50, "not done"), 1]


_TIMES = {"reason": "AllChunksStored", "message": "", "lastTransitionTime": "2026-11-22T12:00:00Z"}
