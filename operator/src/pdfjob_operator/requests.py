"""Requests of users for another start of chunks: on the PdfJob or on one PdfChunk. Pure; each is answered once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from pdfjob_api.conditions import ChunkPhase, JobCondition, JobPhase, Reason
from pdfjob_api.jobstatus import LastRetry, PdfJobStatus, RefusedChunks
from pdfjob_api.pdfchunk import ChunkRetry, PdfChunk, PdfChunkStatus
from pdfjob_api.pdfjob import PdfJob, RetryRequest, Shutdown

from .chunk_end import retry_limit
from .clock import to_wire
from .conditions import Conditions
from .credits import next_run
from .decide_chunk import reopened
from .observation import Observation
from .ranges import number_ranges

_LISTED: Final = 1000
"""Chunks of an answer that are listed one by one."""
_REASONS: Final = 16
_FOR_GOOD: Final[Mapping[Shutdown | None, str]] = {
    Shutdown.STOP: "the PdfJob was stopped and stays so; delete it and create it again to go on",
    Shutdown.CANCEL: "the PdfJob was cancelled and stays so; delete it and create it again to go on",
}


@dataclass(frozen=True, slots=True)
class Answer:
    """What a request for a retry does."""

    taken: Mapping[int, PdfChunkStatus]
    """New status of each chunk that starts again, by index; those that were taken before a crash are not in it."""
    last_retry: LastRetry
    merges: bool
    """Whether the job merges again even when no chunk starts."""


def pending_request(job: PdfJob) -> RetryRequest | None:
    """Return the job's request that has not been answered."""
    request, last = job.spec.retry_request, job.status.last_retry
    return None if request is None or (last is not None and last.id == request.id) else request


def answer_job(
    request: RetryRequest, obs: Observation, in_flight: set[int], now: datetime, *, closed: str | None = None
) -> Answer:
    """Say which chunks a request takes, and which it does not and why.

    Parameters
    ----------
    in_flight
        Chunks whose Job exists.
    closed
        Why no chunk is taken at all.
    """
    job, taken, again = obs.job, {}, []
    closed = closed or _FOR_GOOD.get(job.spec.shutdown)
    refused: dict[str, list[int]] = {}
    total = job.status.chunks.total if job.status.chunks else len(obs.chunks)
    for index in sorted(set(request.chunks) if request.chunks is not None else _eligible(obs, in_flight)):
        chunk = obs.chunks.get(index)
        if chunk is not None and _is_marked(chunk, request, job) and closed is None:
            again.append(index)  # taken already, by a process that did not live to say so
            continue
        reason = _no_such_chunk(index, total) if chunk is None else None
        if chunk is not None:
            reason = closed or _refusal(chunk, job, force=request.force, in_flight=index in in_flight)
        if reason is None and chunk is not None:
            mark = {"last_job_retry_id": request.id, "last_job_retry_number": _number(job)}
            taken[index] = reopened(chunk, now).model_copy(update=mark)
        elif reason is not None:
            refused.setdefault(reason, []).append(index)
    chunks = sorted([*taken, *again])
    message = f"Retrying {len(chunks)} chunk{'' if len(chunks) == 1 else 's'}"
    merges = closed is None and request.chunks is None
    if closed is not None:
        message = f"Refused: {closed}"
    elif not chunks and merges:
        message += "; what is there is merged again"
    last = LastRetry(
        id=request.id,
        number=_number(job),
        message=message,
        retried_count=len(chunks),
        chunks=chunks[:_LISTED],
        refused=[
            RefusedChunks(chunks=number_ranges((n, n) for n in numbers) or "", reason=reason)
            for reason, numbers in list(refused.items())[:_REASONS]
        ],
        time=to_wire(now),
    )
    return Answer(taken, last, merges)


def answer_chunk(
    chunk: PdfChunk, job: PdfJob, now: datetime, *, in_flight: bool, closed: str | None = None
) -> PdfChunkStatus | None:
    """Return the status that answers a chunk's own request; None when there is none that is new.

    ``closed`` says why no chunk of the job is taken at all.
    """
    request, last = chunk.spec.retry_request, chunk.status.last_retry
    if request is None or (last is not None and last.id == request.id):
        return None
    closed = closed or _FOR_GOOD.get(job.spec.shutdown)
    reason = closed or _refusal(chunk, job, force=request.force, in_flight=in_flight)
    status = reopened(chunk, now) if reason is None else chunk.status
    answer = ChunkRetry(id=request.id, accepted=reason is None, message=reason or "", time=to_wire(now))
    return status.model_copy(
        update={
            "observed_generation": chunk.metadata.generation,
            "updated_at": to_wire(now),
            "last_retry": answer,
        }
    )


