"""The operator's side of one task process: start, talk, limit, end. Nothing here knows about PDFs."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final

from pdfjob_api.conditions import Reason

from .settings import DocumentSettings
from .task_process import TaskError

_LINE: Final = 16 * 1024**2
"""Bytes of one answer at most: the list of lost pages of a very long document."""
_TAIL: Final = 2048
"""Bytes of standard error that are kept for the message of a crash."""
_PASSED: Final = ("HOME", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "PATH", "PYTHONPATH", "TMPDIR", "TZ", "VIRTUAL_ENV")
"""Environment of a task process: no credentials among it, since it reads hostile files."""


class TaskRun:
    """A task process under way."""

    def __init__(self, process: asyncio.subprocess.Process, limits: DocumentSettings) -> None:
        self._process = process
        self._limits = limits
        self._out_of_time = False
        self._tail = b""
        self._deadline = asyncio.get_running_loop().call_later(limits.wall_seconds, self._time_is_up)
        self._stderr = asyncio.create_task(self._keep_tail())

    async def send(self, message: Mapping[str, Any]) -> None:
        """Send one line; a process that is gone is noticed by the next `receive`."""
        stdin = self._process.stdin
        assert stdin is not None
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            stdin.write(json.dumps(message).encode() + b"\n")
            await stdin.drain()

    async def receive(self) -> dict[str, Any]:
        """Wait for the next event.

        Raises
        ------
        TaskError
            The task failed, or its process died.
        """
        stdout = self._process.stdout
        assert stdout is not None
        line = await stdout.readline()
        if not line.endswith(b"\n"):
            raise self._death(await self._process.wait())
        event: dict[str, Any] = json.loads(line)
        if event["event"] == "error":
            raise TaskError(Reason(event["reason"]), event["message"], retryable=event["retryable"])
        return event

    async def end(self) -> None:
        """Kill whatever of the process group still runs."""
        self._deadline.cancel()
        self._kill()
        await self._process.wait()
        await self._stderr

    def _time_is_up(self) -> None:
        self._out_of_time = True
        self._kill()

    def _kill(self) -> None:
        if self._process.returncode is not None:
            return  # its number may belong to another by now
        # The process leads its own group, so nothing it started survives it.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)

    async def _keep_tail(self) -> None:
        stderr = self._process.stderr
        assert stderr is not None
        while data := await stderr.read(65536):
            self._tail = (self._tail + data)[-_TAIL:]

    def _death(self, code: int) -> TaskError:
        limits = self._limits
        if self._out_of_time:
            return TaskError(
                Reason.SPLIT_ERROR,
                f"the work took longer than {limits.wall_seconds} s; raise documents.wallSeconds of the installation",
                retryable=True,  # it includes waiting for uploads; a hostile document meets the limit on CPU time first
            )
        if code == -signal.SIGXCPU:
            return TaskError(
                Reason.SPLIT_ERROR,
                f"the work took more than {limits.cpu_seconds} s of CPU time; raise documents.cpuSeconds of the "
                "installation, or check whether the document is a sane one",
            )
        if code in {-signal.SIGKILL, -signal.SIGTERM}:
            return TaskError(
                Reason.SPLIT_ERROR, "the process that reads the document was killed from outside", retryable=True
            )
        how = f"with {signal.Signals(-code).name}" if code < 0 else f"with exit code {code}"
        lines = self._tail.decode(errors="replace").strip().splitlines()
        last = f": {lines[-1][:300]}" if lines else ""
        return TaskError(Reason.SPLIT_ERROR, f"the process that reads the document ended {how}{last}")


@asynccontextmanager
async def task_run(
    module: str, request: Mapping[str, Any], *, limits: DocumentSettings, file_bytes: int
) -> AsyncIterator[TaskRun]:
    """Start ``python -m pdfjob_operator.<module>`` in a process group of its own; it is gone when the block is left.

    Parameters
    ----------
    file_bytes
        Size in bytes that no file it writes may exceed.

    Raises
    ------
    TaskError
        When no process can be started; retryable.
    """
    try:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            f"{__package__}.{module}",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env={name: os.environ[name] for name in _PASSED if name in os.environ},
            start_new_session=True,
            limit=_LINE,
        )
    except OSError as error:
        raise TaskError(Reason.SPLIT_ERROR, f"no process can be started: {error}", retryable=True) from error
    task = TaskRun(process, limits)
    try:
        rules = {"memory": limits.memory_bytes, "cpu": limits.cpu_seconds, "file": file_bytes}
        await task.send({**request, "limits": rules})
        yield task
    finally:
        await task.end()
