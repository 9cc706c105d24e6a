"""What to do about one chunk. Pure: the clock is an argument, nothing is touched."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

from pdfjob_api.conditions import ChunkPhase
from pdfjob_api.errors import ChunkCode
from pdfjob_api.pdfchunk import Ending, EndReason, PdfChunk, PdfChunkStatus
from pdfjob_api.pdfjob import PdfJob

from .actions import Action, CreateJob, DeleteJob, DeletePod, ReadAdopted, ReadEnd, ReadProgress, WriteChunk
from .chunk_end import adopted, child_job_name, failures, record_end, retry_limit
from .chunk_wait import PATIENCE_SECONDS, give_up, told, waiting_since
from .clock import from_wire, to_wire
from .intent import Intent
from .observation import Facts, Observation, Start
from .result_cache import is_worth_keeping, uses_cache
from .views import PodView

TERMINAL: Final = frozenset({ChunkPhase.SUCCEEDED, ChunkPhase.FAILED, ChunkPhase.CANCELLED})
_HEARTBEAT_SECONDS: Final = 20
_FIRST_ANSWER_SECONDS: Final = 1
"""How often the one runner of a job is looked at whose language service has not answered yet: the others wait."""
_KILL_SECONDS: Final = 1
"""Grace of a pod that is cancelled."""


@dataclass(frozen=True, slots=True)
class ChunkDecision:
    """What to do about one chunk."""

    actions: tuple[Action, ...] = ()
    create: CreateJob | None = None
    """A start that is due, if the dispatcher has room."""
    in_flight: bool = False
    """Whether a Job of the chunk exists that has not ended."""
    requeue_seconds: float | None = None
    status: PdfChunkStatus | None = None
    """The status after the actions; None = as it is."""


def decide_chunk(
    chunk: PdfChunk,
    obs: Observation,
    now: datetime,
    intent: Intent = Intent.RUN,
    held: ChunkCode | None = None,
) -> ChunkDecision:
    """Compare a chunk with its Jobs and pods and say what is to be done.

    Parameters
    ----------
    intent
        What shall become of the job.
    held
        The common cause for which dispatch is held.
    """
    starts = obs.starts.get(chunk.spec.index, ())
    if chunk.status.phase in TERMINAL:
        actions = (*_kill_if(starts, now, intent), *_delete_recorded(starts, chunk.status.starts))
        if chunk.status.phase is ChunkPhase.FAILED and intent is Intent.RUN and _may_be_retried(chunk, obs):
            status = reopened(chunk, now)
            return ChunkDecision(actions=(*actions, WriteChunk(chunk, status)), status=status)
        return ChunkDecision(actions=actions)
    recorded = last_recorded(chunk.status)
    cleanup = (*_kill_if(starts, now, intent), *_delete_recorded(starts, recorded))
    active = _active_start(chunk.status, starts, recorded)
    if active is None:
        return _start_if_due(chunk, starts, obs, now, cleanup)
    if not _has_ended(active, now, obs.job.spec.limits.stuck_timeout_seconds):
        ending = _why_end(chunk, active, obs, now, intent)
        if ending is not None:
            return _end(chunk, active, ending, obs, now, cleanup)
        return _watch(chunk, active, obs, now, cleanup)
    end = obs.facts.ends.get((chunk.metadata.uid, active.number))
    if end is None or not end.tells_of(active):
        pods = frozenset(pod.meta.uid for pod in active.pods)
        return ChunkDecision(actions=(*cleanup, ReadEnd(chunk, active.number, pods)))
    write = record_end(chunk, active, end, obs.job, now, held=held)
    if obs.caching and is_worth_keeping(obs.job, write.status):
        write = replace(write, keep=True)
    return ChunkDecision(
        actions=(*cleanup, write, *_delete(active)),
        status=write.status,
        requeue_seconds=_seconds_until(write.status.next_retry_time, now),
    )


def answered(job: PdfJob, facts: Facts) -> bool:
    """Whether the language service of the job, if it has one, is known to answer: its key is good.

    Until then one chunk is in flight, so that a bad key costs one pod. An operator that has just started knows it from
    the tokens of finished chunks, or from the next heartbeat.
    """
    if job.spec.processor.gemini is None or facts.answered:
        return True
    tokens = job.status.tokens
    return tokens is not None and tokens.total > 0


def refused_for_good(job: PdfJob, facts: Facts, status: PdfChunkStatus) -> str | None:
    """Say why no chunk of a job can ever be processed: the first request of all was refused for good; None otherwise.

    A model that does not exist, or a setting that it does not take, would fail each chunk alike, one after the other.
    """
    last = status.history[-1] if status.history else None
    if answered(job, facts) or last is None or not last.final or last.code != ChunkCode.PROCESSING_ERROR:
        return None
    said = status.last_error.message if status.last_error is not None else ""
    return f"no chunk can be processed with spec.processor.gemini, correct it in a new PdfJob: {said}"[:1024]


def last_recorded(status: PdfChunkStatus) -> int:
    """Return the number of the newest start whose end is in the history; 0 for none."""
    return status.history[-1].start if status.history else 0


def reopened(chunk: PdfChunk, now: datetime) -> PdfChunkStatus:
    """Return the status of a chunk that had ended and is to start again at once."""
    status = chunk.status
    succeeded = status.phase is ChunkPhase.SUCCEEDED
    return status.model_copy(
        update={
            "observed_generation": chunk.metadata.generation,
            "phase": ChunkPhase.PENDING if status.phase is ChunkPhase.CANCELLED else ChunkPhase.RETRY_SCHEDULED,
            "attempts": failures(status),
            "uncounted": 0,
            "updated_at": to_wire(now),
            "processed_at": None,
            "next_retry_time": None,
            "result": None,
            "tokens_before": status.tokens_before + (status.result.tokens.total if status.result is not None else 0),
            "fresh_after": max(status.starts, 1) if succeeded else status.fresh_after,
        }
    )


def kill(starts: tuple[Start, ...], now: datetime) -> tuple[DeletePod, ...]:
    """Delete live pods with a second of grace, also those that drain with a longer one.

    Never with none: the API server would forget the pod, and the kubelet, which heeds no shorter grace once it waits
    for a container, would let it run on unseen.
    """
    return tuple(
        DeletePod(pod.meta.name, pod.meta.uid, _KILL_SECONDS)
        for start in starts
        for pod in start.pods
        if not pod.ended and (pod.meta.deleted is None or pod.meta.deleted > now + timedelta(seconds=_KILL_SECONDS + 1))
    )


def _kill_if(starts: tuple[Start, ...], now: datetime, intent: Intent) -> tuple[DeletePod, ...]:
    return kill(starts, now) if intent is Intent.CANCEL else ()


def _may_be_retried(chunk: PdfChunk, obs: Observation) -> bool:
    """Whether a failed chunk has retries left after all, since the user has raised the limit.

    Not once the result is merged: from there on only a request for a retry brings it back.
    """
    last = chunk.status.history[-1] if chunk.status.history else None
    if last is None or last.final or obs.facts.merged is not None:
        return False
    return chunk.status.attempts <= retry_limit(chunk, obs.job)


def _active_start(status: PdfChunkStatus, starts: tuple[Start, ...], recorded: int) -> Start | None:
    """Return the start whose end is not recorded yet. Running without Job and pod is one whose Job vanished."""
    newer = [start for start in starts if start.number > recorded]
    if newer:
        return newer[-1]
    under_way = status.phase is ChunkPhase.RUNNING or status.ending is not None
    if under_way and status.starts > recorded:
        return Start(status.starts, None, ())
    return None


def _has_ended(start: Start, now: datetime, stuck_seconds: float) -> bool:
    if any(pod.live(now, stuck_seconds) for pod in start.pods):
        return False
    # Without a live pod: the pod has ended, or there is none because the Job is over or gone. A Job without a pod
    # that is not over is about to get one, or about to be told that its pod is gone.
    if start.job is not None and start.job.suspended and not start.pods:
        return False  # a queueing system took its pod; the Job lives on and would make another
    return bool(start.pods) or start.job is None or start.job.finished


def _why_end(chunk: PdfChunk, start: Start, obs: Observation, now: datetime, intent: Intent) -> Ending | None:
    """Say why a start that has not ended must be ended, if it must."""
    known = chunk.status.ending
    if known is not None and known.start == start.number:
        return known
    if intent.value is not None:
        return Ending(start=start.number, reason=intent.value)
    limits = obs.job.spec.limits
    if start.job is not None and start.job.suspended:
        ran = chunk.status.phase is ChunkPhase.RUNNING and chunk.status.starts == start.number
        ran = ran or any(pod.running_since is not None for pod in start.pods)
        return Ending(start=start.number, reason=EndReason.REQUEUED) if ran else None
    running = _running(start)
    if running is None:
        return give_up(start, now, limits.pending_timeout_seconds)
    beat = obs.facts.progress.get((chunk.metadata.uid, start.number))
    if beat is None:
        return None
    # Up to the last look at it, not up to now: it may have beaten since, and a limit may be shorter than the pauses
    # between two looks.
    silent = ((beat.read or now) - max(beat.since, running.running_since or now)).total_seconds()
    return Ending(start=start.number, reason=EndReason.STUCK) if silent >= limits.stuck_timeout_seconds else None


def _running(start: Start) -> PodView | None:
    return next((pod for pod in start.pods if pod.running_since is not None and not pod.ended), None)


def _end(
    chunk: PdfChunk, start: Start, ending: Ending, obs: Observation, now: datetime, cleanup: tuple[Action, ...]
) -> ChunkDecision:
    """End a start: write down why, then delete its Job; its pod is waited for."""
    actions = list(cleanup)
    status = None
    if chunk.status.ending != ending:
        status = chunk.status.model_copy(
            update={
                "observed_generation": chunk.metadata.generation,
                "starts": start.number,
                "job_name": child_job_name(chunk, start),
                "updated_at": to_wire(now),
                "ending": ending,
            }
        )
        actions.append(WriteChunk(chunk, status))
    actions += _delete(start)
    stuck = obs.job.spec.limits.stuck_timeout_seconds
    marks = [pod.meta.deleted for pod in start.pods if pod.meta.deleted is not None]
    until = max(marks, default=now) + timedelta(seconds=stuck + 1)
    return ChunkDecision(
        actions=tuple(actions),
        in_flight=True,
        requeue_seconds=max((until - now).total_seconds(), 1.0),
        status=status,
    )


def _watch(
    chunk: PdfChunk, start: Start, obs: Observation, now: datetime, cleanup: tuple[Action, ...]
) -> ChunkDecision:
    """Follow a start that has not ended."""
    running = _running(start)
    if running is not None:
        return _watch_running(chunk, start, running, obs, now, cleanup)
    limits = obs.job.spec.limits
    status = told(chunk, start, now)
    actions = (*cleanup, WriteChunk(chunk, status)) if status is not None else cleanup
    requeue = None
    pod = start.pods[0] if start.pods else None
    since = waiting_since(start)
    if pod is not None and pod.meta.deleted is not None:
        until = pod.meta.deleted + timedelta(seconds=limits.stuck_timeout_seconds + 1)
        requeue = max((until - now).total_seconds(), 1.0)
    elif since is not None:  # to tell what it waits for, and later that it has waited too long
        waited = (now - since).total_seconds()
        marks = [mark - waited for mark in (PATIENCE_SECONDS, limits.pending_timeout_seconds) if mark > waited]
        requeue = min(marks, default=None)
    return ChunkDecision(actions=actions, in_flight=True, requeue_seconds=requeue, status=status)


def _watch_running(
    chunk: PdfChunk, start: Start, pod: PodView, obs: Observation, now: datetime, cleanup: tuple[Action, ...]
) -> ChunkDecision:
    actions = list(cleanup)
    status = None
    since = pod.running_since or now
    if chunk.status.phase is not ChunkPhase.RUNNING or chunk.status.starts != start.number:
        status = chunk.status.model_copy(
            update={
                "observed_generation": chunk.metadata.generation,
                "phase": ChunkPhase.RUNNING,
                "attempts": failures(chunk.status) + 1,
                "starts": start.number,
                "job_name": child_job_name(chunk, start),
                "started_at": to_wire(since),
                "updated_at": to_wire(now),
                "next_retry_time": None,
                "conditions": [],
            }
        )
        actions.append(WriteChunk(chunk, status))
    age = (now - since).total_seconds()
    pause = _HEARTBEAT_SECONDS if answered(obs.job, obs.facts) else _FIRST_ANSWER_SECONDS
    if age >= pause:
        actions.append(ReadProgress(chunk, start.number, pause))
    return ChunkDecision(
        actions=tuple(actions),
        in_flight=True,
        requeue_seconds=max(pause - age, 1.0) if age < pause else pause,
        status=status,
    )


def _start_if_due(
    chunk: PdfChunk, starts: tuple[Start, ...], obs: Observation, now: datetime, cleanup: tuple[Action, ...]
) -> ChunkDecision:
    stuck = obs.job.spec.limits.stuck_timeout_seconds
    if any(pod.live(now, stuck) for start in starts for pod in start.pods):
        # A recorded start whose pod still drains; its end wakes us, or the lost node's time limit does.
        return ChunkDecision(actions=cleanup, in_flight=True, requeue_seconds=float(stuck))
    if chunk.metadata.deletion_timestamp is not None:
        return ChunkDecision(actions=cleanup)  # the garbage collector would take the Job; the PdfChunk is made again
    if _may_be_adopted(chunk, starts, obs):
        if chunk.metadata.uid not in obs.facts.adopted:
            return ChunkDecision(actions=(*cleanup, ReadAdopted(chunk)))
        found = obs.facts.adopted[chunk.metadata.uid]
        if found is not None:
            status = adopted(chunk, found, obs.job, now)
            return ChunkDecision(actions=(*cleanup, WriteChunk(chunk, status)), status=status)
    wait = _seconds_until(chunk.status.next_retry_time, now)
    if wait is not None:
        return ChunkDecision(actions=cleanup, requeue_seconds=wait)
    used = [chunk.status.starts, last_recorded(chunk.status), *(start.number for start in starts)]
    # After what does not count: of a chunk whose result was there, start 1 would not go on from its own checkpoints.
    number = max(*used, chunk.status.fresh_after) + 1
    priority = obs.job.spec.priority if chunk.spec.priority is None else chunk.spec.priority
    return ChunkDecision(actions=cleanup, create=CreateJob(chunk, number, priority))


def _may_be_adopted(chunk: PdfChunk, starts: tuple[Start, ...], obs: Observation) -> bool:
    """Whether an earlier life of the job, or another job, may have done this chunk, which has never been started."""
    plan, status = obs.facts.plan, chunk.status
    untouched = status.phase is ChunkPhase.PENDING and not status.starts and not status.fresh_after and not starts
    return untouched and plan is not None and (bool(plan.adopted) or (obs.caching and uses_cache(obs.job)))


def _seconds_until(moment: str | None, now: datetime) -> float | None:
    if moment is None:
        return None
    left = (from_wire(moment) - now).total_seconds()
    return left if left > 0 else None


def _delete_recorded(starts: tuple[Start, ...], recorded: int) -> tuple[Action, ...]:
    return tuple(action for start in starts if start.number <= recorded for action in _delete(start))


def _delete(start: Start) -> tuple[Action, ...]:
    return (DeleteJob(start.job.meta.name, start.job.meta.uid),) if start.job is not None else ()
