"""What outside the document holds a job up: it waits, says why and what to check, and goes on by itself (R-39)."""

from __future__ import annotations

from typing import Any

import pytest

from pdfjob_api.conditions import ChunkPhase, JobCondition, JobPhase, Reason
from pdfjob_api.errors import ChunkCode
from pdfjob_api.jobstatus import PdfJobStatus
from pdfjob_api.meta import LastError
from pdfjob_api.pdfchunk import Outcome, PdfChunk
from pdfjob_api.pdfjob import Limits, PdfJob, Shutdown
from tests.support.builders import at, pdf_chunk, pdf_job, raw_job, raw_pod, running, split_facts, succeeded
from tests.support.deciding import condition, decided, queued_job, record, started

UNSCHEDULABLE = [{"type": "PodScheduled", "status": "False", "message": "0/3 nodes are available"}]


def hit(index: int, code: ChunkCode, finished: float = 0, **status: Any) -> PdfChunk:
    """Build a chunk that failed with a cause outside the document and waits for its next start."""
    return pdf_chunk(
        index,
        **{
            "phase": ChunkPhase.RETRY_SCHEDULED,
            "starts": 1,
            "last_error": LastError(code=code.value, message=f"the words of chunk {index}"),
            "history": [record(1, code, counted=False, finished=finished)],
            **status,
        },
    )


def held(code: ChunkCode = ChunkCode.AUTH_ERROR) -> list[PdfChunk]:
    return [hit(0, code, -2), hit(1, code), hit(2, code, -1), pdf_chunk(3)]


def job_of_four(status: PdfJobStatus | None = None, **spec: Any) -> PdfJob:
    return pdf_job(status, **{"parallelism": 3, **spec})


FACTS = split_facts(pdf_job(), 8, 4)


def test_a_common_cause_holds_dispatch_and_names_the_four_things_to_check() -> None:
    decision = decided(job_of_four(), held(), FACTS)
    assert started(decision) == []
    item = condition(decision.status, JobCondition.DEGRADED)
    assert (item.status, item.reason) == ("True", "AUTH_ERROR")
    assert item.message.startswith("the last chunks all failed with AUTH_ERROR, so none is started but one to try")
    assert "check: key valid, quota not exceeded, network to the API, text in the PDF" in item.message
    assert "kubectl pdfjob retry novel" in item.message
    assert item.message.endswith("the last error: the words of chunk 1")
    assert decision.status is not None
    assert (decision.status.phase, decision.status.effective_parallelism) == (JobPhase.RUNNING, 1)


def test_for_an_image_it_says_what_to_check_of_an_image() -> None:
    item = condition(decided(job_of_four(), held(ChunkCode.IMAGE_ERROR), FACTS).status, JobCondition.DEGRADED)
    assert item.reason == "IMAGE_ERROR"
    assert "check the image name, the registry and spec.runner.imagePullSecrets" in item.message


def test_one_probe_starts_when_its_time_has_come_and_the_operator_looks_again_then() -> None:
    waits = decided(job_of_four(), held(), FACTS)
    assert waits.requeue_seconds is not None
    assert 8 <= waits.requeue_seconds <= 10
    assert started(decided(job_of_four(), held(), FACTS, seconds=waits.requeue_seconds - 0.01)) == []
    assert started(decided(job_of_four(), held(), FACTS, seconds=waits.requeue_seconds)) == [0]


def test_while_the_probe_is_under_way_nothing_else_starts() -> None:
    decision = decided(job_of_four(), held(), FACTS, raw_job(chunk=0, start=2), seconds=60)
    assert (started(decision), decision.in_flight) == ([], 1)
    assert condition(decision.status, JobCondition.DEGRADED).status == "True"


def test_a_probe_that_succeeds_ends_the_hold() -> None:
    degraded = decided(job_of_four(), held(), FACTS).status
    done = succeeded(0)
    history = [
        record(1, ChunkCode.AUTH_ERROR, counted=False, finished=0),
        record(2, outcome=Outcome.SUCCEEDED, finished=20),
    ]
    chunks = [done.model_copy(update={"status": done.status.model_copy(update={"history": history})}), *held()[1:]]
    decision = decided(job_of_four(degraded), chunks, FACTS, seconds=21)
    assert started(decision) == [1, 2, 3]
    item = condition(decision.status, JobCondition.DEGRADED)
    assert (item.status, item.reason) == ("False", Reason.DISPATCHING)
    assert decision.status is not None
    assert decision.status.effective_parallelism is None


def test_a_retry_request_ends_the_hold_at_once() -> None:
    degraded = decided(job_of_four(), held(), FACTS).status
    assert degraded is not None
    asked = job_of_four(degraded, retry_request={"id": "now"})
    answered = decided(asked, held(), FACTS, seconds=1)
    chunks = held()
    for action in answered.actions:
        chunk = getattr(action, "chunk", None)
        status = getattr(action, "status", None)
        if chunk is not None and status is not None:
            chunks[chunk.spec.index] = chunk.model_copy(update={"status": status})
    decision = decided(job_of_four(answered.status, retry_request={"id": "now"}), chunks, FACTS, seconds=2)
    assert started(decision) == [0, 1, 2]
    assert condition(decision.status, JobCondition.DEGRADED).status == "False"


