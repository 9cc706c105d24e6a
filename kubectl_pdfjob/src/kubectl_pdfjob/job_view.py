"""The view of one job: where it stands, what its workers do, what finished, what failed, what to do next."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from pdfjob_api.conditions import ChunkPhase, JobCondition, JobPhase
from pdfjob_api.pdfchunk import PdfChunk
from pdfjob_api.pdfjob import PdfJob

from .formats import NONE, ago, byte_size, clock, counted, duration, parse_time
from .views import (
    condition,
    holdup,
    is_finished,
    is_succeeded,
    new_table,
    pages,
    phase_text,
    step_text,
    took,
    unpaid,
    without_advice,
)
from .why import error_text
from .workers import Worker

__all__ = ["JobView", "next_commands", "render"]

_RECENT: Final = 5
_LISTED: Final = 10
_REASON: Final = 160
"""Characters of a chunk's reason."""
_SILENT_SECONDS: Final = 20
"""An operator that runs takes a job in far less."""


@dataclass(frozen=True, slots=True)
class JobView:
    """What the view is made of."""

    job: PdfJob
    chunks: Sequence[PdfChunk]
    workers: Sequence[Worker] = field(default_factory=list)
    flags: str = ""
    """Flags that the commands shown need, with a leading blank."""


def render(view: JobView, now: datetime) -> RenderableType:
    """Return the whole view."""
    parts: list[RenderableType] = [_facts(view.job, now)]
    sections = (
        ("Workers", _workers(view.workers, now)),
        ("Recently finished", _recent(view.chunks, now)),
        ("Waiting for a retry", _troubled(view.chunks, ChunkPhase.RETRY_SCHEDULED, now)),
        ("Failed", _troubled(view.chunks, ChunkPhase.FAILED, now)),
        ("Conditions", _conditions(view.job, now)),
        ("Next", _lines(next_commands(view.job, view.flags, now))),
    )
    for title, body in sections:
        if body is not None:
            parts += [Text(""), Text(f"{title}:", style="bold"), Padding(body, (0, 0, 0, 2), expand=False)]
    return Group(*parts)


def _facts(job: PdfJob, now: datetime) -> Table:
    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(no_wrap=True)
    grid.add_column(overflow="fold")
    rows: list[tuple[str, str | Text | None]] = [
        ("Name", f"{job.metadata.name}  (namespace {job.metadata.namespace})"),
        ("Phase", _phase(job)),
        ("Source", _source(job)),
        ("Chunks", _counts(job)),
        ("Pages", _items(job)),
        ("Tokens", _tokens(job)),
        ("Credits", _credits(job)),
        ("Sentences", None if job.status.sentences is None else f"{job.status.sentences:,}"),
        ("Result", _result(job)),
        ("Error", _error(job)),
        ("Held up", holdup(job)),
        ("Ended by", _shutdown(job)),
        ("Last retry", _last_retry(job, now)),
        ("Settings", _settings(job)),
        ("Limits", _limits(job)),
        ("Clock", _clock(job, now)),
        ("Times", _times(job, now)),
        ("Removed", _removed(job, now)),
    ]
    for name, value in rows:
        if value is not None:
            grid.add_row(Text(f"{name}:", style="bold"), value)
    return grid


def _phase(job: PdfJob) -> Text:
    text = phase_text(job.status.phase).copy()
    text.no_wrap = False
    step = step_text(job)
    text.append(f"  {job.status.progress_percent}%", style="default")
    return text.append(f"  {step}", style="default") if step else text


def _source(job: PdfJob) -> str:
    found, source = job.status.source, job.spec.source
    if found:
        size = [counted(found.pages, "page")] if found.pages is not None else []
        return ", ".join([found.file_name, *size, byte_size(found.size_bytes)])
    if source.http:
        return source.http.url
    return f"s3://{source.s3.bucket or '(bucket of the installation)'}/{source.s3.key}" if source.s3 else NONE


