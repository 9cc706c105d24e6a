"""What to do about a PdfJob that has ended, and about one that is deleted. Pure."""

from __future__ import annotations

from datetime import datetime, timedelta

from pdfjob_api.conditions import JobPhase
from pdfjob_api.jobstatus import LastRetry, PdfJobStatus
from pdfjob_api.names import FINALIZER
from pdfjob_api.pdfjob import DeletionPolicy, PdfJob

from .actions import (
    Action,
    Book,
    Decision,
    DeleteChunks,
    DeleteJob,
    DeletePod,
    DeleteSelf,
    RemoveFinalizer,
    StopWork,
    WriteChunk,
)
from .background import earliest, start_work, work_delays
from .chunk_end import cancelled
from .clock import from_wire
from .credits import removal, settled_status, settlement
from .decide_chunk import TERMINAL, kill
from .jobspec import grace_seconds
from .observation import Observation, WorkKind
from .requests import answer_chunk, answer_event, answer_job, pending_request, reopened_status


def decide_finished(obs: Observation, now: datetime) -> Decision:
    """Remove what is left of a job that has ended, keep its record, and let it go when its time is over.

    Its status is latched: only a request for a retry opens it again. A job that ended while chunks were under way ends
    them here: nobody would record them.
    """
    settling = _settle(obs, now)
    if settling is not None:
        return settling
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
            actions += start_work(obs, WorkKind.RECORD, now)
    left = _seconds_left(obs.job, now)
    if left is not None and left <= 0:
        actions.append(DeleteSelf())
        left = None
    return Decision(tuple(actions), status, earliest([left, *work_delays(obs, now)]), 0)


def _settle(obs: Observation, now: datetime) -> Decision | None:
    """End the job's reservation, write that down, and take it out, in this order; None when that is done."""
    ended = settlement(obs)
    if ended is not None:
        return Decision((Book(ended),), None, None, 0)
    status = settled_status(obs, now)
    if status is not None:
        return Decision((), status, 0.0, 0)
    gone = removal(obs)
    return Decision((Book(gone),), None, None, 0) if gone is not None else None


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
    seconds = job.spec.ttl_seconds_after_finished.after(job.status.phase)
    if seconds is None or job.status.completion_time is None:
        return None
    return (from_wire(job.status.completion_time) + timedelta(seconds=seconds) - now).total_seconds()


def decide_deletion(obs: Observation, now: datetime) -> Decision:
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
    if obs.torn_away is not None:  # its runner may still save what it has
        left = (obs.torn_away - now).total_seconds() + grace_seconds(obs.job)
        if left > 0:
            return Decision((), None, left, 0)
    delay = earliest(work_delays(obs, now))
    gone = removal(obs)
    if gone is not None:
        return Decision((Book(gone),), None, None, 0)
    if obs.job.status.history is None and facts.recorded is None:
        return Decision(tuple(start_work(obs, WorkKind.RECORD, now)), None, delay, 0)
    if obs.chunks:
        return Decision((DeleteChunks(),), None, None, 0)
    keep = obs.job.spec.deletion_policy is DeletionPolicy.RETAIN
    if keep or facts.cleaned:
        return Decision((RemoveFinalizer(),), None, None, 0)
    return Decision(tuple(start_work(obs, WorkKind.CLEAN, now)), None, delay, 0)
