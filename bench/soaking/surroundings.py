"""What a soak needs around it: the installed operator at rest, a simulated node, and the storage clean afterwards."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.soaking.node import LABEL
from tests.support.cluster import REPOSITORY, kubeconfig, kubectl
from tests.support.product import Storage, wait_until


@contextmanager
def simulated_node(name: str, seed: int, lives: Path) -> Iterator[None]:
    """Run the simulated node in a process of its own."""
    command = [sys.executable, "-m", "bench.soaking.node", "--kubeconfig", kubeconfig(), "--name", name]
    command += ["--seed", str(seed), "--lives", str(lives)]
    process = subprocess.Popen(command, cwd=REPOSITORY)
    try:
        wait_until(lambda: process.poll() is not None or _ready(name), "the simulated node is ready", 60)
        if process.poll() is not None:
            raise AssertionError("the simulated node did not start")
        yield
    finally:
        process.terminate()
        process.wait(30)


def _ready(name: str) -> bool:
    done = kubectl("get", "node", name, "-o", "json", check=False)
    if done.returncode != 0:
        return False
    node = json.loads(done.stdout)
    taints = {taint["key"] for taint in node["spec"].get("taints", [])}
    return taints == {LABEL}


def remove_objects(storage: Storage, namespaces: list[str]) -> None:
    """Remove everything of these namespaces from the storage."""
    for namespace in namespaces:
        for folder in ("inbox", "jobs", "history"):
            for key in storage.keys(f"pdfjob/{folder}/{namespace}/"):
                storage.client.delete_object(Bucket=storage.bucket, Key=key)
