"""Whether the operator's memory is flat, although no process of it lives longer than a minute.

Memory grows while a process starts, and with the jobs that there are. So the figure of a life (one process) is the
median resident size over looks in the second half of the time it is given, while as many PdfJobs were live, and as
many finished ones there, as all through the run. The lives in their order are the run: the mean of its first tenth is
compared with that of its last tenth.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from statistics import mean, median
from typing import Final

from bench.soaking.operator import Look

LEAST_LIVES: Final = 4
_LEAST_LOOKS: Final = 5


@dataclass(frozen=True, slots=True)
class Flatness:
    """The first and the last tenth of a run."""

    lives: int
    """Lives that were measured."""
    first: float
    """Bytes, mean of the lives of the first tenth."""
    last: float
    highest: float
    """Bytes, of any look at all."""

    @property
    def change(self) -> float:
        """Of the last tenth against the first, as a fraction."""
        return self.last / self.first - 1


def life_figures(looks: Iterable[Look], *, life_seconds: float, live: int, kept: int) -> list[float]:
    """Return the figure of each life in order, in bytes.

    Parameters
    ----------
    life_seconds
        Time that a process is given; looks count from the half of it on.
    live, kept
        PdfJobs that must be live, and finished ones that must be there; one more or less is let pass.
    """
    by_life: dict[float, list[float]] = {}
    for look in looks:
        settled = life_seconds / 2 <= look.age <= life_seconds
        if settled and abs(look.live - live) <= 1 and abs(look.kept - kept) <= 1:
            by_life.setdefault(look.born, []).append(look.resident)
    return [median(sizes) for _, sizes in sorted(by_life.items()) if len(sizes) >= _LEAST_LOOKS]


def flatness(looks: Iterable[Look], *, life_seconds: float, live: int, kept: int) -> Flatness | None:
    """Compare the first tenth with the last; None when there were too few lives to say."""
    seen = list(looks)
    figures = life_figures(seen, life_seconds=life_seconds, live=live, kept=kept)
    if len(figures) < LEAST_LIVES:
        return None
    tenth = max(round(len(figures) / 10), 1)
    highest = max(look.resident for look in seen)
    return Flatness(len(figures), mean(figures[:tenth]), mean(figures[-tenth:]), highest)
