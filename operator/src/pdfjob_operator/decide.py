"""The one decision of the operator: what to do about a PdfJob, given what is known of it.

Pure and level-based: the clock is an argument, nothing is touched, and the same observation gives the same decision.
Run again after a crash between any two of its actions, it goes on from what is there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final

from pdfjob_api.conditions import JobCondition
from pdfjob_api.jobstatus import LastRetry, PdfJobStatus
from pdfjob_api.names import FINALIZER
from pdfjob_api.pdfchunk import PdfChunkStatus

from .actions import (
    Action,
    AddFinalizer,
    Book,
    Decision,
    ReadAdopted,
    ReadEnd,
    RestoreChunk,
    StopWork,
    WriteChunk,
)
from .background import earliest, start_work, work_delays
from .clock import from_wire
from .conditions import is_true
from .credits import claim
from .decide_chunk import ChunkDecision, answered, decide_chunk, refused_for_good
from .decide_end import decide_deletion, decide_finished
from .intent import Intent, intent_of
from .jobclock import FOLD_SECONDS, elapsed
from .observation import Observation, WorkError, WorkKind
from .plan import merge_mark
from .policy import may_be_merged
from .requests import Answer, answer_chunk, answer_event, answer_job, pending_request
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
        return decide_deletion(obs, now)
    if is_true(job, JobCondition.FINISHED):
        return decide_finished(obs, now)
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
    starts, delay = _dispatch(obs, decisions, intent, throttle, now)
    looking = any(isinstance(action, ReadAdopted) for each in decisions.values() for action in each.actions)
    claimed = claim(obs, statuses, wants_start=bool(starts), looking=looking)
    status = compute_status(
        obs,
        statuses,
        now,
        in_flight=_under_way(obs, decisions, now),
        throttle=throttle,
        claimed=claimed,
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
        actions += [Book(claimed.booking)] if claimed.booking is not None else []
        actions += starts if claimed.may_start else []
        delays += [delay, _time_limit(obs, status, now)]
        if intent is not Intent.RUN:
            delays.append(_until_dead(obs, now))
    return Decision(
        actions=tuple(actions),
        status=status,
        requeue_seconds=earliest([*delays, *work_delays(obs, now)]),
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
        return start_work(obs, WorkKind.SPLIT, now) if unread else []
    if facts.working is WorkKind.MERGE and not mergeable:
        return [StopWork()]
    if facts.manifest is None:
        return start_work(obs, WorkKind.SPLIT, now)
    actions: list[Action] = [
        RestoreChunk(stored.index) for stored in facts.manifest.chunks if stored.index not in obs.chunks
    ]
    if mergeable and merged_result(obs, statuses) is None:
        actions += start_work(obs, WorkKind.MERGE, now)
    return actions


def _dispatch(
    obs: Observation, decisions: dict[int, ChunkDecision], intent: Intent, throttle: Throttle, now: datetime
) -> tuple[list[Action], float | None]:
    """Return the starts that are due within the job's parallelism: highest priority first, then the lowest index.

    None before the plan is known, after a restart: a start is told which pages of its chunk are lost. While a common
    cause holds the job, one start at a time tries whether it is gone; the delay says when. And one at a time until the
    language service has answered for the first time. Nothing beside the record of an end that says that no chunk can
    be processed: once it is written the job fails, or the service has answered after all.
    """
    if obs.facts.invalid is not None or obs.facts.plan is None or intent is not Intent.RUN:
        return [], None
    new = (decision.status for decision in decisions.values() if decision.status is not None)
    if any(refused_for_good(obs.job, obs.facts, status) for status in new):
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
