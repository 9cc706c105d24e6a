"""The one decision of the operator: what to do about a PdfJob, given what is known of it.

Pure and level-based: the clock is an argument, nothing is touched, and the same observation gives the same decision.
Run again after a crash between any two of its actions, it goes on from what is there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final

from pdfjob_api.conditions import JobCondition, JobPhase
from pdfjob_api.jobstatus import LastRetry, PdfJobStatus
from pdfjob_api.names import FINALIZER
from pdfjob_api.pdfchunk import PdfChunkStatus
from pdfjob_api.pdfjob import DeletionPolicy, PdfJob

from .actions import (
    Action,
    AddFinalizer,
    Decision,
    DeleteChunks,
    DeleteJob,
    DeletePod,
    DeleteSelf,
    ReadAdopted,
    ReadEnd,
    RemoveFinalizer,
    RestoreChunk,
    StartWork,
    StopWork,
    WriteChunk,
)
from .chunk_end import cancelled
from .clock import from_wire
from .conditions import is_true
from .decide_chunk import TERMINAL, ChunkDecision, answered, decide_chunk, kill
from .intent import Intent, intent_of
from .jobclock import FOLD_SECONDS, elapsed
from .observation import Observation, WorkError, WorkKind
from .plan import merge_mark
from .policy import may_be_merged
from .requests import Answer, answer_chunk, answer_event, answer_job, pending_request, reopened_status
from .status import compute_status, merged_result
from .throttle import Throttle, throttle_of

_AFTER_END_SECONDS: Final = 1.0
"""The end is written first, what is left is removed after that: nothing else would ask for that look."""
_ADOPTIONS: Final = 64
"""Results of an earlier life, or in the cache, that one reconcile looks for."""


def decide(obs: Observation, now: datetime) -> Decision:
    """Say what one reconcile of a PdfJob does."""
    job = obs.job
    if job.metadata.deletion_timestamp is not None:
        return _decide_deletion(obs, now)
    if is_true(job, JobCondition.FINISHED):
        return _decide_finished(obs, now)
    if FINALIZER not in job.metadata.finalizers:
        return Decision((AddFinalizer(),), None, 0.0, 0)
    return _decide_active(obs, now)


def _decide_active(obs: Observation, now: datetime) -> Decision:
    intent = intent_of(obs.job, now, fatal=obs.facts.fatal is not None, looked=obs.facts.looked)
    good_key = answered(obs.job, obs.facts)
    throttle = throttle_of(obs.job, {index: chunk.status for index, chunk in obs.chunks.items()}, answered=good_key)
    decisions = {
        index: decide_chunk(chunk, obs, now, intent, throttle.held) for index, chunk in sorted(obs.chunks.items())
    }
    decisions, answer = _with_answers(obs, decisions, intent, now)
    statuses = {index: decision.status or obs.chunks[index].status for index, decision in decisions.items()}
    obs = _without_earlier_merge(obs, statuses, answer.last_retry if answer else obs.job.status.last_retry)
    if any(decision.status is not None for decision in decisions.values()):
        throttle = throttle_of(obs.job, statuses, answered=good_key)
    in_flight = sum(decision.in_flight for decision in decisions.values())
    status = compute_status(
        obs,
        statuses,
        now,
        in_flight=_under_way(obs, decisions, now),
        throttle=throttle,
        answer=answer.last_retry if answer else None,
    )
    actions: list[Action] = [action for decision in decisions.values() for action in decision.actions]
    actions = _few_adoptions(actions)
    ended = status is not None and any(
        item.type == JobCondition.FINISHED.value and item.status == "True" for item in status.conditions
    )
    delays = [decision.requeue_seconds for decision in decisions.values()]
    if ended:
        delays.append(_AFTER_END_SECONDS)
    else:
        actions += _background(obs, statuses, status, intent, now)
        starts, delay = _dispatch(obs, decisions, intent, throttle, now)
        actions += starts
        delays += [delay, _time_limit(obs, status, now)]
        if intent is not Intent.RUN:
            delays.append(_until_dead(obs, now))
    return Decision(
        actions=tuple(actions),
        status=status,
        requeue_seconds=_earliest([*delays, *_work_delays(obs, now)]),
        in_flight=in_flight,
    )


def _without_earlier_merge(
    obs: Observation, statuses: Mapping[int, PdfChunkStatus], last_retry: LastRetry | None
) -> Observation:
    """Forget the error of a merge of other results, or before the user's last request: the next may succeed."""
    error = obs.facts.errors.get(WorkKind.MERGE)
    if error is None or error.merge is None:
        return obs
    if error.merge == merge_mark((status for _, status in sorted(statuses.items())), last_retry):
        return obs
    errors: dict[WorkKind, WorkError] = {k: each for k, each in obs.facts.errors.items() if k is not WorkKind.MERGE}
    return replace(obs, facts=replace(obs.facts, errors=errors))


