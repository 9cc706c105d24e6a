"""What a chunk waits for whose Job exists and whose container does not run. Pure."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

from pdfjob_api.conditions import ChunkCondition, Reason
from pdfjob_api.errors import ChunkCode
from pdfjob_api.meta import Condition
from pdfjob_api.pdfchunk import Ending, EndReason, PdfChunk, PdfChunkStatus

from .clock import to_wire
from .observation import Start
from .views import PodView

PATIENCE_SECONDS: Final = 10
"""A pod that starts faster than this is not worth a write."""
_IMAGE_REASONS: Final = frozenset(
    {"ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull", "ImageInspectError"}
)
_CONTAINER_REASONS: Final = frozenset({"CreateContainerConfigError", "CreateContainerError", "RunContainerError"})


def what_it_waits_for(start: Start) -> tuple[Reason, str]:
    """Return the reason, and the words for people."""
    pod = start.pods[0] if start.pods else None
    if start.job is not None and start.job.suspended:
        return Reason.QUEUED, "its Job is suspended by a queueing system (Kueue); no time limit runs"
    if pod is None:
        return Reason.NO_POD, "its Job has no pod yet: a quota, Pod Security or a missing service account may forbid it"
    if pod.unschedulable is not None:
        return Reason.UNSCHEDULABLE, f"no node takes its pod: {pod.unschedulable}"[:1024]
    if pod.waiting_reason in _IMAGE_REASONS:
        return Reason.IMAGE_PULL, f"{pod.waiting_reason}: {pod.waiting_message}"[:1024]
    if pod.waiting_reason in _CONTAINER_REASONS:
        return Reason.STARTING, f"{pod.waiting_reason}: {pod.waiting_message}"[:1024]
    return Reason.STARTING, f"its pod is on node {pod.node} and its container has not started"


def waiting_since(start: Start) -> datetime | None:
    """Return since when a start has waited for its pod, or else for its container; None while Kueue holds it."""
    if start.job is not None and start.job.suspended:
        return None
    if start.pods:
        return start.pods[0].meta.created
    return start.job.waits_since if start.job is not None else None


def give_up(start: Start, now: datetime, pending_seconds: float) -> Ending | None:
    """Say whether a start has waited too long for something that waiting does not mend."""
    pod = start.pods[0] if start.pods else None
    if pod is None or (now - pod.meta.created).total_seconds() < pending_seconds:
        return None
    text = f"{pod.waiting_reason}: {pod.waiting_message}"[:1024]
    code = cannot_start(pod)
    return Ending(start=start.number, reason=EndReason.PENDING, code=code, message=text) if code else None


def cannot_start(pod: PodView) -> ChunkCode | None:
    """Return the error of a container that cannot be started as it is; None for any other wait."""
    if pod.waiting_reason in _IMAGE_REASONS:
        return ChunkCode.IMAGE_ERROR
    return ChunkCode.PROCESSING_ERROR if pod.waiting_reason in _CONTAINER_REASONS else None


def told(chunk: PdfChunk, start: Start, now: datetime) -> PdfChunkStatus | None:
    """Return the status that tells what a chunk waits for; None while it is told already, or not worth telling."""
    since = waiting_since(start) or now
    reason, message = what_it_waits_for(start)
    known = next((item for item in chunk.status.conditions if item.type == ChunkCondition.WAITING.value), None)
    patient = reason is not Reason.QUEUED and now - since < timedelta(seconds=PATIENCE_SECONDS)
    if patient or (known is not None and known.reason == reason.value):
        return None
    condition = Condition(
        type=ChunkCondition.WAITING.value,
        status="True",
        reason=reason.value,
        message=message,
        last_transition_time=known.last_transition_time if known else to_wire(now),
        observed_generation=chunk.metadata.generation,
    )
    return chunk.status.model_copy(update={"conditions": [condition], "updated_at": to_wire(now)})
