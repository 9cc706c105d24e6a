"""What a document is, before it is cut: runs in a task process, never in the operator.

pikepdf (qpdf) walks the page tree and counts; PDFium is the second reader. What pikepdf refuses is rewritten by
PDFium, else by pypdf, and then read by pikepdf like any other document.

What counts as damage was decided by measurement, on the PDFs that pypdf, pikepdf, ocrmypdf and pypdfium2 keep for
their tests and on real manuals. Much of what qpdf warns about loses nothing: a cross-reference table that is off and
was built anew, a wrong stream length, a missing /ID, bytes after the end. So a warning alone refuses no document.
Damage is what loses content, or may: PDFium refuses the file, the two counts differ, a page's content is no stream or
does not decode, the file has no end, or qpdf says that it met the end inside an object or dropped something. A page
that names content which does not exist is a blank page (ISO 32000-1, 7.3.10), and no damage.
"""

from __future__ import annotations

import logging
import os
import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pikepdf
import pypdfium2

from pdfjob_api.conditions import Reason

from .ranges import range_texts
from .rewriting import Rewritten, rewrite
from .task_process import TaskError

_HEAD: Final = 1024
"""Bytes in which the header must be (ISO 32000-1, annex H.3.4.1)."""
_MAX_DAMAGE: Final = 8
"""Findings that are reported at most."""
_REPAIR: Final = "set source.repair: Repair in a new PdfJob to take what can be read of it, or get an undamaged copy"
_NOT_PDF: Final = "check that the file is a complete PDF"

_LOSS: Final = re.compile(
    r"unexpected EOF|EOF after endobj|treating stream as empty|parse error while reading|trailer dictionary while|"
    r"loop|error decoding stream|ignoring|invalid page|not a dictionary|too (?:deeply|many)",
    re.IGNORECASE,
)
"""Warnings of qpdf after which content is missing."""
_OBJECT: Final = re.compile(rb"\d \d+ obj\b")
_BLOCK: Final = 64 * 1024
_PAGES_AT_ONCE: Final = 200
"""Pages whose text is counted before the document is opened anew."""
_MAX_UPDATE: Final = 16 * 1024**2
"""Bytes at the end of a file in which the last end mark is looked for."""
_NO_END: Final = "can't find startxref"
_END_ELSEWHERE: Final = "startxref was more than"
"""Told besides when bytes follow the end, which is harmless."""

DROPPED: Final = (
    *("/AA", "/Annots", "/B", "/DPart", "/Dur", "/LastModified", "/Metadata", "/PieceInfo", "/PresSteps"),
    *("/SeparationInfo", "/StructParents", "/Tabs", "/TemplateInstantiated", "/Thumb", "/Trans", "/VP"),
)
"""Entries of a page that a chunk does without: links, structure and the like, which would drag other pages in."""


@dataclass(frozen=True, slots=True)
class Document:
    """A document that pikepdf can read."""

    path: Path
    """The source itself, or a copy that was written anew because pikepdf refuses the source."""
    pages: int
    damage: tuple[str, ...]
    """What was wrong, in words; empty when nothing was."""
    lost_pages: tuple[int, ...] = ()
    """Pages, from 1, that stand empty in a copy written anew."""


@dataclass(frozen=True, slots=True)
class Findings:
    """What an inspection found."""

    pages: int
    damage: tuple[str, ...]
    empty_pages: tuple[int, ...]
    """Pages, from 1, whose content is lost."""


def quiet() -> None:
    """Silence libraries that report to standard error what is found here anyway."""
    warnings.simplefilter("ignore")
    logging.disable(logging.CRITICAL)


def inspect(path: Path, scratch: Path, *, strict: bool) -> Findings:
    """Count the pages of a document and look for damage.

    Raises
    ------
    TaskError
        InvalidFormat (under ``strict`` also for damage), Encrypted or EmptyPdf.
    """
    document = open_document(path, scratch)
    with pikepdf.open(document.path) as pdf:
        told = pdf.get_warnings()
        unreadable, blank = _pages_without_content(pdf)
        told = [_plain(str(each), document.path) for each in (*told, *pdf.get_warnings())]
    if any("bad_alloc" in each for each in told):
        raise MemoryError
    damage = list(document.damage)
    lost = {*document.lost_pages, *unreadable}
    if lost:
        damage.append(f"no content can be read on page {page_list(sorted(lost))}")
    if any(_NO_END in each for each in told) and not any(_END_ELSEWHERE in each for each in told):
        damage.append("its end is missing, so it was not written or transferred completely")
    elif _ends_in_an_update(path):
        damage.append("the update at its end is not complete, so what it changed is lost")
    damage += [each for each in told if _LOSS.search(each)]
    second = count_by_pdfium(path)
    if isinstance(second, int) and second != document.pages:
        damage.append(f"its page tree has {document.pages} pages, but another reader counts {second}")
    elif isinstance(second, str) and not document.damage:
        damage.append(f"another reader refuses it ({second})")
    found = tuple(dict.fromkeys(damage))[:_MAX_DAMAGE]
    if strict and found:
        raise TaskError(
            Reason.INVALID_FORMAT, f"Invalid format: the document is damaged: {'; '.join(found)}. Please {_REPAIR}"
        )
    # In a damaged document a page without content has more likely lost it than never had any.
    return Findings(document.pages, found, tuple(sorted(lost | blank)) if found else ())


