"""One start of a chunk, from the task to the exit code."""

from __future__ import annotations

import hashlib
import os
import tempfile
import time
import traceback
from dataclasses import dataclass
from pathlib import Path

from pdfjob_api.contract import MAX_RESULT_BYTES, MAX_TERMINATION_MESSAGE, TerminationMessage
from pdfjob_api.errors import CHUNK_CODES, ChunkCode, ExitCode

from .failures import RunnerError
from .inputs import Inputs, read_inputs, termination_log
from .keeping import Keeper
from .ledger import DamagedCheckpointError, Ledger
from .logs import Log
from .processors import Surroundings, open_processor
from .service import ServiceUse
from .stopping import Stop, Watch
from .storage import Storage


@dataclass(frozen=True, slots=True)
class Stored:
    """The stored result."""

    sha256: str
    size: int


def main(*, began: float) -> int:
    """Process the chunk that the environment names and return the exit code.

    Parameters
    ----------
    began
        Value of ``time.perf_counter()`` when the process began, for the start-up times in the log.
    """
    log = Log()
    try:
        inputs = read_inputs(os.environ)
    except RunnerError as error:
        log.failure("task refused", exit_code=int(error.exit_code), reason=str(error))
        _write_message(log, TerminationMessage(code=_name(error.code), message=str(error)))
        return int(error.exit_code)
    task = inputs.task
    return Start(inputs, log.bind(job=f"{task.namespace}/{task.job}", chunk=task.chunk, start=task.start), began).run()


