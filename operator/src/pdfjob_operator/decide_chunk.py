"""What to do about one chunk. Pure: the clock is an argument, nothing is touched."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from pdfjob_api.conditions import ChunkPhase, Reason
from pdfjob_api.errors import CHUNK_CODES, ChunkCode
from pdfjob_api.meta import LastError
from pdfjob_api.names import start_name
from pdfjob_api.pdfchunk import Outcome, PdfChunk, PdfChunkStatus, StartRecord
from pdfjob_api.pdfjob import PdfJob

from .actions import Action, CreateJob, DeleteJob, ReadEnd, ReadProgress, WriteChunk
from .backoff import retry_delay
from .clock import from_wire, to_wire
from .observation import EndFacts, Observation, Start
from .outcome import Verdict, classify
from .views import PodView

TERMINAL: Final = frozenset({ChunkPhase.SUCCEEDED, ChunkPhase.FAILED, ChunkPhase.CANCELLED})
MAX_UNCOUNTED: Final = 10
"""So many starts in a row lost to the infrastructure without a new item count as one attempt."""
_HISTORY: Final = 10
_HEARTBEAT_SECONDS: Final = 20
_IMAGE_REASONS: Final = frozenset(
    {"ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull", "ImageInspectError"}
)
_CONTAINER_REASONS: Final = frozenset({"CreateContainerConfigError", "CreateContainerError", "RunContainerError"})


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


def decide_chunk(chunk: PdfChunk, obs: Observation, now: datetime) -> ChunkDecision:
    """Compare a chunk with its Jobs and pods and say what is to be done."""
    starts = obs.starts.get(chunk.spec.index, ())
    if chunk.status.phase in TERMINAL:
        return ChunkDecision(actions=_delete_recorded(starts, chunk.status.starts))
    recorded = last_recorded(chunk.status)
    cleanup = _delete_recorded(starts, recorded)
    active = _active_start(chunk.status, starts, recorded)
    if active is None:
        return _start_if_due(chunk, starts, obs, now, cleanup)
    if not _has_ended(active, now, obs.job.spec.limits.stuck_timeout_seconds):
        return _watch(chunk, active, obs, now, cleanup)
    end = obs.facts.ends.get((chunk.metadata.uid, active.number))
    if end is None:
        return ChunkDecision(actions=(*cleanup, ReadEnd(chunk, active.number)))
    return _record_end(chunk, active, end, obs.job, now, cleanup)


def last_recorded(status: PdfChunkStatus) -> int:
    """Return the number of the newest start whose end is in the history; 0 for none."""
    return status.history[-1].start if status.history else 0


def _active_start(status: PdfChunkStatus, starts: tuple[Start, ...], recorded: int) -> Start | None:
    """Return the start whose end is not recorded yet. Running without Job and pod is one whose Job vanished."""
    newer = [start for start in starts if start.number > recorded]
    if newer:
        return newer[-1]
    if status.phase is ChunkPhase.RUNNING and status.starts > recorded:
        return Start(status.starts, None, ())
    return None


def _has_ended(start: Start, now: datetime, stuck_seconds: float) -> bool:
    if any(pod.live(now, stuck_seconds) for pod in start.pods):
        return False
    # Without a live pod: the pod has ended, or there is none because the Job is over or gone. A Job without a pod
    # that is not over is about to get one, or about to be told that its pod is gone.
    return bool(start.pods) or start.job is None or start.job.finished


def _watch(
    chunk: PdfChunk, start: Start, obs: Observation, now: datetime, cleanup: tuple[Action, ...]
) -> ChunkDecision:
    """Follow a start that has not ended."""
    running = next((pod for pod in start.pods if pod.running_since is not None), None)
    if running is not None:
        return _watch_running(chunk, start, running, now, cleanup)
    pod = start.pods[0] if start.pods else None
    broken = _cannot_start(pod)
    if pod is not None and broken is not None:
        left = obs.rules.pending_timeout_seconds - (now - pod.meta.created).total_seconds()
        if left > 0:
            return ChunkDecision(actions=cleanup, in_flight=True, requeue_seconds=left)
        return _give_up_pending(chunk, start, pod, broken, now, cleanup)
    requeue = None
    if pod is None and start.job is not None:
        left = obs.rules.pending_timeout_seconds - (now - start.job.meta.created).total_seconds()
        requeue = left if left > 0 else None  # by then the status tells that it has no pod
    if pod is not None and pod.meta.deleted is not None:
        until = pod.meta.deleted + timedelta(seconds=obs.job.spec.limits.stuck_timeout_seconds + 1)
        requeue = max((until - now).total_seconds(), 1.0)
    return ChunkDecision(actions=cleanup, in_flight=True, requeue_seconds=requeue)


def _watch_running(
    chunk: PdfChunk, start: Start, pod: PodView, now: datetime, cleanup: tuple[Action, ...]
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
                "job_name": pod_job_name(chunk, start),
                "started_at": to_wire(since),
                "updated_at": to_wire(now),
                "next_retry_time": None,
            }
        )
        actions.append(WriteChunk(chunk, status))
    age = (now - since).total_seconds()
    if age >= _HEARTBEAT_SECONDS:
        actions.append(ReadProgress(chunk, start.number))
    return ChunkDecision(
        actions=tuple(actions),
        in_flight=True,
        requeue_seconds=max(_HEARTBEAT_SECONDS - age, 1.0) if age < _HEARTBEAT_SECONDS else _HEARTBEAT_SECONDS,
        status=status,
    )


def failures(status: PdfChunkStatus) -> int:
    """Return the counted failures: attempts less the one under way."""
    under_way = status.phase in {ChunkPhase.RUNNING, ChunkPhase.SUCCEEDED}
    return status.attempts - (1 if under_way else 0)


def pod_job_name(chunk: PdfChunk, start: Start) -> str:
    """Return the name of the start's Job, whether or not the Job is still there."""
    return start_name(job_of(chunk), chunk.spec.index, start.number)


