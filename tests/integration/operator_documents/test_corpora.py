"""Documents of others: malformed ones must end in an answer, real manuals must come out of the splitter unchanged."""

from __future__ import annotations

import asyncio
import hashlib
from contextlib import aclosing
from itertools import chain
from pathlib import Path

import pypdf
import pypdfium2
import pytest

from pdfjob_api.pdfjob import Chunking
from pdfjob_api.processing import Repair
from pdfjob_operator.documents import DocumentError, Documents
from pdfjob_operator.planning import plan_ranges
from pdfjob_operator.settings import DocumentSettings
from tests.support import corpora

_BUDGET_SECONDS = 20
"""For one file, inspection and split; asked for by the design's facts about PDFs."""


def texts(path: Path) -> list[str]:
    with pypdfium2.PdfDocument(path) as document:
        return [page.get_textpage().get_text_range() for page in document]


async def answer(documents: Documents, source: Path, repair: Repair, out: Path) -> str:
    """Inspect and split a document; return what became of it in one word."""
    out.mkdir()
    try:
        inspection = await documents.inspect(source, repair)
        ranges = plan_ranges(inspection.pages, Chunking(pages_per_chunk=10, threshold_pages=0))
        owned = 0
        async with aclosing(documents.split(source, ranges, out, repair)) as files:
            async for file in files:
                each = ranges[file.index]
                with pypdfium2.PdfDocument(file.path) as chunk:
                    assert len(chunk) == each.page_count + each.context_before + each.context_after, source
                owned += each.page_count
                file.path.unlink()
    except DocumentError as error:
        if error.retryable or "ended with" in str(error):  # killed or crashed
            raise
        return error.reason.value
    assert owned == inspection.pages, source
    return "damaged" if inspection.damage else "whole"


@pytest.mark.timeout(420)
async def test_malformed_documents_end_in_an_answer(tmp_path: Path) -> None:
    """Every PDF that pypdf, pikepdf, ocrmypdf and pypdfium2 keep for their own tests, about 200 files."""
    documents = Documents(DocumentSettings(cpu_seconds=_BUDGET_SECONDS, wall_seconds=_BUDGET_SECONDS))
    sources = await asyncio.to_thread(corpora.all_source_pdfs)
    assert len(sources) > 150
    folders = (tmp_path / str(number) for number in range(2 * len(sources)))
    copies = {source: tmp_path / f"{hashlib.sha256(str(source).encode()).hexdigest()}.pdf" for source in sources}
    for source, copy in copies.items():
        copy.symlink_to(source)  # scratch folders are made beside the source, and the cache is not ours to write to
    gate = asyncio.Semaphore(2)

    async def both(source: Path) -> tuple[str, str]:
        async with gate, asyncio.timeout(2 * _BUDGET_SECONDS):
            strict = await answer(documents, copies[source], Repair.STRICT, next(folders))
            repaired = await answer(documents, copies[source], Repair.REPAIR, next(folders))
            return strict, repaired

    answers = dict(zip(sources, await asyncio.gather(*(both(source) for source in sources)), strict=True))
    counts = {word: sum(strict == word for strict, _ in answers.values()) for word in set(chain(*answers.values()))}
    told = {
        f"{source.parent.name}/{source.name}": each for source, each in answers.items() if each != ("whole", "whole")
    }
    # Strict refuses little: most odd files of these collections have lost nothing.
    refused = {name for name, (strict, _) in told.items() if strict not in {"Encrypted", "EmptyPdf"}}
    assert len(refused) <= 4, told
    for source, (strict, repaired) in answers.items():
        if strict == "whole":
            assert repaired == "whole", source
        if "password" in source.name and "empty" not in source.name and strict != "whole":
            assert strict == "Encrypted", source
        assert repaired in {"whole", "damaged", "InvalidFormat", "Encrypted", "EmptyPdf"}, source
    assert "SplitError" not in counts, told


@pytest.mark.parametrize("name", ["debian-policy", "octave", "r-refman", "lilypond-notation"])
@pytest.mark.timeout(300)
async def test_real_manuals_are_split_without_a_change_of_text(tmp_path: Path, name: str) -> None:
    source = tmp_path / "source.pdf"
    source.symlink_to(await asyncio.to_thread(corpora.manual, name))
    out = tmp_path / "out"
    out.mkdir()
    documents = Documents(DocumentSettings())
    inspection = await documents.inspect(source, Repair.STRICT)
    assert (inspection.damage, inspection.empty_pages) == ((), ())
    with source.open("rb") as opened:
        assert len(pypdf.PdfReader(opened).pages) == inspection.pages
    ranges = plan_ranges(inspection.pages, Chunking())
    whole = await asyncio.to_thread(texts, source)
    owned = 0
    async with aclosing(documents.split(source, ranges, out, Repair.STRICT)) as files:
        async for file in files:
            each = ranges[file.index]
            first, last = each.start_page - each.context_before, each.end_page + each.context_after
            assert await asyncio.to_thread(texts, file.path) == whole[first - 1 : last], each
            owned += each.page_count
            file.path.unlink()
    assert owned == inspection.pages
