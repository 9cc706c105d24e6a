"""What is written down of a start that has ended, and what follows for its chunk. Pure."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final

from pdfjob_api.conditions import ChunkPhase, Reason
from pdfjob_api.contract import TerminationMessage, Tokens
from pdfjob_api.errors import CHUNK_CODES, ChunkCode
from pdfjob_api.meta import LastError
from pdfjob_api.names import start_name
from pdfjob_api.pdfchunk import ChunkResultStatus, EndReason, Outcome, PdfChunk, PdfChunkStatus, StartRecord
from pdfjob_api.pdfjob import PdfJob

from .actions import WriteChunk
from .backoff import retry_delay
from .clock import to_wire
from .observation import EndFacts, Start
from .outcome import Verdict, classify, read_termination_message, telling_pod

MAX_UNCOUNTED: Final = 10
"""So many starts in a row lost to the infrastructure without a new item count as one attempt."""
_HISTORY: Final = 10
_MAX_RETRY_AFTER_SECONDS: Final = 86400.0
"""A language service is believed when it names a time, but for no longer: its daily quota is renewed by then."""
_GOES_ON: Final = frozenset({EndReason.SUSPENDED, EndReason.REQUEUED, EndReason.TIMED_OUT, EndReason.JOB_FAILED})
"""Ends after which the chunk waits for its turn again: the user may raise the time limit while runners drain."""


def record_end(
    chunk: PdfChunk, start: Start, end: EndFacts, job: PdfJob, now: datetime, *, held: ChunkCode | None
) -> WriteChunk:
    """Write down how a start ended.

    Parameters
    ----------
    held
        The common cause for which dispatch is held: a probe that meets it again burns no attempt.
    """
    saved_new = end.items > saved_before(chunk.status)
    ending = chunk.status.ending
    if ending is not None and ending.start != start.number:
        ending = None
    pod = telling_pod(start)
    said = read_termination_message(pod) if pod is not None else TerminationMessage()
    verdict = classify(start, end, ending, saved_new=saved_new)
    if verdict.counted and held is not None and verdict.code is held:
        verdict = replace(verdict, counted=False)
    uncounted = 0 if saved_new else chunk.status.uncounted
    if verdict.outcome is Outcome.LOST and not saved_new:
        uncounted += 1
    elif verdict.counted:
        uncounted = 0
    if uncounted >= MAX_UNCOUNTED:
        message = f"{MAX_UNCOUNTED} starts in a row were lost without a new page saved: {verdict.message}"[:1024]
        verdict = Verdict(Outcome.FAILED, ChunkCode.PROCESSING_ERROR, message, counted=True, final=False)
        uncounted = 0
    status = _ended_status(chunk, start, end, verdict, uncounted, now)
    if verdict.outcome is Outcome.ENDED and ending is not None:
        phase = ChunkPhase.PENDING if ending.reason in _GOES_ON else ChunkPhase.CANCELLED
        status = status.model_copy(update={"phase": phase})
    else:
        status = _next_phase(chunk, status, verdict, job, now, said.retry_after_seconds)
    failed = verdict.outcome in {Outcome.FAILED, Outcome.LOST}
    return WriteChunk(chunk, status, _event(chunk, status, verdict), ended=start if failed else None, said=said)


def failures(status: PdfChunkStatus) -> int:
    """Return the counted failures: attempts less the one under way."""
    under_way = status.phase in {ChunkPhase.RUNNING, ChunkPhase.SUCCEEDED}
    return status.attempts - (1 if under_way else 0)


def retry_limit(chunk: PdfChunk, job: PdfJob) -> int:
    """Return the counted retries that a chunk may have."""
    return job.spec.retry_policy.max_retries if chunk.spec.max_retries is None else chunk.spec.max_retries


def job_of(chunk: PdfChunk) -> str:
    """Return the name of the PdfJob that a chunk belongs to."""
    return chunk.metadata.name.rsplit("-c", 1)[0]


def child_job_name(chunk: PdfChunk, start: Start) -> str:
    """Return the name of the start's Job, whether or not the Job is still there."""
    return start_name(job_of(chunk), chunk.spec.index, start.number)


def saved_before(status: PdfChunkStatus) -> int:
    """Return the pages that earlier starts have saved, as far as a new start goes on from them."""
    last = status.history[-1] if status.history else None
    return last.items if last is not None and last.start > status.fresh_after else 0


def cancelled(chunk: PdfChunk, now: datetime) -> PdfChunkStatus:
    """Return the status of a chunk that will not run any more, since its job has ended without it."""
    return chunk.status.model_copy(
        update={
            "observed_generation": chunk.metadata.generation,
            "phase": ChunkPhase.CANCELLED,
            "attempts": failures(chunk.status),
            "updated_at": to_wire(now),
            "next_retry_time": None,
            "ending": None,
            "conditions": [],
        }
    )


def adopted(chunk: PdfChunk, result: ChunkResultStatus, job: PdfJob, now: datetime) -> PdfChunkStatus:
    """Return the status of a chunk that an earlier life of the PdfJob, or another job, finished.

    What it cost was charged there: nothing is paid for it here.
    """
    if job.spec.processor.gemini is not None or result.tokens.total:
        result = result.model_copy(update={"cached": True, "tokens": Tokens()})
    return chunk.status.model_copy(
        update={
            "observed_generation": chunk.metadata.generation,
            "phase": ChunkPhase.SUCCEEDED,
            "attempts": 1,
            "updated_at": to_wire(now),
            "processed_at": to_wire(now),
            "result": result,
        }
    )


