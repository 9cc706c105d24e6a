"""Views of jobs and chunks: from models to tables and lines. Nothing here reads a clock, a cluster or a terminal."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import Final

from rich.table import Table
from rich.text import Text

from pdfjob_api.conditions import UNDER_WAY, ChunkPhase, JobCondition, JobPhase, Reason
from pdfjob_api.errors import CHUNK_CODES, JOB_CODES, ChunkCode, CodeRule, JobCode
from pdfjob_api.meta import Condition
from pdfjob_api.pdfchunk import PdfChunk
from pdfjob_api.pdfjob import PdfJob

from .formats import NONE, ago, clock, duration, parse_time

__all__ = [
    "chunk_table",
    "condition",
    "failure",
    "holdup",
    "is_finished",
    "is_succeeded",
    "job_line",
    "job_table",
    "new_table",
    "phase_text",
    "step_text",
    "tokens_text",
    "unpaid",
    "without_advice",
]

_STYLES: Final = {
    JobPhase.SUCCEEDED.value: "green",
    JobPhase.FAILED.value: "red",
    JobPhase.RUNNING.value: "cyan",
    JobPhase.SUSPENDED.value: "yellow",
    JobPhase.STOPPED.value: "magenta",
    ChunkPhase.RETRY_SCHEDULED.value: "yellow",
    ChunkPhase.CANCELLED.value: "dim",
}
_STAGES: Final = (JobCondition.ACCEPTED, JobCondition.SPLIT, JobCondition.CHUNKS_SUCCEEDED, JobCondition.MERGED)
_ENDED_BY_USER: Final = frozenset({JobPhase.STOPPED, JobPhase.CANCELLED})
_PROCESSING: Final = "Processing chunk"


def condition(job: PdfJob, kind: JobCondition) -> Condition | None:
    """Return a condition of a job; None when it has not been set."""
    return next((item for item in job.status.conditions if item.type == kind), None)


def is_finished(job: PdfJob) -> bool:
    """Whether the job has ended, well or badly."""
    found = condition(job, JobCondition.FINISHED)
    return found is not None and found.status == "True"


def is_succeeded(job: PdfJob) -> bool:
    """Whether the job has ended well."""
    found = condition(job, JobCondition.SUCCEEDED)
    return found is not None and found.status == "True"


def step_text(job: PdfJob) -> str:
    """Return what is being done: ``Processing chunk 5/10 (50%)``, with the plain ratio of chunks succeeded."""
    step = job.status.current_step or ("" if is_finished(job) else "Waiting for the operator")
    if step.startswith(_PROCESSING) and job.status.summary:
        return f"{step} ({job.status.summary.progress})"
    return step


def phase_text(phase: str) -> Text:
    """Return a phase in its colour."""
    return Text(phase, style=_STYLES.get(phase, ""), no_wrap=True)


def new_table(*columns: str, last_folds: bool = True) -> Table:
    """Return an empty table in the manner of ``kubectl get``; only its last column may be wrapped."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold", show_edge=False)
    for column in columns:
        folds = last_folds and column == columns[-1]
        table.add_column(column, no_wrap=not folds, overflow="fold" if folds else "ellipsis")
    return table


def job_table(jobs: Iterable[PdfJob], now: datetime) -> Table:
    """Return the table of all jobs, the newest first."""
    table = new_table("NAME", "PHASE", "PROGRESS", "CHUNKS", "FAILED", "AGE", "STEP")
    for job in sorted(jobs, key=lambda item: (item.metadata.creation_timestamp, item.metadata.name), reverse=True):
        status = job.status
        table.add_row(
            job.metadata.name,
            phase_text(status.phase),
            status.summary.progress if status.summary else NONE,
            status.summary.chunks if status.summary else NONE,
            str(status.chunks.failed) if status.chunks else NONE,
            ago(job.metadata.creation_timestamp, now),
            status.current_step or NONE,
        )
    return table


def job_line(job: PdfJob) -> str:
    """Return one line on where a job stands, for logs and pipes."""
    step = step_text(job)
    return f"{job.metadata.name}  {job.status.phase}  {job.status.progress_percent}%" + (f"  {step}" if step else "")


def chunk_table(chunks: Sequence[PdfChunk], why: Callable[[PdfChunk, datetime], str], now: datetime) -> Table:
    """Return the table of the chunks of a job, in page order; ``why`` says what each waits for or died of."""
    paid = any(chunk.status.result and (chunk.status.result.cached or _tokens(chunk)) for chunk in chunks)
    language_work = ("TOKENS",) if paid else ()
    table = new_table("CHUNK", "PAGES", "PHASE", "TRIES", "SENTENCES", *language_work, "TOOK", "AGE", "WHY")
    for chunk in chunks:
        status = chunk.status
        table.add_row(
            str(chunk.spec.index),
            pages(chunk),
            phase_text(status.phase),
            f"{status.attempts}",
            str(status.result.sentences) if status.result else NONE,
            *([tokens_text(chunk)] if paid else []),
            took(chunk, now),
            ago(status.updated_at or chunk.metadata.creation_timestamp, now),
            why(chunk, now) or NONE,
        )
    return table


