"""An operator of a test's own: a process that watches one namespace, and is started again whenever it ends.

It runs from this work tree as its container would, with the proxies between it and the servers.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Self

import yaml

_PR_SET_PDEATHSIG: Final = 1
_RESTART_SECONDS: Final = 0.2
_LIBC: Final = ctypes.CDLL(None)


def _die_with_parent() -> None:
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


@dataclass
class OperatorProcess:
    """An operator and whoever starts it again, as the kubelet does."""

    folder: Path
    """For its configuration, its work and its log."""
    config: Mapping[str, Any]
    api_port: int
    credentials: Mapping[str, str]
    """Environment with the S3 keys."""
    held_down: bool = False
    """Whether it waits to be let up before its first start."""
    exits: list[int] = field(default_factory=list)
    """Exit codes of the processes so far; -9 for one that was killed."""

    def __enter__(self) -> Self:
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "config.yaml").write_text(yaml.safe_dump(dict(self.config)))
        (self.folder / "kubeconfig").write_text(yaml.safe_dump(_kubeconfig(self.api_port)))
        self.log = self.folder / "operator.log"
        self.log.touch()
        self._wanted = threading.Event()
        if not self.held_down:
            self._wanted.set()
        self._stopped = threading.Event()
        self._process: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()
        # The processes die with the thread that started them, so one thread starts them all and stays.
        self._keeper = threading.Thread(target=self._keep, name="operator keeper", daemon=True)
        self._keeper.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._wanted.set()
        self._signal(signal.SIGKILL)
        self._keeper.join(20)

    @property
    def starts(self) -> int:
        """How many processes have ended; the present one is not among them."""
        return len(self.exits)

    def kill(self) -> None:
        """Kill it and its document processes without warning, as the end of its container would."""
        self._signal(signal.SIGKILL)

    def end(self) -> None:
        """Ask it to end."""
        self._signal(signal.SIGTERM, group=False)

    def hold_down(self) -> None:
        """Kill it and do not start it again until `let_up`."""
        self._wanted.clear()
        self.kill()

    def let_up(self) -> None:
        """Start it again."""
        self._wanted.set()

    def entries(self) -> list[dict[str, Any]]:
        """Return its log, of all its processes."""
        lines = self.log.read_text().splitlines(keepends=True)
        return [json.loads(line) for line in lines if line.startswith("{") and line.endswith("}\n")]

    def tail(self, lines: int = 40) -> str:
        """Return the end of its log."""
        return "\n".join(self.log.read_text().splitlines()[-lines:])

    def _signal(self, number: int, *, group: bool = True) -> None:
        with self._lock:
            process = self._process
            if process is None or process.poll() is not None:
                return
            (os.killpg if group else os.kill)(process.pid, number)

    def _keep(self) -> None:
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.folder),
            "PDFJOB_CONFIG": str(self.folder / "config.yaml"),
            "KUBECONFIG": str(self.folder / "kubeconfig"),
            **{name: os.environ[name] for name in ("PYTHONPATH",) if name in os.environ},
            **self.credentials,
        }
        with self.log.open("ab") as log:
            while not self._stopped.is_set():
                self._wanted.wait()
                with self._lock:
                    if self._stopped.is_set():
                        return
                    self._process = subprocess.Popen(
                        [sys.executable, "-m", "pdfjob_operator"],
                        cwd=self.folder,
                        env=environment,
                        stdin=subprocess.DEVNULL,
                        stdout=log,
                        stderr=log,
                        process_group=0,
                        preexec_fn=_die_with_parent,  # noqa: PLW1509 - one system call, no lock is taken
                    )
                self.exits.append(self._process.wait())
                time.sleep(_RESTART_SECONDS)


def _kubeconfig(port: int) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "faults",
        "clusters": [{"name": "faults", "cluster": {"server": f"http://127.0.0.1:{port}"}}],
        "users": [{"name": "faults", "user": {}}],
        "contexts": [{"name": "faults", "context": {"cluster": "faults", "user": "faults"}}],
    }
