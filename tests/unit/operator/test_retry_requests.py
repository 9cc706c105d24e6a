"""Requests of users for another start: which chunks they take, which not, and the words (R-36, R-37, D-21)."""

from __future__ import annotations

from typing import Any

import pytest

from pdfjob_api.conditions import ChunkPhase, JobPhase
from pdfjob_api.jobstatus import ChunkCounts, LastRetry, PdfJobStatus
from pdfjob_api.meta import LastError
from pdfjob_api.pdfchunk import ChunkRetry, ChunkRetryRequest, PdfChunk
from pdfjob_api.pdfjob import PdfJob, RetryPolicy, RetryRequest, Shutdown
from pdfjob_operator.observation import Facts
from pdfjob_operator.requests import Answer, answer_chunk, answer_event, answer_job, pending_request
from tests.support.builders import NOW, at, failed, observation, pdf_chunk, pdf_job, succeeded
from tests.support.deciding import record, with_spec, with_status

USED_UP = "has used its 4 attempts; force: true or a higher maxRetries goes on"
STOPPED = "the PdfJob was stopped and stays so; delete it and create it again to go on"
CANCELLED = "the PdfJob was cancelled and stays so; delete it and create it again to go on"


def spoiled(index: int) -> PdfChunk:
    """Build a chunk that failed with an error no start can heal."""
    error = LastError(code="INVALID_PDF", message="page 3")
    history = [record(1, "INVALID_PDF", final=True)]
    return pdf_chunk(index, phase=ChunkPhase.FAILED, attempts=1, starts=1, last_error=error, history=history)


def scheduled(index: int, **status: Any) -> PdfChunk:
    return pdf_chunk(
        index, phase=ChunkPhase.RETRY_SCHEDULED, attempts=2, starts=3, next_retry_time=at(200), uncounted=4, **status
    )


def all_kinds() -> list[PdfChunk]:
    return [
        failed(0),
        spoiled(1),
        scheduled(2),
        pdf_chunk(3, phase=ChunkPhase.CANCELLED, attempts=1, starts=2),
        succeeded(4),
        pdf_chunk(5, phase=ChunkPhase.RUNNING, attempts=1, starts=1),
        pdf_chunk(6),
    ]


def asking(chunks: list[int] | None = None, *, force: bool = False, **status: Any) -> PdfJob:
    counts = ChunkCounts(total=8)
    request = RetryRequest(id="again", chunks=chunks, force=force)
    return pdf_job(PdfJobStatus(**{"chunks": counts, **status}), retry_request=request)


def answered(job: PdfJob, chunks: list[PdfChunk], in_flight: set[int] | None = None) -> Answer:
    assert job.spec.retry_request is not None
    return answer_job(job.spec.retry_request, observation(job, chunks, Facts()), in_flight or set(), NOW)


def refused(answer: Answer) -> dict[str, str]:
    return {item.chunks: item.reason for item in answer.last_retry.refused}


def test_without_chunks_it_takes_what_waits_for_a_retry_or_never_ran() -> None:
    answer = answered(asking(), all_kinds(), {5})
    assert answer.last_retry.model_dump(exclude={"refused"}) == {
        "id": "again", "number": 1, "message": "Retrying 2 chunks", "retried_count": 2, "chunks": [2, 3], "time": at(0),
    }  # fmt: skip
    assert refused(answer) == {"0": USED_UP, "1": "failed for good with INVALID_PDF; force: true tries it all the same"}
    assert {index: status.phase for index, status in answer.taken.items()} == {
        2: ChunkPhase.RETRY_SCHEDULED, 3: ChunkPhase.PENDING,
    }  # fmt: skip


def test_with_force_it_takes_every_failed_one_too_and_no_succeeded_one() -> None:
    answer = answered(asking(force=True), all_kinds(), {5})
    assert (answer.last_retry.chunks, answer.last_retry.refused) == ([0, 1, 2, 3], [])
    assert answer.last_retry.message == "Retrying 4 chunks"


