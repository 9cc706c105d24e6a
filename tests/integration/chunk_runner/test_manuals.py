"""The cut does not show on real manuals, in French and English, each over 150 pages."""

from __future__ import annotations

from pathlib import Path

import pikepdf
import pypdf
import pytest

from tests.support import corpora
from tests.support.cutting import jsonl, process

MANUALS = {"debian-reference-fr": "fr", "debian-reference-en": "en", "debian-policy": "en"}


@pytest.mark.parametrize("name", MANUALS)
def test_every_cut_of_a_manual_gives_the_same_bytes(name: str, tmp_path: Path) -> None:
    language = MANUALS[name]
    path = corpora.manual(name)
    pages = corpora.DEBIAN[name].pages
    with pikepdf.open(path) as pdf:
        assert len(pdf.pages) == pages > 150
        records = process(pdf, tmp_path, pages, 1, language)
        whole = jsonl(records)
        for size in (7, 20, 50):
            for overlap in (1, 2):
                assert jsonl(process(pdf, tmp_path, size, overlap, language)) == whole, (
                    f"{size} pages, overlap {overlap}"
                )

    silent = set(range(1, pages + 1)) - {record.page for record in records}
    reader = pypdf.PdfReader(path)
    # Another library finds no text there either: a cover, an empty left-hand page.
    assert {page: reader.pages[page - 1].extract_text().strip() for page in silent} == dict.fromkeys(silent, "")
    assert len(silent) <= 2


def test_sentences_of_a_manual_are_whole_over_the_page_border(tmp_path: Path) -> None:
    with pikepdf.open(corpora.debian_policy()) as pdf:
        records = process(pdf, tmp_path, 20, 1)
    spanning = [record.text for record in records if record.end_page > record.page]
    assert any(
        text.startswith("Specifying a list of architecture wildcards indicates")
        and text.endswith("match any of the specified architecture wildcards.")
        for text in spanning
    )
    assert any(text.startswith("When maintainers choose a new hardcoded or dynamically") for text in spanning)
