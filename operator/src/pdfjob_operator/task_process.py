"""The child's side of document work: limits before anything else, then JSON lines in and out.

A task process is started by `documents.Documents` as ``python -m pdfjob_operator.splitting`` (or ``.merging``). Its
first line of standard input is the request; whatever libraries print to standard output goes to standard error, so
that they cannot disturb the answers.
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import resource
import signal
import sys
from collections.abc import Callable
from typing import Any, Final, TextIO

from pdfjob_api.conditions import Reason

_PR_SET_PDEATHSIG: Final = 1
"""Of prctl(2) on Linux."""


class TaskError(Exception):
    """A task cannot be done. Sent to the operator as it is; `reason` and text are for the user."""

    def __init__(self, reason: Reason, message: str, *, retryable: bool = False) -> None:
        super().__init__(message)
        self.reason = reason
        self.retryable = retryable


class Channel:
    """JSON lines from and to the operator."""

    def __init__(self, requests: TextIO, answers: TextIO) -> None:
        self._requests = requests
        self._answers = answers

    def receive(self) -> dict[str, Any]:
        """Wait for the next line.

        Raises
        ------
        SystemExit
            When the operator is gone.
        """
        line = self._requests.readline()
        if not line:
            sys.exit(1)
        message: dict[str, Any] = json.loads(line)
        return message

    def send(self, event: str, **fields: Any) -> None:
        """Send one line."""
        self._answers.write(json.dumps({"event": event, **fields}) + "\n")
        self._answers.flush()


def limit(kind: int, value: int) -> None:
    """Lower a resource limit; the hard limit stays a little above, so that the signal of the soft one is seen."""
    _, hard = resource.getrlimit(kind)
    above = value + 5
    if hard != resource.RLIM_INFINITY:
        value, above = min(value, hard), min(above, hard)
    resource.setrlimit(kind, (value, above))


def run(work: Callable[[Channel, dict[str, Any]], None]) -> None:
    """Take the request, set the limits it names, and do the work; every failure is answered as an ``error`` event.

    Parameters
    ----------
    work
        Gets the channel and the request.
    """
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    if sys.platform == "linux":
        # Killed together with the operator, also when that is killed without warning.
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    channel = Channel(sys.stdin, answers)
    request = channel.receive()
    limits = request["limits"]
    limit(resource.RLIMIT_CORE, 0)
    limit(resource.RLIMIT_AS, limits["memory"])
    limit(resource.RLIMIT_CPU, limits["cpu"])
    limit(resource.RLIMIT_FSIZE, limits["file"])
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # writing more is EFBIG then, which can be told
    try:
        work(channel, request)
    except TaskError as error:
        _fail(channel, error.reason, str(error), retryable=error.retryable)
    except MemoryError:
        _fail(
            channel,
            Reason.SPLIT_ERROR,
            f"the work needs more than {limits['memory'] // 1024**2} MiB of memory; raise documents.memoryBytes of the "
            "installation",
        )
    except OSError as error:
        full = error.errno in {errno.ENOSPC, errno.EDQUOT}
        advice = "; the operator's disk is full, give its work folder more space" if full else ""
        _fail(channel, Reason.SPLIT_ERROR, f"{error.strerror or error}{advice}", retryable=full)


def _fail(channel: Channel, reason: Reason, message: str, *, retryable: bool = False) -> None:
    channel.send("error", reason=reason.value, message=message, retryable=retryable)
    sys.exit(2)
