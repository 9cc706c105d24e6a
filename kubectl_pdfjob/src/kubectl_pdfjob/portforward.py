"""A tunnel to a Service inside the cluster: ``kubectl port-forward`` as a child process that always ends."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Final

from .errors import StorageError

__all__ = ["forwarded"]

_READY: Final = re.compile(r"Forwarding from 127\.0\.0\.1:(\d+) ->")
_START_SECONDS: Final = 30.0
_END_SECONDS: Final = 3.0


@contextmanager
def forwarded(command: Sequence[str]) -> Iterator[int]:
    """Run ``kubectl port-forward`` and yield the local port; it ends with the block, whatever happens.

    Parameters
    ----------
    command
        The whole command line; it must listen on 127.0.0.1 at any free port.

    Raises
    ------
    StorageError
        When kubectl is missing, refuses (its last line is the message), or is not ready within 30 seconds.
    """
    if shutil.which(command[0]) is None:
        raise StorageError("kubectl is not on PATH; it makes the tunnel to the embedded S3 server")
    # A session of its own: Ctrl-C reaches only us, so the tunnel lives until the block is left in order, and at the
    # end a kubectl that is a wrapper goes together with what it runs.
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )
    complaints: list[str] = []
    readers = [threading.Thread(target=_collect, args=(process, complaints), daemon=True)]
    readers[0].start()
    timer = threading.Timer(_START_SECONDS, _signal, args=(process, signal.SIGKILL))
    timer.daemon = True
    timer.start()
    try:
        port = _port(process)
        timer.cancel()
        if port is None:
            readers[0].join(timeout=_END_SECONDS)
            why = complaints[-1] if complaints else f"no answer within {_START_SECONDS:.0f} s"
            raise StorageError(f"cannot reach the embedded S3 server: {why.removeprefix('error: ')}")
        # kubectl writes a line for each connection; unread they would fill the pipe and stop it.
        readers.append(threading.Thread(target=_drain, args=(process,), daemon=True))
        readers[-1].start()
        yield port
    finally:
        timer.cancel()
        _end(process)
        for reader in readers:
            reader.join(timeout=_END_SECONDS)


def _port(process: subprocess.Popen[str]) -> int | None:
    assert process.stdout is not None
    for line in process.stdout:
        if match := _READY.match(line):
            return int(match[1])
    return None


def _drain(process: subprocess.Popen[str]) -> None:
    assert process.stdout is not None
    for _ in process.stdout:
        pass


def _collect(process: subprocess.Popen[str], complaints: list[str]) -> None:
    assert process.stderr is not None
    complaints.extend(line.strip() for line in process.stderr if line.strip())


def _end(process: subprocess.Popen[str]) -> None:
    _signal(process, signal.SIGTERM)
    try:
        process.wait(timeout=_END_SECONDS)
    except subprocess.TimeoutExpired:
        _signal(process, signal.SIGKILL)
        process.wait()


def _signal(process: subprocess.Popen[str], number: signal.Signals) -> None:
    """Send a signal to the process and to what it started."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, number)
