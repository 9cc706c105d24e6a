"""Which changes of a PdfJob are told as Events, and which are not."""

from __future__ import annotations

import pytest

from pdfjob_api.conditions import JobCondition, Reason
from pdfjob_api.errors import ChunkCode, JobCode
from pdfjob_api.jobstatus import ChunkCounts, LastRetry, PdfJobStatus, RefusedChunks, SourceStatus
from pdfjob_api.meta import Condition
from pdfjob_api.pdfjob import Chunking
from pdfjob_operator.events import events_of
from tests.support.builders import at, pdf_job


def status(
    kind: JobCondition, value: str, reason: Reason | JobCode | ChunkCode, message: str = "words"
) -> PdfJobStatus:
    return PdfJobStatus(
        conditions=[
            Condition(type=kind.value, status=value, reason=reason.value, message=message, last_transition_time=at(0))
        ]
    )


@pytest.mark.parametrize(
    ("kind", "value", "reason", "told"),
    [
        (JobCondition.ACCEPTED, "True", Reason.ACCEPTED, "Normal"),
        (JobCondition.ACCEPTED, "False", Reason.INVALID_SPEC, "Warning"),
        (JobCondition.SPLIT, "Unknown", Reason.FETCHING, "Normal"),
        (JobCondition.SPLIT, "Unknown", Reason.STORAGE_UNREACHABLE, "Warning"),
        (JobCondition.SPLIT, "Unknown", Reason.BUCKET_NOT_FOUND, "Warning"),
        (JobCondition.SPLIT, "True", Reason.ALL_CHUNKS_STORED, "Normal"),
        (JobCondition.SPLIT, "False", Reason.ENCRYPTED, "Warning"),
        (JobCondition.REPAIRED, "True", Reason.PAGES_LOST, "Warning"),
        (JobCondition.MERGED, "True", Reason.RESULT_STORED, "Normal"),
        (JobCondition.MERGED, "False", Reason.MERGE_FAILED, "Warning"),
        (JobCondition.FINISHED, "True", Reason.COMPLETED, "Normal"),
        (JobCondition.FINISHED, "True", Reason.FAILED, "Warning"),
        (JobCondition.FINISHED, "True", Reason.STOPPED, "Normal"),
        (JobCondition.FINISHED, "True", Reason.CANCELLED, "Normal"),
        (JobCondition.SUSPENDED, "False", Reason.DRAINING, "Normal"),
        (JobCondition.SUSPENDED, "True", Reason.SUSPENDED, "Normal"),
        (JobCondition.SUSPENDED, "False", Reason.RESUMED, "Normal"),
        (JobCondition.DEGRADED, "True", ChunkCode.AUTH_ERROR, "Warning"),
        (JobCondition.DEGRADED, "True", Reason.UNSCHEDULABLE, "Warning"),
        (JobCondition.DEGRADED, "False", Reason.DISPATCHING, "Normal"),
        (JobCondition.MERGED, "Unknown", Reason.STORAGE_UNREACHABLE, "Warning"),
    ],
)
def test_a_change_is_told_once_with_its_words(
    kind: JobCondition, value: str, reason: Reason | ChunkCode, told: str
) -> None:
    new = status(kind, value, reason)
    assert events_of(pdf_job(), PdfJobStatus(), new) == [(told, reason, "words")]
    assert events_of(pdf_job(), new, new) == []


@pytest.mark.parametrize(
    ("kind", "value", "reason"),
    [
        (JobCondition.SPLIT, "Unknown", Reason.WAITING),
        (JobCondition.MERGED, "Unknown", Reason.MERGING),
        (JobCondition.MERGED, "False", Reason.CHUNKS_FAILED),
        (JobCondition.FINISHED, "False", Reason.ACTIVE),
        (JobCondition.SUCCEEDED, "False", Reason.STOPPED),
        (JobCondition.SUCCEEDED, "False", JobCode.INVALID_SOURCE),
        (JobCondition.CHUNKS_SUCCEEDED, "True", Reason.ALL_CHUNKS_SUCCEEDED),
    ],
)
def test_what_says_nothing_new_is_not_told(kind: JobCondition, value: str, reason: Reason | JobCode) -> None:
    assert events_of(pdf_job(), PdfJobStatus(), status(kind, value, reason)) == []


