"""The table of the fault suite: what was done, at what stage, how it came out and how long it took."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Final

from bench.report import RESULTS, commit, machine

FAULT: Final = "fault"
STAGE: Final = "stage"


@dataclass(frozen=True, slots=True)
class Row:
    """One fault."""

    fault: str
    stage: str
    outcome: str
    """``held``, ``broke`` or ``not run``."""
    seconds: float


def write_table(rows: Sequence[Row], seconds: float) -> None:
    """Print the table and write ``bench/results/faults.json``, the shape of every benchmark's file with ``rows``."""
    ordered = sorted(rows, key=lambda row: (row.stage, row.fault))
    held = sum(row.outcome == "held" for row in rows)
    print(f"\n{'fault':72} {'stage':10} {'outcome':8} seconds")
    for row in ordered:
        print(f"{row.fault[:72]:72} {row.stage:10} {row.outcome:8} {row.seconds:7.1f}")
    print(f"{held} of {len(rows)} faults held, {seconds:.0f} s")
    RESULTS.mkdir(exist_ok=True)
    content = {
        "name": "faults",
        "commit": commit(),
        "machine": machine(),
        "figures": {
            "faults": {"value": len(rows), "unit": ""},
            "held": {"value": held, "unit": ""},
            "wall": {"value": round(seconds, 1), "unit": "s"},
        },
        "goal": {"held": "every fault", "wall": "under 1200 s"},
        "holds": held == len(rows) > 0 and seconds < 1200,
        "rows": [asdict(row) for row in ordered],
    }
    (RESULTS / "faults.json").write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n")