def test_a_rate_limit_is_shown_as_fewer_chunks_in_flight() -> None:
    job = job_of_four(parallelism=4)
    decision = decided(job, [hit(0, ChunkCode.RATE_LIMIT, next_retry_time=at(99)), *held()[3:]], FACTS)
    assert decision.status is not None
    assert decision.status.effective_parallelism == 2
    assert JobCondition.DEGRADED not in [item.type for item in decision.status.conditions]


def test_a_job_that_is_well_says_nothing_of_it() -> None:
    status = decided(job_of_four(), [pdf_chunk(index) for index in range(4)], FACTS).status
    assert status is not None
    assert (JobCondition.DEGRADED in [item.type for item in status.conditions], status.effective_parallelism) == (
        False,
        None,
    )


@pytest.mark.parametrize(
    ("pod", "reason", "words"),
    [
        (None, Reason.NO_POD, "the Jobs of chunks 0-1 get no pod (quota, Pod Security, service account?)"),
        (UNSCHEDULABLE, Reason.UNSCHEDULABLE, "no node takes the pods of chunks 0-1: 0/3 nodes are available"),
    ],
)
def test_chunks_without_pod_or_node_hold_the_job_up_after_the_pending_limit(
    pod: list[dict[str, str]] | None, reason: Reason, words: str
) -> None:
    job = job_of_four(limits=Limits(pending_timeout_seconds=60))
    chunks = [pdf_chunk(index) for index in range(4)]
    raws = [raw_job(chunk=index) for index in (0, 1)]
    raws += [raw_pod(chunk=index, conditions=pod) for index in (0, 1)] if pod else []
    early = decided(job, chunks, FACTS, *raws, seconds=29).status
    assert early is not None
    assert JobCondition.DEGRADED not in [item.type for item in early.conditions]
    late = decided(job, chunks, FACTS, *raws, seconds=30).status
    item = condition(late, JobCondition.DEGRADED)
    assert (item.status, item.reason) == ("True", reason)
    assert item.message.startswith(words)
    assert words in condition(late, JobCondition.CHUNKS_SUCCEEDED).message


def test_a_queue_holds_nothing_up() -> None:
    job = job_of_four(limits=Limits(pending_timeout_seconds=60))
    status = decided(job, [pdf_chunk(0)], FACTS, queued_job(), seconds=90_000).status
    assert status is not None
    assert JobCondition.DEGRADED not in [item.type for item in status.conditions]


def admitted_job(taken_up: float | None) -> dict[str, Any]:
    """Build a Job that a queueing system let go; the Job controller notes when it takes it up."""
    raw = raw_job({"type": "Suspended"}) if taken_up is None else raw_job()
    raw["status"]["startTime"] = None if taken_up is None else at(taken_up)
    return raw


def test_time_in_a_queue_is_no_wait_for_a_pod_once_the_job_is_admitted() -> None:
    job = job_of_four(limits=Limits(pending_timeout_seconds=60))
    for taken_up, seconds in ((None, 90_000), (89_999, 90_000), (89_999, 90_058)):
        status = decided(job, [pdf_chunk(0)], FACTS, admitted_job(taken_up), seconds=seconds).status
        assert status is not None
        assert JobCondition.DEGRADED not in [item.type for item in status.conditions]
    late = decided(job, [pdf_chunk(0)], FACTS, admitted_job(89_999), seconds=90_059).status
    assert condition(late, JobCondition.DEGRADED).reason == Reason.NO_POD


def test_it_says_so_no_more_when_the_pod_has_its_node() -> None:
    job = job_of_four(limits=Limits(pending_timeout_seconds=60))
    chunks = [pdf_chunk(index) for index in range(4)]
    degraded = decided(job, chunks, FACTS, raw_job(chunk=0), seconds=60).status
    again = job_of_four(degraded, limits=Limits(pending_timeout_seconds=60))
    status = decided(again, chunks, FACTS, raw_job(chunk=0), raw_pod(chunk=0), seconds=61).status
    assert condition(status, JobCondition.DEGRADED).reason == Reason.DISPATCHING


def test_the_step_says_what_a_held_job_waits_for_unless_a_chunk_runs() -> None:
    status = decided(job_of_four(), held(), FACTS).status
    assert status is not None
    assert status.current_step == "Waiting: AUTH_ERROR"
    runs = pdf_chunk(3, phase=ChunkPhase.RUNNING, attempts=1, starts=1)
    raws = raw_job(chunk=3), raw_pod(running(), chunk=3, phase="Running")
    status = decided(job_of_four(), [*held()[:3], runs], FACTS, *raws).status
    assert status is not None
    assert status.current_step == "Processing chunk 0/4"


def test_a_job_that_has_ended_is_held_by_nothing() -> None:
    before = decided(job_of_four(), held(), FACTS).status
    status = decided(job_of_four(before, shutdown=Shutdown.CANCEL), held(), FACTS).status
    item = condition(status, JobCondition.DEGRADED)
    assert (item.status, item.message) == ("False", "the job has ended")
