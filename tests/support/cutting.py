"""Cuts a document as the operator does and processes every chunk alone, at the level of the runner."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pikepdf

from chunk_runner.processors.local import LocalProcessor
from pdfjob_api.contract import Record
from pdfjob_api.processing import LocalProcessor as Settings
from pdfjob_api.processing import Processor
from tests.support.runner_process import cut, make_task


def process(pdf: pikepdf.Pdf, folder: Path, size: int, overlap: int, language: str = "en") -> list[Record]:
    """Return the records of all chunks of ``size`` pages, put together as the merge does."""
    pages = len(pdf.pages)
    records: list[Record] = []
    for start in range(1, pages + 1, size):
        end = min(start + size - 1, pages)
        before, after = min(overlap, start - 1), min(overlap, pages - end)
        chunk = cut(pdf, start - before, end + after)
        path = folder / f"{size}-{overlap}-{start}.pdf"
        path.write_bytes(chunk)
        task = make_task(
            chunk,
            start,
            end,
            context_before=before,
            context_after=after,
            processor=Processor(local=Settings(language=language)),
        )
        processor = LocalProcessor(task, path)
        for window in processor.windows(range(start, end + 1)):
            records += [record for piece in processor.process(window) for record in piece.records]
        processor.close()
        path.unlink()
    return records


def jsonl(records: Sequence[Record]) -> bytes:
    """Return the lines of the merged result."""
    lines = (
        json.dumps(
            {"n": number, "page": record.page, "endPage": record.end_page, "text": record.text}, ensure_ascii=False
        )
        for number, record in enumerate(records)
    )
    return "".join(f"{line}\n" for line in lines).encode()
