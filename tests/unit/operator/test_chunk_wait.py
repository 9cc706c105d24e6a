"""What a chunk waits for whose Job exists and whose container does not run: said once for each reason."""

from __future__ import annotations

from typing import Any

import pytest

from pdfjob_api.conditions import ChunkPhase
from pdfjob_api.pdfchunk import PdfChunkStatus
from pdfjob_api.pdfjob import Limits
from tests.support.builders import at, pdf_chunk, pdf_job, raw_job, raw_pod, running, waiting
from tests.support.deciding import chunk_decided, queued_job, written

UNSCHEDULABLE = [{"type": "PodScheduled", "status": "False", "message": "0/3 nodes are available: no memory"}]
NODE = [{"type": "PodScheduled", "status": "True", "message": "found one"}]
JOB = raw_job()


def waits(status: PdfChunkStatus) -> tuple[str, str, str]:
    (condition,) = status.conditions
    assert (condition.type, condition.observed_generation) == ("Waiting", 1)
    return condition.status, condition.reason, condition.message


@pytest.mark.parametrize(
    ("raws", "reason", "words"),
    [
        ([JOB], "NoPod", "its Job has no pod yet: a quota, Pod Security or a missing service account may forbid it"),
        (
            [JOB, raw_pod(conditions=UNSCHEDULABLE)],
            "Unschedulable",
            "no node takes its pod: 0/3 nodes are available: no memory",
        ),
        (
            [JOB, raw_pod(waiting("ErrImagePull", "not found"), conditions=NODE)],
            "ImagePull",
            "ErrImagePull: not found",
        ),
        ([JOB, raw_pod(waiting("ImageInspectError", "odd"))], "ImagePull", "ImageInspectError: odd"),
        (
            [JOB, raw_pod(waiting("CreateContainerConfigError", "no key"))],
            "Starting",
            "CreateContainerConfigError: no key",
        ),
        (
            [JOB, raw_pod(waiting("ContainerCreating"))],
            "Starting",
            "its pod is on node node-1 and its container has not started",
        ),
        ([queued_job()], "Queued", "its Job is suspended by a queueing system (Kueue); no time limit runs"),
    ],
)
def test_a_chunk_that_waits_says_why(raws: list[dict[str, Any]], reason: str, words: str) -> None:
    decision = chunk_decided(pdf_chunk(0), *raws)
    assert waits(written(decision)) == ("True", reason, words)
    assert decision.in_flight


def test_a_pod_whose_job_was_deleted_behind_our_back_is_told_alike() -> None:
    decision = chunk_decided(pdf_chunk(0), raw_pod(conditions=UNSCHEDULABLE), job=pdf_job())
    assert waits(written(decision))[1] == "Unschedulable"
    assert decision.requeue_seconds == 570


@pytest.mark.parametrize("reason", ["ErrImagePull", "CreateContainerError"])
def test_long_words_of_a_cluster_fit(reason: str) -> None:
    raws = JOB, raw_pod(waiting(reason, "x" * 5000))
    told = written(chunk_decided(pdf_chunk(0), *raws))
    assert len(waits(told)[2]) == 1024
    ending = written(chunk_decided(pdf_chunk(0), *raws, seconds=5000)).ending
    assert ending is not None
    assert len(ending.message) == 1024
    unschedulable = [{**UNSCHEDULABLE[0], "message": "x" * 5000}]
    assert len(waits(written(chunk_decided(pdf_chunk(0), JOB, raw_pod(conditions=unschedulable))))[2]) == 1024


def test_it_is_told_once_and_again_when_the_reason_changes() -> None:
    told = written(chunk_decided(pdf_chunk(0), JOB))
    chunk = pdf_chunk(0, conditions=told.conditions)
    assert chunk_decided(chunk, JOB, seconds=60).actions == ()
    other = written(chunk_decided(chunk, JOB, raw_pod(conditions=UNSCHEDULABLE), seconds=60))
    assert waits(other)[1] == "Unschedulable"
    assert other.conditions[0].last_transition_time == at(0), "it has waited since then"


def test_what_is_over_in_a_moment_is_not_worth_a_write() -> None:
    """The Job and the pod are 30 s old at NOW."""
    early = chunk_decided(pdf_chunk(0), JOB, raw_pod(), seconds=-21)
    assert (early.actions, early.requeue_seconds) == ((), 1)
    assert waits(written(chunk_decided(pdf_chunk(0), JOB, raw_pod(), seconds=-20)))[0] == "True"


def test_a_queue_is_told_at_once_since_it_may_last() -> None:
    assert waits(written(chunk_decided(pdf_chunk(0), queued_job(), seconds=-30)))[1] == "Queued"


def test_it_is_looked_at_again_when_its_patience_ends() -> None:
    job = pdf_job(limits=Limits(pending_timeout_seconds=45))
    assert chunk_decided(pdf_chunk(0), JOB, raw_pod(), seconds=-25, job=job).requeue_seconds == 5
    assert chunk_decided(pdf_chunk(0), JOB, raw_pod(), job=job).requeue_seconds == 15
    assert chunk_decided(pdf_chunk(0), JOB, raw_pod(), seconds=15, job=job).requeue_seconds is None


def test_in_a_queue_no_time_runs() -> None:
    decision = chunk_decided(pdf_chunk(0), queued_job(), raw_pod(waiting("ErrImagePull")), seconds=5000)
    assert (decision.requeue_seconds, written(decision).ending) == (None, None)


def test_a_job_that_was_just_admitted_has_not_waited_for_its_pod() -> None:
    admitted = raw_job()
    admitted["status"]["startTime"] = at(4999)
    assert chunk_decided(pdf_chunk(0), admitted, seconds=5000).actions == ()
    assert waits(written(chunk_decided(pdf_chunk(0), admitted, seconds=5009)))[1] == "NoPod"


@pytest.mark.parametrize("state", [None, waiting("ContainerCreating")])
def test_waiting_never_ends_a_start_that_waiting_mends(state: dict[str, Any] | None) -> None:
    for raws in ([JOB], [JOB, raw_pod(state, conditions=UNSCHEDULABLE)]):
        assert written(chunk_decided(pdf_chunk(0), *raws, seconds=50_000)).ending is None


@pytest.mark.parametrize("seconds", [15, 16])
def test_the_jobs_own_pending_limit_ends_a_start_that_cannot_begin(seconds: float) -> None:
    job = pdf_job(limits=Limits(pending_timeout_seconds=45))
    raws = JOB, raw_pod(waiting("ErrImagePull", "gone"))
    assert written(chunk_decided(pdf_chunk(0), *raws, job=job, seconds=14)).ending is None
    assert written(chunk_decided(pdf_chunk(0), *raws, job=job, seconds=seconds)).ending is not None


def test_what_it_waited_for_goes_when_it_runs() -> None:
    told = written(chunk_decided(pdf_chunk(0), JOB))
    status = written(chunk_decided(pdf_chunk(0, conditions=told.conditions), JOB, raw_pod(running(), phase="Running")))
    assert (status.phase, status.conditions) == (ChunkPhase.RUNNING, [])
