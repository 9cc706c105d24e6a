"""What earlier starts, and earlier lives, left for a chunk: which result is taken, which checkpoint is gone on from."""

from __future__ import annotations

import pytest

from pdfjob_api.pdfchunk import PdfChunk
from pdfjob_operator.ends import newest_checkpoint, read_adopted, read_end
from pdfjob_operator.plan import StoredChunk
from pdfjob_operator.planning import ChunkRange
from pdfjob_operator.resources import build_chunk

from .desk import FIRST, SECOND, THIRD, Desk, pdf_job

NOW, BEFORE, LONG_AGO = pdf_job(THIRD), pdf_job(SECOND), pdf_job(FIRST)
RUNS = [SECOND[:8], FIRST[:8]]


def a_chunk(index: int = 2, *, fresh_after: int = 0) -> PdfChunk:
    pages = ChunkRange(index, 2 * index + 1, 2 * index + 2, 1, 1)
    raw = build_chunk(NOW, pages, StoredChunk(index=index, size_bytes=9, sha256="c"), "s3://bucket/c")
    return PdfChunk.model_validate({**raw, "status": {"freshAfter": fresh_after}})


async def adopted(desk: Desk) -> tuple[str, int] | None:
    """Return run and start of the result that is adopted."""
    found = await read_adopted(desk.store, desk.keys(NOW), a_chunk(), RUNS)
    run, _, rest = found.uri.rpartition("/")[2].partition("-a") if found else ("", "", "")
    return (run, int(rest.removesuffix(".json"))) if found else None


async def test_the_newest_life_comes_first_then_its_last_start(desk: Desk) -> None:
    assert await adopted(desk) is None
    await desk.finish(LONG_AGO, 2, start=7)
    assert await adopted(desk) == (FIRST[:8], 7)
    await desk.finish(BEFORE, 2, start=1)
    await desk.finish(BEFORE, 2, start=2)
    await desk.finish(BEFORE, 2, start=10)
    assert await adopted(desk) == (SECOND[:8], 10)


async def test_only_results_of_adopted_lives_of_this_chunk_count(desk: Desk) -> None:
    await desk.finish(NOW, 2)
    await desk.finish(pdf_job("dddddddd-unknown"), 2)
    await desk.finish(BEFORE, 3)
    assert await adopted(desk) is None


@pytest.mark.parametrize("damage", [b"", b"{", b'{"version":1}', b"\xff\xfe", b"[]"])
async def test_a_damaged_result_is_passed_over(desk: Desk, damage: bytes) -> None:
    await desk.finish(LONG_AGO, 2, start=1)
    await desk.store.put(desk.keys(BEFORE).chunk_result(2, 3), damage)
    assert await adopted(desk) == (FIRST[:8], 1)


async def test_a_result_of_other_pages_is_passed_over(desk: Desk) -> None:
    await desk.finish(BEFORE, 3)
    foreign = await desk.store.get(desk.keys(BEFORE).chunk_result(3, 1), 10**6)
    await desk.store.put(desk.keys(BEFORE).chunk_result(2, 1), foreign)
    assert await adopted(desk) is None


async def checkpoint(desk: Desk, after: int = 0) -> str | None:
    return await newest_checkpoint(desk.store, desk.keys(NOW), 2, runs=RUNS, after=after)


async def test_the_own_checkpoint_comes_first_then_those_of_earlier_lives(desk: Desk) -> None:
    assert await checkpoint(desk) is None
    oldest = await desk.save(LONG_AGO, 2, 9)
    assert await checkpoint(desk) == oldest
    await desk.save(BEFORE, 2, 2)
    newer = await desk.save(BEFORE, 2, 10)
    assert await checkpoint(desk) == newer
    own = await desk.save(NOW, 2, 1)
    assert await checkpoint(desk) == own


async def test_a_chunk_that_is_done_again_takes_nothing_that_was_saved_before(desk: Desk) -> None:
    await desk.save(BEFORE, 2, 3)
    await desk.save(NOW, 2, 1)
    assert await checkpoint(desk, after=1) is None
    again = await desk.save(NOW, 2, 2)
    assert await checkpoint(desk, after=1) == again
    assert await checkpoint(desk, after=2) is None


async def test_an_end_without_result_counts_what_an_earlier_life_saved(desk: Desk) -> None:
    await desk.save(BEFORE, 2, 3, done=2)
    keys = desk.keys(NOW)
    assert (await read_end(desk.store, keys, a_chunk(), 1, RUNS)).items == 2
    assert (await read_end(desk.store, keys, a_chunk(), 1)).items == 0
    assert (await read_end(desk.store, keys, a_chunk(fresh_after=1), 2, RUNS)).items == 0
    await desk.save(NOW, 2, 1, done=1)
    assert (await read_end(desk.store, keys, a_chunk(), 1, RUNS)).items == 1