def _under_way(obs: Observation, decisions: Mapping[int, ChunkDecision], now: datetime) -> int:
    """Count the chunks with a Job or pod that lives, or an end that is not written down yet: a job ends after them."""
    stuck = obs.job.spec.limits.stuck_timeout_seconds
    live = {
        index for index, own in obs.starts.items() if any(pod.live(now, stuck) for start in own for pod in start.pods)
    }
    return len(live | {index for index, each in decisions.items() if each.in_flight or _reads_end(each)})


def _reads_end(decision: ChunkDecision) -> bool:
    return any(isinstance(action, ReadEnd) for action in decision.actions)


def _with_answers(
    obs: Observation, decisions: dict[int, ChunkDecision], intent: Intent, now: datetime
) -> tuple[dict[int, ChunkDecision], Answer | None]:
    """Answer requests for retries; a chunk whose status is being written anyway is answered the next time.

    A job at its time limit is answered when it has ended: the end would cancel the chunks that it takes. One that
    cannot go on refuses all.
    """
    answered = dict(decisions)
    if intent is Intent.TIME_OUT:
        return answered, None
    closed = f"the job cannot go on: {obs.facts.fatal}"[:250] if intent is Intent.FAIL else None
    for index, decision in decisions.items():
        chunk = obs.chunks[index]
        status = answer_chunk(chunk, obs.job, now, in_flight=decision.in_flight, closed=closed)
        if status is not None and status.last_retry is not None and decision.status is None:
            event = answer_event(chunk, status.last_retry)
            answered[index] = _overridden(decision, WriteChunk(chunk, status, event))
    request = pending_request(obs.job)
    unread = obs.facts.plan is None and obs.job.status.chunks is not None
    if request is None or (unread and closed is None):
        return answered, None
    in_flight = {index for index, each in decisions.items() if each.in_flight}
    answer = answer_job(request, obs, in_flight, now, closed=closed)
    if any(answered[index].status is not None for index in answer.taken):
        return answered, None
    for index, status in answer.taken.items():
        answered[index] = _overridden(answered[index], WriteChunk(obs.chunks[index], status))
    return answered, answer


def _overridden(decision: ChunkDecision, write: WriteChunk) -> ChunkDecision:
    return replace(decision, actions=(*decision.actions, write), create=None, status=write.status)


def _few_adoptions(actions: list[Action]) -> list[Action]:
    adoptions = [action for action in actions if isinstance(action, ReadAdopted)]
    late = set(map(id, adoptions[_ADOPTIONS:]))
    return [action for action in actions if id(action) not in late]


def _background(
    obs: Observation,
    statuses: dict[int, PdfChunkStatus],
    status: PdfJobStatus | None,
    intent: Intent,
    now: datetime,
) -> list[Action]:
    """Start what background work is due: splitting until the manifest is stored, merging once all chunks have ended.

    A job that is paused or ends has its work stopped; only what is stored of the plan is read back.
    """
    facts = obs.facts
    counts = status.chunks if status is not None else None
    mergeable = counts is not None and may_be_merged(obs, counts, statuses) and len(statuses) == counts.total
    if intent is not Intent.RUN:
        unread = facts.plan is None and obs.job.status.chunks is not None
        if facts.working is not None:
            return [] if unread else [StopWork()]
        return _start_work(obs, WorkKind.SPLIT, now) if unread else []
    if facts.working is WorkKind.MERGE and not mergeable:
        return [StopWork()]
    if facts.manifest is None:
        return _start_work(obs, WorkKind.SPLIT, now)
    actions: list[Action] = [
        RestoreChunk(stored.index) for stored in facts.manifest.chunks if stored.index not in obs.chunks
    ]
    if mergeable and merged_result(obs, statuses) is None:
        actions += _start_work(obs, WorkKind.MERGE, now)
    return actions