def _counts(job: PdfJob) -> str | None:
    counts = job.status.chunks
    if counts is None:
        return None
    numbers = {
        "succeeded": counts.succeeded,
        "running": counts.running,
        "pending": counts.pending,
        "waiting for a retry": counts.retry_scheduled,
        "failed": counts.failed,
        "cancelled": counts.cancelled,
    }
    always = {"succeeded", "running", "pending", "failed"}
    shown = ", ".join(f"{number} {name}" for name, number in numbers.items() if number or name in always)
    if counts.cached:
        shown = shown.replace(" succeeded", f" succeeded ({counts.cached} from the cache)", 1)
    text = f"{counts.total} in all: {shown}"
    if job.status.failed_chunks:
        text += f" (numbers {job.status.failed_chunks})"
    return f"{text}; {counted(job.status.retries, 'retry', 'retries')}" if job.status.retries else text


def _items(job: PdfJob) -> str | None:
    items = job.status.items
    if items is None:
        return None
    return f"{items.done:,} of {items.total:,} done" + (f", {items.failed:,} could not be read" if items.failed else "")


def _tokens(job: PdfJob) -> str | None:
    tokens = job.status.tokens
    if tokens is None:
        return None
    cached = f" ({tokens.cached:,} of them cached)" if tokens.cached else ""
    thinking = f", {tokens.thinking:,} thinking" if tokens.thinking else ""
    return f"{tokens.input:,} input{cached}, {tokens.output:,} output{thinking}"


def _credits(job: PdfJob) -> str | None:
    """Return what the credit account has to do with the job, in tokens; None when it names none."""
    ref, found = job.spec.credit_account_ref, job.status.credits
    if ref is None:
        return None
    if found is None:
        expected = ref.estimated_tokens or job.status.estimated_tokens
        return f"account {ref.name}: nothing reserved" + (f", {expected:,} expected" if expected else "")
    text = f"account {ref.name}: {found.reserved:,} reserved, {found.charged:,} charged"
    settled = condition(job, JobCondition.CREDITS_SETTLED)
    if is_finished(job) and settled and settled.status == "True":
        text += f", {found.refunded:,} refunded"
    return text + (f"; {found.charged_earlier:,} charged in earlier runs" if found.charged_earlier else "")


def _result(job: PdfJob) -> str | None:
    result = job.status.result
    if result is None:
        return None
    files = ", ".join(f"{file.format} {byte_size(file.bytes)}" for file in result.files)
    return files + (f"; partial, missing pages {result.missing_pages or '?'}" if result.partial else "")


def _error(job: PdfJob) -> str | None:
    error = job.status.last_error
    return f"{error.code}: {without_advice(job, error.message)}" if error else None


def _settings(job: PdfJob) -> str:
    spec = job.spec
    return (
        f"processor {_processor(job)}, chunks of {counted(spec.chunking.pages_per_chunk, 'page')} (a document of up to "
        f"{spec.chunking.threshold_pages} is one), overlap {spec.chunking.overlap_pages}, "
        f"parallelism {_parallelism(job)}, priority {spec.priority}"
    )


def _processor(job: PdfJob) -> str:
    processor = job.spec.processor
    if processor.gemini:
        gemini = processor.gemini
        windows = counted(gemini.window_pages, "page")
        return f"gemini ({gemini.model}, mode {gemini.mode}, {windows} a request)"
    if processor.custom:
        return f"custom ({processor.custom.image})"
    return f"local ({processor.local.language})" if processor.local else NONE


def _parallelism(job: PdfJob) -> str:
    """Return how many chunks may be in flight, and how many are let for now, where these are fewer."""
    asked, effective = job.spec.parallelism, job.status.effective_parallelism
    return f"{asked}, {effective} in effect" if effective and effective < asked else str(asked)


