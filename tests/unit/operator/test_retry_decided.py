"""A retry request in the loop: answered once, whatever crashes between its writes; a finished job opens again."""

from __future__ import annotations

from typing import Any

import pytest

from pdfjob_api.conditions import ChunkPhase, JobCondition, JobPhase, Reason
from pdfjob_api.jobstatus import ChunkCounts, Clock, JobResult, LastRetry, PdfJobStatus
from pdfjob_api.meta import Condition, LastError
from pdfjob_api.pdfchunk import ChunkRetry, ChunkRetryRequest, PdfChunk
from pdfjob_api.pdfjob import Limits, PdfJob, RetryRequest, Shutdown
from pdfjob_operator.actions import CreateJob, StartWork, StopWork, WriteChunk
from pdfjob_operator.observation import Facts, Merged, WorkKind
from pdfjob_operator.plan import merge_inputs
from tests.support.builders import (
    at,
    failed,
    pdf_chunk,
    pdf_job,
    plan_of,
    raw_job,
    raw_pod,
    running,
    split_facts,
    succeeded,
)
from tests.support.deciding import condition, decided, of_type, started, with_spec, with_status

COUNTS = ChunkCounts(total=3)
FORCED = RetryRequest(id="again", chunks=[1], force=True)


def finished(phase: JobPhase = JobPhase.FAILED, **status: Any) -> PdfJobStatus:
    reasons = {JobPhase.SUCCEEDED: Reason.COMPLETED, JobPhase.FAILED: Reason.FAILED}
    values: dict[str, Any] = {
        "phase": phase,
        "chunks": COUNTS,
        "progress_percent": 75,
        "start_time": at(-300),
        "completion_time": at(-30),
        "processing_seconds": 270,
        "clock": Clock(seconds=270),
        "history": "s3://pdfjob/history/job.json",
        "last_error": LastError(code="CHUNK_PROCESSING_ERROR", message="m"),
        "conditions": [
            Condition(
                type=kind.value,
                status="True",
                reason=reasons.get(phase, Reason.STOPPED).value,
                last_transition_time=at(-30),
            )
            for kind in (JobCondition.SPLIT, JobCondition.FINISHED)
        ],
    }
    return PdfJobStatus(**{**values, **status})


def asking(request: RetryRequest = FORCED, status: PdfJobStatus | None = None, **spec: Any) -> PdfJob:
    return pdf_job(status or PdfJobStatus(chunks=COUNTS), retry_request=request, **spec)


def facts() -> Facts:
    return split_facts(pdf_job(), 6, 3)


def three() -> list[PdfChunk]:
    return [succeeded(0), failed(1), pdf_chunk(2)]


def ended() -> list[PdfChunk]:
    return [succeeded(0), failed(1), pdf_chunk(2, phase=ChunkPhase.CANCELLED)]


def request_of(index: int, *, force: bool = True) -> PdfChunk:
    return with_spec(three()[index], retry_request=ChunkRetryRequest(id="mine", force=force))


def test_while_the_job_runs_chunks_and_answer_are_written_in_one_reconcile() -> None:
    decision = decided(asking(), three(), facts())
    (write,) = of_type(decision, WriteChunk)
    assert (write.chunk.spec.index, write.status.phase) == (1, ChunkPhase.RETRY_SCHEDULED)
    assert decision.status is not None
    assert decision.status.last_retry == LastRetry(
        id="again", message="Retrying 1 chunk", retried_count=1, chunks=[1], time=at(0)
    )
    assert decision.status.chunks is not None
    assert (decision.status.chunks.failed, decision.status.chunks.retry_scheduled) == (0, 1)
    assert decision.status.failed_chunks is None


def test_the_chunk_starts_when_its_new_status_is_there() -> None:
    first = decided(asking(), three(), facts())
    (write,) = of_type(first, WriteChunk)
    chunks = [succeeded(0), write.chunk.model_copy(update={"status": write.status}), pdf_chunk(2)]
    job = asking(status=first.status)
    assert started(decided(job, chunks, facts())) == [1, 2]
    assert of_type(decided(job, chunks, facts()), WriteChunk) == [], "and it is not taken again"


def test_a_crash_between_chunk_and_answer_takes_nothing_twice() -> None:
    (write,) = of_type(decided(asking(), three(), facts()), WriteChunk)
    chunks = [succeeded(0), write.chunk.model_copy(update={"status": write.status}), pdf_chunk(2)]
    decision = decided(asking(), chunks, facts())
    assert of_type(decision, WriteChunk) == []
    assert decision.status is not None
    assert decision.status.last_retry is not None
    assert (decision.status.last_retry.retried_count, decision.status.last_retry.chunks) == (1, [1])


