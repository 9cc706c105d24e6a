"""PDFs made at run time: sound ones, and each kind of broken one. The repository holds no PDF."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Final

import pikepdf
from reportlab.lib.pagesizes import A4
from reportlab.pdfgen.canvas import Canvas

USER_PASSWORD: Final = "open sesame"


def page_text(number: int) -> str:
    """Return the first line of a page of `text_pdf`."""
    return f"This is page {number} of the document."


def text_pdf(pages: int, *, lines: int = 30) -> bytes:
    """Make a PDF with text on every page; the same bytes each time."""
    sink = io.BytesIO()
    canvas = Canvas(sink, pagesize=A4, invariant=1)
    for number in range(1, pages + 1):
        canvas.drawString(72, 780, page_text(number))
        for line in range(1, lines):
            canvas.drawString(72, 780 - 20 * line, f"Line {line} of page {number}: {number * line} quick brown foxes.")
        canvas.showPage()
    canvas.save()
    return sink.getvalue()


def image_pdf(pages: int, pixels: int) -> bytes:
    """Make a PDF whose every page shows its own uncompressible grey image of ``pixels`` by ``pixels``."""
    pdf = pikepdf.new()
    for number in range(pages):
        pdf.add_blank_page(page_size=(600, 600))
        noise = pikepdf.Stream(pdf, _noise(number, pixels * pixels))
        noise.Type, noise.Subtype = pikepdf.Name.XObject, pikepdf.Name.Image
        noise.Width = noise.Height = pixels
        noise.ColorSpace, noise.BitsPerComponent = pikepdf.Name.DeviceGray, 8
        page = pdf.pages[number]
        page.Resources = pikepdf.Dictionary(XObject=pikepdf.Dictionary(Im0=pdf.make_indirect(noise)))
        page.Contents = pdf.make_stream(b"q 600 0 0 600 0 0 cm /Im0 Do Q")
    return _saved(pdf)


def shared_resources_pdf(pages: int, images: int, pixels: int) -> bytes:
    """Make a PDF as some producers do: one /Resources with every image for all pages, each page using one of them."""
    pdf = pikepdf.new()
    names = {}
    for number in range(images):
        image = pikepdf.Stream(pdf, _noise(number, pixels * pixels))
        image.Type, image.Subtype = pikepdf.Name.XObject, pikepdf.Name.Image
        image.Width = image.Height = pixels
        image.ColorSpace, image.BitsPerComponent = pikepdf.Name.DeviceGray, 8
        names[f"/Im{number}"] = pdf.make_indirect(image)
    shared = pdf.make_indirect(pikepdf.Dictionary(XObject=pikepdf.Dictionary(names)))
    for number in range(pages):
        pdf.add_blank_page(page_size=(600, 600))
        page = pdf.pages[number]
        page.obj.Resources = shared
        page.Contents = pdf.make_stream(f"q 600 0 0 600 0 0 cm /Im{number * images // pages} Do Q".encode())
    return _saved(pdf)


def linked_pdf(pages: int) -> bytes:
    """Make a PDF with a link from every page to every tenth page, which drags those pages along when copied."""
    pdf = pikepdf.open(io.BytesIO(text_pdf(pages)))
    for page in pdf.pages:
        links = [
            pikepdf.Dictionary(
                Type=pikepdf.Name.Annot,
                Subtype=pikepdf.Name.Link,
                Rect=[0, 0, 10, 10],
                Dest=[pdf.pages[target].obj, pikepdf.Name.Fit],
            )
            for target in range(0, pages, 10)
        ]
        page.Annots = pdf.make_indirect(pikepdf.Array(links))
    return _saved(pdf)


def encrypted_pdf(pages: int, *, user: str, owner: str) -> bytes:
    """Make an AES-256 encrypted PDF."""
    pdf = pikepdf.open(io.BytesIO(text_pdf(pages)))
    sink = io.BytesIO()
    pdf.save(sink, encryption=pikepdf.Encryption(user=user, owner=owner))
    return sink.getvalue()


def plain_pdf(pages: int) -> bytes:
    """Make a PDF whose objects stand in the file one by one, so that bytes can be damaged on purpose."""
    pdf = pikepdf.open(io.BytesIO(text_pdf(pages)))
    return _saved(pdf, object_stream_mode=pikepdf.ObjectStreamMode.disable)


def without_pages() -> bytes:
    """Make a PDF with an empty page tree."""
    return _saved(pikepdf.new())


def looping_page_tree() -> bytes:
    """Make a PDF whose page tree holds itself."""
    data = plain_pdf(3)
    kids = re.search(rb"/Kids \[ (\d+) 0 R (\d+) 0 R (\d+) 0 R \]", data)
    pages = re.search(rb"/Pages (\d+) 0 R", data)
    assert kids is not None
    assert pages is not None
    loop = pages.group(1).rjust(len(kids.group(2)))
    return data.replace(kids.group(0), kids.group(0).replace(kids.group(2) + b" 0 R", loop + b" 0 R", 1), 1)


def wrong_count() -> bytes:
    """Make a PDF of 60 pages that says it has 99."""
    return plain_pdf(60).replace(b"/Count 60", b"/Count 99")


def missing_content() -> bytes:
    """Make a PDF of 5 pages in which the content of page 5 is not a content stream."""
    data = plain_pdf(5)
    named = list(re.finditer(rb"/Contents (\d\d) 0 R", data))[-1]
    font = re.search(rb"/Font (\d\d) 0 R", data)
    assert font is not None
    return data.replace(named.group(0), b"/Contents " + font.group(1) + b" 0 R")


def broken_content() -> bytes:
    """Make a PDF of 5 pages in which the compressed content of page 3 is damaged."""
    pdf = pikepdf.open(io.BytesIO(plain_pdf(5)))
    page = pdf.pages[2]
    raw = bytearray(page.Contents.read_raw_bytes())
    start = len(raw) // 2
    raw[start : start + 20] = bytes(20)
    stream = pikepdf.Stream(pdf, bytes(raw))
    stream.Filter = page.Contents.Filter
    page.Contents = pdf.make_indirect(stream)
    sink = io.BytesIO()
    pdf.save(sink, stream_decode_level=pikepdf.StreamDecodeLevel.none, compress_streams=False)
    return sink.getvalue()


def one_line_pdf() -> bytes:
    """Make a PDF of one page without a table of objects and with all objects on one line: only PDFium reads it."""
    text = f"BT /F1 20 Tf 10 100 Td ({page_text(1)}) Tj ET"
    font = "/Resources<</Font<</F1<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>>>>>"
    return (
        "%PDF-1.0\n1 0 obj<</Type/Catalog/Pages 2 0 R>>endobj 2 0 obj<</Type/Pages/Kids[3 0 R]/Count 1>>endobj "
        f"3 0 obj<</Type/Page/Parent 2 0 R/MediaBox[0 0 300 200]/Contents 4 0 R{font}>>endobj "
        f"4 0 obj<</Length {len(text)}>>stream\n{text}\nendstream endobj trailer<</Size 5/Root 1 0 R>>"
    ).encode()


def cut(fraction: float) -> bytes:
    """Return the first part of a PDF of 60 pages, as a broken transfer leaves it."""
    data = plain_pdf(60)
    return data[: int(len(data) * fraction)]


def compressed_pdf(pages: int) -> bytes:
    """Make a PDF whose objects are in compressed object streams."""
    return _saved(pikepdf.open(io.BytesIO(text_pdf(pages))), object_stream_mode=pikepdf.ObjectStreamMode.generate)


def with_blank_pages() -> bytes:
    """Make a PDF of 5 pages of which the last two are blank, one of them without any content."""
    pdf = pikepdf.open(io.BytesIO(text_pdf(3)))
    pdf.add_blank_page()
    pdf.add_blank_page()
    del pdf.pages[4].obj["/Contents"]
    return _saved(pdf)


REFUSED: Final[Mapping[str, tuple[Callable[[], bytes], str, str]]] = MappingProxyType(
    {
        "empty file": (lambda: b"", "InvalidFormat", "is empty"),
        "web page": (lambda: b"<!DOCTYPE html><html><body>Not found</body></html>", "InvalidFormat", "web page"),
        "plain text": (lambda: b"Dear reader,\n" * 500, "InvalidFormat", "not a PDF"),
        "header only": (lambda: b"%PDF-1.7\n", "InvalidFormat", "complete PDF"),
        "truncated": (lambda: plain_pdf(60)[:-100], "InvalidFormat", "source.repair: Repair"),
        "cut at 80 %": (lambda: cut(0.8), "InvalidFormat", "source.repair: Repair"),
        "truncated, object streams": (
            lambda: compressed_pdf(60)[:-2000],
            "InvalidFormat",
            "complete PDF",
        ),
        "page tree that loops": (looping_page_tree, "InvalidFormat", "damaged"),
        "wrong /Count": (wrong_count, "InvalidFormat", "60 pages, but another reader counts 99"),
        "content missing": (missing_content, "InvalidFormat", "page 5"),
        "content damaged": (broken_content, "InvalidFormat", "page 3"),
        "password": (lambda: encrypted_pdf(3, user=USER_PASSWORD, owner="boss"), "Encrypted", "Remove the password"),
        "no pages": (without_pages, "EmptyPdf", "no pages"),
    }
)
"""Name to maker, reason under Strict, and part of the message."""

ACCEPTED: Final[Mapping[str, tuple[Callable[[], bytes], int]]] = MappingProxyType(
    {
        "garbage before the header": (lambda: b"X-Header: 1\r\n" * 20 + plain_pdf(60), 60),
        "garbage after the end": (lambda: plain_pdf(60) + b"garbage\n" * 400, 60),
        "table of objects off": (lambda: plain_pdf(60).replace(b"startxref\n", b"startxref\n9"), 60),
        "empty user password": (lambda: encrypted_pdf(7, user="", owner="boss"), 7),
        "blank pages": (with_blank_pages, 5),
        "object streams": (lambda: compressed_pdf(60), 60),
    }
)
"""Name to maker and pages: odd, but nothing is lost, so Strict takes them."""


def write(path: Path, data: bytes) -> Path:
    """Write a file and return its path."""
    path.write_bytes(data)
    return path


def _saved(pdf: pikepdf.Pdf, object_stream_mode: pikepdf.ObjectStreamMode = pikepdf.ObjectStreamMode.preserve) -> bytes:
    sink = io.BytesIO()
    pdf.save(sink, deterministic_id=True, object_stream_mode=object_stream_mode)
    return sink.getvalue()


def _noise(seed: int, size: int) -> bytes:
    """Return bytes that do not compress, the same for the same seed."""
    import random

    return random.Random(seed).randbytes(size)
