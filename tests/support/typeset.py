"""Small books, typeset with reportlab: lines where a test wants them."""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import pikepdf
from reportlab.pdfbase.pdfmetrics import stringWidth
from reportlab.pdfgen.canvas import Canvas

FONT = "Helvetica"
SIZE = 11.0
LEADING = 14.0
LEFT = 72.0
WIDTH = 400.0
"""Points; about 75 letters."""


@dataclass(frozen=True, slots=True)
class Sheet:
    """What stands on a page; every string is a line."""

    lines: Sequence[str] = ()
    """The text, from the top; an empty string leaves a line free."""
    head: str = ""
    foot: str = ""
    notes: Sequence[str] = ()
    """Footnotes, in small print."""


def typeset(sheets: Iterable[Sheet]) -> bytes:
    """Return the PDF of a book; a sheet with nothing on it is a blank page."""
    buffer = io.BytesIO()
    canvas = Canvas(buffer, pagesize=(595, 842), invariant=True)
    for sheet in sheets:
        if sheet.head:
            _draw(canvas, sheet.head, 790, 9)
        for number, line in enumerate(sheet.lines):
            _draw(canvas, line, 740 - number * LEADING, SIZE)
        for number, line in enumerate(sheet.notes):
            _draw(canvas, line, 90 - number * 9, 7)
        if sheet.foot:
            _draw(canvas, sheet.foot, 40, 9)
        canvas.showPage()
    canvas.save()
    return buffer.getvalue()


def wrap(text: str) -> list[str]:
    """Break text into full lines, as a justified paragraph has them."""
    lines: list[str] = []
    line = ""
    for word in text.split():
        longer = f"{line} {word}" if line else word
        if line and stringWidth(longer, FONT, SIZE) > WIDTH:
            lines.append(line)
            line = word
        else:
            line = longer
    return [*lines, line] if line else lines


def broken_page(pdf: bytes, index: int) -> bytes:
    """Return the PDF with a page that no reader can load."""
    with pikepdf.open(io.BytesIO(pdf)) as document:
        document.Root.Pages.Kids[index] = document.make_indirect(pikepdf.Dictionary(Type=pikepdf.Name.Nonsense))
        buffer = io.BytesIO()
        document.save(buffer)
        return buffer.getvalue()


def with_letter_meaning(pdf: bytes, letter: str, meaning: str) -> bytes:
    """Return the PDF with a letter of its first font standing for another character, as symbol fonts have it."""
    with pikepdf.open(io.BytesIO(pdf)) as document:
        (font, *_) = document.pages[0].Resources.Font.values()
        code, unicode = f"{ord(letter):02X}", meaning.encode("utf-16-be").hex()
        font.ToUnicode = document.make_stream(
            b"/CIDInit /ProcSet findresource begin 12 dict begin begincmap /CMapType 2 def "
            b"1 begincodespacerange <00> <FF> endcodespacerange "
            + f"1 beginbfchar <{code}> <{unicode}> endbfchar ".encode()
            + b"endcmap end end"
        )
        buffer = io.BytesIO()
        document.save(buffer)
        return buffer.getvalue()


def _draw(canvas: Canvas, text: str, height: float, size: float) -> None:
    canvas.setFont(FONT, size)
    canvas.drawString(LEFT, height, text)