def test_after_a_restart_the_answer_waits_until_the_plan_is_known() -> None:
    decision = decided(asking(), three(), Facts())
    assert (of_type(decision, WriteChunk), decision.status) == ([], None)


def test_a_job_that_is_about_to_fail_is_answered_after_its_end() -> None:
    job = asking(limits=Limits(job_timeout_seconds=60), status=PdfJobStatus(chunks=COUNTS, clock=Clock(seconds=61)))
    runs = [raw_job(chunk=2), raw_pod(running(), chunk=2, phase="Running")]
    decision = decided(job, three(), facts(), *runs)
    assert decision.status is not None
    assert decision.status.last_retry is None, "its end would cancel what the request takes"


def test_an_answered_request_does_nothing_more() -> None:
    answer = LastRetry(id="again", message="Retrying 1 chunk", time=at(-5))
    decision = decided(asking(status=PdfJobStatus(chunks=COUNTS, last_retry=answer)), three(), facts())
    assert of_type(decision, WriteChunk) == []
    assert decision.status is not None
    assert decision.status.last_retry == answer


def test_a_chunk_that_runs_is_refused_and_runs_on() -> None:
    runs = [raw_job(chunk=1), raw_pod(running(), chunk=1, phase="Running")]
    chunks = [succeeded(0), pdf_chunk(1, phase=ChunkPhase.RUNNING, attempts=1, starts=1), pdf_chunk(2)]
    decision = decided(asking(), chunks, facts(), *runs)
    assert decision.status is not None
    assert decision.status.last_retry is not None
    assert [(item.chunks, item.reason) for item in decision.status.last_retry.refused] == [("1", "runs already")]
    assert started(decision) == [2]
    assert len(of_type(decision, CreateJob)) == len(decision.actions)


def test_a_chunk_that_is_written_anyway_is_answered_the_next_time() -> None:
    """Its end is recorded in this reconcile: two writes of one status would not both count."""
    chunks = [succeeded(0), pdf_chunk(1, phase=ChunkPhase.RETRY_SCHEDULED, starts=1), pdf_chunk(2)]
    runs = [raw_job(chunk=1, start=2), raw_pod(running(), chunk=1, start=2, phase="Running")]
    decision = decided(asking(), chunks, facts(), *runs)
    (write,) = of_type(decision, WriteChunk)
    assert write.status.phase is ChunkPhase.RUNNING


def test_in_a_paused_job_chunks_are_taken_and_wait() -> None:
    decision = decided(asking(suspend=True), three(), facts())
    assert len(of_type(decision, WriteChunk)) == 1
    assert started(decision) == []
    assert decision.status is not None
    assert decision.status.phase is JobPhase.SUSPENDED


@pytest.mark.parametrize(
    ("phase", "request_", "opens"),
    [
        (JobPhase.FAILED, FORCED, True),
        (JobPhase.SUCCEEDED, FORCED, True),
        (JobPhase.SUCCEEDED, RetryRequest(id="again"), True),
        (JobPhase.FAILED, RetryRequest(id="again"), True),
        (JobPhase.FAILED, RetryRequest(id="again", chunks=[0]), False),
        (JobPhase.FAILED, RetryRequest(id="again", chunks=[9], force=True), False),
        (JobPhase.FAILED, RetryRequest(id="again", chunks=[1]), False),
        (JobPhase.FAILED, RetryRequest(id="again", chunks=[]), False),
        (JobPhase.FAILED, RetryRequest(id="again", chunks=[1, 9], force=True), True),
    ],
)
def test_a_finished_job_opens_again_only_when_something_is_taken_or_no_chunks_are_named(
    phase: JobPhase, request_: RetryRequest, *, opens: bool
) -> None:
    job = asking(request_, finished(phase))
    chunks = [succeeded(0), failed(1), pdf_chunk(2, phase=ChunkPhase.CANCELLED)]
    decision = decided(job, chunks, Facts())
    assert (decision.actions, decision.in_flight, decision.requeue_seconds) == ((), 0, 0)
    assert decision.status is not None
    if opens:
        assert (decision.status.phase, decision.status.last_retry) == (JobPhase.RUNNING, None)
        assert condition(decision.status, JobCondition.FINISHED).status == "False"
    else:
        assert decision.status.last_retry is not None
        assert decision.status.last_retry.retried_count == 0
        assert decision.status.model_copy(update={"last_retry": None}) == job.status, "its end stays as it was"


