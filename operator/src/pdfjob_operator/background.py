"""When background work of a job begins, and when it is looked at again. Pure."""

from __future__ import annotations

from datetime import datetime

from .actions import Action, StartWork
from .observation import Observation, WorkKind


def start_work(obs: Observation, kind: WorkKind, now: datetime) -> list[Action]:
    """Begin background work unless some is under way, or an error of it has to be waited for or is final."""
    error = obs.facts.errors.get(kind)
    waits = error is not None and (error.retry_at is None or error.retry_at > now)
    return [] if obs.facts.working is not None or waits else [StartWork(kind)]


def work_delays(obs: Observation, now: datetime) -> list[float | None]:
    """Return the seconds until background work that failed is tried again."""
    return [
        (error.retry_at - now).total_seconds()
        for error in obs.facts.errors.values()
        if error.retry_at is not None and error.retry_at > now
    ]


def earliest(delays: list[float | None]) -> float | None:
    """Return the shortest delay; None when there is none."""
    return min((delay for delay in delays if delay is not None), default=None)
