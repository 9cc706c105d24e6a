"""The merge of chunks that failed, and of results that are gone or damaged."""

from __future__ import annotations

import json

import pytest

from pdfjob_api.pdfjob import PdfJob
from pdfjob_operator.memory import JobMemory
from pdfjob_operator.observation import WorkKind
from pdfjob_operator.plan import merge_inputs
from tests.support import pdfs

from .desk import Desk, pdf_job


@pytest.fixture
async def job(desk: Desk) -> PdfJob:
    """A PdfJob of four chunks, split, with the result of each."""
    job = pdf_job()
    await desk.upload("novel.pdf", pdfs.text_pdf(8))
    await desk.do(job, WorkKind.SPLIT)
    for index in range(4):
        await succeed(desk, job, index)
    return job


async def succeed(desk: Desk, job: PdfJob, index: int) -> None:
    result = await desk.finish(job, index)
    desk.set_status(job, index, phase="Succeeded", attempts=1, starts=1, result=result.wire())


def fail(desk: Desk, job: PdfJob, index: int, code: str, **status: object) -> None:
    error = {"code": code, "message": "it broke"}
    desk.set_status(job, index, phase="Failed", attempts=4, starts=4, lastError=error, **status)


async def merged(desk: Desk, job: PdfJob) -> list[tuple[int, ...] | tuple[str, list[int]]]:
    """Merge, and return pages of sentences and code and pages of gaps, as they stand in the jsonl."""
    facts = await desk.do(job, WorkKind.MERGE)
    assert facts.errors == {}
    assert facts.merged is not None
    assert facts.merged.inputs == merge_inputs(chunk.status for chunk in desk.chunks(job))
    data = await desk.store.get(desk.keys(job).result("jsonl"), 10**6)
    known = await desk.store.head(desk.keys(job).result("jsonl"))
    assert known is not None
    assert known.metadata["inputs"] == facts.merged.inputs
    lines = [json.loads(line) for line in data.splitlines()]
    return [(line["code"], line["missing"]) if "missing" in line else (line["n"], line["page"]) for line in lines]


async def test_failed_chunks_leave_gaps_that_name_pages_and_code(desk: Desk, job: PdfJob) -> None:
    fail(desk, job, 1, "TIMEOUT")
    fail(desk, job, 2, "TIMEOUT")
    assert await merged(desk, job) == [(0, 1), (1, 2), ("TIMEOUT", [3, 6]), (2, 7), (3, 8)]
    assert desk.facts.merged is not None
    assert desk.facts.merged.missing == ((3, 6, "TIMEOUT"),)
    assert {file.format.value for file in desk.facts.merged.files} == {"jsonl", "txt", "csv"}


async def test_gaps_at_both_ends_with_their_own_codes(desk: Desk, job: PdfJob) -> None:
    fail(desk, job, 0, "NO_TEXT")
    fail(desk, job, 3, "INVALID_PDF")
    expected = [("NO_TEXT", [1, 2]), (0, 3), (1, 4), (2, 5), (3, 6), ("INVALID_PDF", [7, 8])]
    assert await merged(desk, job) == expected


async def test_a_failed_chunk_is_missing_also_when_it_had_succeeded_before(desk: Desk, job: PdfJob) -> None:
    fail(desk, job, 1, "TIMEOUT", result=(await desk.finish(job, 1)).wire())
    assert ("TIMEOUT", [3, 4]) in await merged(desk, job)


async def test_a_chunk_that_was_cancelled_is_missing(desk: Desk, job: PdfJob) -> None:
    desk.set_status(job, 3, phase="Cancelled", attempts=0, starts=0)
    assert (await merged(desk, job))[-1] == ("CANCELLED", [7, 8])


async def test_the_merge_after_a_retry_has_the_pages_and_other_inputs(desk: Desk, job: PdfJob) -> None:
    fail(desk, job, 1, "TIMEOUT")
    await merged(desk, job)
    assert desk.facts.merged is not None
    partial = desk.facts.merged.inputs
    await succeed(desk, job, 1)
    desk.memory = JobMemory(desk.facts)
    assert await merged(desk, job) == [(n, n + 1) for n in range(8)]
    assert desk.facts.merged.inputs != partial


async def test_the_code_of_a_gap_is_part_of_the_inputs(desk: Desk, job: PdfJob) -> None:
    hashes = set()
    for code in ("TIMEOUT", "NO_TEXT"):
        fail(desk, job, 1, code)
        hashes.add(merge_inputs(chunk.status for chunk in desk.chunks(job)))
    assert len(hashes) == 2


@pytest.mark.parametrize("phase", ["Pending", "Running", "RetryScheduled"])
async def test_no_merge_while_a_chunk_is_not_done(desk: Desk, job: PdfJob, phase: str) -> None:
    desk.set_status(job, 2, phase=phase, attempts=1, starts=1)
    facts = await desk.do(job, WorkKind.MERGE)
    assert facts.errors[WorkKind.MERGE].retry_at is not None
    assert facts.merged is None


@pytest.mark.parametrize("damage", ["gone", "other bytes", "too large"])
async def test_a_result_that_is_gone_or_damaged_is_named_and_the_merge_works_again_when_it_is_right(
    desk: Desk, job: PdfJob, damage: str
) -> None:
    key = desk.keys(job).chunk_result(2, 1)
    right = await desk.store.get(key, 10**6)
    match damage:
        case "gone":
            await desk.store.delete(key)
        case "other bytes":
            await desk.store.put(key, right.replace(b"One.", b"Two."))
        case "too large":
            await desk.store.put(key, bytes(33 * 1024**2))
    facts = await desk.do(job, WorkKind.MERGE)
    error = facts.errors[WorkKind.MERGE]
    assert (error.reason.value, error.retry_at) == ("MergeFailed", None)
    assert error.merge is not None, "it would hold after the chunk was done again"
    assert "the result of chunk 2 is" in error.message
    assert "chunks: [2] and force: true" in error.message
    assert facts.merged is None
    await desk.store.put(key, right)
    desk.memory = JobMemory(facts)
    await desk.do(job, WorkKind.MERGE)
    assert await merged(desk, job) == [(n, n + 1) for n in range(8)]
