"""The clock of a job, which `limits.jobTimeoutSeconds` is held against: it goes only while the job is worked on."""

from __future__ import annotations

from datetime import datetime

from pdfjob_api.pdfjob import Clock

from .clock import from_wire, to_wire


def advance(clock: Clock | None, now: datetime, *, working: bool) -> Clock | None:
    """Start the clock or let it stand, as the job is worked on or waits; None for one that never went."""
    if clock is None:
        return Clock(since=to_wire(now)) if working else None
    if working == (clock.since is not None):
        return clock
    if working:
        return clock.model_copy(update={"since": to_wire(now)})
    return Clock(seconds=round(elapsed(clock, now)))


def elapsed(clock: Clock | None, now: datetime) -> float:
    """Return the seconds for which the job was worked on."""
    if clock is None:
        return 0.0
    stretch = (now - from_wire(clock.since)).total_seconds() if clock.since else 0.0
    return clock.seconds + max(stretch, 0.0)
