"""The pages of the chunk as the model is shown them: their text, or a PDF of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Protocol

from google.genai import types

from chunk_runner.failures import RunnerError
from chunk_runner.pdf import ChunkPdf, UnreadablePageError
from chunk_runner.processors import Window
from chunk_runner.text.repair import SOFT_HYPHEN, collapse
from pdfjob_api.contract import Task
from pdfjob_api.errors import ExitCode
from pdfjob_api.processing import Repair

from . import prompt
from .errors import TooLargeError

COMFORTABLE_PDF_BYTES: Final = 14_000_000
"""Of a window in mode Pdf; as base64 and with the rest the request stays below 20 MB, which was the limit for long and
still is that of gateways. Larger windows are halved."""
MAX_PDF_BYTES: Final = 50_000_000
"""Of a PDF that the Gemini API takes; its other limit, 1000 pages, is beyond any window."""


@dataclass(frozen=True, slots=True)
class Sorted:
    """The pages of a window by what is to be done with them."""

    asked: Window
    """To be asked for."""
    blank: Window = ()
    """Finished: there is nothing on them."""
    missing: Window = ()
    """Finished: they cannot be read or are lost, and the document is to be repaired."""


class Source(Protocol):
    """Makes requests of pages. Pages are named by their numbers in the document."""

    lost: frozenset[int]
    """Pages whose content is lost: without a sentence they are missing."""

    def sort(self, window: Window) -> Sorted:
        """Tell the pages to ask for from those that need no request.

        Raises
        ------
        RunnerError
            `ExitCode.INVALID_PDF` when a page cannot be read and the document must not be repaired.
        """
        ...

    def parts(self, window: Window) -> list[types.Part]:
        """Return the content of a request for these pages, with a page of context on each side.

        Raises
        ------
        TooLargeError
            When it is more than the service takes.
        """
        ...

    def texts(self, window: Window) -> Mapping[int, str]:
        """Return the text of pages, as far as it is known."""
        ...

    def close(self) -> None:
        """Release the chunk PDF."""
        ...


@dataclass(slots=True)
class _Pages:
    """The chunk PDF by page numbers of the document."""

    task: Task
    path: Path
    first: int = field(init=False)
    last: int = field(init=False)
    pdf: ChunkPdf = field(init=False)

    def __post_init__(self) -> None:
        self.first = self.task.start_page - self.task.context_before
        self.last = self.task.end_page + self.task.context_after
        self.pdf = ChunkPdf(self.path, pages=self.last - self.first + 1)

    def around(self, window: Window) -> list[int]:
        """Return the pages beside a window that are in the chunk PDF."""
        return [page for page in (window[0] - 1, window[-1] + 1) if self.first <= page <= self.last]

    def unreadable(self, page: int, error: UnreadablePageError) -> RunnerError | None:
        """Return how to end for a page that cannot be read; None when it is to be repaired, or is context."""
        if self.task.repair is Repair.REPAIR or not self.task.start_page <= page <= self.task.end_page:
            return None
        return RunnerError(
            ExitCode.INVALID_PDF,
            f"Invalid format: page {page} cannot be read ({error}); "
            f"set spec.source.repair: Repair in a new PdfJob to go on without it",
        )


class TextSource:
    """Shows the model the text of the pages; those without text are not sent."""

    def __init__(self, task: Task, path: Path) -> None:
        self.lost = frozenset(task.lost_pages)
        self._pages = _Pages(task, path)
        self._texts: dict[int, str | None] = {}

    def sort(self, window: Window) -> Sorted:
        """Read the pages and tell those with text from the others."""
        near = range(window[0] - 1, window[-1] + 2)
        self._texts = {page: text for page, text in self._texts.items() if page in near}
        texts = {page: self._text(page) for page in window}
        missing = tuple(page for page, text in texts.items() if text is None or (not text and page in self.lost))
        return Sorted(
            asked=tuple(page for page, text in texts.items() if text),
            blank=tuple(page for page, text in texts.items() if not text and page not in missing),
            missing=missing,
        )

    def parts(self, window: Window) -> list[types.Part]:
        """Return a text part for each page and each page of context."""
        context = {
            page: prompt.context_text(page, text) for page in self._pages.around(window) if (text := self._text(page))
        }
        asked = {page: prompt.page_text(page, self._text(page) or "") for page in window}
        return [types.Part.from_text(text=text) for _, text in sorted({**context, **asked}.items())]

    def texts(self, window: Window) -> Mapping[int, str]:
        """Return the text of the pages."""
        return {page: self._text(page) or "" for page in window}

    def close(self) -> None:
        """Close the chunk PDF."""
        self._pages.pdf.close()

    def _text(self, page: int) -> str | None:
        """Return the text of a page, empty when there is none, None when the page cannot be read."""
        if page not in self._texts:
            self._texts[page] = self._read(page)
        return self._texts[page]

    def _read(self, page: int) -> str | None:
        try:
            lines = self._pages.pdf.lines(page - self._pages.first)
        except UnreadablePageError as error:
            if end := self._pages.unreadable(page, error):
                raise end from error
            return None
        # PDFium joins two lines at a hyphen; the model shall see where the line ended.
        return "\n".join(collapse(line.text) for line in lines).replace(SOFT_HYPHEN, "-\n").strip()


class PdfSource:
    """Shows the model the pages themselves."""

    def __init__(self, task: Task, path: Path) -> None:
        self.lost = frozenset(task.lost_pages)
        self._pages = _Pages(task, path)
        self._readable: dict[int, bool] = {}

    def sort(self, window: Window) -> Sorted:
        """Tell the pages that can be read from the others; what is on them, only the model sees."""
        asked = tuple(page for page in window if self._can_read(page))
        return Sorted(asked=asked, missing=tuple(page for page in window if page not in asked))

    def parts(self, window: Window) -> list[types.Part]:
        """Return a PDF of the window and the list of its pages.

        Raises
        ------
        TooLargeError
            When the window is too large and has more than one page, or its only page is larger than the API allows.
        """
        context = [page for page in self._pages.around(window) if self._can_read(page)]
        numbers = sorted([*window, *context])
        pdf = self._cut(numbers)
        if len(pdf) > COMFORTABLE_PDF_BYTES and len(window) == 1:
            numbers = list(window)
            pdf = self._cut(numbers)
        if len(pdf) > (MAX_PDF_BYTES if len(window) == 1 else COMFORTABLE_PDF_BYTES):
            raise TooLargeError(f"a PDF of {len(pdf)} bytes is too large for a request")
        return [
            types.Part.from_bytes(data=pdf, mime_type="application/pdf"),
            types.Part.from_text(text=prompt.pdf_pages(numbers, window)),
        ]

    def texts(self, _: Window) -> Mapping[int, str]:
        """Know nothing: the pages may be pictures."""
        return {}

    def close(self) -> None:
        """Close the chunk PDF."""
        self._pages.pdf.close()

    def _cut(self, numbers: Sequence[int]) -> bytes:
        try:
            return self._pages.pdf.cut([number - self._pages.first for number in numbers])
        except UnreadablePageError as error:
            raise TooLargeError(f"the pages cannot be put into a PDF: {error}") from error

    def _can_read(self, page: int) -> bool:
        if page not in self._readable:
            try:
                self._pages.pdf.check(page - self._pages.first)
                self._readable[page] = True
            except UnreadablePageError as error:
                if end := self._pages.unreadable(page, error):
                    raise end from error
                self._readable[page] = False
        return self._readable[page]