def job_of(chunk: PdfChunk) -> str:
    """Return the name of the PdfJob that a chunk belongs to."""
    return chunk.metadata.name.rsplit("-c", 1)[0]


def _cannot_start(pod: PodView | None) -> tuple[ChunkCode, str] | None:
    if pod is None or pod.waiting_reason is None:
        return None
    text = f"{pod.waiting_reason}: {pod.waiting_message}"
    if pod.waiting_reason in _IMAGE_REASONS:
        return ChunkCode.IMAGE_ERROR, text
    if pod.waiting_reason in _CONTAINER_REASONS:
        return ChunkCode.PROCESSING_ERROR, text
    return None


def _give_up_pending(
    chunk: PdfChunk,
    start: Start,
    pod: PodView,
    broken: tuple[ChunkCode, str],
    now: datetime,
    cleanup: tuple[Action, ...],
) -> ChunkDecision:
    """Fail a chunk whose container cannot be started; another pod of the same spec would fare no better."""
    code, message = broken
    verdict = Verdict(Outcome.FAILED, code, message[:1024], counted=True, final=True)
    nothing = EndFacts(result=None, result_error=None, items=_saved_before(chunk.status))
    status = _ended_status(chunk, Start(start.number, start.job, (pod,)), nothing, verdict, 0, now)
    # Its pod stands until the Job is deleted: the place is free with the next decision.
    actions = (*cleanup, _write_end(chunk, status, verdict), *_delete(start))
    return ChunkDecision(actions=actions, in_flight=True, status=status)


def _record_end(
    chunk: PdfChunk, start: Start, end: EndFacts, job: PdfJob, now: datetime, cleanup: tuple[Action, ...]
) -> ChunkDecision:
    """Write down how a start ended, then delete its Job."""
    saved_new = end.items > _saved_before(chunk.status)
    verdict = classify(start, end, saved_new=saved_new)
    uncounted = 0 if verdict.counted or saved_new else chunk.status.uncounted + 1
    if uncounted >= MAX_UNCOUNTED:
        code = verdict.code or ChunkCode.PROCESSING_ERROR
        message = f"{MAX_UNCOUNTED} starts in a row were lost without a new page saved: {verdict.message}"[:1024]
        verdict = Verdict(Outcome.FAILED, code, message, counted=True, final=False)
        uncounted = 0
    status = _ended_status(chunk, start, end, verdict, uncounted, now)
    status = _next_phase(chunk, status, verdict, job, now)
    return ChunkDecision(
        actions=(*cleanup, _write_end(chunk, status, verdict), *_delete(start)),
        status=status,
        requeue_seconds=_seconds_until(status.next_retry_time, now),
    )


def _ended_status(
    chunk: PdfChunk, start: Start, end: EndFacts, verdict: Verdict, uncounted: int, now: datetime
) -> PdfChunkStatus:
    """Return the status with the end in the history, the phase still open but for Succeeded and Failed."""
    pod = start.pods[0] if start.pods else None
    began = (pod.running_since or pod.exit_started) if pod else None
    attempt = failures(chunk.status) + 1
    succeeded = verdict.outcome is Outcome.SUCCEEDED
    record = StartRecord(
        start=start.number,
        attempt=attempt,
        counted=verdict.counted,
        node=pod.node if pod else None,
        started_at=to_wire(began) if began else None,
        finished_at=to_wire(now),
        outcome=verdict.outcome,
        code=verdict.code.value if verdict.code else None,
        items=chunk.spec.page_count if succeeded else max(end.items, _saved_before(chunk.status)),
    )
    error = None
    if not succeeded:
        code = (verdict.code or ChunkCode.PROCESSING_ERROR).value
        error = LastError(code=code, message=_with_advice(chunk, verdict))
    return chunk.status.model_copy(
        update={
            "observed_generation": chunk.metadata.generation,
            "phase": ChunkPhase.SUCCEEDED if succeeded else ChunkPhase.FAILED,
            "attempts": attempt if verdict.counted else attempt - 1,
            "starts": start.number,
            "uncounted": uncounted,
            "job_name": pod_job_name(chunk, start),
            "started_at": to_wire(began) if began else chunk.status.started_at,
            "updated_at": to_wire(now),
            "processed_at": to_wire(now) if succeeded else None,
            "next_retry_time": None,
            "last_error": error,
            "result": end.result if succeeded else None,
            "history": [*chunk.status.history, record][-_HISTORY:],
        }
    )