@pytest.mark.parametrize(
    ("index", "force", "reason"),
    [
        (0, False, USED_UP),
        (0, True, None),
        (1, False, "failed for good with INVALID_PDF; force: true tries it all the same"),
        (1, True, None),
        (2, False, None),
        (3, False, None),
        (4, False, "has succeeded; force: true processes it again"),
        (4, True, None),
        (5, False, "runs already"),
        (5, True, "runs already"),
        (6, False, "waits for its start anyway"),
        (6, True, "waits for its start anyway"),
        (7, True, "is not stored yet"),
        (8, True, "no such chunk: they are numbered 0 to 7"),
        (-1, True, "no such chunk: they are numbered 0 to 7"),
    ],
)
def test_each_chunk_that_is_named_is_taken_or_refused_with_its_reason(
    index: int, reason: str | None, *, force: bool
) -> None:
    answer = answered(asking([index], force=force), all_kinds())
    assert list(answer.taken) == ([] if reason else [index])
    assert refused(answer) == ({str(index): reason} if reason else {})
    assert answer.last_retry.message == f"Retrying {0 if reason else 1} chunk{'s' if reason else ''}"
    assert not answer.merges


def test_unknown_numbers_are_refused_by_name_and_the_others_run() -> None:
    answer = answered(asking([2, 99, 3, 41, 98, 2]), all_kinds())
    assert answer.last_retry.chunks == [2, 3]
    assert refused(answer) == {"41,98-99": "no such chunk: they are numbered 0 to 7"}


@pytest.mark.parametrize("index", [0, 7])
def test_the_first_and_the_last_number_are_known(index: int) -> None:
    assert refused(answered(asking([index]), [])) == {str(index): "is not stored yet"}


def test_before_the_document_is_split_no_chunk_is_known() -> None:
    job = with_status(asking([1]), chunks=None)
    answer = answered(job, [])
    assert refused(answer) == {"1": "the document is not split yet"}


def test_a_chunk_whose_job_exists_runs_whatever_its_phase_says() -> None:
    assert refused(answered(asking([2], force=True), all_kinds(), {2})) == {"2": "runs already"}
    with_all_others = answered(asking(), all_kinds(), {2, 5})
    assert with_all_others.last_retry.chunks == [3]
    assert set(refused(with_all_others)) == {"0", "1"}, "nobody asked for it by name"


def test_a_higher_limit_makes_force_needless() -> None:
    job = with_spec(asking([0]), retry_policy=RetryPolicy(max_retries=4))
    assert list(answered(job, all_kinds()).taken) == [0]
    chunks = [pdf_chunk(0, spec={"max_retries": 4}, phase=ChunkPhase.FAILED, attempts=4)]
    assert list(answered(asking([0]), chunks).taken) == [0], "the chunk's own limit goes before the job's"


@pytest.mark.parametrize("phase", [ChunkPhase.RETRY_SCHEDULED, ChunkPhase.CANCELLED])
def test_what_was_forced_before_and_has_not_run_since_needs_no_force(phase: ChunkPhase) -> None:
    for chunk in (with_status(spoiled(0), phase=phase), with_status(failed(0), phase=phase)):
        assert list(answered(asking([0]), [chunk]).taken) == [0]


def test_a_failure_that_may_heal_is_refused_for_its_attempts_only() -> None:
    history = [record(4, "TIMEOUT")]
    assert refused(answered(asking([0]), [with_status(failed(0), history=history)])) == {"0": USED_UP}
    with_attempts_left = with_status(failed(0), history=history, attempts=3)
    assert list(answered(asking([0]), [with_attempts_left]).taken) == [0]


def test_a_chunk_that_is_taken_starts_at_once_with_its_failures_kept() -> None:
    status = answered(asking([2]), all_kinds()).taken[2]
    assert (status.next_retry_time, status.uncounted, status.last_job_retry_id) == (None, 0, "again")
    assert (status.attempts, status.starts, status.fresh_after, status.updated_at) == (2, 3, 0, at(0))


