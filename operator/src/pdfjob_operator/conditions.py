"""The conditions of a PdfJob under construction."""

from __future__ import annotations

from datetime import datetime
from typing import Final

from pdfjob_api.conditions import JobCondition, Reason
from pdfjob_api.errors import ChunkCode, JobCode
from pdfjob_api.meta import Condition
from pdfjob_api.pdfjob import PdfJob

from .clock import to_wire

MAX_MESSAGE: Final = 1024
_STAGES: Final = (JobCondition.MERGED, JobCondition.CHUNKS_SUCCEEDED, JobCondition.SPLIT, JobCondition.ACCEPTED)


class Conditions:
    """A copy of a job's conditions to change; a transition time moves only when the status does."""

    def __init__(self, job: PdfJob, now: datetime) -> None:
        self._old = {item.type: item for item in job.status.conditions}
        self._items = dict(self._old)
        self._generation = job.metadata.generation
        self._now = to_wire(now)

    def set(self, kind: JobCondition, status: str, reason: Reason | JobCode | ChunkCode, message: str = "") -> None:
        """Set a condition; ``status`` is True, False or Unknown."""
        old = self._old.get(kind.value)
        moved = old is None or old.status != status
        self._items[kind.value] = Condition(
            type=kind.value,
            status=status,
            reason=reason.value,
            message=message[:MAX_MESSAGE],
            last_transition_time=self._now if moved or old is None else old.last_transition_time,
            observed_generation=self._generation,
        )

    def has(self, kind: JobCondition) -> bool:
        """Whether a condition has ever been set."""
        return kind.value in self._items

    def is_true(self, kind: JobCondition) -> bool:
        """Whether a condition is True."""
        item = self._items.get(kind.value)
        return item is not None and item.status == "True"

    def reason_of_true(self, kind: JobCondition) -> str | None:
        """Return the reason of a condition that is True; None while it is not."""
        return self._items[kind.value].reason if self.is_true(kind) else None

    def reason_of_false(self, kind: JobCondition) -> str | None:
        """Return the reason of a condition that is False; None while it is not, or was never set."""
        item = self._items.get(kind.value)
        return item.reason if item is not None and item.status == "False" else None

    def broken(self) -> str | None:
        """Return the reason of the latest stage that is False: it names the cause, the error code only its class."""
        stages = (self._items.get(kind.value) for kind in _STAGES)
        return next((item.reason for item in stages if item is not None and item.status == "False"), None)

    def list(self) -> list[Condition]:
        """Return all of them, in the order of the lifecycle."""
        order = [kind.value for kind in JobCondition]
        return sorted(self._items.values(), key=lambda item: order.index(item.type) if item.type in order else 99)


def is_true(job: PdfJob, kind: JobCondition) -> bool:
    """Whether a condition of the stored status is True."""
    return any(item.type == kind.value and item.status == "True" for item in job.status.conditions)
