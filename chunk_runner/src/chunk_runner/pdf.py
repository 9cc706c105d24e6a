"""The chunk PDF, read with PDFium: the only module that knows it.

PDFium has one user per process and no threads: everything here is called from the main thread.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from ctypes import c_double
from io import BytesIO
from itertools import accumulate
from pathlib import Path
from typing import Any, Final

import pypdfium2
import pypdfium2.raw as pdfium

from pdfjob_api.errors import ExitCode

from .failures import RunnerError
from .text.layout import Line
from .text.repair import clean

_PAGES_KEPT: Final = 200
"""Pages loaded before the document is opened anew; 930 pages of music then take 100 MB instead of 300."""


class UnreadablePageError(Exception):
    """PDFium cannot load a page or its text."""


class ChunkPdf:
    """An open chunk PDF.

    Parameters
    ----------
    path
        Of the file.
    pages
        How many pages it must have, context pages included.

    Raises
    ------
    RunnerError
        `ExitCode.INVALID_PDF` when it cannot be opened or has another number of pages.
    """

    def __init__(self, path: Path, *, pages: int) -> None:
        self._path = path
        self._loaded = 0
        try:
            self._document = pypdfium2.PdfDocument(path)
        except pypdfium2.PdfiumError as error:
            raise RunnerError(ExitCode.INVALID_PDF, f"Invalid format: the chunk cannot be opened ({error})") from error
        if len(self._document) != pages:
            found = len(self._document)
            self._document.close()
            raise RunnerError(
                ExitCode.INVALID_PDF, f"Invalid format: the chunk has {found} pages, the task says {pages}"
            )

    def lines(self, index: int) -> list[Line]:
        """Return the lines of a page in reading order, characters cleaned.

        Parameters
        ----------
        index
            0-based position in the chunk PDF.

        Raises
        ------
        UnreadablePageError
            When PDFium cannot load the page.
        """
        with self._page(index) as page, closing(page.get_textpage()) as text_page:
            return _lines(text_page)

    def check(self, index: int) -> None:
        """Make sure that a page can be read.

        Raises
        ------
        UnreadablePageError
            When PDFium cannot load the page.
        """
        with self._page(index):
            return

    def cut(self, indexes: Sequence[int]) -> bytes:
        """Return a PDF of some pages, in this order.

        Parameters
        ----------
        indexes
            0-based positions in the chunk PDF of pages that can be read.

        Raises
        ------
        UnreadablePageError
            When PDFium cannot copy them.
        """
        buffer = BytesIO()
        with closing(pypdfium2.PdfDocument.new()) as part, _unreadable():
            part.import_pages(self._document, pages=list(indexes))
            part.save(buffer)
        return buffer.getvalue()

    @contextmanager
    def _page(self, index: int) -> Iterator[Any]:
        """Open a page; what PDFium cannot do with it meanwhile is an `UnreadablePageError`."""
        with _unreadable():
            self._forget_old_pages()
            with closing(self._document[index]) as page:
                yield page

    def _forget_old_pages(self) -> None:
        """Open the file anew from time to time: an open document keeps the fonts of every page it has shown."""
        if self._loaded >= _PAGES_KEPT:
            self._loaded = 0
            self._document.close()
            self._document = pypdfium2.PdfDocument(self._path)
        self._loaded += 1

    def close(self) -> None:
        """Release the file."""
        self._document.close()


@contextmanager
def _unreadable() -> Iterator[None]:
    try:
        yield
    except pypdfium2.PdfiumError as error:
        raise UnreadablePageError(str(error)) from error


def _lines(text_page: Any) -> list[Line]:
    text = text_page.get_text_range()
    glyphs = _Glyphs(text_page, text)
    spans = []
    start = 0
    for part in text.split("\r\n"):
        if part.strip():
            first, last = start + len(part) - len(part.lstrip()), start + len(part.rstrip()) - 1
            middle = (first + last) // 2
            while text[middle].isspace():  # PDFium adds spaces of its own, which have no size
                middle += 1
            spans.append((first, middle, last, part))
        start += len(part) + 2
    across, along = glyphs.direction([(first, last) for first, _, last, _ in spans])
    lines = []
    for first, middle, last, part in spans:
        left = glyphs.origin(first)
        right = glyphs.origin(last)
        cleaned = clean(part).strip()
        if cleaned:
            lines.append(
                Line(
                    text=cleaned,
                    left=left[0] * along + left[1] * across,
                    right=right[0] * along + right[1] * across,
                    first_base=left[1] * along - left[0] * across,
                    last_base=right[1] * along - right[0] * across,
                    size=glyphs.size(middle),
                )
            )
    return lines


class _Glyphs:
    """Where the characters of a text page stand. Raw calls: a page costs four for each line."""

    def __init__(self, text_page: Any, text: str) -> None:
        self._page = text_page.raw
        self._x = c_double()
        self._y = c_double()
        self._matrix = pdfium.FS_MATRIX()
        units = len(text.encode("utf-16-le", "surrogatepass")) // 2
        # PDFium counts UTF-16 units: letters beyond U+FFFF are two.
        self._units = None if units == len(text) else [0, *accumulate(1 + (letter > "\uffff") for letter in text)]
        # Where it left characters out of the text, positions must be asked for; that is rare.
        self._shifted = text_page.count_chars() != units

    def origin(self, position: int) -> tuple[float, float]:
        """Origin of a character in points, x to the right and y upwards."""
        if not pdfium.FPDFText_GetCharOrigin(self._page, self._index(position), self._x, self._y):
            return 0.0, 0.0
        return self._x.value, self._y.value

    def size(self, position: int) -> float:
        """Size of a character in points, as it is drawn."""
        index = self._index(position)
        size = float(pdfium.FPDFText_GetFontSize(self._page, index))
        # Some producers set letters of size 1 and scale them.
        if pdfium.FPDFText_GetMatrix(self._page, index, self._matrix):
            size *= math.hypot(self._matrix.c, self._matrix.d)
        return size

    def direction(self, spans: list[tuple[int, int]]) -> tuple[float, float]:
        """Return sine and cosine of the direction in which the page is read; turned tables are common."""
        x = y = 0.0
        for first, last in spans[:: max(1, len(spans) // 8)]:
            # The first letters only: PDFium joins two lines at a hyphen.
            start, end = self.origin(first), self.origin(min(last, first + 8))
            x += end[0] - start[0]
            y += end[1] - start[1]
        length = math.hypot(x, y)
        if length == 0 or abs(y) < 0.05 * abs(x):
            return (0.0, 1.0) if x >= 0 else (0.0, -1.0)
        return y / length, x / length

    def _index(self, position: int) -> int:
        if self._units is not None:
            position = self._units[position]
        if not self._shifted:
            return position
        return int(pdfium.FPDFText_GetCharIndexFromTextIndex(self._page, position))
