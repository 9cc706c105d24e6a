"""Saves what is finished and tells that the runner lives, beside the work."""

from __future__ import annotations

import threading
import time
from typing import Final

from pdfjob_api.errors import ExitCode

from .failures import RunnerError
from .ledger import Ledger
from .logs import Log
from .stopping import Stop
from .storage import Storage

SAVE_SECONDS: Final = 4.0
"""So that with the time of the request nothing finished stays unsaved for 5 seconds."""
PROGRESS_SECONDS: Final = 10.0
_FINAL_ATTEMPTS: Final = 3


class Keeper:
    """Writes checkpoints and progress from a thread of its own: an item may take long. It never touches the PDF."""

    def __init__(self, ledger: Ledger, storage: Storage, stop: Stop, log: Log) -> None:
        self._ledger = ledger
        self._storage = storage
        self._stop = stop
        self._log = log
        self._wake = threading.Event()
        self._ended = threading.Event()
        self._saving = threading.Lock()
        self._saved = 0
        self._last_save = time.monotonic()

    @property
    def saved(self) -> int:
        """Pages in the newest stored checkpoint, of this start or an earlier one."""
        return self._saved

    def resumed(self, pages: int) -> None:
        """Take note of what an earlier start saved."""
        self._saved = pages

    def start(self) -> None:
        """Write progress and checkpoints from now on, until `finish`."""
        threading.Thread(target=self._keep, name="keeper", daemon=True).start()

    def _keep(self) -> None:
        next_progress = time.monotonic()
        while not self._ended.is_set():
            if time.monotonic() >= next_progress:
                next_progress = time.monotonic() + PROGRESS_SECONDS
                self._put_progress()
            due = self._last_save + SAVE_SECONDS
            if self._wake.is_set() or (self._ledger.done > self._saved and time.monotonic() >= due):
                self._wake.clear()
                self._save_or_warn(attempts=1)
            pause = next_progress - time.monotonic()
            if self._ledger.done > self._saved:
                pause = min(pause, self._last_save + SAVE_SECONDS - time.monotonic())
            self._wake.wait(min(1.0, max(0.01, pause)))

    def save_soon(self) -> None:
        """Save without waiting for the interval: the item cost money."""
        self._wake.set()

    def finish(self, *, save: bool) -> None:
        """End the thread's work, save what is not saved yet, and write the last progress."""
        self._ended.set()
        self._wake.set()
        if save and self._ledger.done > self._saved:
            self._save_or_warn(attempts=_FINAL_ATTEMPTS)
        self._put_progress()

    def _save_or_warn(self, *, attempts: int) -> None:
        try:
            self._save(attempts)
        except RunnerError as error:
            self._log.warning("checkpoint not saved", reason=str(error))
            if error.exit_code is ExitCode.URL_EXPIRED:
                self._stop.request(ExitCode.URL_EXPIRED)
        finally:
            self._last_save = time.monotonic()

    def _save(self, attempts: int) -> None:
        with self._saving:
            checkpoint, pages = self._ledger.checkpoint()
            if pages <= self._saved:
                return
            body = checkpoint.model_dump_json(by_alias=True, exclude_none=True).encode()
            self._storage.put_checkpoint(body, attempts=attempts)
            self._saved = pages
            self._log.info("checkpoint saved", items_done=pages, bytes=len(body))

    def _put_progress(self) -> None:
        body = self._ledger.progress().model_dump_json(by_alias=True).encode()
        try:
            self._storage.put_progress(body)
        except RunnerError as error:
            self._log.warning("progress not written", reason=str(error))