def _shutdown(job: PdfJob) -> str | None:
    shutdown = job.status.shutdown
    if shutdown is None:
        return None
    return f"{shutdown.requested_by}, {clock(shutdown.requested_at)} (shutdown: {job.spec.shutdown})"


def _last_retry(job: PdfJob, now: datetime) -> str | None:
    answer = job.status.last_retry
    if answer is None:
        return None
    text = f"{answer.message}, {ago(answer.time, now)} ago (id {answer.id})"
    if answer.chunks:
        numbers = ", ".join(str(number) for number in answer.chunks[:_LISTED])
        text += f"; chunks {numbers}" + (" ..." if len(answer.chunks) > _LISTED else "")
    refused = [item for item in answer.refused if item.reason not in answer.message]
    return text + "".join(f"; refused {item.chunks}: {item.reason}" for item in refused)


def _clock(job: PdfJob, now: datetime) -> str | None:
    """Return the time for which the job was worked on, of that which it may take."""
    found, limit = job.status.clock, job.spec.limits.job_timeout_seconds
    if found is None:
        return None
    since = parse_time(found.since)
    seconds = found.seconds + (max(0.0, (now - since).total_seconds()) if since else 0.0)
    text = f"worked on for {duration(seconds)}"
    if limit:
        text += f" of {duration(limit)} (limits.jobTimeoutSeconds)"
    return text if since or is_finished(job) else f"{text}; it stands"


def _removed(job: PdfJob, now: datetime) -> str | None:
    """Return when the job goes away by itself; None when it stays."""
    ended, kept = parse_time(job.status.completion_time), job.spec.ttl_seconds_after_finished.after(job.status.phase)
    if ended is None or kept is None:
        return None
    return f"in {duration(kept - (now - ended).total_seconds())} (ttlSecondsAfterFinished); result and history stay"


def _limits(job: PdfJob) -> str:
    limits, policy, may_fail = job.spec.limits, job.spec.retry_policy, job.spec.failure_policy.max_failed_chunks
    backoff = policy.backoff
    whole = f"{limits.job_timeout_seconds} s" if limits.job_timeout_seconds else "no limit"
    return (
        f"chunk {limits.chunk_timeout_seconds} s (soft {limits.chunk_soft_timeout_seconds} s), stuck after "
        f"{limits.stuck_timeout_seconds} s, pending {limits.pending_timeout_seconds} s, job {whole}, "
        f"up to {counted(policy.max_retries, 'retry', 'retries')} a chunk "
        f"(after {backoff.initial_seconds} s, then x{backoff.factor}, at most {backoff.max_seconds} s), "
        f"{_may_fail(may_fail)} may fail"
    )


def _may_fail(chunks: int | str) -> str:
    if isinstance(chunks, str):
        return f"{chunks} of the chunks"
    return counted(chunks, "chunk") if chunks else "no chunk"


def _times(job: PdfJob, now: datetime) -> str:
    status = job.status
    text = f"created {clock(job.metadata.creation_timestamp)}"
    created, started = parse_time(job.metadata.creation_timestamp), parse_time(status.start_time)
    if started and status.last_retry and status.last_retry.retried_count:
        text += f", last started {clock(status.start_time)}"
    elif created and started:
        text += f", started after {duration((started - created).total_seconds())}"
    ended = parse_time(status.completion_time)
    if ended and started:
        seconds = status.processing_seconds
        spent = seconds if seconds is not None else (ended - started).total_seconds()
        text += f", took {duration(spent)}, ended {duration((now - ended).total_seconds())} ago"
    elif started:
        text += f", that is {duration((now - started).total_seconds())} ago"
    return text


def _workers(workers: Sequence[Worker], now: datetime) -> RenderableType | None:
    if not workers:
        return None
    table = new_table("CHUNK", "START", "STATE", "SINCE", "DETAIL")
    for worker in workers[:_LISTED]:
        chunk, start = (NONE if number is None else str(number) for number in (worker.chunk, worker.start))
        table.add_row(chunk, start, worker.state, ago(worker.since, now), worker.detail or f"pod {worker.pod}")
    return _cut(table, len(workers))