def test_a_succeeded_chunk_is_processed_again_from_its_first_page() -> None:
    status = answered(asking([4], force=True), all_kinds()).taken[4]
    assert (status.phase, status.result, status.processed_at) == (ChunkPhase.RETRY_SCHEDULED, None, None)
    assert (status.attempts, status.fresh_after) == (0, 1)


def test_one_that_was_adopted_and_never_started_is_not_adopted_again() -> None:
    chunk = with_status(succeeded(4), starts=0)
    assert answered(asking([4], force=True), [chunk]).taken[4].fresh_after == 1


def test_with_nothing_to_run_what_is_there_is_merged_again() -> None:
    answer = answered(asking(), [succeeded(0), succeeded(1)])
    assert answer.merges
    assert answer.last_retry.message == "Retrying 0 chunks; what is there is merged again"


@pytest.mark.parametrize("chunks", [[], [4]])
def test_a_request_that_names_chunks_does_not_merge_for_nothing(chunks: list[int]) -> None:
    answer = answered(asking(chunks), all_kinds())
    assert (answer.merges, answer.last_retry.message) == (False, "Retrying 0 chunks")


@pytest.mark.parametrize("chunks", [None, [0, 2]])
@pytest.mark.parametrize(
    ("shutdown", "phase", "reason"),
    [
        (Shutdown.STOP, JobPhase.STOPPED, STOPPED),
        (Shutdown.STOP, JobPhase.RUNNING, STOPPED),
        (Shutdown.CANCEL, JobPhase.CANCELLED, CANCELLED),
        (Shutdown.CANCEL, JobPhase.RUNNING, CANCELLED),
    ],
)
def test_a_job_that_its_user_ended_or_is_ending_refuses(
    shutdown: Shutdown, phase: JobPhase, reason: str, chunks: list[int] | None
) -> None:
    job = with_spec(asking(chunks, force=True, phase=phase), shutdown=shutdown)
    answer = answered(job, all_kinds())
    assert (answer.taken, answer.merges) == ({}, False)
    assert answer.last_retry.message == f"Refused: {reason}"
    assert set(refused(answer).values()) == {reason}


def test_chunks_taken_before_a_crash_are_in_the_answer_and_not_taken_twice() -> None:
    taken = scheduled(2, last_job_retry_id="again", last_job_retry_number=1)
    under_way = pdf_chunk(
        5, phase=ChunkPhase.RUNNING, attempts=1, starts=2, last_job_retry_id="again", last_job_retry_number=1
    )
    chunks = [*all_kinds()[:2], taken, all_kinds()[3], succeeded(4), under_way]
    for job in (asking(), asking([2, 3, 5])):
        answer = answered(job, chunks, {5})
        assert (answer.last_retry.chunks, answer.last_retry.retried_count) == ([2, 3, 5], 3)
        assert list(answer.taken) == [3]


def test_what_was_taken_before_a_crash_counts_no_more_once_the_job_is_stopped() -> None:
    """Else the answer would open the stopped job again, and again after that."""
    job = with_spec(asking(phase=JobPhase.STOPPED), shutdown=Shutdown.STOP)
    answer = answered(
        job, [pdf_chunk(2, phase=ChunkPhase.CANCELLED, last_job_retry_id="again", last_job_retry_number=1)]
    )
    assert (answer.last_retry.retried_count, answer.merges) == (0, False)


def test_an_answer_stays_bounded() -> None:
    chunks = [pdf_chunk(index, phase=ChunkPhase.CANCELLED) for index in range(1200)]
    last = answered(asking(), chunks).last_retry
    assert (last.retried_count, last.chunks) == (1200, list(range(1000)))
    codes = [
        with_status(spoiled(index), last_error=LastError(code=f"CODE_{index}", message="m")) for index in range(30)
    ]
    assert len(answered(asking(), codes).last_retry.refused) == 16


