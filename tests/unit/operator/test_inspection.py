"""What Strict must notice: documents that were cut off, wherever the cut is and however they were written."""

from __future__ import annotations

import io
from pathlib import Path

import pikepdf
import pypdf
import pytest

from pdfjob_operator.inspection import inspect, page_list
from pdfjob_operator.task_process import TaskError
from tests.support import pdfs

END_MARK = 16
"""Bytes at the end that may be cut off without any loss: the end mark and what is before it in all forms."""


def linearized(data: bytes) -> bytes:
    sink = io.BytesIO()
    with pikepdf.open(io.BytesIO(data)) as pdf:
        pdf.save(sink, linearize=True)
    return sink.getvalue()


def updated(data: bytes, pages: int) -> bytes:
    """Append pages in an incremental update, as editors save."""
    writer = pypdf.PdfWriter(io.BytesIO(data), incremental=True)
    for page in pypdf.PdfReader(io.BytesIO(pdfs.text_pdf(pages))).pages:
        writer.add_page(page)
    sink = io.BytesIO()
    writer.write(sink)
    return sink.getvalue()


FORMS = {
    "one by one": lambda: pdfs.plain_pdf(30),
    "object streams": lambda: pdfs.compressed_pdf(30),
    "linearized": lambda: linearized(pdfs.text_pdf(30)),
    "images": lambda: pdfs.image_pdf(5, 100),
    "small update": lambda: updated(pdfs.text_pdf(30), 1),
    "large update": lambda: updated(pdfs.text_pdf(10), 30),
}


@pytest.mark.parametrize("form", FORMS)
def test_a_cut_is_noticed_wherever_it_is(form: str, tmp_path: Path) -> None:
    data = FORMS[form]()
    path = tmp_path / "source.pdf"
    path.write_bytes(data)
    inspect(path, tmp_path, strict=True)  # whole, it is fine

    sound = len(pdfs.text_pdf(30 if form == "small update" else 10)) if "update" in form else 0
    taken = []
    reasons = set()
    for each in range(1, 40):
        length = sound + (len(data) - END_MARK - sound) * each // 40 if sound else (len(data) - END_MARK) * each // 40
        path.write_bytes(data[:length])
        try:
            inspect(path, tmp_path, strict=True)
        except TaskError as error:
            reasons.add(error.reason.value)
        else:
            taken.append(length)
    assert (taken, reasons) == ([], {"InvalidFormat"})


def test_an_update_is_read_in_its_last_state(tmp_path: Path) -> None:
    path = pdfs.write(tmp_path / "source.pdf", updated(pdfs.text_pdf(10), 3))
    assert inspect(path, tmp_path, strict=True).pages == 13


def test_the_name_of_a_folder_is_no_warning(tmp_path: Path) -> None:
    folder = tmp_path / "unexpected EOF loop, ignoring"
    folder.mkdir()
    path = pdfs.write(folder / "source.pdf", pdfs.plain_pdf(5).replace(b"startxref\n", b"startxref\n9"))
    assert inspect(path, folder, strict=True).damage == ()


@pytest.mark.parametrize(
    ("pages", "text"),
    [
        ([3], "3"),
        ([3, 7, 8, 9], "3, 7-9"),
        (list(range(1, 60, 2)), "1, 3, 5, 7, 9, 11, 13, 15, 17, 19 and 20 more ranges"),
    ],
)
def test_page_lists_stay_short(pages: list[int], text: str) -> None:
    assert page_list(pages) == text
