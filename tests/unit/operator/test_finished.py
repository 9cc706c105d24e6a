"""What is still done for a job that has ended: its leftovers, its record, and its deletion when its time is over."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from pdfjob_api.conditions import ChunkPhase, JobCondition, JobPhase, Reason
from pdfjob_api.jobstatus import PdfJobStatus
from pdfjob_api.meta import Condition
from pdfjob_api.pdfjob import TtlSecondsAfterFinished
from pdfjob_operator.actions import DeleteJob, DeletePod, DeleteSelf, StartWork, StopWork, WriteChunk
from pdfjob_operator.observation import Facts, WorkError, WorkKind
from tests.support.builders import NOW, at, pdf_chunk, pdf_job, raw_job, raw_pod, running, succeeded
from tests.support.deciding import decided, of_type, queued_job

RECORD = "s3://pdfjob/history/job.json"
ENDS = [JobPhase.SUCCEEDED, JobPhase.FAILED, JobPhase.STOPPED, JobPhase.CANCELLED]


def finished(phase: JobPhase = JobPhase.SUCCEEDED, *, history: str | None = RECORD) -> PdfJobStatus:
    kind, reason = JobCondition.FINISHED.value, Reason.COMPLETED.value
    done = Condition(type=kind, status="True", reason=reason, last_transition_time=at(0))
    return PdfJobStatus(phase=phase, history=history, completion_time=at(0), conditions=[done])


@pytest.mark.parametrize("phase", ENDS)
@pytest.mark.parametrize(("age", "gone"), [(99, False), (100, True)])
def test_a_job_is_deleted_when_the_time_of_its_outcome_is_over(phase: JobPhase, age: float, *, gone: bool) -> None:
    ttl = TtlSecondsAfterFinished(**{phase.value.lower(): 100})
    for other in ENDS:
        decision = decided(pdf_job(finished(other), ttl_seconds_after_finished=ttl), [], Facts(), seconds=age)
        if other is phase:
            assert decision.actions == ((DeleteSelf(),) if gone else ())
            assert decision.requeue_seconds == (None if gone else 1)
        else:
            assert decision.actions == ()


@pytest.mark.parametrize(
    ("phase", "seconds"),
    [(JobPhase.SUCCEEDED, 86400), (JobPhase.FAILED, None), (JobPhase.STOPPED, None), (JobPhase.CANCELLED, None)],
)
def test_succeeded_jobs_go_after_a_day_and_others_stay(phase: JobPhase, seconds: float | None) -> None:
    assert decided(pdf_job(finished(phase)), [], Facts()).requeue_seconds == seconds
    later = decided(pdf_job(finished(phase)), [], Facts(), seconds=10**7)
    assert later.actions == ((DeleteSelf(),) if seconds else ())


def test_zero_means_at_once() -> None:
    job = pdf_job(finished(), ttl_seconds_after_finished=TtlSecondsAfterFinished(succeeded=0))
    assert decided(job, [], Facts()).actions == (DeleteSelf(),)


def test_a_job_without_a_time_of_its_end_stays() -> None:
    status = finished().model_copy(update={"completion_time": None})
    assert decided(pdf_job(status), [], Facts(), seconds=10**7).actions == ()


def test_the_record_is_stored_when_nothing_is_left_and_then_named() -> None:
    job = pdf_job(finished(history=None))
    left = decided(job, [pdf_chunk(0, phase=ChunkPhase.PENDING)], Facts(), raw_job())
    assert of_type(left, StartWork) == []
    assert decided(job, [succeeded(0)], Facts()).actions == (StartWork(WorkKind.RECORD),)
    assert decided(job, [succeeded(0)], Facts(working=WorkKind.RECORD)).actions == ()
    named = decided(job, [succeeded(0)], Facts(recorded=RECORD))
    assert named.status == job.status.model_copy(update={"history": RECORD})
    assert decided(pdf_job(named.status), [succeeded(0)], Facts(recorded=RECORD)).status is None


def test_a_record_that_could_not_be_stored_is_tried_again_later() -> None:
    error = WorkError(Reason.STORAGE_UNREACHABLE, "away", NOW + timedelta(seconds=40))
    job = pdf_job(finished(JobPhase.FAILED, history=None))
    decision = decided(job, [], Facts(errors={WorkKind.RECORD: error}))
    assert (decision.actions, decision.requeue_seconds) == ((), 40)
    later = decided(job, [], Facts(errors={WorkKind.RECORD: error}), seconds=40)
    assert later.actions == (StartWork(WorkKind.RECORD),)


@pytest.mark.parametrize("kind", [WorkKind.SPLIT, WorkKind.MERGE])
def test_work_that_is_left_over_is_stopped(kind: WorkKind) -> None:
    assert StopWork() in decided(pdf_job(finished()), [], Facts(working=kind)).actions


@pytest.mark.parametrize(
    "phase", [ChunkPhase.PENDING, ChunkPhase.RUNNING, ChunkPhase.RETRY_SCHEDULED, ChunkPhase.FAILED]
)
def test_chunks_that_had_not_ended_will_not_run_any_more(phase: ChunkPhase) -> None:
    decision = decided(pdf_job(finished(JobPhase.STOPPED)), [pdf_chunk(0, phase=phase, attempts=1)], Facts())
    ended = [write.status.phase for write in of_type(decision, WriteChunk)]
    assert ended == ([] if phase is ChunkPhase.FAILED else [ChunkPhase.CANCELLED])


@pytest.mark.parametrize("raw", [raw_job(), queued_job()])
def test_every_job_goes(raw: dict[str, Any]) -> None:
    decision = decided(pdf_job(finished()), [succeeded(0)], Facts(), raw)
    assert decision.actions == (DeleteJob("novel-c00000-a1", "job-0-1"),)


@pytest.mark.parametrize("phase", ENDS)
def test_only_after_cancel_pods_that_appear_late_are_killed(phase: JobPhase) -> None:
    late = raw_job(), raw_pod(running(), phase="Running")
    decision = decided(pdf_job(finished(phase)), [succeeded(0)], Facts(), *late)
    kills = [kill.grace_seconds for kill in of_type(decision, DeletePod)]
    assert kills == ([1] if phase is JobPhase.CANCELLED else [])
    assert len(of_type(decision, DeleteJob)) == 1
