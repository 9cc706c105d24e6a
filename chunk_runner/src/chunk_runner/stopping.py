"""Why and when a start ends early: SIGTERM, the soft timeout, an expired URL."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable
from typing import Final

from pdfjob_api.errors import ExitCode

from .failures import RunnerError

_MESSAGES: Final = {
    ExitCode.INTERRUPTED: "interrupted by SIGTERM; finished pages are saved",
    ExitCode.SOFT_TIMEOUT: "Processing timeout exceeded: limits.chunkSoftTimeoutSeconds; finished pages are saved",
    ExitCode.URL_EXPIRED: "a presigned URL expired; the chunk starts again with fresh ones",
}
_RESERVE_SECONDS: Final = 5
"""Of the grace period, for saving when the item in hand did not finish."""


class Stop:
    """Asked for by any thread, heeded by the main thread between two items. The first reason stands."""

    def __init__(self) -> None:
        self._event = threading.Event()
        self._reason: ExitCode | None = None

    @property
    def reason(self) -> ExitCode | None:
        """Exit code to end with; none while nobody asked."""
        return self._reason

    def request(self, reason: ExitCode) -> None:
        """Ask the main thread to end after the item in hand."""
        if self._reason is None:
            self._reason = reason
        self._event.set()

    def wait(self, seconds: float) -> None:
        """Rest, but not longer than until somebody asks to stop."""
        if seconds > 0:
            self._event.wait(seconds)

    def check(self) -> None:
        """Raise when somebody asked to stop.

        Raises
        ------
        RunnerError
            With the exit code that was asked for.
        """
        if self._reason is not None:
            raise self.error()

    def error(self) -> RunnerError:
        """Return the error that tells of the stop."""
        reason = self._reason or ExitCode.INTERRUPTED
        return RunnerError(reason, _MESSAGES[reason])


class Watch:
    """Waits for SIGTERM and for the soft timeout, also while the main thread is deep in a library.

    When the item in hand does not finish within the grace period, ``overdue`` is called from here: it saves and ends
    the process. SIGTERM must be blocked in every thread.

    Parameters
    ----------
    stop
        Where the request goes.
    soft_timeout, grace
        Seconds.
    overdue
        Does not return.
    """

    def __init__(self, stop: Stop, *, soft_timeout: float, grace: float, overdue: Callable[[], None]) -> None:
        self._stop = stop
        self._soft_timeout = soft_timeout
        self._patience = max(1.0, grace - _RESERVE_SECONDS)
        self._overdue = overdue

    def start(self) -> None:
        """Watch from now on, in a thread that ends with the process."""
        threading.Thread(target=self._watch, name="watch", daemon=True).start()

    def _watch(self) -> None:
        signals = {signal.SIGTERM, signal.SIGINT}
        caught = signal.sigtimedwait(signals, self._soft_timeout)
        self._stop.request(ExitCode.INTERRUPTED if caught else ExitCode.SOFT_TIMEOUT)
        deadline = time.monotonic() + self._patience
        if caught is None and signal.sigtimedwait(signals, self._patience):
            deadline = time.monotonic() + self._patience
        time.sleep(max(0.0, deadline - time.monotonic()))
        self._overdue()
