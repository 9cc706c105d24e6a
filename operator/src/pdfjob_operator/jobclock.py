"""The clock of a job, which `limits.jobTimeoutSeconds` is held against: it goes only while the job is worked on.

Time in which no operator looked at the job is no work: a process counts from its first look at it on. What it has
counted is folded into the status with each write of it, so that a successor goes on from there.
"""

from __future__ import annotations

from datetime import datetime
from typing import Final

from pdfjob_api.jobstatus import Clock

from .clock import from_wire, to_wire

FOLD_SECONDS: Final = 60
"""So much of a job with a time limit may be forgotten when the operator dies; a write now and then for its sake."""


def advance(clock: Clock | None, now: datetime, *, working: bool, looked: datetime | None = None) -> Clock | None:
    """Start the clock or let it stand, as the job is worked on or waits; None for one that never went.

    Parameters
    ----------
    looked
        When this process first looked at the job; None = it always has.
    """
    if clock is None:
        return Clock(since=to_wire(now)) if working else None
    if working == (clock.since is not None):
        return clock
    if working:
        return clock.model_copy(update={"since": to_wire(now)})
    return Clock(seconds=round(elapsed(clock, now, looked)))


def folded(clock: Clock, now: datetime, looked: datetime | None = None) -> Clock:
    """Return a clock that goes, with what it shows now as its seconds. Whole seconds are taken: none is lost by it."""
    if clock.since is None:
        return clock
    until = max(from_wire(to_wire(now)), from_wire(clock.since))  # a machine's clock may be set back
    begun = from_wire(to_wire(looked)) if looked is not None else None
    return Clock(seconds=round(elapsed(clock, until, begun)), since=to_wire(until))


def is_fold_due(clock: Clock | None, now: datetime) -> bool:
    """Whether so much has been counted since the last fold that it is worth a write of its own."""
    return (
        clock is not None and clock.since is not None and (now - from_wire(clock.since)).total_seconds() >= FOLD_SECONDS
    )


def elapsed(clock: Clock | None, now: datetime, looked: datetime | None = None) -> float:
    """Return the seconds for which the job was worked on; ``looked`` as in `advance`."""
    if clock is None:
        return 0.0
    if clock.since is None:
        return float(clock.seconds)
    began = from_wire(clock.since)
    stretch = (now - (max(began, looked) if looked is not None else began)).total_seconds()
    return clock.seconds + max(stretch, 0.0)
