"""The status of a PdfJob, computed anew from what is there. Pure; counters are never changed by deltas."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from pdfjob_api.conditions import ChunkPhase, JobCondition, JobPhase, Reason
from pdfjob_api.errors import JOB_CODES, JobCode
from pdfjob_api.jobstatus import ChunkCounts, JobResult, LastRetry, PdfJobStatus, ShutdownStatus
from pdfjob_api.meta import LastError
from pdfjob_api.names import ANNOTATION_REQUESTED_BY
from pdfjob_api.pdfchunk import PdfChunkStatus
from pdfjob_api.pdfjob import PdfJob

from .clock import from_wire, to_wire
from .conditions import MAX_MESSAGE, Conditions, is_true
from .counts import closed, count, items, summary, sums
from .credits import Claim, credits_of, set_credits
from .estimate import estimate_of
from .intent import Intent, intent_of
from .jobclock import advance, folded, is_fold_due
from .observation import Facts, Merged, Observation, WorkError, WorkKind
from .plan import merge_inputs
from .policy import may_be_merged, settled
from .ranges import number_ranges
from .stages import set_degraded, set_stages, set_stages_unread
from .throttle import Throttle

_STEPS: Final = {Reason.FETCHING: "Fetching source", Reason.SPLITTING: "Inspecting document"}
_BY_USER: Final = {
    Intent.STOP: (JobPhase.STOPPED, Reason.STOPPED, "Batch processing stopped by user", "Batch stopped"),
    Intent.CANCEL: (JobPhase.CANCELLED, Reason.CANCELLED, "Batch processing cancelled by user", "Batch cancelled"),
}
_TOLD_UNREAD: Final = frozenset({*_BY_USER, Intent.SUSPEND})
"""What the user is told of although the plan has not been read back."""
_ENDING: Final = {
    Intent.STOP: "Stopping: runners save their pages",
    Intent.CANCEL: "Cancelling",
    Intent.TIME_OUT: "Time limit: runners save their pages",
    Intent.FAIL: "Failing: runners save their pages",
}


@dataclass(frozen=True, slots=True)
class _End:
    """How a job has ended."""

    phase: JobPhase
    finished: Reason
    succeeded: Reason | JobCode
    message: str
    error: LastError | None = None


def compute_status(
    obs: Observation,
    chunks: Mapping[int, PdfChunkStatus],
    now: datetime,
    *,
    in_flight: int = 0,
    throttle: Throttle | None = None,
    claimed: Claim | None = None,
    answer: LastRetry | None = None,
) -> PdfJobStatus | None:
    """Return the status the job should have, or None while too little is known to say (after a restart).

    When the storage does not give the plan back then, the status tells that, and what the resources alone tell.

    Parameters
    ----------
    chunks
        Status of every PdfChunk by index, as it is after this reconcile's writes.
    in_flight
        Chunks whose Job or pod lives.
    throttle
        What past failures allow; None = all that the spec does.
    claimed
        What the job wants of its credit account; None = nothing.
    answer
        Answer to a retry request that this reconcile gives.
    """
    job, facts = obs.job, obs.facts
    intent = intent_of(job, now, fatal=facts.fatal is not None, looked=facts.looked)
    unknown = facts.plan is None and job.status.chunks is not None and _fatal(facts) is None
    if unknown and intent not in _TOLD_UNREAD and WorkKind.SPLIT not in facts.errors:
        return None
    throttle = throttle or Throttle(job.spec.parallelism)
    conditions = Conditions(job, now)
    counts = count(obs, chunks)
    merged = merged_result(obs, chunks)
    failure = end = None
    conditions.set(JobCondition.ACCEPTED, "True", Reason.ACCEPTED, "the operator took the job")
    if unknown:
        set_stages_unread(conditions, obs)
    else:
        failure = set_stages(conditions, obs, counts, chunks, now, merged=merged is not None)
    reads_back = unknown and intent is Intent.SUSPEND  # the plan, which nothing is done with
    quiet = in_flight == 0 and (facts.working is None or reads_back)
    if not unknown or intent in _BY_USER:
        end = _end_of(obs, counts, intent, failure, merged, quiet=quiet)
    if end is not None and end.phase is not JobPhase.SUCCEEDED and counts is not None:
        counts = closed(counts)
    if end is None and counts is not None:
        set_degraded(conditions, obs, chunks, throttle, now)
    elif end is not None and conditions.is_true(JobCondition.DEGRADED):
        conditions.set(JobCondition.DEGRADED, "False", Reason.DISPATCHING, "the job has ended")
    _set_suspended(conditions, obs, counts, intent, in_flight, quiet=quiet)
    set_credits(conditions, obs, claimed or Claim(), ended=end is not None)
    _set_summary(conditions, end)
    mergeable = counts is not None and may_be_merged(obs, counts, chunks)
    values = {
        "observed_generation": job.metadata.generation,
        "phase": end.phase if end is not None else _phase(obs, counts, intent),
        "current_step": _step(conditions, facts, counts, end, intent, in_flight, split=_was_split(obs))[:40],
        "source": facts.plan.source if facts.plan else job.status.source,
        "chunks": counts,
        "summary": summary(counts),
        "items": items(obs, chunks) if counts else None,
        "failed_chunks": number_ranges(
            (index, index) for index, chunk in sorted(chunks.items()) if chunk.phase is ChunkPhase.FAILED
        ),
        "retries": sum(max(chunk.attempts - 1, 0) for chunk in chunks.values()),
        "start_time": job.status.start_time or to_wire(now),
        "last_error": (end.error if end is not None else None) or job.status.last_error,
        "last_retry": answer or job.status.last_retry,
        "shutdown": _shutdown(job, now),
        "effective_parallelism": throttle.parallelism if throttle.parallelism < job.spec.parallelism else None,
        "conditions": conditions.list(),
        "progress_percent": max(_percent(obs, counts, end, mergeable=mergeable), job.status.progress_percent),
        "result": _result(merged) if end is not None and merged is not None else job.status.result,
        "estimated_tokens": _estimate(obs),
        "credits": credits_of(obs),
        **sums(chunks),
    }
    working = facts.working in {WorkKind.SPLIT, WorkKind.MERGE} or (counts is not None and counts.running > 0)
    clock = advance(
        job.status.clock, now, working=working and end is None and intent is Intent.RUN, looked=facts.looked
    )
    status = job.status.model_copy(update={**values, "clock": clock, **_times(job, end, now)})
    return _with_folded_clock(obs, status, now)


def _with_folded_clock(obs: Observation, status: PdfJobStatus, now: datetime) -> PdfJobStatus:
    """Fold the clock into a status that is written anyway; for its own sake only under a time limit, once a minute."""
    job, clock = obs.job, status.clock
    limited = job.spec.limits.job_timeout_seconds is not None
    if clock is None or (status == job.status and not (limited and is_fold_due(clock, now))):
        return status
    return status.model_copy(update={"clock": folded(clock, now, obs.facts.looked)})


def merged_result(obs: Observation, chunks: Mapping[int, PdfChunkStatus]) -> Merged | None:
    """Return the merged result if it was made of just these chunk results."""
    merged, ordered = obs.facts.merged, [status for _, status in sorted(chunks.items())]
    return merged if merged is not None and merged.inputs == merge_inputs(ordered) else None


def _end_of(
    obs: Observation,
    counts: ChunkCounts | None,
    intent: Intent,
    failure: LastError | None,
    merged: Merged | None,
    *,
    quiet: bool,
) -> _End | None:
    """Say how the job has ended; None while it has not.

    The user's word comes first; a paused job never fails.
    """
    done = f"{counts.succeeded} of {counts.total} chunks are done" if counts else "no chunk was made"
    if intent in _BY_USER:
        phase, reason, text, short = _BY_USER[intent]
        kept = f"{text}. {short}, checkpoint retained: {done}"
        return _End(phase, reason, reason, kept) if quiet else None
    if merged is not None and failure is None:
        lacks = bool(merged.missing)
        reason = Reason.PARTIAL_RESULT if lacks else Reason.COMPLETED
        text = "the result lacks pages, see status.result.missingPages" if lacks else "the result is stored"
        return _End(JobPhase.SUCCEEDED, Reason.COMPLETED, reason, text)
    if intent is Intent.SUSPEND:
        return None
    if failure is not None and (quiet or intent is not Intent.FAIL):
        return _End(JobPhase.FAILED, Reason.FAILED, JobCode(failure.code), failure.message, failure)
    if intent is Intent.TIME_OUT and quiet:
        code = JobCode.TASK_TIMEOUT
        limit = obs.job.spec.limits.job_timeout_seconds
        rule = JOB_CODES[code]
        text = f"{rule.message} ({limit} s): {done}; {rule.advice_for(obs.job.metadata.name)}"
        return _End(JobPhase.FAILED, Reason.FAILED, code, text, LastError(code=code.value, message=text[:MAX_MESSAGE]))
    return None


def _set_suspended(
    conditions: Conditions,
    obs: Observation,
    counts: ChunkCounts | None,
    intent: Intent,
    in_flight: int,
    *,
    quiet: bool,
) -> None:
    kind = JobCondition.SUSPENDED
    if intent is not Intent.SUSPEND:
        if intent in _BY_USER and conditions.has(kind):
            conditions.set(kind, "False", *_BY_USER[intent][1:3])
        elif conditions.has(kind):
            conditions.set(kind, "False", Reason.RESUMED, "the job goes on")
        return
    text = "Batch processing paused by user"
    if not quiet:
        conditions.set(kind, "False", Reason.DRAINING, f"{text}: {_runners(in_flight)} the page in hand")
        return
    done = f"{counts.succeeded} of {counts.total} chunks are done; " if counts else ""
    resume = f"resume with: kubectl pdfjob resume {obs.job.metadata.name} -n {obs.job.metadata.namespace}"
    conditions.set(kind, "True", Reason.SUSPENDED, f"{text}. Batch paused, checkpoint retained: {done}{resume}")


def _set_summary(conditions: Conditions, end: _End | None) -> None:
    if end is None:
        conditions.set(JobCondition.FINISHED, "False", Reason.ACTIVE, "the job is under way")
        conditions.set(JobCondition.SUCCEEDED, "Unknown", Reason.ACTIVE, "the job is under way")
        return
    good = end.phase is JobPhase.SUCCEEDED
    conditions.set(JobCondition.FINISHED, "True", end.finished, end.message)
    conditions.set(JobCondition.SUCCEEDED, "True" if good else "False", end.succeeded, end.message)


def _shutdown(job: PdfJob, now: datetime) -> ShutdownStatus | None:
    """Say who ended the job and when: the plugin's annotation, else the client that owns ``spec.shutdown``."""
    if job.spec.shutdown is None:
        return None
    known = job.status.shutdown
    owner = next((item for item in job.metadata.managed_fields if _sets_shutdown(item.fields_v1)), None)
    manager = owner.manager if owner is not None else "unknown"
    by = (job.metadata.annotations.get(ANNOTATION_REQUESTED_BY) or manager)[:256]
    if known is not None and known.requested_by == by:
        return known  # the time of a client's fields moves with its later edits
    return ShutdownStatus(requested_at=(owner.time if owner is not None else "") or to_wire(now), requested_by=by)


