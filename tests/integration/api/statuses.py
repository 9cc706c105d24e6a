"""A status of each kind with every field of the models set."""

from __future__ import annotations

from typing import Any, Final

from pdfjob_api.conditions import ChunkCondition, ChunkPhase, JobCondition, JobPhase, Reason
from pdfjob_api.contract import Tokens
from pdfjob_api.creditaccount import CreditAccountStatus, Reservation
from pdfjob_api.errors import ChunkCode
from pdfjob_api.jobstatus import (
    ChunkCounts,
    Clock,
    Credits,
    Items,
    JobResult,
    LastRetry,
    PdfJobStatus,
    RefusedChunks,
    ResultFile,
    ResultFormat,
    ShutdownStatus,
    SourceStatus,
    Summary,
)
from pdfjob_api.meta import Condition, LastError
from pdfjob_api.pdfchunk import (
    ChunkResultStatus,
    ChunkRetry,
    Ending,
    EndReason,
    Outcome,
    PdfChunkStatus,
    StartRecord,
)

_TIME: Final = "2026-11-22T05:10:45Z"
_SHA: Final = "0123456789abcdef" * 4
_ERROR: Final = LastError(code=ChunkCode.INVALID_PDF, message="Page 17 cannot be read. " + "x" * 1000)

FULL_JOB_STATUS: Final[dict[str, Any]] = PdfJobStatus(
    observed_generation=3,
    phase=JobPhase.RUNNING,
    current_step="Processing chunk 99999/99999, second try",
    progress_percent=57,
    source=SourceStatus(sha256=_SHA, size_bytes=2**40, pages=12345, file_name="novel.pdf"),
    chunks=ChunkCounts(total=21, pending=1, running=2, retry_scheduled=3, succeeded=4, cached=2, failed=5, cancelled=6),
    summary=Summary(progress="19%", chunks="4/21"),
    items=Items(total=12345, done=777, failed=2),
    failed_chunks="3,7-9",
    retries=11,
    sentences=54321,
    estimated_tokens=2**34,
    tokens=Tokens(input=2**33, output=7),
    credits=Credits(run=2, reserved=2**34, charged=2**33, refunded=3, charged_earlier=5),
    result=JobResult(
        files=[ResultFile(format=f, uri=f"s3://b/result.{f}", bytes=2**34, sha256=_SHA) for f in ResultFormat],
        partial=True,
        missing_pages="17",
    ),
    last_error=_ERROR,
    last_retry=LastRetry(
        id="i" * 128,
        number=2,
        message="Retrying 2 chunks",
        retried_count=2,
        chunks=[2, 5],
        refused=[RefusedChunks(chunks="7-9", reason="they run")],
        time=_TIME,
    ),
    shutdown=ShutdownStatus(requested_at=_TIME, requested_by="ada@example.com"),
    effective_parallelism=2,
    clock=Clock(seconds=3600, since=_TIME),
    history="s3://b/pdfjob/history/lib/novel/01234567/job.json",
    start_time=_TIME,
    completion_time="2026-11-22T05:11:45.123456Z",
    processing_seconds=60,
    conditions=[
        Condition(
            type=kind,
            status="Unknown",
            reason=Reason.SOURCE_NOT_ALLOWED,
            message="m" * 1024,
            last_transition_time="2026-11-22T05:10:45+00:00",
            observed_generation=3,
        )
        for kind in JobCondition
    ],
).wire()

FULL_CHUNK_STATUS: Final[dict[str, Any]] = PdfChunkStatus(
    observed_generation=1,
    phase=ChunkPhase.RETRY_SCHEDULED,
    attempts=2,
    starts=12,
    uncounted=3,
    job_name="novel-c00002-a12",
    started_at=_TIME,
    updated_at=_TIME,
    processed_at=_TIME,
    next_retry_time=_TIME,
    last_error=_ERROR,
    ending=Ending(start=12, reason=EndReason.PENDING, code=ChunkCode.IMAGE_ERROR, message="no such image"),
    last_retry=ChunkRetry(id="r-1", accepted=False, message="the chunk runs", time=_TIME),
    last_job_retry_id="r-2",
    last_job_retry_number=2,
    fresh_after=3,
    result=ChunkResultStatus(
        uri="s3://b/k", sha256=_SHA, bytes=1, sentences=2, missing_pages=3, tokens=Tokens(input=4, output=5)
    ),
    tokens_before=2**33,
    history=[
        StartRecord(
            start=start,
            attempt=1,
            counted=True,
            node="node-1",
            started_at=_TIME,
            finished_at=_TIME,
            outcome=Outcome.LOST,
            code=ChunkCode.TIMEOUT,
            items=6,
        )
        for start in range(3, 13)
    ],
    conditions=[
        Condition(
            type=ChunkCondition.WAITING,
            status="True",
            reason=Reason.UNSCHEDULABLE,
            message="0/1 nodes are available",
            last_transition_time=_TIME,
            observed_generation=1,
        )
    ],
).wire()

FULL_ACCOUNT_STATUS: Final[dict[str, Any]] = CreditAccountStatus(
    observed_generation=2,
    available=-(2**34),
    reserved=2**35,
    charged=2**36,
    refunded=4,
    open_reservations=1,
    settled_reservations=6,
    reservations=[
        Reservation(
            uid="d1f9f3cc-5b1c-4f0e-8f57-1c2f6a1f3e55",
            job="novel",
            run=2,
            reserved=2**35 + 7,
            charged=7,
            counted=2**33,
            settled=False,
        )
    ],
).wire()
