"""What every benchmark leaves behind: a table to read and ``bench/results/NAME.json`` to compare.

The JSON holds ``{name, commit, machine, figures, baseline, ratio, goal, met, holds}``; ``figures``, ``baseline``,
``ratio``, ``goal`` and ``met`` are keyed by the name of the figure, ``holds`` is true when every goal is met. A
baseline comes from the same run: figures of another day or machine say nothing.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

RESULTS: Final = Path(__file__).parent / "results"


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured number."""

    name: str
    value: float
    unit: str
    baseline: float | None = None
    """The same measure of what it is compared with, from the same run."""
    goal: str = ""
    """What is asked of it, in words; empty for a number that is only told."""
    holds: bool | None = None
    """Whether the goal is met; None without a goal."""

    @property
    def ratio(self) -> float | None:
        """Value divided by baseline."""
        return self.value / self.baseline if self.baseline else None


def report(name: str, figures: Sequence[Figure], details: Mapping[str, Any] | None = None) -> bool:
    """Print the table, write the JSON and return whether every goal is met.

    Parameters
    ----------
    name
        Of the benchmark and of the file.
    figures
        In the order of the table.
    details
        What else the JSON shall tell.
    """
    holds = all(figure.holds for figure in figures if figure.holds is not None)
    _print_table(name, figures)
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.json").write_text(
        json.dumps(
            {
                "name": name,
                "commit": commit(),
                "machine": machine(),
                "figures": {figure.name: {"value": _rounded(figure.value), "unit": figure.unit} for figure in figures},
                "baseline": {f.name: _rounded(f.baseline) for f in figures if f.baseline is not None},
                "ratio": {f.name: _rounded(f.ratio) for f in figures if f.ratio is not None},
                "goal": {figure.name: figure.goal for figure in figures if figure.goal},
                "met": {figure.name: figure.holds for figure in figures if figure.holds is not None},
                "holds": holds,
                **(details or {}),
            },
            indent=2,
            ensure_ascii=False,
        )
        + "\n"
    )
    print(f"\n{'all goals hold' if holds else 'A GOAL IS MISSED'}; written to bench/results/{name}.json")
    return holds


def _print_table(name: str, figures: Sequence[Figure]) -> None:
    rows = [("figure", "value", "baseline", "ratio", "goal", "")]
    rows += [
        (
            figure.name,
            f"{figure.value:.4g} {figure.unit}".strip(),
            "" if figure.baseline is None else f"{figure.baseline:.4g}",
            "" if figure.ratio is None else f"{figure.ratio:.2f}",
            figure.goal,
            "" if figure.holds is None else ("holds" if figure.holds else "MISSED"),
        )
        for figure in figures
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    print(f"\nbench {name}")
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def commit() -> str:
    """Commit that was measured, with a mark when the tree differs from it."""
    done = subprocess.run(
        ["git", "describe", "--always", "--dirty", "--abbrev=12"], capture_output=True, text=True, check=False
    )
    return done.stdout.strip() or "unknown"


def machine() -> dict[str, Any]:
    """Describe the machine, and how busy it is."""
    model = next(
        (
            line.split(":", 1)[1].strip()
            for line in _lines(Path("/proc/cpuinfo"))
            if line.startswith(("model name", "Model"))
        ),
        platform.processor(),
    )
    memory = next((int(line.split()[1]) for line in _lines(Path("/proc/meminfo")) if line.startswith("MemTotal")), 0)
    return {
        "cpu": model,
        "cores": os.cpu_count(),
        "memoryGiB": round(memory / 2**20, 1),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "load": round(os.getloadavg()[0], 2),
    }


def _lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


def _rounded(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.5g}")