def _recent(chunks: Iterable[PdfChunk], now: datetime) -> Table | None:
    done = [chunk for chunk in chunks if chunk.status.phase is ChunkPhase.SUCCEEDED]
    done.sort(key=lambda chunk: (chunk.status.processed_at or "", chunk.spec.index), reverse=True)
    if not done:
        return None
    table = new_table("CHUNK", "PAGES", "SENTENCES", "TOOK", "FINISHED")
    for chunk in done[:_RECENT]:
        sentences = str(chunk.status.result.sentences) if chunk.status.result else NONE
        finished = f"{ago(chunk.status.processed_at, now)} ago"
        table.add_row(str(chunk.spec.index), pages(chunk), sentences, took(chunk, now), finished)
    return table


def _troubled(chunks: Iterable[PdfChunk], phase: ChunkPhase, now: datetime) -> RenderableType | None:
    found = [chunk for chunk in chunks if chunk.status.phase is phase]
    if not found:
        return None
    table = new_table("CHUNK", "PAGES", "TRIES", "REASON")
    for chunk in found[:_LISTED]:
        table.add_row(
            str(chunk.spec.index), pages(chunk), str(chunk.status.attempts), _shortened(error_text(chunk, now))
        )
    return _cut(table, len(found))


def _shortened(text: str) -> str:
    """Keep the list of failures short; ``kubectl pdfjob chunks`` shows the whole reason."""
    return text if len(text) <= _REASON else f"{text[: _REASON - 4].rstrip()} ..."


def _conditions(job: PdfJob, now: datetime) -> Table | None:
    if not job.status.conditions:
        return None
    table = new_table("TYPE", "STATUS", "REASON", "SINCE", "MESSAGE")
    error = job.status.last_error.message if job.status.last_error else None
    for item in job.status.conditions:
        message = "see Error above" if item.message == error else item.message
        table.add_row(item.type, item.status, item.reason, ago(item.last_transition_time, now), message)
    return table


def _cut(table: Table, total: int) -> RenderableType:
    return Group(table, Text(f"... and {total - _LISTED} more")) if total > _LISTED else table


def _lines(lines: Sequence[str]) -> Text | None:
    return Text("\n".join(lines), overflow="fold") if lines else None


def next_commands(job: PdfJob, flags: str, now: datetime) -> list[str]:
    """Return what the user may want to run now; ``flags`` are what the commands need to mean the same cluster."""
    name = job.metadata.name
    if is_finished(job) and is_succeeded(job):
        return [f"kubectl pdfjob results {name}{flags}"]
    if is_finished(job):
        commands = [f"kubectl pdfjob chunks {name} --status Failed{flags}"] if job.status.failed_chunks else []
        if job.status.phase is JobPhase.FAILED and job.status.chunks and job.status.chunks.total:
            commands.append(f"kubectl pdfjob retry {name}{flags}")
        if job.status.chunks and job.status.chunks.succeeded:
            commands.append(f"kubectl pdfjob results {name} --partial{flags}")
        return [*commands, f"kubectl describe pdfjob {name}{flags}"]
    if job.spec.suspend and job.spec.shutdown is None:
        return [f"kubectl pdfjob resume {name}{flags}"]
    ref = job.spec.credit_account_ref
    if ref and unpaid(job):
        return [f"kubectl pdfjob credits {ref.name}{flags}"]
    created = parse_time(job.metadata.creation_timestamp)
    silent = created is not None and (now - created).total_seconds() > _SILENT_SECONDS
    if silent and condition(job, JobCondition.ACCEPTED) is None:
        return [
            "The operator has not taken this job yet. Does it run, and does it watch this namespace?",
            "kubectl get pods -A -l app.kubernetes.io/name=pdfjob",
        ]
    return [f"kubectl pdfjob status {name} --watch{flags}"]
