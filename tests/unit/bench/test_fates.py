"""The soak's prediction: it agrees with what the operator writes down of the same fates, at the rates promised."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from datetime import timedelta

import pytest

from bench.soaking.fates import ExpectedChunk, ExpectedStart, Plan, fate_of, merged, plan_of, predict
from pdfjob_api.conditions import ChunkPhase
from pdfjob_api.pdfchunk import ChunkResultStatus, PdfChunkStatus
from pdfjob_api.pdfjob import RetryPolicy
from pdfjob_operator.chunk_end import record_end
from pdfjob_operator.observation import EndFacts, group_starts
from pdfjob_operator.views import job_view, pod_view
from tests.support.builders import NOW, pdf_chunk, pdf_job, raw_job, raw_pod, terminated

SEED = 7
RESULT = ChunkResultStatus(uri="s3://pdfjob/r", sha256="d", bytes=1, sentences=3)


def recorded(plan: Plan, index: int) -> PdfChunkStatus:
    """Let the operator's own code write down the fates of a chunk, one start after the other."""
    job = pdf_job(retry_policy=RetryPolicy(max_retries=plan.max_retries))
    status, saved = PdfChunkStatus(), 0
    while status.phase not in {ChunkPhase.SUCCEEDED, ChunkPhase.FAILED}:
        number = status.starts + 1
        fate = fate_of(SEED, plan.name, index, number)
        saved = max(saved, int(fate.saves_page))
        pod = raw_pod(terminated(fate.exit_code, fate.reason), chunk=index, start=number, phase="Failed")
        starts = group_starts([job_view(raw_job(chunk=index, start=number))], [pod_view(pod)], {})
        chunk = pdf_chunk(index).model_copy(update={"status": status})
        end = EndFacts(RESULT, None, 2) if fate.stores_result else EndFacts(None, None, saved)
        now = NOW + timedelta(seconds=number)
        status = record_end(chunk, starts[index][0], end, job, now, held=None).status
    return status


@pytest.mark.parametrize("number", range(40))
def test_the_prediction_agrees_with_the_operator(number: int) -> None:
    plan = plan_of(number, 25)
    for index, expected in enumerate(predict(SEED, plan).chunks):
        found = recorded(plan, index)
        assert (found.phase.value, found.attempts, found.starts) == (expected.phase, expected.attempts, expected.starts)
        told = tuple(ExpectedStart(item.start, item.outcome.value, item.code, item.counted) for item in found.history)
        assert told == expected.history


def test_two_of_a_hundred_starts_fail_for_good_and_ten_heal() -> None:
    fates = [fate_of(SEED, f"job-{number}", chunk, 1) for number in range(400) for chunk in range(25)]
    final = sum(fate.final for fate in fates) / len(fates)
    good = sum(fate.outcome == "Succeeded" for fate in fates) / len(fates)
    assert 0.015 < final < 0.025
    assert 0.09 < 1 - good - final < 0.11


def test_jobs_end_in_each_way() -> None:
    ends: Counter[object] = Counter()
    for number in range(200):
        job = predict(SEED, plan_of(number, 25))
        ends[job.phase, bool(job.failed)] += 1
        exhausted = [chunk for chunk in job.chunks if chunk.phase == "Failed" and chunk.attempts > 1]
        ends["retries used up"] += len(exhausted)
    assert set(ends) == {("Succeeded", False), ("Succeeded", True), ("Failed", True), "retries used up"}
    assert min(ends.values()) >= 3


def test_the_same_page_saved_twice_is_nothing_new() -> None:
    plans = [plan_of(number, 25) for number in range(2000)]
    twice = [
        (plan, index)
        for plan in plans
        for index in range(25)
        if all(fate_of(SEED, plan.name, index, start).saves_page for start in (1, 2))
    ]
    assert twice, "no chunk of these seeds saves its page twice"
    for plan, index in twice:
        history = predict(SEED, plan).chunks[index].history
        assert [item.counted for item in history[:2]] == [False, True]


def chunk_of(code: str | None) -> ExpectedChunk:
    phase = "Failed" if code else "Succeeded"
    return ExpectedChunk(phase, 1, 1, (ExpectedStart(1, phase, code, counted=True),))


def test_gaps_of_neighbours_with_one_code_are_one() -> None:
    chunks = tuple(chunk_of(code) for code in (None, "NO_TEXT", "NO_TEXT", "INVALID_PDF", None))
    lines = [json.loads(line) for line in merged(chunks).splitlines()]
    assert [line.get("missing") for line in lines] == [None, None, [3, 6], [7, 8], None, None]
    assert [line["n"] for line in lines if "n" in line] == [0, 1, 2, 3]
    assert lines[-1]["page"] == 10


def test_the_allowance_is_a_number_or_a_percentage_rounded_down() -> None:
    assert Plan("x", 25, 3, "10%").allowed == 2
    assert Plan("x", 25, 3, 1).allowed == 1


def test_the_hash_is_that_of_the_merged_result() -> None:
    job = next(job for job in (predict(SEED, plan_of(number, 3)) for number in range(9)) if job.phase == "Succeeded")
    assert job.result_sha256 == hashlib.sha256(merged(job.chunks).encode()).hexdigest()