def answer_event(chunk: PdfChunk, answer: ChunkRetry) -> tuple[str, Reason, str]:
    """Return the Event that tells the answer to a chunk's own request."""
    if answer.accepted:
        return "Normal", Reason.RETRY_REQUESTED, f"Retrying chunk {chunk.spec.index}"
    return "Warning", Reason.RETRY_REQUESTED, f"chunk {chunk.spec.index} is not retried: {answer.message}"


def reopened_status(job: PdfJob, now: datetime) -> PdfJobStatus:
    """Return the status of a finished job that goes on: what is known stays, the clock and the progress start anew."""
    conditions = Conditions(job, now)
    text = "a retry was requested"
    split = next((item for item in job.status.conditions if item.type == JobCondition.SPLIT.value), None)
    if split is None or split.status != "True":
        conditions.set(JobCondition.SPLIT, "Unknown", Reason.WAITING, text)
    conditions.set(JobCondition.ACCEPTED, "True", Reason.ACCEPTED, "the operator took the job")
    conditions.set(JobCondition.CHUNKS_SUCCEEDED, "Unknown", Reason.PROCESSING, text)
    conditions.set(JobCondition.MERGED, "Unknown", Reason.WAITING, text)
    if job.spec.credit_account_ref is not None:
        conditions.set(JobCondition.CREDITS_RESERVED, "Unknown", Reason.WAITING, text)
        conditions.set(JobCondition.CREDITS_SETTLED, "Unknown", Reason.WAITING, text)
    conditions.set(JobCondition.FINISHED, "False", Reason.ACTIVE, text)
    conditions.set(JobCondition.SUCCEEDED, "Unknown", Reason.ACTIVE, text)
    return job.status.model_copy(
        update={
            "observed_generation": job.metadata.generation,
            "phase": JobPhase.RUNNING,
            "current_step": "Retrying",
            "progress_percent": 15 if job.status.chunks else 5,
            "last_error": None,
            "start_time": to_wire(now),
            "completion_time": None,
            "processing_seconds": None,
            "clock": None,
            "history": None,
            "credits": next_run(job),
            "conditions": conditions.list(),
        }
    )


def _eligible(obs: Observation, in_flight: set[int]) -> list[int]:
    """Chunks that a request takes which names none: failed, scheduled for a retry, or never run."""
    phases = {ChunkPhase.FAILED, ChunkPhase.RETRY_SCHEDULED, ChunkPhase.CANCELLED}
    request = obs.job.spec.retry_request
    return [
        index
        for index, chunk in obs.chunks.items()
        if (chunk.status.phase in phases and index not in in_flight)
        or (request is not None and _is_marked(chunk, request, obs.job))
    ]


def _is_marked(chunk: PdfChunk, request: RetryRequest, job: PdfJob) -> bool:
    """Whether this very request has taken a chunk; an earlier one may have had the same id."""
    mark = (chunk.status.last_job_retry_id, chunk.status.last_job_retry_number)
    return mark == (request.id, _number(job))


def _number(job: PdfJob) -> int:
    return job.status.last_retry.number + 1 if job.status.last_retry is not None else 1


def _no_such_chunk(index: int, total: int) -> str:
    if total == 0:
        return "the document is not split yet"
    return "is not stored yet" if 0 <= index < total else f"no such chunk: they are numbered 0 to {total - 1}"


def _refusal(chunk: PdfChunk, job: PdfJob, *, force: bool, in_flight: bool) -> str | None:
    """Say why a chunk does not start again; None when it does."""
    status = chunk.status
    if in_flight or status.phase is ChunkPhase.RUNNING:
        return "runs already"
    if status.phase is ChunkPhase.PENDING:
        return "waits for its start anyway"
    if force or status.phase in {ChunkPhase.RETRY_SCHEDULED, ChunkPhase.CANCELLED}:
        return None
    if status.phase is ChunkPhase.SUCCEEDED:
        return "has succeeded; force: true processes it again"
    if status.history and status.history[-1].final:
        code = status.last_error.code if status.last_error else "its error"
        return f"failed for good with {code}; force: true tries it all the same"
    if status.attempts > retry_limit(chunk, job):
        used = f"{status.attempts} attempt{'' if status.attempts == 1 else 's'}"
        return f"has used its {used}; force: true or a higher maxRetries goes on"
    return None