def test_a_reopened_job_starts_its_clock_and_progress_anew_and_keeps_what_it_knows() -> None:
    result = JobResult(files=[], partial=True, missing_pages="3-4")
    before = finished(result=result, sentences=9)
    status = decided(asking(status=before), ended(), Facts()).status
    assert status is not None
    assert (status.phase, status.current_step, status.progress_percent) == (JobPhase.RUNNING, "Retrying", 15)
    assert (status.start_time, status.completion_time, status.processing_seconds) == (at(0), None, None)
    assert (status.clock, status.history, status.last_error) == (None, None, None)
    assert (status.result, status.sentences, status.chunks) == (result, 9, COUNTS)
    words = {item.type: (item.status, item.reason) for item in status.conditions}
    assert words == {
        "Accepted": ("True", "Accepted"),
        "Split": ("True", "Failed"),
        "ChunksSucceeded": ("Unknown", "Processing"),
        "Merged": ("Unknown", "Waiting"),
        "Finished": ("False", "Active"),
        "Succeeded": ("Unknown", "Active"),
    }


def test_a_job_that_failed_before_it_was_split_is_split_again() -> None:
    conditions = [
        Condition(type="Split", status="False", reason="Encrypted", last_transition_time=at(-30)),
        Condition(type="Finished", status="True", reason="Failed", last_transition_time=at(-30)),
    ]
    job = asking(RetryRequest(id="again"), finished(chunks=None, conditions=conditions))
    status = decided(job, [], Facts()).status
    assert status is not None
    assert (status.progress_percent, condition(status, JobCondition.SPLIT).status) == (5, "Unknown")
    again = asking(RetryRequest(id="again"), status)
    decision = decided(again, [], Facts())
    assert decision.actions == (StartWork(WorkKind.SPLIT),)
    assert decision.status is not None
    assert decision.status.last_retry is not None
    assert decision.status.last_retry.message == "Retrying 0 chunks; what is there is merged again"


def test_a_job_whose_spec_was_refused_is_taken_again() -> None:
    conditions = [
        Condition(type="Accepted", status="False", reason="InvalidSpec", last_transition_time=at(-30)),
        Condition(type="Finished", status="True", reason="Failed", last_transition_time=at(-30)),
    ]
    status = decided(asking(RetryRequest(id="again"), finished(conditions=conditions)), ended(), Facts()).status
    assert condition(status, JobCondition.ACCEPTED).status == "True"
    assert condition(status, JobCondition.SPLIT).status == "Unknown"


def test_what_works_for_a_finished_job_is_stopped_first() -> None:
    decision = decided(asking(status=finished()), ended(), Facts(working=WorkKind.RECORD))
    assert (decision.actions, decision.status) == ((StopWork(),), None)


@pytest.mark.parametrize("request_", [FORCED, RetryRequest(id="again")])
@pytest.mark.parametrize(
    ("shutdown", "phase"), [(Shutdown.STOP, JobPhase.STOPPED), (Shutdown.CANCEL, JobPhase.CANCELLED)]
)
def test_a_job_that_its_user_ended_stays_so_and_says_why(
    shutdown: Shutdown, phase: JobPhase, request_: RetryRequest
) -> None:
    job = asking(request_, finished(phase), shutdown=shutdown)
    marked = with_status(failed(1), phase=ChunkPhase.CANCELLED, last_job_retry_id="again", last_job_retry_number=1)
    decision = decided(job, [succeeded(0), marked, pdf_chunk(2, phase=ChunkPhase.CANCELLED)], Facts())
    assert decision.status is not None
    assert decision.status.phase is phase
    assert decision.status.last_retry is not None
    assert decision.status.last_retry.message.startswith("Refused: the PdfJob was ")


def test_a_job_reopened_for_a_chunk_takes_it_merges_again_and_ends_again() -> None:
    opened = decided(asking(status=finished()), three()[:2], Facts()).status
    facts = split_facts(pdf_job(), 4, 2)
    first = decided(asking(status=opened), three()[:2], facts)
    (write,) = of_type(first, WriteChunk)
    assert (write.chunk.spec.index, first.status and first.status.phase) == (1, JobPhase.RUNNING)
    assert first.status is not None
    assert first.status.last_retry is not None
    done = [succeeded(0), succeeded(1, sha256="9" * 64)]
    job = asking(status=first.status)
    assert decided(job, done, facts).actions == (StartWork(WorkKind.MERGE),)
    merged = Merged((), (), merge_inputs(chunk.status for chunk in done))
    status = decided(job, done, split_facts(pdf_job(), 4, 2, merged=merged)).status
    assert status is not None
    assert (status.phase, status.completion_time, status.last_error) == (JobPhase.SUCCEEDED, at(0), None)