def pages(chunk: PdfChunk) -> str:
    """Return the pages a chunk owns."""
    return f"{chunk.spec.start_page}-{chunk.spec.end_page}"


def tokens_text(chunk: PdfChunk) -> str:
    """Return what the result of a chunk took of a language service: tokens, or that it was there already."""
    if chunk.status.result is None:
        return NONE
    return "cached" if chunk.status.result.cached else f"{_tokens(chunk):,}"


def _tokens(chunk: PdfChunk) -> int:
    return chunk.status.result.tokens.total if chunk.status.result else 0


def took(chunk: PdfChunk, now: datetime) -> str:
    """Return how long the last start of a chunk took, or has taken so far."""
    started = parse_time(chunk.status.started_at)
    if started is None:
        return NONE
    if chunk.status.phase is ChunkPhase.RUNNING:
        return duration((now - started).total_seconds())
    ended = parse_time(chunk.status.processed_at)
    return duration((ended - started).total_seconds()) if ended else NONE


def failure(job: PdfJob, flags: str = "") -> tuple[str, str | None]:
    """Return why a job failed, in one line with reason and message, and what to run or do about it.

    ``flags`` are what a command needs to mean the same cluster and namespace.
    """
    name, error = job.metadata.name, job.status.last_error
    if job.status.phase in _ENDED_BY_USER:
        some = job.status.chunks is not None and job.status.chunks.succeeded > 0
        return _ended_by_user(job), f"kubectl pdfjob results {name} --partial{flags}" if some else None
    summary = condition(job, JobCondition.SUCCEEDED)
    broken = next((item for kind in _STAGES if (item := condition(job, kind)) and item.status == "False"), None)
    reasons = [item.reason for item in (summary, broken) if item] or ["unknown reason"]
    message = next((item.message for item in (broken, summary, error) if item and item.message), "")
    rule = _rule(error.code) if error else None
    hint = rule.advice_for(name) if rule else None
    message = without_advice(job, message)
    if error and error.code == JobCode.CHUNK_PROCESSING_ERROR:
        hint = f"kubectl pdfjob chunks {name} --status Failed{flags}"
    elif broken and message:
        # The operator's message on a source or a merge says itself what to do.
        hint = None
    text = f'pdfjob "{name}" failed: {"/".join(dict.fromkeys(reasons))}'
    return (f"{text}: {message}" if message else text), hint


def _ended_by_user(job: PdfJob) -> str:
    shutdown, phase = job.status.shutdown, job.status.phase.lower()
    by = f" by {shutdown.requested_by}, {clock(shutdown.requested_at)}" if shutdown else ""
    return f'pdfjob "{job.metadata.name}" was {phase}{by}'


def without_advice(job: PdfJob, message: str) -> str:
    """Return a message of the operator without the general advice at its end; the plugin shows commands instead."""
    rule = _rule(job.status.last_error.code) if job.status.last_error else None
    return message.replace(rule.advice_for(job.metadata.name), "").rstrip("; ") if rule else message


def holdup(job: PdfJob) -> str | None:
    """Return why a job that has not ended cannot go on at the moment; None when nothing holds it up."""
    if is_finished(job):
        return None
    for kind in _STAGES:
        item = condition(job, kind)
        if item and item.status == "Unknown" and item.reason not in UNDER_WAY and item.message:
            return f"{item.reason}: {item.message}"
    degraded, suspended = condition(job, JobCondition.DEGRADED), condition(job, JobCondition.SUSPENDED)
    if suspended and (suspended.status == "True" or suspended.reason == Reason.DRAINING):
        return f"{suspended.reason}: {suspended.message}"
    if held := unpaid(job):
        return f"{held.reason}: {held.message}"
    if degraded and degraded.status == "True":
        return f"{degraded.reason}: {degraded.message}"
    return None


def unpaid(job: PdfJob) -> Condition | None:
    """Return the condition that keeps a job from starting chunks since its credit account does not pay for it yet."""
    held = condition(job, JobCondition.CREDITS_RESERVED)
    return held if held and held.status == "False" and not is_finished(job) else None


def _rule(code: str) -> CodeRule | None:
    if code in JobCode.__members__:
        return JOB_CODES[JobCode(code)]
    if code in ChunkCode.__members__:
        return CHUNK_CODES[ChunkCode(code)]
    return None
