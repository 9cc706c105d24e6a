"""Results that are kept for other jobs, on a real S3 server: stored once, verified when taken, removed by age."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Final

import pytest

from pdfjob_api.contract import Tokens
from pdfjob_api.keys import JobKeys
from pdfjob_api.pdfchunk import ChunkResultStatus, PdfChunk
from pdfjob_operator.chunk_end import adopted
from pdfjob_operator.clock import utc_now
from pdfjob_operator.ends import read_adopted
from pdfjob_operator.kept_results import keep_result, sweep, sweep_for_ever, take_kept
from pdfjob_operator.observation import WorkKind
from pdfjob_operator.storage.errors import StorageError
from tests.support import builders

from .desk import FIRST, SECOND, THIRD, Desk, pdf_job

NAME: Final = "f" * 64
GEMINI: Final = {"gemini": {"model": "gemini-test", "apiKeySecretRef": {"name": "gemini"}}}
FIRST_JOB, SECOND_JOB = pdf_job(FIRST, "novel", processor=GEMINI), pdf_job(SECOND, "again", processor=GEMINI)


def a_chunk(index: int = 2) -> PdfChunk:
    return builders.pdf_chunk(index)


async def kept(desk: Desk) -> ChunkResultStatus:
    result = await desk.finish(FIRST_JOB, 2)
    await keep_result(desk.store, desk.keys(FIRST_JOB), NAME, result)
    return result


async def taken(desk: Desk) -> ChunkResultStatus | None:
    return await take_kept(desk.store, desk.keys(SECOND_JOB), a_chunk(), NAME)


async def test_what_one_job_kept_becomes_another_ones_own_to_the_byte(desk: Desk) -> None:
    assert await taken(desk) is None
    assert await desk.objects(SECOND_JOB) == set()
    result = await kept(desk)
    found = await taken(desk)
    assert found is not None
    assert (found.sha256, found.bytes, found.sentences) == (result.sha256, result.bytes, result.sentences)
    own = f"results/c00002/{SECOND[:8]}-a0.json"
    assert await desk.objects(SECOND_JOB) == {own}
    assert found.uri == desk.store.uri(desk.keys(SECOND_JOB).root + own)
    first = desk.keys(FIRST_JOB).chunk_result(2, 1)
    assert await desk.store.get(desk.keys(SECOND_JOB).root + own, 10**6) == await desk.store.get(first, 10**6)


async def test_no_other_namespace_sees_it(desk: Desk) -> None:
    await kept(desk)
    keys = JobKeys(desk.store.prefix, "strangers", "again", SECOND)
    assert await take_kept(desk.store, keys, a_chunk(), NAME) is None


async def test_a_later_result_takes_the_place_of_an_earlier_one(desk: Desk) -> None:
    await kept(desk)
    later = await desk.finish(FIRST_JOB, 2, start=2, text="Better.")
    await keep_result(desk.store, desk.keys(FIRST_JOB), NAME, later)
    found = await taken(desk)
    assert found is not None
    assert found.sha256 == later.sha256


async def test_deleting_the_job_that_kept_it_and_the_one_that_took_it_leaves_it(desk: Desk) -> None:
    await kept(desk)
    for job in (FIRST_JOB, SECOND_JOB):
        assert await taken(desk) is not None
        await desk.do(job, WorkKind.CLEAN)
        assert await desk.objects(job) == set()
    assert await taken(desk) is not None


@pytest.mark.parametrize("damage", [b"", b"{", b"[]", b"\xff\xfe"])
async def test_a_damaged_entry_is_ignored_and_leaves_nothing(desk: Desk, damage: bytes) -> None:
    await kept(desk)
    await desk.store.put(desk.keys(FIRST_JOB).cached(NAME), damage)
    assert await taken(desk) is None
    assert await desk.objects(SECOND_JOB) == set()


async def test_an_entry_whose_bytes_have_changed_or_whose_hash_is_gone_is_ignored(desk: Desk) -> None:
    result, key = await kept(desk), desk.keys(FIRST_JOB).cached(NAME)
    data = await desk.store.get(key, 10**6)
    for content, metadata in ((data.replace(b"One", b"Two"), {"sha256": result.sha256}), (data, {})):
        await desk.store.put(key, content, metadata=metadata)
        assert await taken(desk) is None
    await desk.store.put(key, data, metadata={"sha256": result.sha256})
    assert await taken(desk) is not None


async def test_an_entry_of_other_pages_is_ignored(desk: Desk) -> None:
    result = await desk.finish(FIRST_JOB, 3)
    await keep_result(desk.store, desk.keys(FIRST_JOB), NAME, result)
    assert await taken(desk) is None


async def test_what_cannot_be_kept_is_no_error(desk: Desk) -> None:
    result = await desk.finish(FIRST_JOB, 2)
    await desk.store.delete(desk.keys(FIRST_JOB).chunk_result(2, 1))
    await keep_result(desk.store, desk.keys(FIRST_JOB), NAME, result)
    assert await taken(desk) is None
    desk.disconnect()
    await keep_result(desk.store, desk.keys(FIRST_JOB), NAME, result)
    with pytest.raises(StorageError):
        await taken(desk)


async def test_a_later_life_adopts_what_an_earlier_one_had_taken(desk: Desk) -> None:
    await kept(desk)
    assert await taken(desk) is not None
    later = pdf_job(THIRD, "again", processor=GEMINI)
    found = await read_adopted(desk.store, desk.keys(later), a_chunk(), [SECOND[:8]])
    assert found is not None
    assert found.uri.endswith(f"{SECOND[:8]}-a0.json")
    status = adopted(a_chunk(), found, later, utc_now())
    assert status.result is not None
    assert (status.result.cached, status.result.tokens) == (True, Tokens())


async def test_only_what_is_too_old_is_swept_and_nothing_outside_of_the_cache(desk: Desk) -> None:
    await kept(desk)
    assert await sweep(desk.store, 30) == 0
    assert await taken(desk) is not None
    before = await desk.objects(FIRST_JOB)
    assert await desk.store.delete_older("pdfjob/cache/", utc_now() - timedelta(minutes=1)) == 0
    assert await desk.store.delete_older("pdfjob/cache/", utc_now() + timedelta(minutes=1)) == 1
    assert await taken(desk) is None
    assert await desk.objects(FIRST_JOB) == before


async def test_without_a_cache_what_it_held_is_removed_by_the_first_sweep(desk: Desk) -> None:
    await kept(desk)
    await asyncio.sleep(1.1)  # the server tells times in whole seconds
    sweeping = asyncio.create_task(sweep_for_ever(desk.store, 0, first_seconds=0.1))
    async with asyncio.timeout(10):
        while await taken(desk) is not None:  # noqa: ASYNC110 - removed by the task
            await asyncio.sleep(0.1)
    assert not sweeping.done()
    sweeping.cancel()
