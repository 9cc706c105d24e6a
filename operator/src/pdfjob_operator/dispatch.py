"""Which chunks may start now, over all jobs: priority first, then turns, the oldest job first."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Demand:
    """What one job has in flight and wants to start."""

    created: str
    """Creation time of the PdfJob, RFC 3339: older ones go first."""
    in_flight: int
    """Chunks whose Job exists and has not ended."""
    waiting: tuple[int, ...]
    """Priority of each chunk that could start now within the job's own parallelism, in the order of their start."""


def allocate(demands: Mapping[str, Demand], cap: int) -> dict[str, int]:
    """Say how many new chunks each job may start.

    What runs is never pre-empted. Each free place goes to the job whose next chunk has the highest priority; among
    equals to the one with the fewest in flight, then to the oldest.

    Parameters
    ----------
    demands
        By key of the job.
    cap
        Chunks in flight over all jobs; 0 = no limit.
    """
    if cap == 0:
        return {key: len(demand.waiting) for key, demand in demands.items()}
    free = cap - sum(demand.in_flight for demand in demands.values())
    granted = dict.fromkeys(demands, 0)
    hungry = [_rank(key, demand, 0) for key, demand in demands.items() if demand.waiting]
    heapq.heapify(hungry)
    for _ in range(max(free, 0)):
        if not hungry:
            break
        key = hungry[0][-1]
        granted[key] += 1
        if granted[key] < len(demands[key].waiting):
            heapq.heapreplace(hungry, _rank(key, demands[key], granted[key]))
        else:
            heapq.heappop(hungry)
    return granted


def _rank(key: str, demand: Demand, granted: int) -> tuple[int, int, str, str]:
    return (-demand.waiting[granted], demand.in_flight + granted, demand.created, key)


class Dispatcher:
    """The present demands of all jobs. Each reconcile of a job replaces its own."""

    def __init__(self, cap: int) -> None:
        self._cap = cap
        self._demands: dict[str, Demand] = {}

    def grant(self, key: str, demand: Demand) -> tuple[int, bool]:
        """Record a job's demand; return how many chunks it may start now, and whether it gave a place back.

        The chunks granted count as in flight at once.
        """
        before = self._demands.get(key)
        self._demands[key] = demand
        granted = allocate(self._demands, self._cap)[key]
        in_flight = demand.in_flight + granted
        self._demands[key] = Demand(demand.created, in_flight, demand.waiting[granted:])
        return granted, before is not None and in_flight < before.in_flight

    def forget(self, key: str) -> None:
        """Drop a job that is gone or finished."""
        self._demands.pop(key, None)

    def waiting(self) -> Iterable[str]:
        """Jobs that could start chunks if there were room; empty without a cap."""
        return [key for key, demand in self._demands.items() if demand.waiting] if self._cap else []
