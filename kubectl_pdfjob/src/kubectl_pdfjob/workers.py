"""What the runner pods of a job do at this moment, told from the pods as the API server has them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from pdfjob_api import names

__all__ = ["Worker", "WorkerState", "live_workers"]

_IMAGE_REASONS: Final = frozenset(
    {
        "ErrImagePull",
        "ImagePullBackOff",
        "InvalidImageName",
        "ErrImageNeverPull",
        "ImageInspectError",
        "RegistryUnavailable",
    }
)
_STARTING_REASONS: Final = frozenset({"", "ContainerCreating", "PodInitializing"})


class WorkerState(StrEnum):
    """State of a runner pod, in the words of the status view."""

    PENDING = "Pending"
    """Waits for the scheduler."""
    UNSCHEDULABLE = "Unschedulable"
    """No node takes it."""
    STARTING = "Starting"
    """On a node; image and container are being prepared."""
    IMAGE_PULL = "ImagePull"
    """The image cannot be pulled."""
    CONFIG_ERROR = "ConfigError"
    """The container cannot be made."""
    RUNNING = "Running"
    ENDING = "Ending"
    """Was told to end."""


@dataclass(frozen=True, slots=True)
class Worker:
    """One runner pod that has not ended."""

    pod: str
    chunk: int | None
    start: int | None
    node: str | None
    state: WorkerState
    detail: str
    since: str | None
    """When its container started, or else when the pod was made; RFC 3339."""


def live_workers(pods: Iterable[Mapping[str, Any]], job_uid: str) -> list[Worker]:
    """Return the pods of this life of the job that have not ended, in order of their chunks."""
    workers = [
        _worker(pod)
        for pod in pods
        if pod["metadata"].get("labels", {}).get(names.LABEL_JOB_UID) == job_uid
        and (pod.get("status") or {}).get("phase") not in {"Succeeded", "Failed"}
    ]
    return sorted(workers, key=lambda worker: (-1 if worker.chunk is None else worker.chunk, worker.pod))


def _worker(pod: Mapping[str, Any]) -> Worker:
    metadata, status = pod["metadata"], pod.get("status") or {}
    labels = metadata.get("labels", {})
    containers = status.get("containerStatuses") or [{}]
    container = next((item for item in containers if item.get("name") == names.RUNNER_CONTAINER), containers[0])
    state, detail = _state(metadata, status, container.get("state") or {})
    running = (container.get("state") or {}).get("running") or {}
    return Worker(
        pod=metadata["name"],
        chunk=_number(labels.get(names.LABEL_CHUNK)),
        start=_number(labels.get(names.LABEL_START)),
        node=(pod.get("spec") or {}).get("nodeName"),
        state=state,
        detail=detail,
        since=running.get("startedAt") or metadata.get("creationTimestamp"),
    )


def _state(
    metadata: Mapping[str, Any], status: Mapping[str, Any], container: Mapping[str, Any]
) -> tuple[WorkerState, str]:
    if metadata.get("deletionTimestamp") or "terminated" in container:
        return WorkerState.ENDING, ""
    if "running" in container:
        return WorkerState.RUNNING, ""
    waiting = container.get("waiting") or {}
    reason, message = waiting.get("reason") or "", waiting.get("message") or ""
    if reason in _IMAGE_REASONS:
        return WorkerState.IMAGE_PULL, f"{reason}: {message}" if message else reason
    if reason not in _STARTING_REASONS:
        return WorkerState.CONFIG_ERROR, f"{reason}: {message}" if message else reason
    scheduled: Mapping[str, Any] = next(
        (item for item in status.get("conditions") or [] if item.get("type") == "PodScheduled"), {}
    )
    if scheduled.get("status") == "True" or waiting:
        return WorkerState.STARTING, ""
    if scheduled.get("reason") == "Unschedulable":
        return WorkerState.UNSCHEDULABLE, scheduled.get("message") or ""
    return WorkerState.PENDING, scheduled.get("message") or ""


def _number(label: str | None) -> int | None:
    return int(label) if label and label.isdecimal() else None
