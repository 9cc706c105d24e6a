"""Where a document is cut does not show. Every size is tried on the runner itself, a choice of them here."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import pytest

from tests.support.cluster import fresh_namespace
from tests.support.corpora import DEBIAN, manual
from tests.support.every_page import assert_every_page
from tests.support.product import Job, Storage, submit, wait_for_operator

WHOLE: Final = {"pagesPerChunk": 1000, "thresholdPages": 1000}
CUTS: Final[list[dict[str, Any]]] = [
    {"pagesPerChunk": 50, "overlapPages": 1},
    {"pagesPerChunk": 20, "overlapPages": 2},
]
MANUALS: Final[dict[str, tuple[str, list[dict[str, Any]]]]] = {
    "debian-policy": ("en", [*CUTS, {"pagesPerChunk": 7, "overlapPages": 1}]),
    "debian-reference-en": ("en", CUTS),
    "debian-reference-fr": ("fr", CUTS),
}
"""Name to language and ways to cut it, besides not at all."""


@pytest.fixture(scope="module")
def jobs(installed: None) -> Iterator[dict[str, list[Job]]]:
    """All PdfJobs, the uncut one of each manual first."""
    wait_for_operator()
    storage = Storage.connect()
    with fresh_namespace() as namespace:
        made: dict[str, list[Job]] = {}
        for name, (language, cuts) in MANUALS.items():
            source = {"s3": {"key": storage.upload(namespace, manual(name))}}
            processor = {"local": {"language": language}}
            made[name] = [
                submit(namespace, f"{name}-{number}", source, processor=processor, chunking=chunking)
                for number, chunking in enumerate([WHOLE, *cuts])
            ]
        yield made


@pytest.mark.parametrize("name", MANUALS)
def test_the_result_is_the_same_bytes_however_a_manual_was_cut(jobs: dict[str, list[Job]], name: str) -> None:
    storage, pages = Storage.connect(), DEBIAN[name].pages
    statuses = [job.succeed(500) for job in jobs[name]]
    sizes = [WHOLE["pagesPerChunk"], *[cut["pagesPerChunk"] for cut in MANUALS[name][1]]]
    assert [status["chunks"]["total"] for status in statuses] == [-(-pages // size) for size in sizes]
    results = [job.result(storage) for job in jobs[name]]
    assert [result == results[0] for result in results] == [True] * len(results)
    assert_every_page(results[0], manual(name))
