"""What a result may lack: chunks within the failure policy, and how the job then ends (R-38, R-64)."""

from __future__ import annotations

import pytest

from pdfjob_api.conditions import ChunkPhase, JobCondition, JobPhase, Reason
from pdfjob_api.errors import JobCode
from pdfjob_api.jobstatus import PdfJobStatus
from pdfjob_api.pdfchunk import PdfChunk
from pdfjob_api.pdfjob import FailurePolicy
from pdfjob_operator.actions import Decision, StartWork
from pdfjob_operator.observation import Merged, WorkKind
from pdfjob_operator.plan import merge_inputs
from tests.support.builders import failed, pdf_chunk, pdf_job, raw_pod, running, split_facts, succeeded
from tests.support.deciding import condition, decided

MERGES = (StartWork(WorkKind.MERGE),)


def ended(*lacking: PdfChunk, total: int = 10) -> list[PdfChunk]:
    """Return chunks that have all ended, the first ones as given."""
    return [*lacking, *(succeeded(index) for index in range(len(lacking), total))]


def with_failures(count: int, total: int = 10) -> list[PdfChunk]:
    return ended(*(failed(index, "TIMEOUT") for index in range(count)), total=total)


def decide_with(policy: int | str, chunks: list[PdfChunk], merged: Merged | None = None) -> Decision:
    job = pdf_job(failure_policy=FailurePolicy(max_failed_chunks=policy))
    return decided(job, chunks, split_facts(job, 2 * len(chunks), len(chunks), merged=merged))


def status_of(decision: Decision) -> PdfJobStatus:
    assert decision.status is not None
    return decision.status


@pytest.mark.parametrize(
    ("policy", "failures", "total", "merges"),
    [
        (0, 0, 10, True),
        (0, 1, 10, False),
        (2, 2, 10, True),
        (2, 3, 10, False),
        ("10%", 1, 10, True),
        ("10%", 2, 10, False),
        ("10%", 1, 9, False),
        ("19%", 1, 10, True),
        ("19%", 2, 10, False),
        ("100%", 10, 10, True),
        ("0%", 1, 10, False),
    ],
)
def test_a_job_merges_without_as_many_chunks_as_it_may_lack(
    policy: int | str, failures: int, total: int, *, merges: bool
) -> None:
    decision = decide_with(policy, with_failures(failures, total))
    assert decision.actions == (MERGES if merges else ())
    assert status_of(decision).phase is (JobPhase.MERGING if merges else JobPhase.FAILED)


def test_chunks_that_never_ran_are_lacking_too() -> None:
    lacking = [failed(0), pdf_chunk(1, phase=ChunkPhase.CANCELLED)]
    assert decide_with(2, ended(*lacking)).actions == MERGES
    decision = decide_with(1, ended(*lacking))
    assert decision.actions == ()
    error = status_of(decision).last_error
    assert error is not None
    assert "1 of 10 chunks failed (0); 1 never ran; chunk 0: PROCESSING_ERROR: it broke" in error.message


@pytest.mark.parametrize("phase", [ChunkPhase.PENDING, ChunkPhase.RUNNING, ChunkPhase.RETRY_SCHEDULED])
def test_the_policy_waits_until_all_have_ended(phase: ChunkPhase) -> None:
    for policy in (0, 5):
        status = status_of(decide_with(policy, [pdf_chunk(0, phase=phase, starts=1), failed(1), succeeded(2)]))
        assert (status.phase, condition(status, JobCondition.FINISHED).status) == (JobPhase.RUNNING, "False")


def test_what_it_lacks_is_said_before_and_after_the_merge() -> None:
    chunks = with_failures(2)
    merging = status_of(decide_with("20%", chunks))
    item = condition(merging, JobCondition.CHUNKS_SUCCEEDED)
    assert (item.status, item.reason) == ("False", Reason.CHUNKS_FAILED)
    assert item.message.startswith(
        "as spec.failurePolicy.maxFailedChunks: 20% allows: 2 of 10 chunks failed (0-1); chunk 0: TIMEOUT: it broke"
    )
    assert condition(merging, JobCondition.MERGED).reason == Reason.MERGING
    assert (merging.last_error, merging.progress_percent, merging.current_step) == (None, 75, "Merging")

    missing = ((1, 4, "TIMEOUT"),)
    done = status_of(decide_with("20%", chunks, Merged((), missing, merge_inputs(chunk.status for chunk in chunks))))
    assert (done.phase, done.last_error, done.failed_chunks) == (JobPhase.SUCCEEDED, None, "0-1")
    assert (done.progress_percent, done.current_step) == (100, "Completed")
    summary = condition(done, JobCondition.SUCCEEDED)
    assert (summary.status, summary.reason) == ("True", Reason.PARTIAL_RESULT)
    assert summary.message == "the result lacks pages, see status.result.missingPages"
    assert condition(done, JobCondition.FINISHED).reason == Reason.COMPLETED
    assert condition(done, JobCondition.CHUNKS_SUCCEEDED).status == "False"
    assert done.result is not None
    assert (done.result.partial, done.result.missing_pages) == (True, "1-4")
    assert done.chunks is not None
    assert (done.chunks.succeeded, done.chunks.failed, done.chunks.total) == (8, 2, 10)


def test_a_job_whose_chunks_have_all_ended_does_not_wait_for_a_pod_that_is_slow_to_go() -> None:
    job, chunks = pdf_job(), [failed(0), succeeded(1)]
    slow = raw_pod(running(), start=4, phase="Running", deleted=20)
    assert status_of(decided(job, chunks, split_facts(job, 4, 2), slow)).phase is JobPhase.FAILED


def test_a_policy_that_is_lowered_after_the_merge_counts_as_long_as_the_job_has_not_ended() -> None:
    chunks = with_failures(2)
    merged = Merged((), ((1, 4, "TIMEOUT"),), merge_inputs(chunk.status for chunk in chunks))
    status = status_of(decide_with(1, chunks, merged))
    assert (status.phase, status.last_error and status.last_error.code) == (
        JobPhase.FAILED,
        JobCode.CHUNK_PROCESSING_ERROR,
    )


@pytest.mark.parametrize(
    "then",
    [
        [succeeded(0, sha256="9" * 64), succeeded(1)],
        [failed(0, "TIMEOUT"), succeeded(1)],
    ],
    ids=["another result", "another failure"],
)
def test_a_result_that_was_merged_of_other_chunks_is_merged_again(then: list[PdfChunk]) -> None:
    for before in ([succeeded(0), succeeded(1)], [failed(0, "NO_TEXT"), succeeded(1)]):
        stale = Merged((), (), merge_inputs(chunk.status for chunk in before))
        decision = decide_with(1, then, stale)
        assert decision.actions == MERGES
        assert (status_of(decision).phase, status_of(decision).result) == (JobPhase.MERGING, None)


@pytest.mark.parametrize("policy", [0, "100%"])
def test_a_scan_is_named_as_such_when_no_chunk_has_text(policy: int | str) -> None:
    chunks = [failed(index, "NO_TEXT") for index in range(3)]
    item = condition(status_of(decide_with(policy, chunks)), JobCondition.CHUNKS_SUCCEEDED)
    assert "no chunk has text: scan? use OCR or Gemini Pdf mode" in item.message
