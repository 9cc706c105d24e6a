"""The one decision of the operator: what to do about a PdfJob, given what is known of it.

Pure and level-based: the clock is an argument, nothing is touched, and the same observation gives the same decision.
Run again after a crash between any two of its actions, it goes on from what is there.
"""

from __future__ import annotations

from datetime import datetime
from typing import Final

from pdfjob_api.conditions import JobCondition
from pdfjob_api.names import FINALIZER
from pdfjob_api.pdfchunk import PdfChunkStatus
from pdfjob_api.pdfjob import DeletionPolicy, PdfJobStatus

from .actions import (
    Action,
    AddFinalizer,
    Decision,
    DeleteChunks,
    DeleteJob,
    DeletePod,
    RemoveFinalizer,
    RestoreChunk,
    StartWork,
    StopWork,
    WriteChunk,
)
from .decide_chunk import TERMINAL, ChunkDecision, cancelled, decide_chunk
from .observation import Observation, WorkKind
from .status import compute_status, is_true, settled

_AFTER_END_SECONDS: Final = 1.0
"""The end is written first, what is left is removed after that: nothing else would ask for that look."""


def decide(obs: Observation, now: datetime) -> Decision:
    """Say what one reconcile of a PdfJob does."""
    job = obs.job
    if job.metadata.deletion_timestamp is not None:
        return _decide_deletion(obs, now)
    if is_true(job, JobCondition.FINISHED):
        return _decide_finished(obs, now)
    if FINALIZER not in job.metadata.finalizers:
        return Decision((AddFinalizer(),), None, 0.0, 0)
    decisions = {index: decide_chunk(chunk, obs, now) for index, chunk in sorted(obs.chunks.items())}
    statuses = {index: decision.status or obs.chunks[index].status for index, decision in decisions.items()}
    status = compute_status(obs, statuses, now)
    actions: list[Action] = [action for decision in decisions.values() for action in decision.actions]
    ended = status is not None and any(
        item.type == JobCondition.FINISHED.value and item.status == "True" for item in status.conditions
    )
    if not ended:
        actions += _background(obs, statuses, status, now)
        actions += _dispatch(obs, decisions)
    delays = [decision.requeue_seconds for decision in decisions.values() if decision.requeue_seconds is not None]
    delays += [
        (error.retry_at - now).total_seconds()
        for error in obs.facts.errors.values()
        if error.retry_at is not None and error.retry_at > now
    ]
    if ended:
        delays.append(_AFTER_END_SECONDS)
    return Decision(
        actions=tuple(actions),
        status=status,
        requeue_seconds=min(delays, default=None),
        in_flight=sum(decision.in_flight for decision in decisions.values()),
    )


def _background(
    obs: Observation, statuses: dict[int, PdfChunkStatus], status: PdfJobStatus | None, now: datetime
) -> list[Action]:
    """Start what background work is due: splitting until the manifest is stored, merging once all have succeeded."""
    facts = obs.facts
    actions: list[Action] = []
    if facts.manifest is None:
        return _start_work(obs, WorkKind.SPLIT, now)
    actions += [RestoreChunk(stored.index) for stored in facts.manifest.chunks if stored.index not in obs.chunks]
    counts = status.chunks if status is not None else None
    if counts is not None and settled(counts) and counts.succeeded == counts.total and len(statuses) == counts.total:
        actions += _start_work(obs, WorkKind.MERGE, now) if facts.merged is None else []
    return actions


def _start_work(obs: Observation, kind: WorkKind, now: datetime) -> list[Action]:
    error = obs.facts.errors.get(kind)
    waits = error is not None and (error.retry_at is None or error.retry_at > now)
    return [] if obs.facts.working is not None or waits else [StartWork(kind)]


def _dispatch(obs: Observation, decisions: dict[int, ChunkDecision]) -> list[Action]:
    """Return the starts that are due within the job's parallelism: highest priority first, then the lowest index.

    None before the plan is known, after a restart: a start is told which pages of its chunk are lost.
    """
    if obs.facts.invalid is not None or obs.facts.plan is None:
        return []
    room = obs.job.spec.parallelism - sum(decision.in_flight for decision in decisions.values())
    due = [decision.create for decision in decisions.values() if decision.create is not None]
    due.sort(key=lambda create: (-create.priority, create.chunk.spec.index))
    return list(due[: max(room, 0)])


def _decide_finished(obs: Observation, now: datetime) -> Decision:
    """Remove what is left of a job that has ended; its status is latched.

    A job that failed while chunks were under way (its source is damaged) ends them here: nobody would record them.
    """
    actions: list[Action] = [StopWork()] if obs.facts.working is not None else []
    actions += [
        WriteChunk(chunk, cancelled(chunk, now)) for chunk in obs.chunks.values() if chunk.status.phase not in TERMINAL
    ]
    actions += [
        DeleteJob(start.job.meta.name, start.job.meta.uid)
        for starts in obs.starts.values()
        for start in starts
        if start.job is not None
    ]
    return Decision(tuple(actions), None, None, 0)


def _decide_deletion(obs: Observation, now: datetime) -> Decision:
    """End what runs, wait until no pod lives, remove the objects, let the PdfJob go. In this order."""
    if FINALIZER not in obs.job.metadata.finalizers:
        return Decision((), None, None, 0)
    facts = obs.facts
    if facts.working not in {None, WorkKind.CLEAN}:
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
    if obs.chunks:
        return Decision((DeleteChunks(),), None, None, 0)
    keep = obs.job.spec.deletion_policy is DeletionPolicy.RETAIN
    if keep or facts.cleaned:
        return Decision((RemoveFinalizer(),), None, None, 0)
    error = facts.errors.get(WorkKind.CLEAN)
    delay = (error.retry_at - now).total_seconds() if error is not None and error.retry_at is not None else None
    return Decision(tuple(_start_work(obs, WorkKind.CLEAN, now)), None, delay, 0)
