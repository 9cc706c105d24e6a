"""A PdfJob that is created again under its name: what is stored is taken over, or removed, whenever a crash comes."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest

from pdfjob_api.pdfjob import PdfJob
from pdfjob_operator.ends import newest_checkpoint, read_adopted
from pdfjob_operator.observation import WorkKind
from pdfjob_operator.plan import Manifest, Plan
from pdfjob_operator.stored import read_manifest, read_plan
from tests.support import pdfs

from .desk import FIRST, SECOND, THIRD, Desk, pdf_job

DOCUMENT = pdfs.text_pdf(7)
CHUNKS = 4


async def plan_of(desk: Desk, job: PdfJob) -> Plan:
    plan = await read_plan(desk.store, desk.keys(job))
    assert plan is not None
    return plan


async def manifest_of(desk: Desk, job: PdfJob) -> Manifest:
    manifest = await read_manifest(desk.store, desk.keys(job))
    assert manifest is not None
    return manifest


async def first_life(desk: Desk, name: str = "novel") -> PdfJob:
    """Split a document, finish chunks 0 and 1, save a page of chunk 2, delete the PdfJob with Retain."""
    job = pdf_job(FIRST, name)
    await desk.upload("novel.pdf", DOCUMENT)
    await desk.split_once(job)
    await desk.finish(job, 0)
    await desk.finish(job, 1)
    await desk.save(job, 2, start=1)
    await desk.store.put(desk.keys(job).result("jsonl"), b"merged")
    await desk.store.put(desk.keys(job).history_record, b"history")
    desk.api.chunks.clear()
    desk.restart()
    return job


async def assert_split(desk: Desk, job: PdfJob) -> None:
    """Make sure that the work of a split is done, and every PdfChunk is made of the very object that is stored."""
    run = job.metadata.uid[:8]
    assert desk.facts.errors == {}
    assert (await plan_of(desk, job)).run == run
    manifest = await manifest_of(desk, job)
    assert manifest.run == run
    assert desk.facts.manifest == manifest
    chunks = desk.chunks(job)
    assert [chunk.spec.index for chunk in chunks] == [entry.index for entry in manifest.chunks] == [*range(CHUNKS)]
    for chunk, entry in zip(chunks, manifest.chunks, strict=True):
        data = await desk.store.get(desk.keys(job).chunk(chunk.spec.index), 10**6)
        assert hashlib.sha256(data).hexdigest() == chunk.spec.sha256 == entry.sha256
        assert len(data) == chunk.spec.size_bytes


async def test_the_same_document_under_the_same_name_goes_on_from_what_is_stored(desk: Desk) -> None:
    first = await first_life(desk)
    before = await manifest_of(desk, first)
    second = pdf_job(SECOND)
    desk.writes_left = 1 + CHUNKS + 1  # plan, PdfChunks, manifest: no chunk PDF is written
    facts = await desk.do(second, WorkKind.SPLIT)
    await assert_split(desk, second)
    assert facts.plan is not None
    assert facts.plan.adopted == [FIRST[:8]]
    assert facts.plan.source.pages == 7
    assert (await manifest_of(desk, second)).chunks == before.chunks
    results = [
        await read_adopted(desk.store, desk.keys(second), chunk, facts.plan.adopted) for chunk in desk.chunks(second)
    ]
    assert [result is not None for result in results] == [True, True, False, False]
    assert results[1] is not None
    assert results[1].uri.endswith(f"/results/c00001/{FIRST[:8]}-a1.json")
    assert await newest_checkpoint(desk.store, desk.keys(second), 2, runs=facts.plan.adopted) == desk.keys(
        first
    ).checkpoint(2, 1)


async def test_a_third_life_goes_on_from_both_before(desk: Desk) -> None:
    await first_life(desk)
    second = pdf_job(SECOND)
    await desk.do(second, WorkKind.SPLIT)
    await desk.finish(second, 2)
    desk.api.chunks.clear()
    desk.restart()
    third = pdf_job(THIRD)
    facts = await desk.do(third, WorkKind.SPLIT)
    await assert_split(desk, third)
    assert facts.plan is not None
    assert facts.plan.adopted == [SECOND[:8], FIRST[:8]]
    found = [await read_adopted(desk.store, desk.keys(third), each, facts.plan.adopted) for each in desk.chunks(third)]
    assert [each.uri.rpartition("/")[2][:8] if each else None for each in found] == [
        FIRST[:8],
        FIRST[:8],
        SECOND[:8],
        None,
    ]


@pytest.mark.parametrize("lost", ["chunks/c00001.pdf", "chunks", "manifest.json"])
async def test_chunk_pdfs_that_are_gone_are_split_again_and_results_are_adopted_all_the_same(
    desk: Desk, lost: str
) -> None:
    first = await first_life(desk)
    await desk.store.delete_prefix(desk.keys(first).root + lost, keep=lambda _: False)
    second = pdf_job(SECOND)
    facts = await desk.do(second, WorkKind.SPLIT)
    await assert_split(desk, second)
    assert facts.plan is not None
    assert await read_adopted(desk.store, desk.keys(second), desk.chunks(second)[1], facts.plan.adopted) is not None


async def test_a_chunk_pdf_of_another_size_is_split_again(desk: Desk) -> None:
    first = await first_life(desk)
    await desk.store.put(desk.keys(first).chunk(3), b"%PDF-1.7 damaged")
    second = pdf_job(SECOND)
    await desk.do(second, WorkKind.SPLIT)
    await assert_split(desk, second)


@pytest.mark.parametrize("change", ["content", "chunking", "processor", "repair"])
async def test_another_document_or_other_settings_start_clean(desk: Desk, change: str) -> None:
    first = await first_life(desk)
    changes: dict[str, dict[str, Any]] = {
        "chunking": {"chunking": {"pagesPerChunk": 2, "thresholdPages": 1}},
        "processor": {"processor": {"local": {"language": "en"}}},
        "repair": {"source": {"s3": {"key": "pdfjob/inbox/books/novel.pdf"}, "repair": "Repair"}},
    }
    if change == "content":
        await desk.upload("novel.pdf", pdfs.text_pdf(8))
    second = pdf_job(SECOND, **changes.get(change, {}))
    facts = await desk.do(second, WorkKind.SPLIT)
    await assert_split(desk, second)
    assert facts.plan is not None
    assert facts.plan.adopted == []
    assert facts.plan.source.pages == (8 if change == "content" else 7)
    objects = await desk.objects(second)
    assert objects == {"plan.json", "manifest.json", "result.jsonl", *(f"chunks/c0000{n}.pdf" for n in range(CHUNKS))}
    assert await desk.store.get(desk.keys(first).history_record, 100) == b"history"


async def second_life(desk: Desk, scenario: str, name: str) -> PdfJob:
    """Create the PdfJob again after something happened between the lives."""
    first = await first_life(desk, name)
    if scenario == "one chunk lost":
        await desk.store.delete(desk.keys(first).chunk(2))
    if scenario == "other content":
        await desk.upload("novel.pdf", pdfs.text_pdf(8))
    return pdf_job(SECOND, name)


@pytest.mark.parametrize("scenario", ["all is there", "one chunk lost", "other content"])
async def test_a_crash_before_any_write_changes_nothing_of_the_end(desk: Desk, scenario: str) -> None:
    adopted = [] if scenario == "other content" else [FIRST[:8]]
    job = await second_life(desk, scenario, "novel")
    desk.writes_left = 100
    await desk.do(job, WorkKind.SPLIT)
    writes = 100 - desk.writes_left
    assert writes >= CHUNKS + 2
    for crash in range(writes):
        desk.api.chunks.clear()
        desk.restart()
        job = await second_life(desk, scenario, f"novel-{crash}")
        desk.writes_left = crash
        facts = await desk.do(job, WorkKind.SPLIT)
        assert [error.message for error in facts.errors.values()] == ["CrashedError: "], (scenario, crash)
        desk.restart()
        facts = await desk.do(job, WorkKind.SPLIT)
        await assert_split(desk, job)
        assert facts.plan is not None
        assert facts.plan.adopted == adopted
        earlier = {key for key in await desk.objects(job) if FIRST[:8] in key}
        assert len(earlier) == 3 * len(adopted), (scenario, crash)


async def test_a_damaged_plan_or_manifest_is_made_again(desk: Desk) -> None:
    job = pdf_job(FIRST)
    await desk.upload("novel.pdf", DOCUMENT)
    await desk.do(job, WorkKind.SPLIT)
    keys = desk.keys(job)
    plan, manifest = await plan_of(desk, job), await manifest_of(desk, job)
    for key in (keys.plan, keys.manifest):
        for damage in (b"", b'{"version":1,"run":"aaaaaaaa"', b"[]"):
            await desk.store.put(key, damage)
            desk.restart()
            await desk.do(job, WorkKind.SPLIT)
            await assert_split(desk, job)
            assert await plan_of(desk, job) == plan
            assert await manifest_of(desk, job) == manifest


async def test_a_lost_manifest_is_made_again_without_the_source(desk: Desk) -> None:
    job = pdf_job(FIRST)
    await desk.upload("novel.pdf", DOCUMENT)
    await desk.do(job, WorkKind.SPLIT)
    await desk.store.delete(desk.keys(job).manifest)
    await desk.store.delete("pdfjob/inbox/books/novel.pdf")
    desk.restart()
    await desk.do(job, WorkKind.SPLIT)
    await assert_split(desk, job)


async def test_a_document_that_changed_after_the_plan_was_lost_is_refused(desk: Desk) -> None:
    job = pdf_job(FIRST)
    await desk.upload("novel.pdf", DOCUMENT)
    facts = await desk.do(job, WorkKind.SPLIT)
    assert facts.plan is not None
    await desk.store.delete(desk.keys(job).plan)
    await desk.upload("novel.pdf", pdfs.text_pdf(8))
    desk.restart()
    known = pdf_job(FIRST, status={"source": facts.plan.source.wire()})
    facts = await desk.do(known, WorkKind.SPLIT)
    error = facts.errors[WorkKind.SPLIT]
    assert (error.reason.value, error.retry_at) == ("SplitError", None)
    assert "the source changed" in error.message