def _start_work(obs: Observation, kind: WorkKind, now: datetime) -> list[Action]:
    error = obs.facts.errors.get(kind)
    waits = error is not None and (error.retry_at is None or error.retry_at > now)
    return [] if obs.facts.working is not None or waits else [StartWork(kind)]


def _dispatch(
    obs: Observation, decisions: dict[int, ChunkDecision], intent: Intent, throttle: Throttle, now: datetime
) -> tuple[list[Action], float | None]:
    """Return the starts that are due within the job's parallelism: highest priority first, then the lowest index.

    None before the plan is known, after a restart: a start is told which pages of its chunk are lost. While a common
    cause holds the job, one start at a time tries whether it is gone; the delay says when. And one at a time until the
    language service has answered for the first time.
    """
    if obs.facts.invalid is not None or obs.facts.plan is None or intent is not Intent.RUN:
        return [], None
    if throttle.probe_at is not None and throttle.probe_at > now:
        return [], (throttle.probe_at - now).total_seconds()
    parallelism = throttle.parallelism if answered(obs.job, obs.facts) else 1
    room = parallelism - sum(decision.in_flight for decision in decisions.values())
    due = [decision.create for decision in decisions.values() if decision.create is not None]
    due.sort(key=lambda create: (-create.priority, create.chunk.spec.index))
    return list(due[: max(room, 0)]), None


def _time_limit(obs: Observation, status: PdfJobStatus | None, now: datetime) -> float | None:
    """Return the seconds until the job's time limit, or until its clock is written again, while it goes."""
    limit = obs.job.spec.limits.job_timeout_seconds
    clock = status.clock if status is not None else None
    if limit is None or clock is None or clock.since is None:
        return None
    written = (now - from_wire(clock.since)).total_seconds()
    return max(min(limit - elapsed(clock, now, obs.facts.looked), FOLD_SECONDS - written), 0.1)


def _until_dead(obs: Observation, now: datetime) -> float | None:
    """Return the seconds until the next pod that was told to end counts as lost with its node: no event tells that."""
    stuck = timedelta(seconds=obs.job.spec.limits.stuck_timeout_seconds + 1)
    marks = [
        (pod.meta.deleted + stuck - now).total_seconds()
        for own in obs.starts.values()
        for start in own
        for pod in start.pods
        if pod.meta.deleted is not None and not pod.ended
    ]
    return min((mark for mark in marks if mark > 0), default=None)


def _work_delays(obs: Observation, now: datetime) -> list[float | None]:
    return [
        (error.retry_at - now).total_seconds()
        for error in obs.facts.errors.values()
        if error.retry_at is not None and error.retry_at > now
    ]


def _earliest(delays: list[float | None]) -> float | None:
    return min((delay for delay in delays if delay is not None), default=None)


def _decide_finished(obs: Observation, now: datetime) -> Decision:
    """Remove what is left of a job that has ended, keep its record, and let it go when its time is over.

    Its status is latched: only a request for a retry opens it again. A job that ended while chunks were under way ends
    them here: nobody would record them.
    """
    unended = [chunk for chunk in obs.chunks.values() if chunk.status.phase not in TERMINAL]
    asked = _answer_finished(obs, now) if not unended else None  # those are cancelled first: a request may mean them
    if asked is not None:
        return asked
    actions: list[Action] = [StopWork()] if obs.facts.working not in {None, WorkKind.RECORD} else []
    if obs.job.status.phase is JobPhase.CANCELLED:
        actions += [pod for own in obs.starts.values() for pod in kill(own, now)]
    actions += [WriteChunk(chunk, cancelled(chunk, now)) for chunk in unended]
    actions += [
        DeleteJob(start.job.meta.name, start.job.meta.uid)
        for starts in obs.starts.values()
        for start in starts
        if start.job is not None
    ]
    status = None
    if not actions and obs.job.status.history is None:
        if obs.facts.recorded:
            status = obs.job.status.model_copy(update={"history": obs.facts.recorded})
        else:
            actions += _start_work(obs, WorkKind.RECORD, now)
    left = _seconds_left(obs.job, now)
    if left is not None and left <= 0:
        actions.append(DeleteSelf())
        left = None
    return Decision(tuple(actions), status, _earliest([left, *_work_delays(obs, now)]), 0)


