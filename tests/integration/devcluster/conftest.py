"""devcluster's own tests: only on the local cluster, which they leave running."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from devcluster.cluster import PARTS
from devcluster.paths import Paths
from devcluster.processes import ProcessTable
from tests.support.cluster import namespace

__all__ = ["namespace"]

REPOSITORY = Path(__file__).parents[3]
# CLUSTER=current is a cluster that devcluster neither starts nor knows: these tests do not belong to it.
collect_ignore_glob = ["test_*.py"] if os.environ.get("CLUSTER") == "current" else []


def devcluster(
    *arguments: str, environment: dict[str, str] | None = None, folder: Path = REPOSITORY
) -> subprocess.CompletedProcess[str]:
    """Run the command line as a user does."""
    return subprocess.run(
        [sys.executable, "-m", "devcluster", *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
        env={**os.environ, **(environment or {})},
    )


@pytest.fixture
def paths() -> Paths:
    """Where the running cluster is."""
    return Paths.from_environment()


@pytest.fixture
def table(paths: Paths) -> ProcessTable:
    """The processes of the running cluster; every part runs."""
    found = ProcessTable(paths)
    assert [name for name in PARTS if not found.is_running(name)] == []
    return found
