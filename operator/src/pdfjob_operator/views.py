"""What the operator reads of Jobs and Pods, parsed once when an object enters the cache."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from pdfjob_api.names import LABEL_CHUNK, LABEL_JOB_UID, LABEL_START, RUNNER_CONTAINER

from .clock import from_wire

_EXIT_CODE: Final = re.compile(r"exit code (\d+)")


@dataclass(frozen=True, slots=True)
class ChildMeta:
    """Identity of a child object, and the chunk and start that its labels name."""

    namespace: str
    name: str
    uid: str
    resource_version: int
    created: datetime
    deleted: datetime | None
    """The deletionTimestamp: for a pod the time by which it should be gone, grace included."""
    job_uid: str
    chunk: int
    start: int


@dataclass(frozen=True, slots=True)
class JobView:
    """A child Job."""

    meta: ChildMeta
    complete: bool
    failed_reason: str | None
    """Reason of the condition Failed or FailureTarget; None while it has neither."""
    failed_message: str
    suspended: bool = False
    """Whether a queueing system such as Kueue holds it back."""
    waits_since: datetime | None = None
    """When the Job controller took it up, anew after each suspension, or else its creation; None while it was admitted
    and the controller has not taken it up yet."""

    @property
    def finished(self) -> bool:
        """Whether the Job has come to its end."""
        return self.complete or self.failed_reason is not None

    @property
    def exit_code(self) -> int | None:
        """The exit code that a podFailurePolicy rule left in the condition; it survives the pod."""
        match = _EXIT_CODE.search(self.failed_message)
        return int(match.group(1)) if match else None

    @property
    def disrupted(self) -> bool:
        """Whether the condition names a disruption as the cause."""
        return "DisruptionTarget" in self.failed_message


@dataclass(frozen=True, slots=True)
class PodView:
    """A runner pod."""

    meta: ChildMeta
    phase: str
    reason: str
    """Reason of the pod's status, e.g. Evicted or DeadlineExceeded."""
    message: str
    node: str | None
    disrupted: bool
    """Whether the pod carries the condition DisruptionTarget."""
    unschedulable: str | None
    """Why the scheduler finds no node; None when it has one."""
    running_since: datetime | None
    waiting_reason: str | None
    waiting_message: str
    exit_code: int | None
    """Of the runner container; None while it has not terminated."""
    exit_reason: str
    exit_message: str
    """The termination message."""
    exit_started: datetime | None

    @property
    def ended(self) -> bool:
        """Whether the runner container of this pod runs no more and never will again."""
        return self.exit_code is not None or self.phase in {"Failed", "Succeeded"}

    def live(self, now: datetime, stuck_seconds: float) -> bool:
        """Whether a runner may still run in it.

        A pod that should have been gone ``stuck_seconds`` ago is on a lost node and counts as dead.
        """
        if self.ended:
            return False
        deleted = self.meta.deleted
        return deleted is None or (now - deleted).total_seconds() <= stuck_seconds


def child_meta(raw: Mapping[str, Any]) -> ChildMeta:
    """Read the metadata of a child object.

    Raises
    ------
    ValueError, KeyError
        When the labels are not ours: somebody else's object with our label on it.
    """
    meta = raw["metadata"]
    labels = meta.get("labels") or {}
    deleted = meta.get("deletionTimestamp")
    return ChildMeta(
        namespace=meta["namespace"],
        name=meta["name"],
        uid=meta["uid"],
        resource_version=int(meta["resourceVersion"]),
        created=from_wire(meta["creationTimestamp"]),
        deleted=from_wire(deleted) if deleted else None,
        job_uid=labels[LABEL_JOB_UID],
        chunk=int(labels[LABEL_CHUNK]),
        start=int(labels[LABEL_START]),
    )


def job_view(raw: Mapping[str, Any]) -> JobView:
    """Parse a child Job. Raises as `child_meta`."""
    complete, reason, message, resumes = False, None, "", False
    status, meta = raw.get("status") or {}, child_meta(raw)
    for condition in status.get("conditions") or []:
        if condition.get("status") != "True":
            continue
        if condition["type"] in {"Complete", "SuccessCriteriaMet"}:
            complete = True
        elif condition["type"] in {"Failed", "FailureTarget"}:
            reason, message = condition.get("reason") or "Failed", condition.get("message") or ""
        elif condition["type"] == "Suspended":
            resumes = True
    suspended = bool((raw.get("spec") or {}).get("suspend"))
    started = status.get("startTime")
    since = from_wire(started) if started else None if resumes else meta.created
    return JobView(meta, complete, reason, message, suspended, since)


def pod_view(raw: Mapping[str, Any]) -> PodView:
    """Parse a runner pod. Raises as `child_meta`."""
    status = raw.get("status") or {}
    conditions = {item["type"]: item for item in status.get("conditions") or []}
    scheduled = conditions.get("PodScheduled") or {}
    container: Mapping[str, Any] = next(
        (item for item in status.get("containerStatuses") or [] if item.get("name") == RUNNER_CONTAINER), {}
    )
    state = container.get("state") or {}
    running, waiting, exited = state.get("running"), state.get("waiting") or {}, state.get("terminated") or {}
    since = (running or {}).get("startedAt")
    exit_started = exited.get("startedAt")
    return PodView(
        meta=child_meta(raw),
        phase=status.get("phase") or "Pending",
        reason=status.get("reason") or "",
        message=status.get("message") or "",
        node=(raw.get("spec") or {}).get("nodeName"),
        disrupted=(conditions.get("DisruptionTarget") or {}).get("status") == "True",
        unschedulable=scheduled.get("message") or "unschedulable" if scheduled.get("status") == "False" else None,
        running_since=from_wire(since) if since else None,
        waiting_reason=waiting.get("reason"),
        waiting_message=waiting.get("message") or "",
        exit_code=exited.get("exitCode"),
        exit_reason=exited.get("reason") or "",
        exit_message=exited.get("message") or "",
        exit_started=from_wire(exit_started) if exit_started else None,
    )
