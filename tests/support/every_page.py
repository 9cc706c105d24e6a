"""Whether a merged result tells something of every page."""

from __future__ import annotations

import json
from pathlib import Path

import pypdf


def assert_every_page(result: bytes, document: Path) -> None:
    """Make sure that each page of a document is in a jsonl result, but for those where another library finds no text.

    A cover that is one picture and an empty left-hand page have none.
    """
    lines = [json.loads(line) for line in result.splitlines()]
    covered = {page for line in lines for page in range(line["page"], line["endPage"] + 1)}
    with pypdf.PdfReader(document) as reader:
        pages = set(range(1, len(reader.pages) + 1))
        assert covered <= pages
        silent = pages - covered
        assert {page: reader.pages[page - 1].extract_text().strip() for page in silent} == dict.fromkeys(silent, "")
    assert len(silent) <= 2
