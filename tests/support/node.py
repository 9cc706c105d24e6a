"""What really runs on the node: the processes themselves, not what the API server says of them."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Final

from devcluster.paths import Paths

_TASK: Final = b"\0PDFJOB_TASK="


def runner_processes(namespace: str, job: str) -> list[int]:
    """Return the ids of the processes in runner containers of a PdfJob, on the one node of the local cluster.

    They are known by the task in their environment, which children inherit; it cannot be read of a process that has
    ended.
    """
    if os.environ.get("CLUSTER") == "current" or not Paths.from_environment().containerd_socket.exists():
        raise AssertionError("the processes of the node are looked at on the local cluster only (make cluster)")
    marks = (f'"namespace":"{namespace}"'.encode(), f'"job":"{job}"'.encode())
    found = []
    for folder in Path("/proc").iterdir():
        if not folder.name.isdecimal():
            continue
        try:
            environment = b"\0" + (folder / "environ").read_bytes()
        except OSError:
            continue  # it has ended, or is the kernel's
        task = environment.partition(_TASK)[2].partition(b"\0")[0]
        if all(mark in task for mark in marks):
            found.append(int(folder.name))
    return found


def seconds_until_no_runner(namespace: str, job: str, since: float, timeout: float = 60) -> float:
    """Wait until no runner process of a PdfJob is left; return the seconds since ``since`` (`time.monotonic`)."""
    while left := runner_processes(namespace, job):
        if time.monotonic() - since > timeout:
            raise AssertionError(f"after {timeout} s processes of {job} still run on the node: {left}")
        time.sleep(0.05)
    return time.monotonic() - since
