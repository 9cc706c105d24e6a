"""Saves what is finished and tells that the runner lives, beside the work."""

from __future__ import annotations

import threading
import time
from typing import Final

from pdfjob_api.errors import ExitCode

from .failures import RunnerError
from .ledger import Ledger
from .logs import Log
from .service import ServiceUse
from .stopping import Stop
from .storage import Storage

SAVE_SECONDS: Final = 4.0
"""So that with the time of the request nothing finished stays unsaved for 5 seconds."""
PROGRESS_SECONDS: Final = 10.0
UNSAVED_SECONDS: Final = 60.0
"""How long paid work goes on while the storage takes no checkpoint: then nothing more is paid for."""
_FINAL_ATTEMPTS: Final = 3
_PAID_ATTEMPTS: Final = 5


class Keeper:
    """Writes checkpoints and progress from a thread of its own: an item may take long. It never touches the PDF."""

    def __init__(self, ledger: Ledger, storage: Storage, stop: Stop, service: ServiceUse, log: Log) -> None:
        self._ledger = ledger
        self._storage = storage
        self._stop = stop
        self._service = service
        self._log = log
        self._wake = threading.Event()
        self._ended = threading.Event()
        self._saving = threading.Lock()
        self._saved = 0
        self._revision = 0
        self._last_save = time.monotonic()
        self._failing_since: float | None = None
        self._told_answered = False

    @property
    def saved(self) -> int:
        """Pages in the newest stored checkpoint, of this start or an earlier one."""
        return self._saved

    @property
    def _behind(self) -> bool:
        """Whether something is finished that no checkpoint holds."""
        return self._ledger.revision > self._revision

    def resumed(self, pages: int) -> None:
        """Take note of what an earlier start saved."""
        self._saved = pages

    def start(self) -> None:
        """Write progress and checkpoints from now on, until `finish`."""
        threading.Thread(target=self._keep, name="keeper", daemon=True).start()

    def _keep(self) -> None:
        next_progress = time.monotonic()
        while not self._ended.is_set():
            self._wake.clear()
            # The other starts of the job may wait for the word that the key is good.
            news = self._service.answered and not self._told_answered
            if news or time.monotonic() >= next_progress:
                next_progress = time.monotonic() + PROGRESS_SECONDS
                self._put_progress()
            if self._behind and time.monotonic() >= self._last_save + SAVE_SECONDS:
                self._save_or_warn(attempts=1, wait=False)
            pause = next_progress - time.monotonic()
            if self._behind:
                pause = min(pause, self._last_save + SAVE_SECONDS - time.monotonic())
            self._wake.wait(min(1.0, max(0.01, pause)))

    def save_now(self) -> None:
        """Save before anything else is paid for.

        A storage that stumbles is asked again for some seconds; then the work goes on, and the next answer tries again.

        Raises
        ------
        RunnerError
            `ExitCode.STORAGE_ERROR` when it has taken nothing for `UNSAVED_SECONDS`.
        """
        self._wake.set()
        self._save_or_warn(attempts=_PAID_ATTEMPTS, wait=True)
        if self._failing_since is not None and time.monotonic() - self._failing_since > UNSAVED_SECONDS:
            raise RunnerError(
                ExitCode.STORAGE_ERROR,
                f"the object storage took no checkpoint for {UNSAVED_SECONDS:.0f} s; "
                f"nothing more is paid for until it does",
            )

    def finish(self, *, save: bool) -> None:
        """End the thread's work, save what is not saved yet, and write the last progress."""
        self._ended.set()
        self._wake.set()
        if save and self._behind:
            self._save_or_warn(attempts=_FINAL_ATTEMPTS, wait=True)
        self._put_progress()

    def _save_or_warn(self, *, attempts: int, wait: bool) -> None:
        """Save; without ``wait`` not while the other thread does, so that the heartbeat goes on."""
        if not self._saving.acquire(blocking=wait):
            return
        try:
            self._save(attempts)
            self._failing_since = None
        except RunnerError as error:
            self._failing_since = self._failing_since or time.monotonic()
            self._log.warning("checkpoint not saved", reason=str(error))
            if error.exit_code is ExitCode.URL_EXPIRED:
                self._stop.request(ExitCode.URL_EXPIRED)
        finally:
            self._last_save = time.monotonic()
            self._saving.release()

    def _save(self, attempts: int) -> None:
        checkpoint, revision = self._ledger.checkpoint()
        if revision <= self._revision:
            return
        body = checkpoint.model_dump_json(by_alias=True, exclude_none=True).encode()
        self._storage.put_checkpoint(body, attempts=attempts)
        self._revision = revision
        self._saved = len(checkpoint.done)
        self._log.info("checkpoint saved", items_done=self._saved, bytes=len(body))

    def _put_progress(self) -> None:
        answered = self._service.answered
        body = self._ledger.progress(answered=answered).model_dump_json(by_alias=True).encode()
        try:
            self._storage.put_progress(body)
            self._told_answered = answered
        except RunnerError as error:
            self._log.warning("progress not written", reason=str(error))