def _sets_shutdown(fields: Mapping[str, Any]) -> bool:
    spec = fields.get("f:spec")
    return isinstance(spec, Mapping) and "f:shutdown" in spec


def _times(job: PdfJob, end: _End | None, now: datetime) -> dict[str, Any]:
    if end is None:
        return {}
    began = from_wire(job.status.start_time) if job.status.start_time else now
    return {"completion_time": to_wire(now), "processing_seconds": int((now - began).total_seconds())}


def _fatal(facts: Facts) -> WorkError | None:
    """Return the error of background work that is not tried again, if any."""
    return next((error for error in facts.errors.values() if error.retry_at is None), None)


def _runners(count: int, verb: str = "finish") -> str:
    """Return ``1 runner finishes`` or ``2 runners finish``."""
    if count != 1:
        return f"{count} runners {verb}"
    return f"1 runner {verb}es" if verb.endswith("sh") else f"1 runner {verb}s"


def _phase(obs: Observation, counts: ChunkCounts | None, intent: Intent) -> JobPhase:
    if intent is Intent.SUSPEND:
        return JobPhase.SUSPENDED
    if counts is None or (obs.facts.manifest is None and not _was_split(obs)):
        known = obs.facts.step or obs.facts.plan or obs.facts.errors
        return JobPhase.SPLITTING if known or counts is not None else JobPhase.PENDING
    return JobPhase.MERGING if settled(counts) else JobPhase.RUNNING


