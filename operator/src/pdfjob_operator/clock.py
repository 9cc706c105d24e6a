"""Times: aware datetimes inside, RFC 3339 in UTC outside. Only the outermost layer asks for the time."""

from __future__ import annotations

from datetime import UTC, datetime


def utc_now() -> datetime:
    """Return the present time."""
    return datetime.now(UTC)


def to_wire(moment: datetime) -> str:
    """Format a time as Kubernetes does, in whole seconds: ``2026-11-22T05:00:00Z``."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def from_wire(text: str) -> datetime:
    """Parse an RFC 3339 time.

    Raises
    ------
    ValueError
        When it is none.
    """
    return datetime.fromisoformat(text)
