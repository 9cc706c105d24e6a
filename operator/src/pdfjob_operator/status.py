"""The status of a PdfJob, computed anew from what is there. Pure; counters are never changed by deltas."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Final

from pdfjob_api.conditions import ChunkPhase, JobCondition, JobPhase, Reason
from pdfjob_api.contract import Tokens
from pdfjob_api.errors import JOB_CODES, JobCode
from pdfjob_api.meta import Condition, LastError
from pdfjob_api.pdfchunk import PdfChunkStatus
from pdfjob_api.pdfjob import ChunkCounts, Items, JobResult, PdfJob, PdfJobStatus, Summary

from .clock import from_wire, to_wire
from .observation import Facts, Observation, WorkError, WorkKind
from .ranges import number_ranges

_MAX_MESSAGE: Final = 1024
_SPLIT_MESSAGES: Final = {
    Reason.FETCHING: "the source is being copied to the operator's disk",
    Reason.SPLITTING: "the document is being inspected and cut into chunks",
}
_STAGES: Final = (JobCondition.ACCEPTED, JobCondition.SPLIT, JobCondition.CHUNKS_SUCCEEDED, JobCondition.MERGED)
_STEPS: Final = {Reason.FETCHING: "Fetching source", Reason.SPLITTING: "Inspecting document"}


class Conditions:
    """The conditions of a PdfJob under construction; a transition time moves only when the status does."""

    def __init__(self, job: PdfJob, now: datetime) -> None:
        self._old = {item.type: item for item in job.status.conditions}
        self._items = dict(self._old)
        self._generation = job.metadata.generation
        self._now = to_wire(now)

    def set(self, kind: JobCondition, status: str, reason: Reason | JobCode, message: str = "") -> None:
        """Set a condition; ``status`` is True, False or Unknown."""
        old = self._old.get(kind.value)
        moved = old is None or old.status != status
        self._items[kind.value] = Condition(
            type=kind.value,
            status=status,
            reason=reason.value,
            message=message[:_MAX_MESSAGE],
            last_transition_time=self._now if moved or old is None else old.last_transition_time,
            observed_generation=self._generation,
        )

    def broken(self) -> str | None:
        """Return the reason of the first stage that is False: it names the cause, the error code only its class."""
        stages = (self._items.get(kind.value) for kind in _STAGES)
        return next((item.reason for item in stages if item is not None and item.status == "False"), None)

    def list(self) -> list[Condition]:
        """Return all of them, in the order of the lifecycle."""
        order = [kind.value for kind in JobCondition]
        return sorted(self._items.values(), key=lambda item: order.index(item.type) if item.type in order else 99)


def is_true(job: PdfJob, kind: JobCondition) -> bool:
    """Whether a condition of the stored status is True."""
    return any(item.type == kind.value and item.status == "True" for item in job.status.conditions)


def compute_status(obs: Observation, chunks: Mapping[int, PdfChunkStatus], now: datetime) -> PdfJobStatus | None:
    """Return the status the job should have, or None while too little is known to say (after a restart).

    Parameters
    ----------
    chunks
        Status of every PdfChunk by index, as it is after this reconcile's writes.
    """
    job, facts = obs.job, obs.facts
    if facts.plan is None and job.status.chunks is not None and _fatal(facts) is None:
        return None
    conditions = Conditions(job, now)
    counts = _count(obs, chunks)
    conditions.set(JobCondition.ACCEPTED, "True", Reason.ACCEPTED, "the operator took the job")
    failure = _set_stages(conditions, obs, counts, chunks, now)
    if failure is not None and counts is not None:
        counts = _closed(counts)
    done = facts.merged is not None and failure is None
    _set_summary(conditions, obs, failure, done=done)
    total = counts.total if counts else 0
    succeeded = counts.succeeded if counts else 0
    start_time = job.status.start_time or to_wire(now)
    status = job.status.model_copy(
        update={
            "observed_generation": job.metadata.generation,
            "phase": _phase(obs, counts, failure=failure, done=done),
            "current_step": _step(
                facts, counts, failed=(conditions.broken() or failure.code) if failure else None, done=done
            )[:40],
            "source": facts.plan.source if facts.plan else job.status.source,
            "chunks": counts,
            "summary": Summary(progress=f"{100 * succeeded // max(total, 1)}%", chunks=f"{succeeded}/{total}")
            if counts
            else None,
            "items": _items(obs, chunks) if counts else None,
            "failed_chunks": number_ranges(
                (index, index) for index, chunk in sorted(chunks.items()) if chunk.phase is ChunkPhase.FAILED
            ),
            "retries": sum(max(chunk.attempts - 1, 0) for chunk in chunks.values()),
            "start_time": start_time,
            "last_error": failure or job.status.last_error,
            "conditions": conditions.list(),
            **_sums(chunks),
        }
    )
    percent = max(_percent(facts, counts, done=done), job.status.progress_percent)
    status = status.model_copy(update={"progress_percent": percent, "result": _result(facts) if done else None})
    if failure is None and not done:
        return status
    seconds = int((now - from_wire(start_time)).total_seconds())
    return status.model_copy(update={"completion_time": to_wire(now), "processing_seconds": seconds})


def settled(counts: ChunkCounts) -> bool:
    """Whether no chunk is pending, running or scheduled."""
    return counts.succeeded + counts.failed + counts.cancelled == counts.total


def _closed(counts: ChunkCounts) -> ChunkCounts:
    """Return the counts of a job that has failed: what has not ended by itself will not run any more."""
    open_ones = counts.pending + counts.running + counts.retry_scheduled
    return counts.model_copy(
        update={"pending": 0, "running": 0, "retry_scheduled": 0, "cancelled": counts.cancelled + open_ones}
    )


def _fatal(facts: Facts) -> WorkError | None:
    """Return the error of background work that is not tried again, if any."""
    return next((error for error in facts.errors.values() if error.retry_at is None), None)


def _count(obs: Observation, statuses: Mapping[int, PdfChunkStatus]) -> ChunkCounts | None:
    plan, stored = obs.facts.plan, obs.job.status.chunks
    if plan is not None:
        pages = plan.source.pages or 0
        size = plan.pages_per_chunk if pages > plan.threshold_pages else max(pages, 1)
        planned = -(-pages // size)
    elif stored is not None:  # planned by an earlier process; this one cannot read the plan, and fails for good
        planned = stored.total
    else:
        return None
    total = max(planned, len(statuses))
    by_phase = dict.fromkeys(ChunkPhase, 0)
    for status in statuses.values():
        by_phase[status.phase] += 1
    return ChunkCounts(
        total=total,
        pending=by_phase[ChunkPhase.PENDING] + total - len(statuses),
        running=by_phase[ChunkPhase.RUNNING],
        retry_scheduled=by_phase[ChunkPhase.RETRY_SCHEDULED],
        succeeded=by_phase[ChunkPhase.SUCCEEDED],
        failed=by_phase[ChunkPhase.FAILED],
        cancelled=by_phase[ChunkPhase.CANCELLED],
    )


def _set_stages(
    conditions: Conditions,
    obs: Observation,
    counts: ChunkCounts | None,
    chunks: Mapping[int, PdfChunkStatus],
    now: datetime,
) -> LastError | None:
    """Set the conditions of the stages and return what the job failed with, if it did."""
    facts = obs.facts
    if facts.invalid is not None:
        conditions.set(JobCondition.ACCEPTED, "False", Reason.INVALID_SPEC, facts.invalid)
        return LastError(code=JobCode.PROCESSING_ERROR.value, message=facts.invalid[:_MAX_MESSAGE])
    split_error = facts.errors.get(WorkKind.SPLIT)
    if split_error is not None:
        final = split_error.retry_at is None
        conditions.set(JobCondition.SPLIT, "False" if final else "Unknown", split_error.reason, split_error.message)
        if final:
            return LastError(code=JobCode.INVALID_SOURCE.value, message=split_error.message[:_MAX_MESSAGE])
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
    return _set_chunk_stages(conditions, obs, counts, chunks, now)


def _set_chunk_stages(
    conditions: Conditions,
    obs: Observation,
    counts: ChunkCounts | None,
    chunks: Mapping[int, PdfChunkStatus],
    now: datetime,
) -> LastError | None:
    name, facts = obs.job.metadata.name, obs.facts
    if counts is None or facts.manifest is None or not settled(counts):
        reason = Reason.PROCESSING if counts is not None else Reason.WAITING
        text = "not every chunk has its result yet" + _without_pods(obs, now)
        if obs.facts.refused is not None:
            text += f"; the API server refuses Jobs, tried again: {obs.facts.refused}"
        conditions.set(JobCondition.CHUNKS_SUCCEEDED, "Unknown", reason, text)
        conditions.set(JobCondition.MERGED, "Unknown", Reason.WAITING, "chunks are merged when all have succeeded")
        return None
    if counts.failed or counts.cancelled:
        message = _chunk_failure(name, counts, chunks)
        conditions.set(JobCondition.CHUNKS_SUCCEEDED, "False", Reason.CHUNKS_FAILED, message)
        conditions.set(JobCondition.MERGED, "False", Reason.CHUNKS_FAILED, "not merged, since chunks failed")
        return LastError(code=JobCode.CHUNK_PROCESSING_ERROR.value, message=message)
    conditions.set(
        JobCondition.CHUNKS_SUCCEEDED, "True", Reason.ALL_CHUNKS_SUCCEEDED, "every chunk has its verified result"
    )
    error = facts.errors.get(WorkKind.MERGE)
    if facts.merged is not None:
        conditions.set(JobCondition.MERGED, "True", Reason.RESULT_STORED, "the merged result is stored")
    elif error is None:
        conditions.set(JobCondition.MERGED, "Unknown", Reason.MERGING, "the results are being merged")
    elif error.retry_at is not None:
        conditions.set(JobCondition.MERGED, "Unknown", error.reason, error.message)
    else:
        conditions.set(JobCondition.MERGED, "False", Reason.MERGE_FAILED, error.message)
        return LastError(code=JobCode.MERGE_ERROR.value, message=error.message[:_MAX_MESSAGE])
    return None


def _without_pods(obs: Observation, now: datetime) -> str:
    """Say which Jobs have waited for a pod longer than any cluster needs; empty when none has."""
    patience = obs.rules.pending_timeout_seconds
    waiting = sorted(
        index
        for index, starts in obs.starts.items()
        for start in starts
        if start.job is not None and not start.job.finished and not start.pods
        if (now - start.job.meta.created).total_seconds() >= patience
    )
    if not waiting:
        return ""
    numbers = number_ranges((index, index) for index in waiting)
    look = f"kubectl describe jobs -n {obs.job.metadata.namespace} -l pdfjob.dev/job={obs.job.metadata.name}"
    return f"; the Jobs of chunks {numbers} get no pod (quota, Pod Security, service account?), see why: {look}"


def _chunk_failure(name: str, counts: ChunkCounts, chunks: Mapping[int, PdfChunkStatus]) -> str:
    failed = [(index, chunk) for index, chunk in sorted(chunks.items()) if chunk.phase is ChunkPhase.FAILED]
    numbers = number_ranges((index, index) for index, _ in failed) or ""
    errors = [chunk.last_error for _, chunk in failed if chunk.last_error is not None]
    if failed and counts.failed == counts.total and all(error.code == "NO_TEXT" for error in errors):
        return "no chunk has text: is it a scan? Run OCR over the document first (ocrmypdf does), then submit it again"
    first = f"; chunk {failed[0][0]}: {errors[0].code}: {errors[0].message}" if errors else ""
    advice = JOB_CODES[JobCode.CHUNK_PROCESSING_ERROR].advice_for(name)
    return f"{counts.failed} of {counts.total} chunks failed ({numbers}){first}; {advice}"[:_MAX_MESSAGE]


def _set_summary(conditions: Conditions, obs: Observation, failure: LastError | None, *, done: bool) -> None:
    if failure is not None:
        conditions.set(JobCondition.FINISHED, "True", Reason.FAILED, failure.message)
        conditions.set(JobCondition.SUCCEEDED, "False", JobCode(failure.code), failure.message)
    elif done:
        missing = obs.facts.merged is not None and bool(obs.facts.merged.missing)
        reason = Reason.PARTIAL_RESULT if missing else Reason.COMPLETED
        text = "the result lacks pages, see status.result.missingPages" if missing else "the result is stored"
        conditions.set(JobCondition.FINISHED, "True", Reason.COMPLETED, text)
        conditions.set(JobCondition.SUCCEEDED, "True", reason, text)
    else:
        conditions.set(JobCondition.FINISHED, "False", Reason.ACTIVE, "the job is under way")
        conditions.set(JobCondition.SUCCEEDED, "Unknown", Reason.ACTIVE, "the job is under way")


def _phase(obs: Observation, counts: ChunkCounts | None, *, failure: LastError | None, done: bool) -> JobPhase:
    if failure is not None:
        return JobPhase.FAILED
    if done:
        return JobPhase.SUCCEEDED
    if obs.facts.manifest is None or counts is None:
        return JobPhase.SPLITTING if obs.facts.step or obs.facts.plan or obs.facts.errors else JobPhase.PENDING
    return JobPhase.MERGING if settled(counts) else JobPhase.RUNNING


def _step(facts: Facts, counts: ChunkCounts | None, *, failed: str | None, done: bool) -> str:
    if failed is not None:
        return f"Failed: {failed}"
    if done:
        return "Completed"
    waiting = next((error for error in facts.errors.values() if error.retry_at is not None), None)
    if waiting is not None and not (counts and counts.running):
        return f"Waiting: {waiting.reason.value}"
    if counts is None:
        return _STEPS.get(facts.step, "Waiting") if facts.step else "Accepted"
    if facts.manifest is None:
        return f"Storing chunk {counts.total - _unstored(facts, counts)}/{counts.total}"
    return "Merging" if settled(counts) else f"Processing chunk {counts.succeeded}/{counts.total}"


def _unstored(facts: Facts, counts: ChunkCounts) -> int:
    return max(counts.total - facts.stored, 0)


def _percent(facts: Facts, counts: ChunkCounts | None, *, done: bool) -> int:
    if done:
        return 100
    if counts is None:
        return 5
    if facts.manifest is None:
        return 10 + 5 * min(facts.stored, counts.total) // max(counts.total, 1)
    if settled(counts) and not counts.failed and not counts.cancelled:
        return 75
    return 15 + 60 * counts.succeeded // max(counts.total, 1)


def _items(obs: Observation, chunks: Mapping[int, PdfChunkStatus]) -> Items:
    done = failed = 0
    for index, status in chunks.items():
        chunk = obs.chunks[index]
        if status.phase is ChunkPhase.SUCCEEDED and status.result is not None:
            done += chunk.spec.page_count - status.result.missing_pages
            failed += status.result.missing_pages
        elif status.phase is ChunkPhase.RUNNING:
            progress = obs.facts.progress.get((chunk.metadata.uid, status.starts))
            done += min(progress.done, chunk.spec.page_count) if progress else 0
    source = obs.facts.plan.source if obs.facts.plan else obs.job.status.source
    return Items(total=(source.pages if source else None) or 0, done=done, failed=failed)


def _sums(chunks: Mapping[int, PdfChunkStatus]) -> dict[str, int | Tokens | None]:
    results = [chunk.result for chunk in chunks.values() if chunk.result is not None]
    tokens = sum((result.tokens for result in results), start=Tokens())
    return {
        "sentences": sum(result.sentences for result in results) if results else None,
        "tokens": tokens if tokens != Tokens() else None,
    }


def _result(facts: Facts) -> JobResult | None:
    if facts.merged is None:
        return None
    missing = number_ranges((first, last) for first, last, _ in facts.merged.missing)
    return JobResult(files=list(facts.merged.files), partial=missing is not None, missing_pages=missing)
