"""The finished items of a chunk: what the checkpoint and the result are made of."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from pydantic import ValidationError

from pdfjob_api.contract import Checkpoint, ChunkResult, MissingPage, Progress, Record, Task, Tokens

from .logs import utc_now
from .processors import Finished


class DamagedCheckpointError(Exception):
    """A checkpoint is no use; the message says why."""


class Ledger:
    """Finished pages and their records. The main thread adds, the keeper reads."""

    def __init__(self, task: Task) -> None:
        self._task = task
        self._lock = threading.Lock()
        self._records: dict[int, list[Record]] = {}
        self._missing: dict[int, MissingPage] = {}
        self._tokens = Tokens()
        self._revision = 0

    @property
    def revision(self) -> int:
        """Grows with every addition; 0 while nothing was added to what an earlier start left."""
        return self._revision

    @property
    def total(self) -> int:
        """Pages that the chunk owns."""
        return self._task.end_page - self._task.start_page + 1

    @property
    def done(self) -> int:
        """Pages finished, earlier starts included."""
        return len(self._records)

    @property
    def tokens(self) -> Tokens:
        """Tokens used so far, earlier starts and answers that were thrown away included."""
        return self._tokens

    def remaining(self) -> list[int]:
        """Return the pages that are not finished, ascending."""
        return [page for page in range(self._task.start_page, self._task.end_page + 1) if page not in self._records]

    def add(self, finished: Finished) -> None:
        """Record a finished window, or the tokens of an answer that finished nothing."""
        with self._lock:
            self._add(finished.pages, finished.records, finished.missing)
            self._tokens += finished.tokens
            self._revision += 1

    def resume(self, body: bytes) -> None:
        """Take over the checkpoint of an earlier start.

        Raises
        ------
        DamagedCheckpointError
            When it is not the checkpoint of this chunk, whole and in order; nothing is taken over then.
        """
        try:
            checkpoint = Checkpoint.model_validate_json(body)
        except ValidationError as error:
            first = error.errors()[0]
            raise DamagedCheckpointError(f"{'.'.join(map(str, first['loc'])) or 'object'}: {first['msg']}") from error
        self._check(checkpoint)
        with self._lock:
            self._add(checkpoint.done, checkpoint.records, checkpoint.missing)
            self._tokens = checkpoint.tokens

    def checkpoint(self) -> tuple[Checkpoint, int]:
        """Return a checkpoint and the revision that it holds."""
        with self._lock:
            return (
                Checkpoint(
                    start_page=self._task.start_page,
                    end_page=self._task.end_page,
                    done=sorted(self._records),
                    records=self._in_order(),
                    missing=[self._missing[page] for page in sorted(self._missing)],
                    tokens=self._tokens,
                ),
                self._revision,
            )

    def result(self) -> ChunkResult:
        """Return the result of the chunk; every page must be finished."""
        with self._lock:
            assert len(self._records) == self.total
            return ChunkResult(
                start_page=self._task.start_page,
                end_page=self._task.end_page,
                records=self._in_order(),
                missing=[self._missing[page] for page in sorted(self._missing)],
                tokens=self._tokens,
            )

    def progress(self, *, answered: bool) -> Progress:
        """Return the heartbeat; ``answered`` tells whether a language service has answered this start."""
        return Progress(done=self.done, total=self.total, time=utc_now(), answered=answered)

    def _add(self, pages: Sequence[int], records: Sequence[Record], missing: Sequence[MissingPage]) -> None:
        found: dict[int, list[Record]] = {page: [] for page in pages}
        for record in records:
            if record.text:
                found[record.page].append(record)
        self._missing.update({page.page: page for page in missing})
        self._records.update(found)

    def _in_order(self) -> list[Record]:
        return [record for page in sorted(self._records) for record in self._records[page]]

    def _check(self, checkpoint: Checkpoint) -> None:
        task = self._task
        if (checkpoint.start_page, checkpoint.end_page) != (task.start_page, task.end_page):
            raise DamagedCheckpointError(f"it is for pages {checkpoint.start_page}-{checkpoint.end_page}")
        done = set(checkpoint.done)
        if len(done) != len(checkpoint.done) or not done <= set(range(task.start_page, task.end_page + 1)):
            raise DamagedCheckpointError("its finished pages are not pages of the chunk, each once")
        pages = [record.page for record in checkpoint.records]
        if pages != sorted(pages) or not done.issuperset(pages):
            raise DamagedCheckpointError("its sentences are out of order or on pages that are not finished")
        if any(record.end_page < record.page or not record.text for record in checkpoint.records):
            raise DamagedCheckpointError("a sentence of it is empty or ends before it starts")
        if not done.issuperset(page.page for page in checkpoint.missing):
            raise DamagedCheckpointError("its missing pages are not finished")