def open_document(path: Path, scratch: Path) -> Document:
    """Find a way to read a document: as it is, or by a copy in ``scratch`` that another library wrote anew.

    Raises
    ------
    TaskError
        InvalidFormat, Encrypted or EmptyPdf.
    """
    _check_form(path)
    try:
        with pikepdf.open(path) as pdf:
            pages = len(pdf.pages)
        refusal = ""
    except pikepdf.PasswordError:
        raise _encrypted() from None
    except (pikepdf.PdfError, ValueError, RuntimeError) as error:
        if "encrypt" in str(error).lower():
            raise _encrypted() from None
        pages, refusal = 0, _plain(str(error), path)
    if pages:
        return Document(path, pages, ())
    rewritten = rewrite(path, scratch)
    if isinstance(rewritten, Rewritten):
        damage = refusal or "its page tree is empty, but another reader finds pages"
        return Document(rewritten.path, rewritten.pages, (damage,), rewritten.lost_pages)
    if not refusal:
        raise TaskError(Reason.EMPTY_PDF, "The document has no pages. Check that the right file was given")
    raise TaskError(Reason.INVALID_FORMAT, f"Invalid format: no PDF library can read it ({refusal}); {_NOT_PDF}")


def count_by_pdfium(path: Path) -> int | str | None:
    """Return PDFium's page count, its reason for refusing the file, or None when it only lacks a password."""
    try:
        with pypdfium2.PdfDocument(path) as document:
            return len(document)
    except pypdfium2.PdfiumError as error:
        # Files with an empty owner password: pikepdf opens them, PDFium tries the user password only.
        return None if "password" in str(error).lower() else str(error).removeprefix("Failed to load document ")


def count_text(path: Path) -> int | None:
    """Return the characters of a document's text; None when PDFium does not tell.

    It is an estimate's base, so that a page that cannot be read counts as empty.
    """
    total = 0
    try:
        for first in range(0, _pages_of(path), _PAGES_AT_ONCE):
            with pypdfium2.PdfDocument(path) as document:  # anew: an open one keeps what every page has loaded
                total += sum(
                    _characters(document, index) for index in range(first, min(first + _PAGES_AT_ONCE, len(document)))
                )
    except pypdfium2.PdfiumError:
        return None
    return total


def _pages_of(path: Path) -> int:
    with pypdfium2.PdfDocument(path) as document:
        return len(document)


def _characters(document: pypdfium2.PdfDocument, index: int) -> int:
    try:
        page = document[index]
        text = page.get_textpage()
    except pypdfium2.PdfiumError:
        return 0
    count: int = text.count_chars()
    text.close()
    page.close()
    return count


def page_list(pages: Sequence[int]) -> str:
    """Write page numbers as ``3, 7-9``; long lists are cut."""
    runs = range_texts((page, page) for page in pages)
    return ", ".join(runs[:10]) + (f" and {len(runs) - 10} more ranges" if len(runs) > 10 else "")


def _check_form(path: Path) -> None:
    with path.open("rb") as file:
        head = file.read(_HEAD)
    if not head:
        raise TaskError(Reason.INVALID_FORMAT, f"Invalid format: the file is empty; {_NOT_PDF}")
    if b"%PDF-" in head:
        return
    if head.lstrip(b"\xef\xbb\xbf \t\r\n").lower().startswith((b"<!doctype", b"<html", b"<?xml", b"<head")):
        message = "Invalid format: this is a web page, not a PDF; give the address of the PDF itself"
        raise TaskError(Reason.INVALID_FORMAT, message)
    message = f"Invalid format: this is not a PDF (no %PDF header in its first {_HEAD} bytes); {_NOT_PDF}"
    raise TaskError(Reason.INVALID_FORMAT, message)


def _ends_in_an_update(path: Path) -> bool:
    """Tell whether objects follow the last end mark: a file that was saved incrementally and cut in the last save."""
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        after = b""
        while len(after) < min(size, _MAX_UPDATE):
            start = max(0, size - len(after) - _BLOCK)
            file.seek(start)
            after = file.read(size - len(after) - start) + after
            mark = after.rfind(b"%%EOF")
            if mark >= 0:
                return _OBJECT.search(after, mark) is not None
    return False


def _encrypted() -> TaskError:
    return TaskError(
        Reason.ENCRYPTED,
        "The document is encrypted and needs a password to open. Remove the password, for instance with "
        "`qpdf --decrypt --password=... in.pdf out.pdf`, and submit it again",
    )


def _plain(warning: str, path: Path) -> str:
    """Take a path of this machine out of a library's message."""
    return warning.replace(str(path), "").strip(" :,")[:200]


def _pages_without_content(pdf: pikepdf.Pdf) -> tuple[set[int], set[int]]:
    """Return the pages whose content is no stream or does not decode, and those that have none."""
    unreadable: set[int] = set()
    blank: set[int] = set()
    for number, page in enumerate(pdf.pages, 1):
        contents = page.obj.get("/Contents")
        if contents is None:
            blank.add(number)
        elif not all(_decodes(stream) for stream in _streams(contents)):
            unreadable.add(number)
    return unreadable, blank


def _streams(contents: pikepdf.Object) -> list[object]:
    return list(contents) if isinstance(contents, pikepdf.Array) else [contents]


def _decodes(stream: object) -> bool:
    if not isinstance(stream, pikepdf.Stream):
        return False
    try:
        stream.read_bytes()
    except pikepdf.PdfError:
        return False
    return True