class Start:
    """One start: resume, download, process, store; save on every way out."""

    def __init__(self, inputs: Inputs, log: Log, began: float) -> None:
        self._inputs = inputs
        self._log = log
        self._began = began
        self._imported = time.perf_counter()
        self._stop = Stop()
        self._storage = Storage(inputs, self._stop.check)
        self._ledger = Ledger(inputs.task)
        self._service = ServiceUse(pace_seconds=inputs.task.pace_seconds)
        self._keeper = Keeper(self._ledger, self._storage, self._stop, self._service, log)
        self._deadline = time.monotonic() + inputs.task.soft_timeout_seconds

    def run(self) -> int:
        """Return the exit code; 0 only when the result is stored."""
        task = self._inputs.task
        self._log.info("started", first_page=task.start_page, last_page=task.end_page)
        Watch(
            self._stop, soft_timeout=task.soft_timeout_seconds, grace=task.grace_seconds, overdue=self._give_up
        ).start()
        self._keeper.start()
        try:
            stored = self._work()
        except RunnerError as error:
            self._keeper.finish(save=True)
            return self._end(error)
        except Exception as error:  # noqa: BLE001 - the boundary of the process: whatever it is, save and say so
            self._log.failure("unexpected error", traceback=traceback.format_exc())
            self._keeper.finish(save=True)
            reason = f"{CHUNK_CODES[ChunkCode.PROCESSING_ERROR].message}: {type(error).__name__}: {error}"
            return self._end(RunnerError(ExitCode.PROCESSING_ERROR, reason))
        self._keeper.finish(save=False)
        self._say(
            TerminationMessage(
                items=self._ledger.done,
                tokens=self._ledger.tokens,
                requests=dict(self._service.requests),
                pace_seconds=self._pace(),
                result_sha256=stored.sha256,
                result_bytes=stored.size,
            )
        )
        return int(ExitCode.DONE)

    def _work(self) -> Stored:
        self._resume()
        remaining = self._ledger.remaining()
        if remaining:
            with tempfile.TemporaryDirectory(prefix="chunk-") as folder:
                pdf = Path(folder) / "chunk.pdf"
                self._storage.download_chunk(pdf)
                self._process(pdf, remaining)
        return self._store()

    def _resume(self) -> None:
        body = self._storage.previous_checkpoint()
        if body is None:
            return
        try:
            self._ledger.resume(body)
        except DamagedCheckpointError as error:
            self._log.warning("damaged checkpoint discarded, starting from the first page", reason=str(error))
            return
        self._keeper.resumed(self._ledger.done)
        remaining = self._ledger.remaining()
        self._log.info(
            "resuming",
            from_page=remaining[0] if remaining else None,
            items_done=self._ledger.done,
            items_total=self._ledger.total,
        )

    def _process(self, pdf: Path, remaining: list[int]) -> None:
        downloaded = time.perf_counter()
        processor = open_processor(
            self._inputs.task,
            pdf,
            Surroundings(
                stop=self._stop,
                service=self._service,
                log=self._log,
                api_key_file=self._inputs.api_key_file,
                deadline=self._deadline,
            ),
        )
        opened = time.perf_counter()
        first = True
        try:
            for window in processor.windows(remaining):
                self._stop.check()
                for piece in processor.process(window):
                    self._ledger.add(piece)
                    if piece.paid:
                        self._keeper.save_now()
                if first:
                    first = False
                    self._log.info(
                        "first item done",
                        page=window[0],
                        seconds={
                            "imports": round(self._imported - self._began, 4),
                            "download": round(downloaded - self._imported, 4),
                            "open": round(opened - downloaded, 4),
                            "item": round(time.perf_counter() - opened, 4),
                        },
                    )
                self._stop.wait(self._inputs.throttle * len(window))
        finally:
            processor.close()

    def _store(self) -> Stored:
        result = self._ledger.result()
        if not result.records and not result.missing:
            raise RunnerError(ExitCode.NO_TEXT, CHUNK_CODES[ChunkCode.NO_TEXT].message)
        body = result.model_dump_json(by_alias=True, exclude_none=True).encode()
        if len(body) > MAX_RESULT_BYTES:
            raise RunnerError(
                ExitCode.PROCESSING_ERROR,
                f"the result has {len(body)} bytes, more than {MAX_RESULT_BYTES}: "
                f"make chunks smaller with spec.chunking.pagesPerChunk in a new PdfJob",
            )
        self._storage.put_result(body)
        stored = Stored(hashlib.sha256(body).hexdigest(), len(body))
        self._log.info("result stored", records=len(result.records), missing=len(result.missing), bytes=stored.size)
        return stored

    def _end(self, error: RunnerError) -> int:
        level = self._log.info if error.exit_code is ExitCode.INTERRUPTED else self._log.failure
        level("ended", exit_code=int(error.exit_code), reason=str(error), items_saved=self._keeper.saved)
        self._say(
            TerminationMessage(
                code=_name(error.code),
                message=str(error),
                items=self._keeper.saved,
                tokens=self._ledger.tokens,
                requests=dict(self._service.requests),
                pace_seconds=self._pace(),
                retry_after_seconds=error.retry_after,
            )
        )
        return int(error.exit_code)

    def _give_up(self) -> None:
        """End the process from another thread: the item in hand did not finish within the grace period."""
        self._log.warning("the item in hand is given up", items_done=self._ledger.done)
        self._keeper.finish(save=True)
        # Only so can a process end whose main thread is inside a library.
        os._exit(self._end(self._stop.error()))

    def _pace(self) -> float:
        return round(self._service.pace_seconds, 3)

    def _say(self, message: TerminationMessage) -> None:
        _write_message(self._log, message)


def _name(code: ChunkCode | None) -> str | None:
    return code.value if code else None


def _write_message(log: Log, message: TerminationMessage) -> None:
    text = log.clean(message.message)
    body = b""
    for length in (len(text), 2000, 600):
        body = (
            message.model_copy(update={"message": text[:length]})
            .model_dump_json(by_alias=True, exclude_none=True)
            .encode()
        )
        if len(body) <= MAX_TERMINATION_MESSAGE:
            break
    path = termination_log(os.environ)
    try:
        path.write_bytes(body)
    except OSError as error:
        log.warning("termination message not written", path=str(path), reason=str(error))
