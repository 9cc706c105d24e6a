"""Task process that inspects a document, or cuts it into chunk PDFs: ``python -m pdfjob_operator.splitting``.

The way to cut, by measurement: a new document for each chunk, whole pages copied, annotations and structure dropped
(links drag other pages in), resources the chunk does not use removed (producers share one dictionary among all
pages), object streams, an /ID computed from the content. The same source gives the same bytes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pikepdf
import pypdfium2

from pdfjob_api.conditions import Reason

from . import inspection
from .task_process import Channel, TaskError, run

UNACKNOWLEDGED: Final = 4
"""Chunk files that may lie on disk before the operator has taken the first of them."""
REOPEN_BYTES: Final = 16 * 1024**2
"""qpdf keeps what it copied while the source is open; after so many bytes of output it is opened anew."""


@dataclass(frozen=True, slots=True)
class Cut:
    """One chunk to write; page numbers 1-based and inclusive, context pages included."""

    index: int
    first_page: int
    last_page: int


def split(path: Path, cuts: list[Cut], out: Path) -> Iterator[tuple[Cut, Path]]:
    """Write the chunks one after the other as ``c00002.pdf`` under ``out``.

    Raises
    ------
    TaskError
        SplitError, when a chunk cannot be written or has not the pages it should.
    """
    source: pikepdf.Pdf | None = None
    written = 0
    try:
        for cut in cuts:
            if source is None:
                source = pikepdf.open(path)
            target = out / f"c{cut.index:05d}.pdf"
            _write(source, cut, target)
            written += target.stat().st_size
            yield cut, target
            if written >= REOPEN_BYTES:
                source.close()
                source, written = None, 0
    finally:
        if source is not None:
            source.close()


def _write(source: pikepdf.Pdf, cut: Cut, target: Path) -> None:
    pages = f"pages {cut.first_page}-{cut.last_page}"
    try:
        chunk = pikepdf.new()
        selected = source.pages[cut.first_page - 1 : cut.last_page]
        for page in selected:
            for key in inspection.DROPPED:
                if key in page.obj:
                    del page.obj[key]
        chunk.pages.extend(selected)
        chunk.remove_unreferenced_resources()
        chunk.save(target, object_stream_mode=pikepdf.ObjectStreamMode.generate, deterministic_id=True)
        chunk.close()
        with pypdfium2.PdfDocument(target) as again:
            count = len(again)
    except (pikepdf.PdfError, pypdfium2.PdfiumError, ValueError, RuntimeError) as error:
        raise TaskError(Reason.SPLIT_ERROR, f"{pages} cannot be copied: {error}") from error
    expected = cut.last_page - cut.first_page + 1
    if count != expected:
        raise TaskError(Reason.SPLIT_ERROR, f"{pages} gave {count} pages instead of {expected}")


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _work(channel: Channel, request: dict[str, Any]) -> None:
    inspection.quiet()
    path, scratch = Path(request["path"]), Path(request["scratch"])
    if request["task"] == "inspect":
        found = inspection.inspect(path, scratch, strict=request["strict"])
        channel.send(
            "inspected",
            pages=found.pages,
            damage=found.damage,
            empty_pages=found.empty_pages,
            characters=inspection.count_text(path) if request["count_text"] else None,
        )
        return
    document = inspection.open_document(path, scratch)
    cuts = [Cut(*each) for each in request["cuts"]]
    if any(not 1 <= cut.first_page <= cut.last_page <= document.pages for cut in cuts):
        raise TaskError(Reason.SPLIT_ERROR, f"the plan names pages that the document with its {document.pages} has not")
    waiting = 0
    for cut, target in split(document.path, cuts, Path(request["out"])):
        size = target.stat().st_size
        channel.send("chunk", index=cut.index, path=str(target), size=size, sha256=_digest(target))
        waiting += 1
        while waiting >= UNACKNOWLEDGED:
            waiting -= int(channel.receive()["taken"])
    channel.send("done")


if __name__ == "__main__":
    run(_work)
