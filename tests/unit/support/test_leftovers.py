"""What a killed test run leaves behind is told apart from what a living one uses."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.support.leftovers import dead_runs, forget, this_run

REPOSITORY = Path(__file__).parents[3]
OTHER = "from tests.support.leftovers import this_run; print(this_run(), flush=True); input()"


def test_a_run_counts_as_dead_when_its_process_is_gone_and_not_before() -> None:
    command = [sys.executable, "-c", OTHER]
    with subprocess.Popen(command, cwd=REPOSITORY, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        run = other.stdout.readline().strip()
        assert len(run) == 12
        assert {run, this_run()}.isdisjoint(dead_runs())
        other.kill()
        other.wait(10)
        assert run in dead_runs()
    forget(run)
    assert run not in dead_runs()