@pytest.mark.parametrize(("answered_id", "pending"), [(None, True), ("before", True), ("again", False)])
def test_a_request_is_new_when_its_id_is_not_the_one_answered(answered_id: str | None, *, pending: bool) -> None:
    last = LastRetry(id=answered_id, message="m", time=at(-9)) if answered_id else None
    assert (pending_request(asking(last_retry=last)) is not None) == pending
    assert pending_request(pdf_job(PdfJobStatus(last_retry=last))) is None


def of_its_own(chunk: PdfChunk, *, force: bool = False) -> PdfChunk:
    return with_spec(chunk, retry_request=ChunkRetryRequest(id="mine", force=force))


def test_a_chunks_own_request_is_taken_and_answered_in_one_write() -> None:
    status = answer_chunk(of_its_own(scheduled(2)), pdf_job(), NOW, in_flight=False)
    assert status is not None
    assert (status.phase, status.next_retry_time) == (ChunkPhase.RETRY_SCHEDULED, None)
    assert status.last_retry == ChunkRetry(id="mine", accepted=True, message="", time=at(0))
    assert (status.observed_generation, status.last_job_retry_id) == (1, None)


@pytest.mark.parametrize(
    ("index", "force", "reason"),
    [
        (0, False, USED_UP),
        (4, False, "has succeeded; force: true processes it again"),
        (5, True, "runs already"),
        (6, False, "waits for its start anyway"),
    ],
)
def test_a_chunks_own_request_is_refused_with_the_same_reasons(index: int, reason: str, *, force: bool) -> None:
    chunk = of_its_own(all_kinds()[index], force=force)
    status = answer_chunk(chunk, pdf_job(), NOW, in_flight=False)
    assert status is not None
    assert status.last_retry == ChunkRetry(id="mine", accepted=False, message=reason, time=at(0))
    assert status.model_copy(update={"last_retry": None, "updated_at": None, "observed_generation": None}) == (
        chunk.status
    ), "nothing else of it changes"


def test_force_takes_a_chunk_by_its_own_request_too() -> None:
    for index in (0, 1, 4):
        status = answer_chunk(of_its_own(all_kinds()[index], force=True), pdf_job(), NOW, in_flight=False)
        assert status is not None
        assert status.last_retry is not None
        assert status.last_retry.accepted


def test_a_chunks_own_request_is_answered_once() -> None:
    chunk = of_its_own(failed(0), force=True)
    first = answer_chunk(chunk, pdf_job(), NOW, in_flight=False)
    assert first is not None
    again = chunk.model_copy(update={"status": first})
    assert answer_chunk(again, pdf_job(), NOW, in_flight=False) is None
    assert answer_chunk(failed(0), pdf_job(), NOW, in_flight=False) is None, "nobody asked"
    before = ChunkRetry(id="before", accepted=True, time=at(-9))
    assert answer_chunk(with_status(chunk, last_retry=before), pdf_job(), NOW, in_flight=False) is not None


def test_the_answer_to_a_chunk_is_told() -> None:
    yes, no = (ChunkRetry(id="x", accepted=good, message="runs already", time=at(0)) for good in (True, False))
    assert answer_event(failed(3), yes) == ("Normal", "RetryRequested", "Retrying chunk 3")
    assert answer_event(failed(3), no) == ("Warning", "RetryRequested", "chunk 3 is not retried: runs already")


def test_an_id_that_was_used_before_another_is_new_again() -> None:
    before = failed(2).model_copy(update={"status": failed(2).status.model_copy(
        update={"last_job_retry_id": "again", "last_job_retry_number": 1})})  # fmt: skip
    job = asking(force=True)
    last = LastRetry(id="other", number=2, message="", time=at(-5))
    answer = answered(job.model_copy(update={"status": job.status.model_copy(update={"last_retry": last})}), [before])
    assert (list(answer.taken), answer.last_retry.number) == ([2], 3)
