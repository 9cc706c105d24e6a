"""A part that is killed is named, and `up` brings it back without touching the others."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from devcluster.cluster import PARTS
from devcluster.paths import Paths
from devcluster.processes import ProcessTable, start_ticks
from tests.integration.devcluster.conftest import devcluster


def wait_until_gone(pid: int, ticks: int) -> None:
    deadline = time.monotonic() + 10
    while start_ticks(pid) == ticks:
        assert time.monotonic() < deadline, f"process {pid} is still there"
        time.sleep(0.05)


@pytest.mark.alone
def test_killed_part_is_named_by_status_and_brought_back_by_up(table: ProcessTable) -> None:
    before = {name: record for name in PARTS if (record := table.record(name)) is not None}
    victim = before["kube-scheduler"]
    os.kill(victim.pid, signal.SIGKILL)
    wait_until_gone(victim.pid, victim.start_ticks)

    seen = devcluster("status")
    assert seen.returncode == 1
    states = {line.split()[0]: line.split()[1] for line in seen.stdout.splitlines() if line.split()[0] in PARTS}
    assert states == {name: "dead" if name == "kube-scheduler" else "running" for name in PARTS}
    assert victim.log in seen.stdout

    brought_back = devcluster("up")
    assert brought_back.returncode == 0, brought_back.stderr
    assert "kube-scheduler had died" in brought_back.stderr
    assert devcluster("status").returncode == 0
    after = {name: table.record(name) for name in PARTS}
    assert {name for name in PARTS if after[name] != before[name]} == {"kube-scheduler"}


@pytest.mark.usefixtures("table")
def test_up_on_a_running_cluster_starts_nothing_and_is_quick() -> None:
    start = time.monotonic()
    done = devcluster("up")
    assert done.returncode == 0, done.stderr
    assert "runs already" in done.stderr
    assert time.monotonic() - start < 30


@pytest.mark.usefixtures("table")
def test_current_cluster_is_named_and_nothing_is_started_for_it(paths: Paths) -> None:
    environment = {"KUBECONFIG": str(paths.kubeconfig)}
    done = devcluster("up", "--cluster", "current", environment=environment)
    assert done.returncode == 0, done.stderr
    assert "pdfjob-local" in done.stderr
    assert "nothing is started" in done.stderr


def test_current_cluster_without_a_context_is_one_clear_message(tmp_path: Path) -> None:
    done = devcluster("up", environment={"CLUSTER": "current", "KUBECONFIG": str(tmp_path / "none")})
    assert done.returncode == 1
    assert "no current context" in done.stderr
    assert "Traceback" not in done.stderr
