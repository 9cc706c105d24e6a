"""A job that cannot go on, since its source, plan or spec is no good: it drains, fails, and keeps what is finished."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from pdfjob_api.conditions import ChunkPhase, JobCondition, JobPhase, Reason
from pdfjob_api.errors import JobCode
from pdfjob_api.jobstatus import ChunkCounts, Clock, PdfJobStatus
from pdfjob_api.pdfchunk import EndReason, PdfChunk
from pdfjob_api.pdfjob import Limits, RetryRequest, Shutdown
from pdfjob_operator.actions import DeleteJob, StartWork, WriteChunk
from pdfjob_operator.intent import Intent, intent_of
from pdfjob_operator.observation import Facts, WorkError, WorkKind
from tests.support.builders import NOW, pdf_chunk, pdf_job, raw_job, raw_pod, running, split_facts, succeeded
from tests.support.deciding import NOTHING, chunk_decided, condition, decided, of_type, started, written

CHANGED = {WorkKind.SPLIT: WorkError(Reason.SPLIT_ERROR, "the source changed", None)}
AWAY = {WorkKind.SPLIT: WorkError(Reason.STORAGE_UNREACHABLE, "away", NOW + timedelta(seconds=9))}
RUNS = [raw_job(chunk=1), raw_pod(running(), chunk=1, phase="Running")]
FATAL: list[tuple[dict[str, Any], JobCode, str]] = [
    ({"errors": CHANGED, "manifest": None}, JobCode.INVALID_SOURCE, "the source changed"),
    (
        {"invalid": "correct spec.runner: bad toleration"},
        JobCode.PROCESSING_ERROR,
        "correct spec.runner: bad toleration",
    ),
]


def chunks() -> list[PdfChunk]:
    return [succeeded(0), pdf_chunk(1, phase=ChunkPhase.RUNNING, attempts=1, starts=1), pdf_chunk(2)]


@pytest.mark.parametrize(
    ("facts", "fatal"),
    [
        (Facts(), False),
        (Facts(errors=AWAY), False),
        (Facts(errors=CHANGED), True),
        (Facts(errors={WorkKind.MERGE: CHANGED[WorkKind.SPLIT]}), False),
        (Facts(invalid="no"), True),
    ],
    ids=["well", "tried again", "source", "merge", "spec"],
)
def test_which_errors_are_the_end_of_a_job(facts: Facts, *, fatal: bool) -> None:
    assert (facts.fatal is not None) == fatal


@pytest.mark.parametrize(
    ("spec", "intent"),
    [
        ({}, Intent.FAIL),
        ({"suspend": True}, Intent.SUSPEND),
        ({"shutdown": Shutdown.STOP}, Intent.STOP),
        ({"shutdown": Shutdown.CANCEL, "suspend": True}, Intent.CANCEL),
        ({"limits": Limits(job_timeout_seconds=10)}, Intent.FAIL),
    ],
)
def test_the_users_word_goes_before_the_failure(spec: dict[str, Any], intent: Intent) -> None:
    job = pdf_job(PdfJobStatus(clock=Clock(seconds=10)), **spec)
    assert intent_of(job, NOW, fatal=True) is intent


@pytest.mark.parametrize(("known", "code", "message"), FATAL)
def test_what_runs_is_ended_before_the_job_fails(known: dict[str, Any], code: JobCode, message: str) -> None:
    job = pdf_job()
    drains = decided(job, chunks(), split_facts(job, 6, 3, **known), *RUNS)
    (write,) = of_type(drains, WriteChunk)
    assert write.status.ending is not None
    assert write.status.ending.reason is EndReason.JOB_FAILED
    assert (len(of_type(drains, DeleteJob)), started(drains)) == (1, [])
    assert condition(drains.status, JobCondition.FINISHED).status == "False"
    assert drains.status is not None
    assert drains.status.current_step == "Failing: runners save their pages"

    over = decided(job, [succeeded(0), pdf_chunk(1), pdf_chunk(2)], split_facts(job, 6, 3, **known)).status
    assert over is not None
    assert (over.phase, over.last_error and over.last_error.code) == (JobPhase.FAILED, code)
    assert over.last_error is not None
    assert over.last_error.message == message
    assert over.chunks is not None
    assert (over.chunks.succeeded, over.chunks.cancelled) == (1, 2)


def test_after_a_restart_nothing_is_tried_again_while_it_drains() -> None:
    job = pdf_job(PdfJobStatus(chunks=ChunkCounts(total=3)))
    drains = decided(job, chunks(), Facts(errors=CHANGED), *RUNS)
    assert of_type(drains, StartWork) == []


def test_a_chunk_ended_so_keeps_its_pages_and_its_attempts() -> None:
    ending = {"start": 1, "reason": "JobFailed"}
    chunk = pdf_chunk(0, phase=ChunkPhase.RUNNING, attempts=1, starts=1, ending=ending)
    status = written(chunk_decided(chunk, end=NOTHING))
    assert (status.phase, status.attempts, status.last_error) == (ChunkPhase.PENDING, 0, None)


@pytest.mark.parametrize("known", [known for known, _, _ in FATAL])
def test_a_paused_job_does_not_fail_for_it(known: dict[str, Any]) -> None:
    job = pdf_job(suspend=True)
    status = decided(job, [succeeded(0), pdf_chunk(1), pdf_chunk(2)], split_facts(job, 6, 3, **known)).status
    assert status is not None
    assert (status.phase, status.last_error) == (JobPhase.SUSPENDED, None)


@pytest.mark.parametrize("planned", [True, False], ids=["planned", "plan unread"])
def test_a_request_for_a_retry_is_refused_with_the_cause(*, planned: bool) -> None:
    request = RetryRequest(id="again", force=True)
    status = PdfJobStatus(chunks=ChunkCounts(total=3, pending=2, succeeded=1))
    facts = split_facts(pdf_job(), 6, 3, errors=CHANGED) if planned else Facts(errors=CHANGED)
    decision = decided(pdf_job(status, retry_request=request), chunks(), facts)
    assert decision.status is not None
    answer = decision.status.last_retry
    assert answer is not None, "a job that ends unanswered is opened again for it, and fails again, for ever"
    assert (answer.id, answer.retried_count) == ("again", 0)
    assert answer.message.startswith("Refused: the job cannot go on: ")