def _was_split(obs: Observation) -> bool:
    """Whether an earlier process has written every chunk, and this one has not read the plan back."""
    return obs.facts.plan is None and is_true(obs.job, JobCondition.SPLIT)


def _step(
    conditions: Conditions,
    facts: Facts,
    counts: ChunkCounts | None,
    end: _End | None,
    intent: Intent,
    in_flight: int,
    *,
    split: bool,
) -> str:
    if end is not None:
        failed = conditions.broken() if end.succeeded is not JobCode.TASK_TIMEOUT else None
        names = {JobPhase.SUCCEEDED: "Completed", JobPhase.FAILED: f"Failed: {failed or end.succeeded.value}"}
        return names.get(end.phase, end.phase.value)
    if intent is Intent.SUSPEND:
        return f"Suspending: {_runners(in_flight, 'save')} pages" if in_flight else "Suspended"
    if intent in _ENDING:
        return _ENDING[intent]
    due = [error for kind, error in facts.errors.items() if kind in {WorkKind.SPLIT, WorkKind.MERGE}]
    waiting = next((error for error in due if error.retry_at is not None), None)
    if waiting is not None and not (counts and counts.running):
        return f"Waiting: {waiting.reason.value}"
    unpaid = conditions.reason_of_false(JobCondition.CREDITS_RESERVED)
    if unpaid is not None and counts and not settled(counts) and not counts.running:
        return f"Waiting: {unpaid}"
    held = conditions.reason_of_true(JobCondition.DEGRADED)
    if held is not None and not (counts and counts.running):
        return f"Waiting: {held}"
    if counts is None:
        return _STEPS.get(facts.step, "Waiting") if facts.step else "Accepted"
    if facts.manifest is None and not split:
        return f"Storing chunk {counts.total - _unstored(facts, counts)}/{counts.total}"
    return "Merging" if settled(counts) else f"Processing chunk {counts.succeeded}/{counts.total}"


def _unstored(facts: Facts, counts: ChunkCounts) -> int:
    return max(counts.total - facts.stored, 0)


def _percent(obs: Observation, counts: ChunkCounts | None, end: _End | None, *, mergeable: bool) -> int:
    facts = obs.facts
    if end is not None and end.phase is JobPhase.SUCCEEDED:
        return 100
    if counts is None:
        return 5
    if facts.manifest is None and not is_true(obs.job, JobCondition.SPLIT):
        return 10 + 5 * min(facts.stored, counts.total) // max(counts.total, 1)
    if mergeable and end is None:
        return 75
    return 15 + 60 * counts.succeeded // max(counts.total, 1)


def _estimate(obs: Observation) -> int | None:
    plan = obs.facts.plan
    if obs.job.spec.processor.gemini is None or plan is None:
        return obs.job.status.estimated_tokens
    return obs.job.status.estimated_tokens or estimate_of(obs.job.spec, plan)


def _result(merged: Merged) -> JobResult:
    missing = number_ranges((first, last) for first, last, _ in merged.missing)
    return JobResult(files=list(merged.files), partial=missing is not None, missing_pages=missing)