def test_a_new_reason_is_told_and_a_new_message_alone_is_not() -> None:
    old = status(JobCondition.SPLIT, "Unknown", Reason.FETCHING)
    assert events_of(pdf_job(), old, status(JobCondition.SPLIT, "Unknown", Reason.SPLITTING)) != []
    assert events_of(pdf_job(), old, status(JobCondition.SPLIT, "Unknown", Reason.FETCHING, "other words")) == []


@pytest.mark.parametrize(("pages", "told"), [(50, False), (51, True), (120, True)])
def test_a_document_above_the_threshold_is_told_when_it_is_planned(pages: int, *, told: bool) -> None:
    job = pdf_job(chunking=Chunking())
    planned = status(JobCondition.SPLIT, "Unknown", Reason.WAITING).model_copy(
        update={
            "source": SourceStatus(sha256="a", size_bytes=1, pages=pages, file_name="novel.pdf"),
            "chunks": ChunkCounts(total=-(-pages // 50)),
        }
    )
    events = events_of(job, PdfJobStatus(), planned)
    assert [reason for _, reason, _ in events] == ([Reason.LARGE_FILE_DETECTED] if told else [])
    assert all(
        message == "Large file detected. Processing asynchronously. Check job status for progress."
        for _, _, message in events
    )
    assert events_of(job, planned, planned) == []


def answer(retried: int, *refused: RefusedChunks, request: str = "a") -> PdfJobStatus:
    message = f"Retrying {retried} chunks"
    return PdfJobStatus(
        last_retry=LastRetry(id=request, message=message, retried_count=retried, refused=list(refused), time=at(0))
    )


@pytest.mark.parametrize(
    ("retried", "refused", "event"),
    [
        (2, [], ("Normal", "RetryRequested", "Retrying 2 chunks")),
        (0, [], ("Normal", "RetryRequested", "Retrying 0 chunks")),
        (
            1,
            [RefusedChunks(chunks="3,7-9", reason="runs already")],
            ("Normal", "RetryRequested", "Retrying 1 chunks; not 3,7-9: runs already"),
        ),
        (
            0,
            [RefusedChunks(chunks="1", reason="x"), RefusedChunks(chunks="99", reason="y")],
            ("Warning", "RetryRequested", "Retrying 0 chunks; not 1: x; not 99: y"),
        ),
    ],
)
def test_the_answer_to_a_retry_request_is_told_once(
    retried: int, refused: list[RefusedChunks], event: tuple[str, str, str]
) -> None:
    new = answer(retried, *refused)
    assert events_of(pdf_job(), PdfJobStatus(), new) == [event]
    assert events_of(pdf_job(), new, new) == []
    assert len(events_of(pdf_job(), answer(retried, request="before"), new)) == 1


def test_a_job_that_degrades_for_another_reason_tells_it() -> None:
    old = status(JobCondition.DEGRADED, "True", ChunkCode.AUTH_ERROR)
    assert [kind for kind, _, _ in events_of(pdf_job(), old, status(JobCondition.DEGRADED, "True", Reason.NO_POD))] == [
        "Warning"
    ]


def test_what_came_from_the_cache_is_told_once_when_every_chunk_has_ended() -> None:
    under_way = PdfJobStatus(chunks=ChunkCounts(total=40, pending=2, running=1, succeeded=37, cached=37))
    done = PdfJobStatus(chunks=ChunkCounts(total=40, succeeded=39, failed=1, cached=37))
    assert events_of(pdf_job(), PdfJobStatus(), under_way) == []
    told = ("Normal", "CacheUsed", "37 of 40 chunks were taken from the cache")
    assert events_of(pdf_job(), under_way, done) == events_of(pdf_job(), PdfJobStatus(), done) == [told]
    assert events_of(pdf_job(), done, done) == []
    nothing = PdfJobStatus(chunks=ChunkCounts(total=40, succeeded=40))
    assert events_of(pdf_job(), under_way, nothing) == []
