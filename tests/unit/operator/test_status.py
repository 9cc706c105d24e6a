"""The status of a PdfJob: stage marks, step texts, counts, conditions, and how it ends."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pdfjob_api.conditions import ChunkPhase, JobCondition, JobPhase, Reason
from pdfjob_api.contract import Progress, Tokens
from pdfjob_api.errors import JobCode
from pdfjob_api.jobstatus import PdfJobStatus, ResultFile, ResultFormat
from pdfjob_api.pdfchunk import Outcome, PdfChunk
from pdfjob_api.pdfjob import Chunking, PdfJob
from pdfjob_operator.observation import Facts, Heartbeat, Merged, WorkError, WorkKind
from pdfjob_operator.plan import merge_inputs
from pdfjob_operator.status import compute_status
from tests.support.builders import (
    NOW,
    at,
    failed,
    manifest_of,
    observation,
    pdf_chunk,
    pdf_job,
    plan_of,
    split_facts,
    succeeded,
)
from tests.support.deciding import condition, record

FILE = ResultFile(format=ResultFormat.TXT, uri="s3://pdfjob/result.txt", bytes=9, sha256="m")
RETRY = NOW + timedelta(seconds=10)


def status_of(job: PdfJob, chunks: list[PdfChunk], facts: Facts) -> PdfJobStatus:
    status = compute_status(observation(job, chunks, facts), {chunk.spec.index: chunk.status for chunk in chunks}, NOW)
    assert status is not None
    return status


def merged_of(chunks: list[PdfChunk], *missing: tuple[int, int, str]) -> Merged:
    return Merged((FILE,), missing, merge_inputs(chunk.status for chunk in chunks))


def ten_chunks(done: int) -> PdfJobStatus:
    job = pdf_job()
    chunks = [succeeded(index) for index in range(done)] + [pdf_chunk(index) for index in range(done, 10)]
    return status_of(job, chunks, split_facts(job, 20, 10))


@pytest.mark.parametrize(
    ("facts", "percent", "phase", "step"),
    [
        (Facts(), 5, JobPhase.PENDING, "Accepted"),
        (Facts(step=Reason.FETCHING), 5, JobPhase.SPLITTING, "Fetching source"),
        (Facts(step=Reason.SPLITTING), 5, JobPhase.SPLITTING, "Inspecting document"),
        (Facts(plan=plan_of(pdf_job(), 20)), 10, JobPhase.SPLITTING, "Storing chunk 0/10"),
        (Facts(plan=plan_of(pdf_job(), 20), stored=4), 12, JobPhase.SPLITTING, "Storing chunk 4/10"),
        (Facts(plan=plan_of(pdf_job(), 20), stored=10), 15, JobPhase.SPLITTING, "Storing chunk 10/10"),
        (split_facts(pdf_job(), 20, 10), 15, JobPhase.RUNNING, "Processing chunk 0/10"),
    ],
)
def test_the_marks_up_to_the_split(facts: Facts, percent: int, phase: JobPhase, step: str) -> None:
    status = status_of(pdf_job(), [], facts)
    assert (status.progress_percent, status.phase, status.current_step) == (percent, phase, step)


@pytest.mark.parametrize(("done", "percent"), [(0, 15), (1, 21), (5, 45), (7, 57), (9, 69)])
def test_the_marks_of_the_chunks(done: int, percent: int) -> None:
    status = ten_chunks(done)
    assert status.progress_percent == percent
    assert status.current_step == f"Processing chunk {done}/10"
    assert status.summary is not None
    assert (status.summary.progress, status.summary.chunks) == (f"{done * 10}%", f"{done}/10")


def test_the_marks_of_the_merge_and_the_end() -> None:
    job, chunks = pdf_job(), [succeeded(0), succeeded(1)]
    merging = status_of(job, chunks, split_facts(job, 4, 2))
    assert (merging.progress_percent, merging.phase, merging.current_step) == (75, JobPhase.MERGING, "Merging")
    done = status_of(job, chunks, split_facts(job, 4, 2, merged=merged_of(chunks)))
    assert (done.progress_percent, done.phase, done.current_step) == (100, JobPhase.SUCCEEDED, "Completed")


def test_while_splitting_running_chunks_do_not_raise_the_percent_above_15() -> None:
    job = pdf_job()
    facts = Facts(plan=plan_of(job, 20), stored=4)
    status = status_of(job, [succeeded(0), succeeded(1), succeeded(2)], facts)
    assert (status.progress_percent, status.phase) == (12, JobPhase.SPLITTING)


def test_the_percent_never_goes_down() -> None:
    job = pdf_job(PdfJobStatus(progress_percent=57))
    assert status_of(job, [pdf_chunk(0)], split_facts(job, 2, 1)).progress_percent == 57


def test_counts_have_one_number_per_phase_and_what_is_not_created_is_pending() -> None:
    job = pdf_job()
    chunks = [
        pdf_chunk(0, phase=ChunkPhase.RUNNING),
        pdf_chunk(1, phase=ChunkPhase.RETRY_SCHEDULED),
        pdf_chunk(2),
        succeeded(3),
        failed(4),
        pdf_chunk(5, phase=ChunkPhase.CANCELLED),
    ]
    counts = status_of(job, chunks, Facts(plan=plan_of(job, 20))).chunks
    assert counts is not None
    assert counts.wire() == {
        "total": 10, "pending": 5, "running": 1, "retryScheduled": 1, "succeeded": 1, "cached": 0, "failed": 1,
        "cancelled": 1,
    }  # fmt: skip


@given(st.integers(1, 60), st.integers(1, 9), st.integers(0, 60), st.data())
def test_the_counts_sum_to_the_total(pages: int, size: int, threshold: int, data: st.DataObject) -> None:
    job = pdf_job(chunking=Chunking(pages_per_chunk=size, threshold_pages=threshold))
    total = -(-pages // size) if pages > threshold else 1
    phases = data.draw(st.lists(st.sampled_from(ChunkPhase), max_size=total))
    chunks = [pdf_chunk(index, phase=phase) for index, phase in enumerate(phases)]
    counts = status_of(job, chunks, Facts(plan=plan_of(job, pages))).chunks
    assert counts is not None
    assert counts.total == total == sum(counts.model_dump(exclude={"total"}).values())


def test_counts_are_absent_until_planned() -> None:
    status = status_of(pdf_job(), [], Facts(step=Reason.SPLITTING))
    assert (status.chunks, status.summary, status.items) == (None, None, None)


def test_pages_count_those_of_running_chunks_too() -> None:
    job = pdf_job()
    running = pdf_chunk(1, phase=ChunkPhase.RUNNING, starts=2)
    heartbeat = {
        ("chunk-1", 2): Heartbeat(Progress(done=1, total=2, time=at(0)), NOW),
        ("chunk-1", 1): Heartbeat(Progress(done=2, total=2, time=""), NOW),
    }
    facts = split_facts(job, 6, 3, progress=heartbeat)
    items = status_of(job, [succeeded(0, missing_pages=1), running, pdf_chunk(2)], facts).items
    assert items is not None
    assert items.wire() == {"total": 6, "done": 2, "failed": 1}


def test_retries_sentences_and_tokens_are_summed() -> None:
    job = pdf_job()
    tokens = Tokens(input=100, output=20)
    chunks = [
        succeeded(0, tokens=tokens),
        succeeded(1, tokens=tokens, sentences=5),
        pdf_chunk(2, phase=ChunkPhase.RUNNING, attempts=3),
        pdf_chunk(3, phase=ChunkPhase.RETRY_SCHEDULED, attempts=1),
        pdf_chunk(4),
    ]
    status = status_of(job, chunks, split_facts(job, 10, 5))
    assert (status.retries, status.sentences, status.tokens) == (2, 8, Tokens(input=200, output=40))


def test_failed_chunks_are_listed_as_people_write_them() -> None:
    job = pdf_job()
    chunks = [failed(index) if index in {3, 7, 8, 9} else pdf_chunk(index) for index in range(10)]
    assert status_of(job, chunks, split_facts(job, 20, 10)).failed_chunks == "3,7-9"


def test_one_failed_chunk_does_not_end_the_others() -> None:
    job = pdf_job()
    status = status_of(job, [failed(0), pdf_chunk(1, phase=ChunkPhase.RUNNING)], split_facts(job, 4, 2))
    assert status.phase is JobPhase.RUNNING
    assert condition(status, JobCondition.FINISHED).status == "False"


def test_failed_chunks_end_the_job_when_all_have_settled_and_the_message_names_them() -> None:
    job = pdf_job()
    status = status_of(job, [succeeded(0), failed(1, "API_ERROR", "503 all day")], split_facts(job, 4, 2))
    assert status.phase is JobPhase.FAILED
    assert status.last_error is not None
    assert status.last_error.code == JobCode.CHUNK_PROCESSING_ERROR
    assert "1 of 2 chunks failed (1); chunk 1: API_ERROR: 503 all day" in status.last_error.message
    assert "kubectl get pdfchunks -l pdfjob.dev/job=novel" in status.last_error.message
    finished, summary = condition(status, JobCondition.FINISHED), condition(status, JobCondition.SUCCEEDED)
    assert (finished.status, finished.reason) == ("True", Reason.FAILED)
    assert (summary.status, summary.reason) == ("False", JobCode.CHUNK_PROCESSING_ERROR)
    assert status.completion_time == at(0)


def test_no_text_anywhere_says_what_to_do_with_a_scan() -> None:
    job = pdf_job()
    status = status_of(job, [failed(0, "NO_TEXT"), failed(1, "NO_TEXT")], split_facts(job, 4, 2))
    assert status.last_error is not None
    assert "scan? use OCR or Gemini Pdf mode" in status.last_error.message


def test_no_text_in_some_chunks_is_no_scan() -> None:
    job = pdf_job()
    for other in (succeeded(1), failed(1, "API_ERROR")):
        status = status_of(job, [failed(0, "NO_TEXT"), other], split_facts(job, 4, 2))
        assert status.last_error is not None
        assert "scan" not in status.last_error.message


def test_a_whole_result_is_completed() -> None:
    job = pdf_job(PdfJobStatus(start_time=at(-90)))
    status = status_of(job, [succeeded(0)], split_facts(job, 2, 1, merged=merged_of([succeeded(0)])))
    summary = condition(status, JobCondition.SUCCEEDED)
    assert (summary.status, summary.reason) == ("True", Reason.COMPLETED)
    assert status.result is not None
    assert (status.result.partial, status.result.missing_pages) == (False, None)
    assert (status.completion_time, status.processing_seconds) == (at(0), 90)


def test_a_result_that_lacks_pages_says_so() -> None:
    job = pdf_job()
    merged = merged_of([succeeded(0)], (3, 3, "INVALID_ITEM"), (7, 9, "INVALID_ITEM"))
    status = status_of(job, [succeeded(0)], split_facts(job, 2, 1, merged=merged))
    summary = condition(status, JobCondition.SUCCEEDED)
    assert (summary.status, summary.reason) == ("True", Reason.PARTIAL_RESULT)
    assert status.result is not None
    assert (status.result.partial, status.result.missing_pages) == (True, "3,7-9")


def test_a_source_that_cannot_be_processed_ends_the_job_with_its_reason() -> None:
    error = WorkError(Reason.ENCRYPTED, "a password is needed", None)
    status = status_of(pdf_job(), [], Facts(errors={WorkKind.SPLIT: error}))
    split = condition(status, JobCondition.SPLIT)
    assert (split.status, split.reason, split.message) == ("False", Reason.ENCRYPTED, "a password is needed")
    assert status.last_error is not None
    assert status.last_error.code == JobCode.INVALID_SOURCE
    assert (status.phase, status.current_step) == (JobPhase.FAILED, "Failed: Encrypted")


def test_storage_that_is_away_is_waited_for_and_named() -> None:
    error = WorkError(Reason.STORAGE_UNREACHABLE, "it does not answer", RETRY)
    status = status_of(pdf_job(), [], Facts(errors={WorkKind.SPLIT: error}))
    split = condition(status, JobCondition.SPLIT)
    assert (split.status, split.reason) == ("Unknown", Reason.STORAGE_UNREACHABLE)
    assert (status.phase, status.current_step) == (JobPhase.SPLITTING, "Waiting: StorageUnreachable")


def test_while_chunks_run_the_step_tells_of_them_although_the_storage_is_away() -> None:
    job = pdf_job()
    facts = Facts(plan=plan_of(job, 4), errors={WorkKind.SPLIT: WorkError(Reason.STORAGE_UNREACHABLE, "away", RETRY)})
    assert status_of(job, [pdf_chunk(0)], facts).current_step == "Waiting: StorageUnreachable"
    assert status_of(job, [pdf_chunk(0, phase=ChunkPhase.RUNNING)], facts).current_step == "Storing chunk 0/2"


def test_a_failed_merge_keeps_the_chunks_and_ends_the_job() -> None:
    job = pdf_job()
    error = WorkError(Reason.MERGE_FAILED, "the result of chunk 0 is gone", None)
    status = status_of(job, [succeeded(0)], split_facts(job, 2, 1, errors={WorkKind.MERGE: error}))
    assert condition(status, JobCondition.MERGED).status == "False"
    assert status.last_error is not None
    assert status.last_error.code == JobCode.MERGE_ERROR


def test_a_spec_that_the_api_server_refuses_ends_the_job() -> None:
    job = pdf_job()
    status = status_of(job, [pdf_chunk(0)], split_facts(job, 2, 1, invalid="correct spec.runner: bad toleration"))
    accepted = condition(status, JobCondition.ACCEPTED)
    assert (accepted.status, accepted.reason) == ("False", Reason.INVALID_SPEC)
    assert condition(status, JobCondition.FINISHED).status == "True"


def test_chunks_that_will_not_run_any_more_are_counted_as_cancelled() -> None:
    job = pdf_job()
    error = WorkError(Reason.SPLIT_ERROR, "the source changed", None)
    chunks = [succeeded(0), failed(1), pdf_chunk(2, phase=ChunkPhase.RUNNING)]
    facts = Facts(plan=plan_of(job, 20), errors={WorkKind.SPLIT: error})
    counts = status_of(job, chunks, facts).chunks
    assert counts is not None
    assert (counts.succeeded, counts.failed, counts.cancelled, counts.running, counts.pending) == (1, 1, 8, 0, 0)


def test_after_a_restart_nothing_is_said_until_the_plan_is_read_back() -> None:
    job = pdf_job(ten_chunks(5))
    assert compute_status(observation(job, [], Facts()), {}, NOW) is None


def test_after_a_restart_a_final_error_keeps_the_counts() -> None:
    job = pdf_job(ten_chunks(5))
    error = WorkError(Reason.SPLIT_ERROR, "the source changed", None)
    chunks = [succeeded(index) for index in range(5)]
    counts = status_of(job, chunks, Facts(errors={WorkKind.SPLIT: error})).chunks
    assert counts is not None
    assert (counts.total, counts.succeeded, counts.cancelled) == (10, 5, 5)


def test_a_transition_time_moves_only_with_the_status_of_its_condition() -> None:
    job = pdf_job()
    first = status_of(job, [], Facts(step=Reason.FETCHING))
    later = compute_status(
        observation(pdf_job(first), [], Facts(step=Reason.SPLITTING)), {}, NOW + timedelta(seconds=60)
    )
    assert later is not None
    split = condition(later, JobCondition.SPLIT)
    assert (split.reason, split.last_transition_time) == (Reason.SPLITTING, at(0))


def test_a_damaged_document_is_named_as_such() -> None:
    job = pdf_job()
    plan = plan_of(job, 4, damage=["the cross-reference table was rebuilt"], empty_pages=[2, 3])
    status = status_of(job, [], split_facts(job, 4, 2, plan=plan, manifest=manifest_of(2)))
    repaired = condition(status, JobCondition.REPAIRED)
    assert repaired.status == "True"
    assert "cross-reference table was rebuilt" in repaired.message
    assert "2-3" in repaired.message


@pytest.mark.parametrize("reason", list(Reason))
def test_every_step_fits_its_column(reason: Reason) -> None:
    error = WorkError(reason, "m", RETRY)
    step = status_of(pdf_job(), [], Facts(errors={WorkKind.SPLIT: error})).current_step
    assert step is not None
    assert len(step) <= 40


def test_pages_that_a_paused_chunk_has_saved_stay_counted() -> None:
    job = pdf_job()
    saved = pdf_chunk(0, starts=1, history=[record(1, outcome=Outcome.ENDED, items=1)])
    status = status_of(job, [saved, pdf_chunk(1)], split_facts(job, 4, 2))
    assert status.items is not None
    assert (status.items.done, status.items.total) == (1, 4)
