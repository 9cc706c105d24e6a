"""The second and third reader: documents that pikepdf refuses are written anew by PDFium, else by pypdf.

Every page keeps its place: one that cannot be copied is an empty page in the copy, and named.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pikepdf
import pypdfium2

_MAX_PAGES: Final = 100_000
"""A count beyond this is taken for a lie when only PDFium, which believes /Count, tells it."""
_LETTER: Final = (612.0, 792.0)
"""Size in points of the page that stands for one that is lost."""


@dataclass(frozen=True, slots=True)
class Rewritten:
    """A copy that pikepdf can read."""

    path: Path
    pages: int
    lost_pages: tuple[int, ...]
    """Pages, from 1, that could not be copied and stand empty."""


def rewrite(path: Path, scratch: Path) -> Rewritten | None:
    """Write a document anew with the first library that can; None when none can read a single page."""
    for writer in (_by_pdfium, _by_pypdf):
        copy = scratch / "rewritten.pdf"
        lost = writer(path, copy)
        if lost is None:
            continue
        try:
            with pikepdf.open(copy) as pdf:
                pages = len(pdf.pages)
        except pikepdf.PdfError:
            continue
        if pages > len(lost):
            return Rewritten(copy, pages, tuple(lost))
    return None


def _by_pdfium(path: Path, copy: Path) -> list[int] | None:
    lost: list[int] = []
    try:
        with pypdfium2.PdfDocument(path) as source, pypdfium2.PdfDocument.new() as target:
            if not 0 < len(source) <= _MAX_PAGES:
                return None
            for index in range(len(source)):
                try:
                    source[index].close()
                    target.import_pages(source, [index])
                except pypdfium2.PdfiumError:
                    target.new_page(*_LETTER)
                    lost.append(index + 1)
            target.save(copy)
    except pypdfium2.PdfiumError:
        return None
    return lost


def _by_pypdf(path: Path, copy: Path) -> list[int] | None:
    # Imported here: it takes 0.3 s and is needed for very few documents.
    import pypdf

    lost: list[int] = []
    writer = pypdf.PdfWriter()
    try:
        with path.open("rb") as file:
            reader = pypdf.PdfReader(file, strict=False)
            for index in range(min(len(reader.pages), _MAX_PAGES)):
                try:
                    page = reader.pages[index]
                    page.pop("/Annots", None)
                    writer.add_page(page)
                except Exception:  # noqa: BLE001 - on broken input pypdf raises whatever Python does
                    writer.add_blank_page(*_LETTER)
                    lost.append(index + 1)
            writer.write(copy)
    except Exception:  # noqa: BLE001 - as above: this is the last library, and its refusal is an answer
        return None
    return lost
