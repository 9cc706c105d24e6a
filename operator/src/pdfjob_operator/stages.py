"""The conditions of the stages of a job, and what it failed with. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import datetime
from typing import Final

from pdfjob_api.conditions import ChunkPhase, JobCondition, Reason
from pdfjob_api.errors import CHUNK_CODES, JOB_CODES, ChunkCode, JobCode
from pdfjob_api.jobstatus import ChunkCounts
from pdfjob_api.meta import LastError
from pdfjob_api.pdfchunk import PdfChunkStatus

from .chunk_wait import waiting_since
from .clock import to_wire
from .conditions import MAX_MESSAGE, Conditions
from .observation import Observation, WorkKind
from .policy import lacks_answers, lacks_chunks, settled, unanswered
from .ranges import number_ranges
from .throttle import Throttle

_SPLIT_MESSAGES: Final = {
    Reason.FETCHING: "the source is being copied to the operator's disk",
    Reason.SPLITTING: "the document is being inspected and cut into chunks",
}


def set_stages(
    conditions: Conditions,
    obs: Observation,
    counts: ChunkCounts | None,
    chunks: Mapping[int, PdfChunkStatus],
    now: datetime,
    *,
    merged: bool,
) -> LastError | None:
    """Set the conditions of the stages and return what the job failed with, if it did.

    Parameters
    ----------
    merged
        Whether the merged result of just these chunks is stored.
    """
    facts = obs.facts
    if facts.invalid is not None:
        conditions.set(JobCondition.ACCEPTED, "False", Reason.INVALID_SPEC, facts.invalid)
        return LastError(code=JobCode.PROCESSING_ERROR.value, message=facts.invalid[:MAX_MESSAGE])
    split_error = facts.errors.get(WorkKind.SPLIT)
    if split_error is not None:
        final = split_error.retry_at is None
        conditions.set(JobCondition.SPLIT, "False" if final else "Unknown", split_error.reason, split_error.message)
        if final:
            return LastError(code=JobCode.INVALID_SOURCE.value, message=split_error.message[:MAX_MESSAGE])
    elif facts.manifest is not None:
        conditions.set(JobCondition.SPLIT, "True", Reason.ALL_CHUNKS_STORED, "every chunk PDF is stored")
    else:
        step = facts.step or Reason.WAITING
        conditions.set(JobCondition.SPLIT, "Unknown", step, _SPLIT_MESSAGES.get(step, ""))
    if facts.plan is not None and facts.plan.damage:
        lost = number_ranges((page, page) for page in facts.plan.empty_pages)
        pages = f"; nothing, or not everything, can be read on page {lost}" if lost else ""
        text = f"the document was damaged{pages}: {'; '.join(facts.plan.damage)}"
        conditions.set(JobCondition.REPAIRED, "True", Reason.PAGES_LOST, text)
    if counts is None or facts.manifest is None or not settled(counts):
        reason = Reason.PROCESSING if counts is not None else Reason.WAITING
        conditions.set(JobCondition.CHUNKS_SUCCEEDED, "Unknown", reason, _what_holds_chunks_up(obs, now))
        conditions.set(JobCondition.MERGED, "Unknown", Reason.WAITING, "chunks are merged when all have succeeded")
        return None
    return _set_last_stages(conditions, obs, counts, chunks, merged=merged)


def set_stages_unread(conditions: Conditions, obs: Observation) -> None:
    """Say that the plan cannot be read back after a restart, at the stage that waits for it."""
    error = obs.facts.errors.get(WorkKind.SPLIT)
    if error is not None:
        stage = JobCondition.MERGED if conditions.is_true(JobCondition.SPLIT) else JobCondition.SPLIT
        text = f"the plan of the job cannot be read back from the storage, tried again: {error.message}"
        conditions.set(stage, "Unknown", error.reason, text)


def _set_last_stages(
    conditions: Conditions,
    obs: Observation,
    counts: ChunkCounts,
    chunks: Mapping[int, PdfChunkStatus],
    *,
    merged: bool,
) -> LastError | None:
    job, error = obs.job, obs.facts.errors.get(WorkKind.MERGE)
    if counts.failed or counts.cancelled:
        message = _chunk_failure(job.metadata.name, counts, chunks)
        if lacks_chunks(obs, counts):
            reason, why = (Reason.CHUNKS_FAILED, "failed") if counts.failed else (Reason.CANCELLED, "did not run")
            conditions.set(JobCondition.CHUNKS_SUCCEEDED, "False", reason, message)
            conditions.set(JobCondition.MERGED, "False", Reason.CHUNKS_FAILED, f"not merged, since chunks {why}")
            return LastError(code=JobCode.CHUNK_PROCESSING_ERROR.value, message=message)
        allowed = f"as spec.failurePolicy.maxFailedChunks: {job.spec.failure_policy.max_failed_chunks} allows"
        conditions.set(JobCondition.CHUNKS_SUCCEEDED, "False", Reason.CHUNKS_FAILED, f"{allowed}: {message}")
    else:
        text = "every chunk has its verified result" + _unanswered_text(obs, chunks)
        conditions.set(JobCondition.CHUNKS_SUCCEEDED, "True", Reason.ALL_CHUNKS_SUCCEEDED, text)
    if lacks_answers(obs, chunks):
        message = "not merged" + _unanswered_text(obs, chunks)
        conditions.set(JobCondition.MERGED, "False", Reason.PAGES_FAILED, message)
        return LastError(code=JobCode.CHUNK_PROCESSING_ERROR.value, message=message)
    if merged:
        conditions.set(JobCondition.MERGED, "True", Reason.RESULT_STORED, "the merged result is stored")
    elif error is None:
        conditions.set(JobCondition.MERGED, "Unknown", Reason.MERGING, "the results are being merged")
    elif error.retry_at is not None:
        conditions.set(JobCondition.MERGED, "Unknown", error.reason, error.message)
    else:
        conditions.set(JobCondition.MERGED, "False", Reason.MERGE_FAILED, error.message)
        return LastError(code=JobCode.MERGE_ERROR.value, message=error.message[:MAX_MESSAGE])
    return None


def set_degraded(
    conditions: Conditions, obs: Observation, chunks: Mapping[int, PdfChunkStatus], throttle: Throttle, now: datetime
) -> None:
    """Say what outside the document holds the job up, or that nothing does any more."""
    cause = _common_cause(obs, chunks, throttle) or _without_node(obs, now)
    if cause is not None:
        conditions.set(JobCondition.DEGRADED, "True", *cause)
    elif conditions.is_true(JobCondition.DEGRADED):
        conditions.set(JobCondition.DEGRADED, "False", Reason.DISPATCHING, "chunks start as there is room")


def _common_cause(
    obs: Observation, chunks: Mapping[int, PdfChunkStatus], throttle: Throttle
) -> tuple[ChunkCode, str] | None:
    if throttle.held is None or throttle.probe_at is None:
        return None
    hit = [status for status in chunks.values() if status.last_error and status.last_error.code == throttle.held]
    newest = max(hit, key=lambda status: status.history[-1].finished_at or "" if status.history else "", default=None)
    last = newest.last_error.message if newest is not None and newest.last_error is not None else ""
    name = obs.job.metadata.name
    checks = "check: key valid, quota not exceeded, network to the API, text in the PDF"
    if throttle.held is ChunkCode.IMAGE_ERROR:
        checks = CHUNK_CODES[throttle.held].advice_for(name)
    text = (
        f"the last chunks all failed with {throttle.held.value}, so none is started but one to try, the next at "
        f"{to_wire(throttle.probe_at)}; {checks}; then it goes on by itself, or at once: kubectl pdfjob retry {name}"
    )
    return throttle.held, f"{text}; the last error: {last}"


def _without_node(obs: Observation, now: datetime) -> tuple[Reason, str] | None:
    """Say which Jobs have waited for a pod or a node longer than the pending limit; None when none has."""
    patience = obs.job.spec.limits.pending_timeout_seconds
    podless: list[int] = []
    homeless: dict[int, str] = {}
    for index, starts in obs.starts.items():
        start = starts[-1] if starts else None
        since = waiting_since(start) if start is not None else None
        if start is None or since is None or (now - since).total_seconds() < patience:
            continue
        if not start.pods and start.job is not None and not start.job.finished:
            podless.append(index)
        elif start.pods and start.pods[0].unschedulable is not None and not start.pods[0].ended:
            homeless[index] = start.pods[0].unschedulable
    meta = obs.job.metadata
    if homeless:
        first = homeless[min(homeless)]
        return Reason.UNSCHEDULABLE, f"no node takes the pods of {_named(homeless)}: {first}"
    if podless:
        look = f"kubectl describe jobs -n {meta.namespace} -l pdfjob.dev/job={meta.name}"
        text = f"the Jobs of {_named(podless)} get no pod (quota, Pod Security, service account?)"
        return Reason.NO_POD, f"{text}, see why: {look}"
    return None


def _named(indices: Collection[int]) -> str:
    numbers = number_ranges((index, index) for index in sorted(indices)) or ""
    return f"chunk {numbers}" if len(indices) == 1 else f"chunks {numbers}"


def _what_holds_chunks_up(obs: Observation, now: datetime) -> str:
    text = "not every chunk has its result yet"
    without = _without_node(obs, now)
    if without is not None:
        text += f"; {without[1]}"
    if obs.facts.refused is not None:
        text += f"; the API server refuses Jobs, tried again: {obs.facts.refused}"
    if obs.facts.capped:
        text += "; chunks wait for a free place of the installation (maxConcurrentChunks)"
    return text


def _unanswered_text(obs: Observation, chunks: Mapping[int, PdfChunkStatus]) -> str:
    """Tell of pages without a usable answer of the language model, and what to do about them; empty without any."""
    missing = unanswered(chunks)
    if not missing:
        return ""
    number, allowed = sum(missing.values()), obs.job.spec.failure_policy.max_failed_items
    where = f"{number} {'page has' if number == 1 else 'pages have'} no usable answer of the language model"
    text = f"; {where} ({_named(missing)}), spec.failurePolicy.maxFailedItems: {allowed}"
    if not lacks_answers(obs, chunks):
        return f"{text} allows that"
    again = f"kubectl pdfjob retry {obs.job.metadata.name}"
    chosen = " ".join(f"--chunk {index}" for index in list(missing)[:20])
    return f"{text} allows fewer: raise it and merge with {again}, or ask again with {again} {chosen} --force"


def _chunk_failure(name: str, counts: ChunkCounts, chunks: Mapping[int, PdfChunkStatus]) -> str:
    if not counts.failed:
        return f"{counts.cancelled} of {counts.total} chunks never ran to their end"
    failed = [(index, chunk) for index, chunk in sorted(chunks.items()) if chunk.phase is ChunkPhase.FAILED]
    numbers = number_ranges((index, index) for index, _ in failed) or ""
    errors = [chunk.last_error for _, chunk in failed if chunk.last_error is not None]
    if counts.failed == counts.total and all(error.code == "NO_TEXT" for error in errors):
        return (
            "no chunk has text: scan? use OCR or Gemini Pdf mode (ocrmypdf puts text into a scan), then submit it again"
        )
    first = f"; chunk {failed[0][0]}: {errors[0].code}: {errors[0].message}" if errors else ""
    advice = JOB_CODES[JobCode.CHUNK_PROCESSING_ERROR].advice_for(name)
    never = f"; {counts.cancelled} never ran" if counts.cancelled else ""
    return f"{counts.failed} of {counts.total} chunks failed ({numbers}){never}{first}; {advice}"[:MAX_MESSAGE]
