"""What killed test runs have left on the cluster: the next run on this machine deletes it, and no other's.

Each run holds the lock of a file for as long as its process lives. A namespace names its run by a label, as does a
policy of the whole cluster; where that file is there and nobody holds its lock, the run was killed.
"""

from __future__ import annotations

import fcntl
import uuid
from functools import cache
from pathlib import Path
from typing import IO, Final

from devcluster.paths import Paths

RUN_LABEL: Final = "tests.pdfjob.dev/run"


@cache
def this_run() -> str:
    """Return the name of this test process's run; its lock is held from the first call on."""
    return _hold()[0]


@cache
def _hold() -> tuple[str, IO[str]]:
    name = uuid.uuid4().hex[:12]
    new = _folder().with_name(f"test-run-{name}")
    file = new.open("w")
    fcntl.flock(file, fcntl.LOCK_EX)
    new.rename(_folder() / name)  # only now: a file there that nobody holds is that of a dead run
    return name, file


def dead_runs() -> list[str]:
    """Return the runs whose process has ended, whether or not they have cleaned up."""
    return [path.name for path in sorted(_folder().iterdir()) if _is_free(path)]


def forget(run: str) -> None:
    """Remove the file of a run of which nothing is left."""
    (_folder() / run).unlink(missing_ok=True)


def _is_free(path: Path) -> bool:
    with path.open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True


def _folder() -> Path:
    folder = Paths.from_environment().cache / "test-runs"
    folder.mkdir(parents=True, exist_ok=True)
    return folder