def _answer_finished(obs: Observation, now: datetime) -> Decision | None:
    """Open a finished job again when a request for a retry takes anything of it, or say why it does not."""
    job = obs.job
    if obs.facts.working is not None and pending_request(job) is not None:
        return Decision((StopWork(),), None, None, 0)
    for chunk in obs.chunks.values():
        status = answer_chunk(chunk, job, now, in_flight=False)
        if status is None or status.last_retry is None:
            continue
        if status.last_retry.accepted:  # it is answered once the job is open
            return Decision((), reopened_status(job, now), 0.0, 0)
        return Decision((WriteChunk(chunk, status, answer_event(chunk, status.last_retry)),), None, 0.0, 0)
    request = pending_request(job)
    if request is None:
        return None
    answer = answer_job(request, obs, set(), now)
    if answer.last_retry.retried_count or answer.merges:
        return Decision((), reopened_status(job, now), 0.0, 0)
    return Decision((), _answered(job.status, answer.last_retry), 0.0, 0)


def _answered(status: PdfJobStatus, answer: LastRetry) -> PdfJobStatus:
    return status.model_copy(update={"last_retry": answer})


def _seconds_left(job: PdfJob, now: datetime) -> float | None:
    """Return the seconds until a finished job is deleted; None when it stays."""
    ttl = job.spec.ttl_seconds_after_finished
    seconds = {
        JobPhase.SUCCEEDED: ttl.succeeded,
        JobPhase.FAILED: ttl.failed,
        JobPhase.STOPPED: ttl.stopped,
        JobPhase.CANCELLED: ttl.cancelled,
    }.get(job.status.phase, -1)
    if seconds < 0 or job.status.completion_time is None:
        return None
    return (from_wire(job.status.completion_time) + timedelta(seconds=seconds) - now).total_seconds()


def _decide_deletion(obs: Observation, now: datetime) -> Decision:
    """End what runs, wait until no pod lives, keep the record, remove the objects, let the PdfJob go. In this order."""
    if FINALIZER not in obs.job.metadata.finalizers:
        return Decision((), None, None, 0)
    facts = obs.facts
    if facts.working not in {None, WorkKind.CLEAN, WorkKind.RECORD}:
        return Decision((StopWork(),), None, None, 0)
    stuck = obs.job.spec.limits.stuck_timeout_seconds
    starts = [start for own in obs.starts.values() for start in own]
    actions: list[Action] = [
        DeleteJob(start.job.meta.name, start.job.meta.uid) for start in starts if start.job is not None
    ]
    actions += [
        DeletePod(pod.meta.name, pod.meta.uid)
        for start in starts
        if start.job is None
        for pod in start.pods
        if pod.meta.deleted is None
    ]
    if actions or any(pod.live(now, stuck) for start in starts for pod in start.pods):
        return Decision(tuple(actions), None, float(stuck), 0)
    delay = _earliest(_work_delays(obs, now))
    if obs.job.status.history is None and facts.recorded is None:
        return Decision(tuple(_start_work(obs, WorkKind.RECORD, now)), None, delay, 0)
    if obs.chunks:
        return Decision((DeleteChunks(),), None, None, 0)
    keep = obs.job.spec.deletion_policy is DeletionPolicy.RETAIN
    if keep or facts.cleaned:
        return Decision((RemoveFinalizer(),), None, None, 0)
    return Decision(tuple(_start_work(obs, WorkKind.CLEAN, now)), None, delay, 0)