def _next_phase(
    chunk: PdfChunk, status: PdfChunkStatus, verdict: Verdict, job: PdfJob, now: datetime
) -> PdfChunkStatus:
    if status.phase is ChunkPhase.SUCCEEDED or verdict.final:
        return status
    policy = job.spec.retry_policy
    limit = policy.max_retries if chunk.spec.max_retries is None else chunk.spec.max_retries
    if verdict.counted and status.attempts > limit:
        return status
    retry = status.attempts if verdict.counted else status.uncounted - 1
    limited = verdict.code is ChunkCode.RATE_LIMIT
    delay = 0.0
    if retry > 0 or limited:
        seed = f"{chunk.metadata.uid}/{status.starts}"
        delay = retry_delay(policy.backoff, max(retry, 1), seed, rate_limited=limited)
    return status.model_copy(
        update={
            "phase": ChunkPhase.RETRY_SCHEDULED,
            "next_retry_time": to_wire(now + timedelta(seconds=delay)),
        }
    )


def _write_end(chunk: PdfChunk, status: PdfChunkStatus, verdict: Verdict) -> WriteChunk:
    name = f"chunk {chunk.spec.index} (pages {chunk.spec.start_page}-{chunk.spec.end_page})"
    code = verdict.code.value if verdict.code else "lost"
    event = None
    if status.phase is ChunkPhase.FAILED:
        event = ("Warning", Reason.CHUNK_FAILED, f"{name} failed: {code}: {_with_advice(chunk, verdict)}")
    elif verdict.code is ChunkCode.TIMEOUT and not verdict.counted:
        event = ("Normal", Reason.SOFT_TIMEOUT, f"{name} reached its soft limit, saved its pages and goes on")
    elif verdict.outcome is Outcome.LOST:
        event = ("Normal", Reason.CHUNK_RESTARTED, f"{name} starts again from its checkpoint: {verdict.message}")
    elif status.phase is ChunkPhase.RETRY_SCHEDULED:
        event = (
            "Warning",
            Reason.CHUNK_RETRY,
            f"{name} failed, retry {status.attempts} at {status.next_retry_time}: {code}: {verdict.message}",
        )
    return WriteChunk(chunk, status, event)


def _with_advice(chunk: PdfChunk, verdict: Verdict) -> str:
    advice = CHUNK_CODES[verdict.code].advice_for(job_of(chunk), chunk.spec.index) if verdict.code else ""
    return f"{verdict.message}; {advice}"[:1024] if verdict.final and advice else verdict.message


def _saved_before(status: PdfChunkStatus) -> int:
    return status.history[-1].items if status.history else 0


def _start_if_due(
    chunk: PdfChunk, starts: tuple[Start, ...], obs: Observation, now: datetime, cleanup: tuple[Action, ...]
) -> ChunkDecision:
    stuck = obs.job.spec.limits.stuck_timeout_seconds
    if any(pod.live(now, stuck) for start in starts for pod in start.pods):
        # A recorded start whose pod still drains; its end wakes us, or the lost node's time limit does.
        return ChunkDecision(actions=cleanup, in_flight=True, requeue_seconds=float(stuck))
    if chunk.metadata.deletion_timestamp is not None:
        return ChunkDecision(actions=cleanup)  # the garbage collector would take the Job; the PdfChunk is made again
    wait = _seconds_until(chunk.status.next_retry_time, now)
    if wait is not None:
        return ChunkDecision(actions=cleanup, requeue_seconds=wait)
    number = max([chunk.status.starts, last_recorded(chunk.status), *(start.number for start in starts)]) + 1
    priority = obs.job.spec.priority if chunk.spec.priority is None else chunk.spec.priority
    return ChunkDecision(actions=cleanup, create=CreateJob(chunk, number, priority))


def cancelled(chunk: PdfChunk, now: datetime) -> PdfChunkStatus:
    """Return the status of a chunk that will not run any more, since its job has ended without it."""
    return chunk.status.model_copy(
        update={
            "observed_generation": chunk.metadata.generation,
            "phase": ChunkPhase.CANCELLED,
            "attempts": failures(chunk.status),
            "updated_at": to_wire(now),
            "next_retry_time": None,
        }
    )


def _seconds_until(moment: str | None, now: datetime) -> float | None:
    if moment is None:
        return None
    left = (from_wire(moment) - now).total_seconds()
    return left if left > 0 else None


def _delete_recorded(starts: tuple[Start, ...], recorded: int) -> tuple[Action, ...]:
    return tuple(action for start in starts if start.number <= recorded for action in _delete(start))


def _delete(start: Start) -> tuple[Action, ...]:
    return (DeleteJob(start.job.meta.name, start.job.meta.uid),) if start.job is not None else ()