def _ended_status(
    chunk: PdfChunk, start: Start, end: EndFacts, verdict: Verdict, uncounted: int, now: datetime
) -> PdfChunkStatus:
    """Return the status with the end in the history, the phase still open but for Succeeded and Failed."""
    pod = start.pods[0] if start.pods else None
    began = (pod.running_since or pod.exit_started) if pod else None
    # When the pod is gone, what was written as it ran still tells.
    known = chunk.status.started_at if chunk.status.starts == start.number else None
    started = to_wire(began) if began is not None else known
    attempt = failures(chunk.status) + 1
    succeeded = verdict.outcome is Outcome.SUCCEEDED
    record = StartRecord(
        start=start.number,
        attempt=attempt,
        counted=verdict.counted,
        final=verdict.final and not succeeded,
        node=pod.node if pod else None,
        started_at=started,
        finished_at=to_wire(now),
        outcome=verdict.outcome,
        code=verdict.code.value if verdict.code else None,
        items=chunk.spec.page_count if succeeded else max(end.items, saved_before(chunk.status)),
    )
    error = chunk.status.last_error if verdict.outcome is Outcome.ENDED else None
    if verdict.outcome in {Outcome.FAILED, Outcome.LOST}:
        code = (verdict.code or ChunkCode.PROCESSING_ERROR).value
        error = LastError(code=code, message=_with_advice(chunk, verdict))
    return chunk.status.model_copy(
        update={
            "observed_generation": chunk.metadata.generation,
            "phase": ChunkPhase.SUCCEEDED if succeeded else ChunkPhase.FAILED,
            "attempts": attempt if verdict.counted else attempt - 1,
            "starts": start.number,
            "uncounted": uncounted,
            "job_name": child_job_name(chunk, start),
            "started_at": started or chunk.status.started_at,
            "updated_at": to_wire(now),
            "processed_at": to_wire(now) if succeeded else None,
            "next_retry_time": None,
            "last_error": error,
            "ending": None,
            "result": end.result if succeeded else None,
            "history": [*chunk.status.history, record][-_HISTORY:],
            "conditions": [],
        }
    )


def _next_phase(
    chunk: PdfChunk,
    status: PdfChunkStatus,
    verdict: Verdict,
    job: PdfJob,
    now: datetime,
    retry_after_seconds: float | None,
) -> PdfChunkStatus:
    if status.phase is ChunkPhase.SUCCEEDED or verdict.final:
        return status
    if verdict.counted and status.attempts > retry_limit(chunk, job):
        return status
    retry = status.attempts if verdict.counted else status.uncounted - 1
    limited = verdict.code is ChunkCode.RATE_LIMIT
    if verdict.outcome is Outcome.FAILED and not verdict.counted and verdict.code is not ChunkCode.TIMEOUT:
        retry = _in_a_row(status.history, verdict.code)
    delay = 0.0
    if retry > 0:
        seed = f"{chunk.metadata.uid}/{status.starts}"
        delay = retry_delay(job.spec.retry_policy.backoff, retry, seed, rate_limited=limited)
    if limited and retry_after_seconds is not None:
        delay = max(delay, min(retry_after_seconds, _MAX_RETRY_AFTER_SECONDS))
    return status.model_copy(
        update={
            "phase": ChunkPhase.RETRY_SCHEDULED,
            "next_retry_time": to_wire(now + timedelta(seconds=delay)),
        }
    )


def _in_a_row(history: list[StartRecord], code: ChunkCode | None) -> int:
    count = 0
    for record in reversed(history):
        if record.code != code:
            break
        count += 1
    return count


def _event(chunk: PdfChunk, status: PdfChunkStatus, verdict: Verdict) -> tuple[str, Reason, str] | None:
    name = f"chunk {chunk.spec.index} (pages {chunk.spec.start_page}-{chunk.spec.end_page})"
    code = verdict.code.value if verdict.code else "lost"
    if status.phase is ChunkPhase.FAILED:
        return "Warning", Reason.CHUNK_FAILED, f"{name} failed: {code}: {_with_advice(chunk, verdict)}"
    if verdict.code is ChunkCode.TIMEOUT and not verdict.counted:
        return "Normal", Reason.SOFT_TIMEOUT, f"{name} reached its soft limit, saved its pages and goes on"
    if verdict.outcome is Outcome.LOST:
        return "Normal", Reason.CHUNK_RESTARTED, f"{name} starts again from its checkpoint: {verdict.message}"
    if verdict.outcome is Outcome.FAILED:
        retry = f"retry {status.attempts}" if verdict.counted else "tried again"
        text = f"{name} failed, {retry} at {status.next_retry_time}: {code}: {verdict.message}"
        return "Warning", Reason.CHUNK_RETRY, text
    return None


def _with_advice(chunk: PdfChunk, verdict: Verdict) -> str:
    advice = CHUNK_CODES[verdict.code].advice_for(job_of(chunk), chunk.spec.index) if verdict.code else ""
    return f"{verdict.message}; {advice}"[:1024] if verdict.final and advice else verdict.message
