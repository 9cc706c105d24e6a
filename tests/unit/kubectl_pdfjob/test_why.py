"""Why a chunk waits, and which one starts next."""

from __future__ import annotations

from typing import Any

import pytest

from kubectl_pdfjob.why import Queue
from kubectl_pdfjob.workers import live_workers
from pdfjob_api.pdfchunk import PdfChunk

from .builders import NOW, ago, condition, finished_job, make_chunk, make_job, make_pod, running_job

FULL = [make_pod(chunk) for chunk in range(4)]


def why(chunk: PdfChunk, pods: list[dict[str, Any]] | None = None, **spec: Any) -> str:
    return Queue(make_job(spec=spec), live_workers(pods or [], "uid-1")).why(chunk, NOW)


def with_priority(index: int, priority: int | None, **status: Any) -> PdfChunk:
    chunk = make_chunk(index, **status)
    return chunk.model_copy(update={"spec": chunk.spec.model_copy(update={"priority": priority})})


def retried(index: int, due: float | None) -> PdfChunk:
    """Build a chunk whose retry was due so many seconds ago."""
    error = {"code": "API_ERROR", "message": "no answer"}
    times = {"nextRetryTime": ago(due)} if due is not None else {}
    return make_chunk(index, "RetryScheduled", lastError=error, **times)


def test_a_pending_chunk_says_what_it_waits_for() -> None:
    assert why(make_chunk(5)) == "waits for its turn"
    assert why(make_chunk(5), FULL) == "waits for room (4 of 4 in flight)"
    assert why(make_chunk(5), FULL, parallelism=5) == "waits for its turn"
    assert why(make_chunk(5), suspend=True) == "the job is suspended"
    assert why(make_chunk(5), suspend=True, shutdown="Stop") == "the job is being ended (shutdown: Stop)"


def test_a_chunk_that_was_paused_says_how_far_it_came() -> None:
    ended = {"start": 1, "attempt": 0, "counted": False, "outcome": "Ended", "items": 12}

    assert why(make_chunk(5, "Cancelled", history=[ended])) == "12 of 50 pages are saved"
    assert why(make_chunk(5, history=[ended]), suspend=True) == "the job is suspended; 12 of 50 pages are saved"


def test_lowered_parallelism_is_what_counts() -> None:
    queue = Queue(make_job(effectiveParallelism=1), live_workers(FULL[:1], "uid-1"))

    assert queue.why(make_chunk(5), NOW) == "waits for room (1 of 1 in flight)"


def test_dispatch_that_is_held_is_named_on_pending_and_retry_scheduled_chunks() -> None:
    held = make_job(conditions=[condition("Degraded", "True", "AUTH_ERROR", "the key is refused")])
    error = {"code": "AUTH_ERROR", "message": "refused"}
    retried = make_chunk(1, "RetryScheduled", lastError=error, nextRetryTime=ago(-10))

    assert Queue(held, []).why(make_chunk(0), NOW) == "dispatch is held: AUTH_ERROR"
    assert Queue(held, []).why(retried, NOW) == "AUTH_ERROR: refused (again in 10s); dispatch is held: AUTH_ERROR"


def test_a_chunk_whose_job_exists_says_what_its_pod_waits_for() -> None:
    waiting = condition("Waiting", "True", "Unschedulable", "0/1 nodes are available")

    assert why(make_chunk(0, conditions=[waiting])) == "Unschedulable: 0/1 nodes are available"
    assert why(make_chunk(0), [make_pod(0)]) == "its pod is Pending"


def test_chunks_that_run_or_are_done_wait_for_nothing() -> None:
    assert why(make_chunk(0, "Running")) == ""
    assert why(make_chunk(0, "Succeeded")) == ""
    assert why(make_chunk(0, "Running", ending={"start": 1, "reason": "Suspended"})) == "is being ended: Suspended"


def test_a_chunk_that_never_ran_in_a_job_that_has_ended_waits_for_nothing() -> None:
    assert Queue(finished_job(), []).why(make_chunk(0), NOW) == "the job has ended"


@pytest.mark.parametrize(
    ("chunks", "expected"),
    [
        ([make_chunk(2), make_chunk(1)], 1),
        ([make_chunk(1), with_priority(2, 9)], 2),
        ([with_priority(1, 4), make_chunk(2)], 2),
        ([with_priority(3, 9), with_priority(2, 9)], 2),
        ([make_chunk(0, "Running"), make_chunk(1, "Failed"), make_chunk(2)], 2),
        ([make_chunk(0, conditions=[condition("Waiting", "True")]), make_chunk(1)], 1),
        ([make_chunk(0, "Succeeded")], None),
        ([], None),
    ],
)
def test_next_is_the_highest_priority_and_then_the_lowest_number(chunks: list[PdfChunk], expected: int | None) -> None:
    found = Queue(running_job(), []).next(chunks, NOW)

    assert (found.spec.index if found else None) == expected


@pytest.mark.parametrize(
    ("chunks", "expected"),
    [
        ([retried(0, -10), make_chunk(1)], 1),
        ([retried(0, 10), make_chunk(1)], 0),
        ([retried(0, None), make_chunk(1)], 0),
        ([make_chunk(0), with_priority(1, 9, phase="RetryScheduled", nextRetryTime=ago(1))], 1),
        ([retried(0, -30), retried(1, -20)], 1),
        ([retried(1, -20), retried(0, -20)], 0),
    ],
    ids=["not yet due", "due", "due at once", "due and urgent", "the first to be due", "due at the same time"],
)
def test_a_chunk_that_is_tried_again_is_next_when_the_operator_would_start_it(
    chunks: list[PdfChunk], expected: int
) -> None:
    found = Queue(running_job(), []).next(chunks, NOW)

    assert found is not None
    assert found.spec.index == expected


def test_a_retry_tells_its_time_or_that_it_is_due() -> None:
    assert why(retried(0, -10)) == "API_ERROR: no answer (again in 10s)"
    assert why(retried(0, 10)) == "API_ERROR: no answer (due)"


def test_a_chunk_whose_pod_is_there_is_not_next() -> None:
    queue = Queue(running_job(), live_workers([make_pod(0)], "uid-1"))
    found = queue.next([make_chunk(0), make_chunk(1)], NOW)

    assert found is not None
    assert found.spec.index == 1


def test_chunks_of_a_job_whose_account_does_not_pay_say_so() -> None:
    broke = make_job(conditions=[condition("CreditsReserved", "False", "InsufficientCredits", "too little")])
    error = {"code": "API_ERROR", "message": "no answer"}
    retried = make_chunk(1, "RetryScheduled", lastError=error, nextRetryTime=ago(-10))
    text = "its credit account does not pay yet: InsufficientCredits"

    assert Queue(broke, []).why(make_chunk(0), NOW) == text
    assert Queue(broke, []).why(retried, NOW) == f"API_ERROR: no answer (again in 10s); {text}"
