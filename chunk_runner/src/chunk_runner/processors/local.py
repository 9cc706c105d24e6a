"""The offline processor: text of the page, repaired, in sentences. No key, no network."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from chunk_runner.failures import RunnerError
from chunk_runner.pdf import ChunkPdf, UnreadablePageError
from chunk_runner.text.borders import page_records
from chunk_runner.text.page import BLANK, Page, read_page
from pdfjob_api.contract import MissingPage, Task
from pdfjob_api.errors import ChunkCode, ExitCode
from pdfjob_api.processing import Repair

from . import Finished, Surroundings, Window


def open_local(task: Task, pdf: Path, _: Surroundings) -> LocalProcessor:
    """Make the processor; it needs nothing of its surroundings."""
    return LocalProcessor(task, pdf)


class LocalProcessor:
    """Processes one page at a time; the records of a page come from it and its two neighbours."""

    def __init__(self, task: Task, pdf: Path) -> None:
        assert task.processor.local is not None
        self._task = task
        self._language = task.processor.local.language
        self._lost = frozenset(task.lost_pages)
        self._first = task.start_page - task.context_before
        self._last = task.end_page + task.context_after
        self._pages: dict[int, Page | None] = {}
        self._pdf = ChunkPdf(pdf, pages=self._last - self._first + 1)

    def windows(self, remaining: Sequence[int]) -> Iterable[Window]:
        """One page each."""
        return ((number,) for number in remaining)

    def process(self, window: Window) -> Iterable[Finished]:
        """Read the sentences that start on the page.

        Raises
        ------
        RunnerError
            `ExitCode.INVALID_PDF` when the page cannot be read and the document must not be repaired.
        """
        (number,) = window
        # Three pages are kept, whatever the size of the chunk.
        self._pages = {key: page for key, page in self._pages.items() if abs(key - number) <= 1}
        page = self._read(number)
        if page is None or (page == BLANK and number in self._lost):
            return [Finished(window, missing=[MissingPage(page=number, code=ChunkCode.INVALID_ITEM.value)])]
        before, after = self._read(number - 1) or BLANK, self._read(number + 1) or BLANK
        return [Finished(window, records=page_records(number, before, page, after, self._language))]

    def close(self) -> None:
        """Close the chunk PDF."""
        self._pdf.close()

    def _read(self, number: int) -> Page | None:
        """Return a page, blank outside the chunk PDF, None when it cannot be read."""
        if not self._first <= number <= self._last:
            return BLANK
        if number not in self._pages:
            self._pages[number] = self._read_now(number)
        return self._pages[number]

    def _read_now(self, number: int) -> Page | None:
        try:
            return read_page(self._pdf.lines(number - self._first), self._language)
        except UnreadablePageError as error:
            owned = self._task.start_page <= number <= self._task.end_page
            if owned and self._task.repair is Repair.STRICT:
                raise RunnerError(
                    ExitCode.INVALID_PDF,
                    f"Invalid format: page {number} cannot be read ({error}); "
                    f"set spec.source.repair: Repair in a new PdfJob to go on without it",
                ) from error
            return None
