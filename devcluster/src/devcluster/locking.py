"""One command at a time: several terminals may drive the same cluster."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager

from .paths import Paths
from .progress import note


@contextmanager
def exclusive(paths: Paths, name: str, waiting: str) -> Iterator[None]:
    """Let one command at a time in; another waits and says so.

    Parameters
    ----------
    paths
        Where the lock file is.
    name
        The lock's name.
    waiting
        What to print when somebody else holds it.
    """
    paths.cache.mkdir(parents=True, exist_ok=True)
    with (paths.cache / f"{name}.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            note(waiting)
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield
