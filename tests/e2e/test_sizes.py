"""Documents of every size class take the same way, and each comes out whole."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Final

import pytest

from tests.support import pdfs
from tests.support.cluster import fresh_namespace
from tests.support.product import Job, Storage, submit, wait_for_operator

CHUNKS: Final = {1: 1, 49: 1, 50: 1, 51: 2, 100: 2, 200: 4, 201: 5}
"""Pages to chunks, with the defaults."""


@pytest.fixture(scope="module")
def jobs(installed: None) -> Iterator[dict[int, Job]]:
    wait_for_operator()
    storage = Storage.connect()
    with fresh_namespace() as namespace:
        made = {}
        for pages in CHUNKS:
            key = f"pdfjob/inbox/{namespace}/{pages}.pdf"
            storage.put(key, pdfs.text_pdf(pages, lines=4))
            made[pages] = submit(namespace, f"pages-{pages}", {"s3": {"key": key}})
        yield made


@pytest.mark.parametrize("pages", CHUNKS)
def test_a_document_of_any_size_is_cut_exactly_and_comes_out_whole(jobs: dict[int, Job], pages: int) -> None:
    job = jobs[pages]
    status = job.succeed()
    print(f"{pages} pages: {status['processingSeconds']} s with all sizes at once")
    assert status["source"]["pages"] == pages
    assert status["chunks"]["succeeded"] == status["chunks"]["total"] == CHUNKS[pages]
    spans = [(chunk["spec"]["startPage"], chunk["spec"]["endPage"]) for chunk in job.chunks()]
    assert spans == [(first, min(first + 49, pages)) for first in range(1, pages + 1, 50)]
    assert [chunk["spec"]["pageCount"] for chunk in job.chunks()] == [last - first + 1 for first, last in spans]
    assert [chunk["spec"]["hasOverlap"] for chunk in job.chunks()] == [False, *[True] * (CHUNKS[pages] - 1)]
    lines = [json.loads(line) for line in job.result(Storage.connect()).splitlines()]
    starts = [line["text"] for line in lines if line["text"].startswith("This is page")]
    assert starts == [pdfs.page_text(number) for number in range(1, pages + 1)]
    assert "LargeFileDetected" in job.events() or pages <= 50