def test_a_job_opened_while_it_merges_stops_the_merge() -> None:
    chunks = [succeeded(0), succeeded(1)]
    facts = split_facts(pdf_job(), 4, 2, working=WorkKind.MERGE)
    assert decided(pdf_job(), chunks, facts).actions == (), "the merge goes on"
    decision = decided(asking(), chunks, facts)
    assert of_type(decision, StopWork) == [StopWork()]
    assert [write.chunk.spec.index for write in of_type(decision, WriteChunk)] == [1]
    assert decision.status is not None
    assert decision.status.phase is JobPhase.RUNNING


def test_a_request_on_a_chunk_of_a_running_job_is_answered_there() -> None:
    decision = decided(pdf_job(PdfJobStatus(chunks=COUNTS)), [succeeded(0), request_of(1), pdf_chunk(2)], facts())
    (write,) = of_type(decision, WriteChunk)
    assert (write.status.phase, write.event) == (
        ChunkPhase.RETRY_SCHEDULED,
        ("Normal", Reason.RETRY_REQUESTED, "Retrying chunk 1"),
    )
    assert write.status.last_retry is not None
    assert write.status.last_retry.accepted
    assert decision.status is not None
    assert (decision.status.last_retry, decision.status.chunks and decision.status.chunks.failed) == (None, 0)


def test_a_request_on_a_chunk_opens_a_finished_job_and_is_answered_then() -> None:
    opened = decided(pdf_job(finished()), [succeeded(0), request_of(1)], Facts())
    assert (opened.actions, opened.status and opened.status.phase) == ((), JobPhase.RUNNING)
    decision = decided(pdf_job(opened.status), [succeeded(0), request_of(1)], split_facts(pdf_job(), 4, 2))
    (write,) = of_type(decision, WriteChunk)
    assert write.status.last_retry == ChunkRetry(id="mine", accepted=True, time=at(0))


def test_a_request_on_a_chunk_that_is_refused_leaves_the_job_finished() -> None:
    decision = decided(pdf_job(finished()), [request_of(0, force=False)], Facts())
    (write,) = of_type(decision, WriteChunk)
    assert (decision.status, write.status.phase) == (None, ChunkPhase.SUCCEEDED)
    assert write.event is not None
    assert write.event[0] == "Warning"
    answered = write.chunk.model_copy(update={"status": write.status})
    later = decided(pdf_job(finished()), [answered], Facts())
    assert (later.actions, later.status, later.requeue_seconds) == ((), None, None)


def test_both_requests_at_once_are_answered_one_after_the_other() -> None:
    chunks = [succeeded(0), request_of(1), pdf_chunk(2)]
    first = decided(asking(), chunks, facts())
    (own,) = of_type(first, WriteChunk)
    assert (own.status.last_retry is not None, own.status.last_job_retry_id) == (True, None)
    assert first.status is not None
    assert first.status.last_retry is None
    chunks[1] = own.chunk.model_copy(update={"status": own.status})
    second = decided(asking(status=first.status), chunks, facts())
    (write,) = of_type(second, WriteChunk)
    assert write.status.last_job_retry_id == "again"
    assert second.status is not None
    assert second.status.last_retry is not None


def test_a_request_in_the_first_manifest_is_answered_before_there_are_chunks() -> None:
    job = pdf_job(retry_request=FORCED)
    status = decided(job, [], Facts(plan=plan_of(job, 6))).status
    assert status is not None
    assert status.last_retry is not None
    assert status.last_retry.refused[0].reason == "the document is not split yet"


def test_what_a_job_left_undone_is_cancelled_before_a_request_for_it_is_answered() -> None:
    """A job that ended at its time limit, asked again before its chunks were written down as Cancelled."""
    request = RetryRequest(id="again", chunks=[2])
    first = decided(asking(request, finished()), three(), Facts())
    (write,) = of_type(first, WriteChunk)
    assert (write.status.phase, first.status) == (ChunkPhase.CANCELLED, None)
    chunks = [*three()[:2], three()[2].model_copy(update={"status": write.status})]
    opened = decided(asking(request, finished()), chunks, Facts()).status
    assert opened is not None
    assert opened.phase is JobPhase.RUNNING
