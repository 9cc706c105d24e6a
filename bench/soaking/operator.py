"""The operator under the soak: a process of this work tree that is killed again and again, and watched all the time."""

from __future__ import annotations

import re
import socket
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Self

import urllib3
import yaml
from prometheus_client.parser import text_string_to_metric_families
from typing_extensions import override

from tests.support.fault_cluster import Access
from tests.support.fault_operator import OperatorProcess
from tests.support.product import SYSTEM, Storage

_LOOK_SECONDS: Final = 1.0
Samples = Mapping[tuple[str, tuple[tuple[str, str], ...]], float]
"""Values of /metrics by name and sorted labels."""


@dataclass
class SoakOperator(OperatorProcess):
    """An operator with the rights of the installed one, straight at the API server."""

    access: Access = field(kw_only=True)
    token: str = field(kw_only=True)

    @override
    def __enter__(self) -> Self:
        self.held_down = True
        super().__enter__()
        authority = self.folder / "ca.crt"
        authority.write_text(self.access.authority)
        cluster = {"server": self.access.url, "certificate-authority": str(authority)}
        content = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "soak",
            "clusters": [{"name": "soak", "cluster": cluster}],
            "users": [{"name": "soak", "user": {"token": self.token}}],
            "contexts": [{"name": "soak", "context": {"cluster": "soak", "user": "soak"}}],
        }
        (self.folder / "kubeconfig").write_text(yaml.safe_dump(content))
        self.let_up()
        return self


def start_operator(
    folder: Path, installed: Mapping[str, Any], access: Access, token: str, storage: Storage, namespaces: list[str]
) -> tuple[SoakOperator, int]:
    """Describe an operator for these namespaces; returns it, not yet entered, and the port of its /metrics.

    It has the installation's settings but for where it reaches the storage; the Lease is the installed operator's own.
    As in a pod, a process that is killed comes back with the same identity, as the kubelet restarts a container.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    endpoint = storage.client.meta.endpoint_url
    config = {
        **installed,
        "s3": {**installed["s3"], "endpoint": endpoint, "podEndpoint": endpoint, "createBucket": False},
        "namespaces": namespaces,
        "leaderElection": {**installed["leaderElection"], "enabled": True, "namespace": SYSTEM},
        "maxConcurrentChunks": 0,
        "workDir": str(folder / "work"),
        "httpPort": port,
    }
    environment = {
        "AWS_ACCESS_KEY_ID": storage.access_key,
        "AWS_SECRET_ACCESS_KEY": storage.secret_key,
        "POD_NAME": "soak-operator",
        "POD_UID": namespaces[0],
    }
    return SoakOperator(folder / "operator", config, 0, environment, access=access, token=token), port


@dataclass(frozen=True, slots=True)
class Look:
    """One look at the operator."""

    moment: float
    """Seconds since the epoch."""
    born: float
    """When the process started; it tells one life from the next."""
    resident: float
    """Bytes."""
    live: int
    """PdfJobs that had not finished, by the soak's own count."""
    kept: int
    """PdfJobs that had finished and were still there."""

    @property
    def age(self) -> float:
        """Seconds since the process started."""
        return self.moment - self.born


@dataclass
class Watcher:
    """Looks at /metrics of the operator every second, and kills it when its time has come."""

    operator: SoakOperator
    port: int
    kill_seconds: float
    population: Callable[[], tuple[int, int]]
    """Returns how many PdfJobs are live, and how many are kept."""
    looks: list[Look] = field(default_factory=list)
    kills: list[float] = field(default_factory=list)
    """Moments, in seconds since the epoch."""
    killing: bool = True

    def __enter__(self) -> Self:
        self._stop = threading.Event()
        self._pool = urllib3.PoolManager(retries=False, timeout=5.0)
        self._thread = threading.Thread(target=self._run, name="operator watcher", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(15)

    def samples(self) -> Samples:
        """Read /metrics.

        Raises
        ------
        urllib3.exceptions.HTTPError
            While the operator does not answer.
        """
        text = self._pool.request("GET", f"http://127.0.0.1:{self.port}/metrics").data.decode()
        return {
            (sample.name, tuple(sorted(sample.labels.items()))): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }

    def kill(self) -> None:
        """Kill the operator now."""
        self.kills.append(time.time())
        self.operator.kill()

    def _run(self) -> None:
        due = time.monotonic() + self.kill_seconds
        while not self._stop.wait(_LOOK_SECONDS):
            if time.monotonic() >= due:
                due += self.kill_seconds
                if self.killing:
                    self.kill()
            self._look()

    def _look(self) -> None:
        try:
            text = self._pool.request("GET", f"http://127.0.0.1:{self.port}/metrics").data.decode()
        except urllib3.exceptions.HTTPError:
            return
        if _value(text, "pdfjob_is_leader") != 1:
            return
        born, resident = _value(text, "process_start_time_seconds"), _value(text, "process_resident_memory_bytes")
        live, kept = self.population()
        self.looks.append(Look(time.time(), born, resident, live, kept))


def _value(text: str, name: str) -> float:
    found = re.search(rf"^{name} (\S+)$", text, re.MULTILINE)
    return float(found.group(1)) if found else float("nan")
