"""Pause, Stop, Cancel and the time limit of a job: phases, texts, conditions, and what is still done (R-50 to R-56)."""

from __future__ import annotations

from typing import Any

import pytest

from pdfjob_api.conditions import ChunkPhase, JobCondition, JobPhase, Reason
from pdfjob_api.errors import JobCode
from pdfjob_api.jobstatus import ChunkCounts, Clock, PdfJobStatus, ShutdownStatus
from pdfjob_api.meta import ManagedFields
from pdfjob_api.names import ANNOTATION_REQUESTED_BY
from pdfjob_api.pdfchunk import EndReason, PdfChunk
from pdfjob_api.pdfjob import Limits, PdfJob, Shutdown
from pdfjob_operator.actions import DeleteJob, DeletePod, StartWork, StopWork, WriteChunk
from pdfjob_operator.observation import Facts, WorkError, WorkKind
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
from tests.support.deciding import condition, decided, of_type, started, with_spec

PLANNED = PdfJobStatus(chunks=ChunkCounts(total=2, succeeded=1, running=1), phase=JobPhase.RUNNING, start_time=at(-90))
TEN_SECONDS = Limits(job_timeout_seconds=10)
VERBS: dict[str, dict[str, Any]] = {
    "suspend": {"suspend": True},
    "stop": {"shutdown": Shutdown.STOP},
    "cancel": {"shutdown": Shutdown.CANCEL},
}
OVER_TIME = PLANNED.model_copy(update={"clock": Clock(seconds=10)})


def running_chunk(index: int = 1, **status: Any) -> PdfChunk:
    return pdf_chunk(index, **{"phase": ChunkPhase.RUNNING, "attempts": 1, "starts": 1, **status})


def half_done() -> list[PdfChunk]:
    return [succeeded(0), pdf_chunk(1)]


def word(status: PdfJobStatus | None, kind: JobCondition) -> tuple[str, str]:
    item = condition(status, kind)
    return item.status, item.reason


def test_a_pause_drains_first_and_says_suspended_when_nothing_runs() -> None:
    job = pdf_job(PLANNED, suspend=True)
    runs = [raw_job(chunk=1), raw_pod(running(), chunk=1, phase="Running")]
    draining = decided(job, [succeeded(0), running_chunk()], split_facts(job, 4, 2), *runs).status
    assert draining is not None
    assert draining.phase is JobPhase.SUSPENDED
    item = condition(draining, JobCondition.SUSPENDED)
    assert (item.status, item.reason) == ("False", Reason.DRAINING)
    assert item.message == "Batch processing paused by user: 1 runner finishes the page in hand"
    assert draining.current_step == "Suspending: 1 runner saves pages"

    paused = decided(job, half_done(), split_facts(job, 4, 2)).status
    assert paused is not None
    assert (paused.phase, paused.current_step) == (JobPhase.SUSPENDED, "Suspended")
    item = condition(paused, JobCondition.SUSPENDED)
    assert (item.status, item.reason) == ("True", Reason.SUSPENDED)
    assert item.message == (
        "Batch processing paused by user. Batch paused, checkpoint retained: 1 of 2 chunks are done; "
        "resume with: kubectl pdfjob resume novel -n books"
    )
    assert word(paused, JobCondition.FINISHED) == ("False", Reason.ACTIVE)


def test_a_pod_that_lives_on_without_its_job_still_drains() -> None:
    job = pdf_job(PLANNED, suspend=True)
    chunks = [succeeded(0), pdf_chunk(1, starts=1)]
    pod = raw_pod(running(), chunk=1, phase="Running", deleted=20)
    status = decided(job, chunks, split_facts(job, 4, 2), pod).status
    assert word(status, JobCondition.SUSPENDED) == ("False", Reason.DRAINING)


def test_a_job_goes_on_where_it_was_when_it_is_resumed() -> None:
    paused = decided(pdf_job(PLANNED, suspend=True), half_done(), split_facts(pdf_job(), 4, 2)).status
    decision = decided(pdf_job(paused), half_done(), split_facts(pdf_job(), 4, 2))
    assert started(decision) == [1]
    assert decision.status is not None
    assert decision.status.phase is JobPhase.RUNNING
    assert word(decision.status, JobCondition.SUSPENDED) == ("False", Reason.RESUMED)
    assert decision.status.last_error is None


def test_a_job_never_paused_says_nothing_of_it() -> None:
    status = decided(pdf_job(), [pdf_chunk(0)], split_facts(pdf_job(), 2, 1)).status
    assert status is not None
    assert JobCondition.SUSPENDED not in [item.type for item in status.conditions]


@pytest.mark.parametrize("verb", VERBS)
def test_nothing_new_starts_and_no_pdfchunk_or_work_is_begun(verb: str) -> None:
    job = pdf_job(PLANNED, **VERBS[verb])
    decision = decided(job, [succeeded(0)], split_facts(job, 4, 2))
    assert decision.actions == ()
    done = decided(job, [succeeded(0), succeeded(1)], split_facts(job, 4, 2))
    assert done.actions == (), "nor is anything merged"


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("kind", [WorkKind.SPLIT, WorkKind.MERGE])
def test_background_work_is_stopped_before_the_job_counts_as_quiet(verb: str, kind: WorkKind) -> None:
    job = pdf_job(PLANNED, **VERBS[verb])
    decision = decided(job, half_done(), split_facts(job, 4, 2, working=kind))
    assert decision.actions == (StopWork(),)
    assert decision.status is not None
    assert word(decision.status, JobCondition.FINISHED) == ("False", Reason.ACTIVE)


def test_a_job_that_is_paused_before_it_is_planned_is_paused_at_once() -> None:
    job = pdf_job(suspend=True)
    assert decided(job, [], Facts(working=WorkKind.SPLIT)).actions == (StopWork(),)
    decision = decided(job, [], Facts())
    assert (decision.actions, decision.status and decision.status.phase) == ((), JobPhase.SUSPENDED)
    assert condition(decision.status, JobCondition.SUSPENDED).message == (
        "Batch processing paused by user. Batch paused, checkpoint retained: "
        "resume with: kubectl pdfjob resume novel -n books"
    )


def test_after_a_restart_a_paused_job_reads_its_plan_back_and_stays_paused_meanwhile() -> None:
    job = pdf_job(PLANNED, suspend=True)
    unread = decided(job, half_done(), Facts())
    assert unread.actions == (StartWork(WorkKind.SPLIT),)
    assert unread.status is not None
    assert (unread.status.phase, word(unread.status, JobCondition.SUSPENDED)[0]) == (JobPhase.SUSPENDED, "True")
    assert decided(job, half_done(), Facts(working=WorkKind.SPLIT)).actions == ()
    known = Facts(working=WorkKind.SPLIT, plan=plan_of(job, 4))
    assert decided(job, half_done(), known).actions == (StopWork(),)


def test_a_paused_job_never_fails() -> None:
    chunks = [succeeded(0), failed(1)]
    facts = split_facts(pdf_job(), 4, 2)
    assert (status := decided(pdf_job(PLANNED), chunks, facts).status) is not None
    assert status.phase is JobPhase.FAILED
    for job in (pdf_job(PLANNED, suspend=True), pdf_job(OVER_TIME, suspend=True, limits=TEN_SECONDS)):
        status = decided(job, chunks, facts).status
        assert status is not None
        assert (status.phase, status.last_error) == (JobPhase.SUSPENDED, None)
        assert word(status, JobCondition.FINISHED) == ("False", Reason.ACTIVE)


@pytest.mark.parametrize(
    ("shutdown", "phase", "message"),
    [
        (
            Shutdown.STOP,
            JobPhase.STOPPED,
            "Batch processing stopped by user. Batch stopped, checkpoint retained: 1 of 4 chunks are done",
        ),
        (
            Shutdown.CANCEL,
            JobPhase.CANCELLED,
            "Batch processing cancelled by user. Batch cancelled, checkpoint retained: 1 of 4 chunks are done",
        ),
    ],
)
def test_a_shutdown_ends_the_job_for_good_without_an_error(shutdown: Shutdown, phase: JobPhase, message: str) -> None:
    job = pdf_job(PLANNED, shutdown=shutdown)
    chunks = [succeeded(0), pdf_chunk(1), failed(2)]
    decision = decided(job, chunks, split_facts(job, 8, 4))
    status = decision.status
    assert status is not None
    assert (status.phase, status.current_step, status.last_error) == (phase, phase.value, None)
    assert word(status, JobCondition.FINISHED) == ("True", phase.value)
    assert word(status, JobCondition.SUCCEEDED) == ("False", phase.value)
    assert condition(status, JobCondition.FINISHED).message == message
    assert condition(status, JobCondition.SUCCEEDED).message == message
    assert (status.completion_time, status.processing_seconds) == (at(0), 90)
    assert status.chunks is not None
    assert status.chunks.wire() == {
        "total": 4, "pending": 0, "running": 0, "retryScheduled": 0, "succeeded": 1, "cached": 0, "failed": 1,
        "cancelled": 2,
    }  # fmt: skip
    assert decision.requeue_seconds == 1


@pytest.mark.parametrize("shutdown", list(Shutdown))
@pytest.mark.parametrize("facts", [Facts(), Facts(plan=plan_of(pdf_job(), 4))], ids=["nothing known", "planned"])
def test_a_job_ends_so_at_any_time(shutdown: Shutdown, facts: Facts) -> None:
    status = decided(pdf_job(shutdown=shutdown), [], facts).status
    assert word(status, JobCondition.FINISHED)[0] == "True"


def test_even_when_its_plan_cannot_be_read_back() -> None:
    job = pdf_job(PLANNED, shutdown=Shutdown.CANCEL)
    status = decided(job, half_done(), Facts()).status
    assert status is not None
    assert (status.phase, status.chunks and status.chunks.cancelled) == (JobPhase.CANCELLED, 1)


@pytest.mark.parametrize(
    ("shutdown", "step", "reason"),
    [
        (Shutdown.STOP, "Stopping: runners save their pages", EndReason.STOPPED),
        (Shutdown.CANCEL, "Cancelling", EndReason.CANCELLED),
    ],
)
def test_it_ends_when_no_pod_lives_any_more(shutdown: Shutdown, step: str, reason: EndReason) -> None:
    job = pdf_job(PLANNED, shutdown=shutdown)
    runs = [raw_job(chunk=1), raw_pod(running(), chunk=1, phase="Running")]
    decision = decided(job, [succeeded(0), running_chunk()], split_facts(job, 4, 2), *runs)
    assert decision.status is not None
    assert (decision.status.current_step, decision.status.phase) == (step, JobPhase.RUNNING)
    (write,) = of_type(decision, WriteChunk)
    assert write.status.ending is not None
    assert write.status.ending.reason is reason
    assert [kill.grace_seconds for kill in of_type(decision, DeletePod)] == ([1] if shutdown is Shutdown.CANCEL else [])
    assert len(of_type(decision, DeleteJob)) == 1


@pytest.mark.parametrize("verb", VERBS)
def test_the_pod_of_a_chunk_that_is_done_is_waited_for_until_its_node_counts_as_lost(verb: str) -> None:
    """No event tells that a node is lost, so the operator looks again by itself."""
    job = pdf_job(PLANNED, **VERBS[verb])
    pod = raw_pod(running(), chunk=0, phase="Running", deleted=2)
    waits = decided(job, half_done(), split_facts(job, 4, 2), pod)
    assert (word(waits.status, JobCondition.FINISHED)[0], waits.requeue_seconds) == ("False", 603)
    over = decided(job, half_done(), split_facts(job, 4, 2), pod, seconds=603)
    assert over.status is not None
    assert over.status.phase is {"suspend": JobPhase.SUSPENDED, "stop": JobPhase.STOPPED}.get(verb, JobPhase.CANCELLED)
    assert word(over.status, JobCondition.SUSPENDED if verb == "suspend" else JobCondition.FINISHED)[0] == "True"


def test_stop_may_still_become_cancel_and_kills_what_drains() -> None:
    ending = {"start": 1, "reason": "Stopped"}
    job = pdf_job(PLANNED, shutdown=Shutdown.CANCEL)
    draining = raw_pod(running(), chunk=1, phase="Running", deleted=28)
    decision = decided(job, [succeeded(0), running_chunk(ending=ending)], split_facts(job, 4, 2), draining)
    assert decision.actions == (DeletePod("novel-c00001-a1-x", "pod-1-1", 1),)


def test_a_paused_job_that_is_stopped_does_not_say_that_it_goes_on() -> None:
    paused = decided(pdf_job(PLANNED, suspend=True), half_done(), split_facts(pdf_job(), 4, 2)).status
    job = pdf_job(paused, suspend=True, shutdown=Shutdown.STOP)
    status = decided(job, half_done(), split_facts(job, 4, 2)).status
    assert word(status, JobCondition.SUSPENDED) == ("False", Reason.STOPPED)
    assert condition(status, JobCondition.SUSPENDED).message == "Batch processing stopped by user"


def owned(job: PdfJob, *managers: tuple[str, dict[str, Any]], annotation: str | None = None) -> PdfJob:
    fields = [ManagedFields(manager=name, time=at(-7), fields_v1=spec) for name, spec in managers]
    notes = {ANNOTATION_REQUESTED_BY: annotation} if annotation is not None else {}
    meta = job.metadata.model_copy(update={"managed_fields": fields, "annotations": notes})
    return job.model_copy(update={"metadata": meta})


EDITED: dict[str, Any] = {"f:spec": {"f:shutdown": {}, "f:suspend": {}}}
OTHER: dict[str, Any] = {"f:spec": {"f:suspend": {}}, "f:status": {"f:shutdown": {}}}


@pytest.mark.parametrize(
    ("managers", "annotation", "at_second", "by"),
    [
        ([("kubectl-edit", EDITED)], None, -7, "kubectl-edit"),
        ([("helm", OTHER), ("kubectl-patch", EDITED)], None, -7, "kubectl-patch"),
        ([("kubectl-edit", EDITED)], "alice@example.org", -7, "alice@example.org"),
        ([("pdfjob-operator", OTHER)], "alice", 0, "alice"),
        ([], None, 0, "unknown"),
    ],
)
def test_who_ended_the_job_and_when_is_kept(
    managers: list[tuple[str, dict[str, Any]]], annotation: str | None, at_second: float, by: str
) -> None:
    job = owned(pdf_job(PLANNED, shutdown=Shutdown.STOP), *managers, annotation=annotation)
    status = decided(job, half_done(), split_facts(job, 4, 2)).status
    assert status is not None
    assert status.shutdown == ShutdownStatus(requested_at=at(at_second), requested_by=by)


def test_the_time_first_seen_stays_where_nobody_else_knows_it() -> None:
    known = PLANNED.model_copy(update={"shutdown": ShutdownStatus(requested_at=at(-50), requested_by="unknown")})
    status = decided(pdf_job(known, shutdown=Shutdown.STOP), half_done(), split_facts(pdf_job(), 4, 2)).status
    assert status is not None
    assert status.shutdown == known.shutdown


def test_a_pause_is_not_recorded_as_a_shutdown() -> None:
    job = owned(pdf_job(PLANNED, suspend=True), ("kubectl-edit", EDITED))
    status = decided(job, half_done(), split_facts(job, 4, 2)).status
    assert status is not None
    assert status.shutdown is None


def test_the_time_limit_drains_the_job_and_then_fails_it_with_its_chunks_kept() -> None:
    job = pdf_job(OVER_TIME, limits=TEN_SECONDS)
    runs = [raw_job(chunk=1), raw_pod(running(), chunk=1, phase="Running")]
    drains = decided(job, [succeeded(0), running_chunk()], split_facts(job, 4, 2), *runs)
    assert drains.status is not None
    assert (drains.status.phase, drains.status.current_step) == (
        JobPhase.RUNNING,
        "Time limit: runners save their pages",
    )
    (write,) = of_type(drains, WriteChunk)
    assert write.status.ending is not None
    assert write.status.ending.reason is EndReason.TIMED_OUT

    status = decided(job, half_done(), split_facts(job, 4, 2)).status
    assert status is not None
    assert (status.phase, status.current_step) == (JobPhase.FAILED, "Failed: TASK_TIMEOUT")
    assert word(status, JobCondition.FINISHED) == ("True", Reason.FAILED)
    assert word(status, JobCondition.SUCCEEDED) == ("False", JobCode.TASK_TIMEOUT)
    assert status.last_error is not None
    assert status.last_error.code == JobCode.TASK_TIMEOUT
    assert "Task exceeded time limit (10 s): 1 of 2 chunks are done" in status.last_error.message
    assert (status.chunks and status.chunks.cancelled) == 1


def test_a_limit_raised_while_runners_drain_lets_the_job_go_on() -> None:
    job = with_spec(pdf_job(OVER_TIME, limits=TEN_SECONDS), limits=Limits(job_timeout_seconds=90))
    decision = decided(job, half_done(), split_facts(job, 4, 2))
    assert started(decision) == [1]


def test_the_clock_of_a_job_goes_while_it_is_worked_on_and_stands_in_a_pause() -> None:
    runs = [raw_job(chunk=1), raw_pod(running(), chunk=1, phase="Running")]
    chunks, facts = [succeeded(0), running_chunk()], split_facts(pdf_job(), 4, 2)
    works = decided(pdf_job(PLANNED), chunks, facts, *runs).status
    assert works is not None
    assert works.clock == Clock(since=at(0))
    paused = decided(pdf_job(works, suspend=True), chunks, facts, *runs, seconds=25).status
    assert paused is not None
    assert paused.clock == Clock(seconds=25)


@pytest.mark.parametrize(
    ("facts", "goes"),
    [
        (Facts(working=WorkKind.SPLIT), True),
        (split_facts(pdf_job(), 4, 2, working=WorkKind.MERGE), True),
        (split_facts(pdf_job(), 4, 2), False),
        (Facts(errors={WorkKind.SPLIT: WorkError(Reason.STORAGE_UNREACHABLE, "away", None)}), False),
    ],
    ids=["splits", "merges", "waits for a place", "has failed"],
)
def test_work_of_the_operator_counts_and_waiting_does_not(facts: Facts, *, goes: bool) -> None:
    status = decided(pdf_job(), [pdf_chunk(0), pdf_chunk(1)] if facts.plan else [], facts).status
    assert status is not None
    assert (status.clock is not None) == goes


def test_a_job_is_looked_at_again_when_its_time_is_up() -> None:
    job = pdf_job(PLANNED.model_copy(update={"clock": Clock(seconds=4, since=at(0))}), limits=TEN_SECONDS)
    chunks = [succeeded(0), running_chunk()]
    runs = [raw_job(chunk=1), raw_pod(running(), chunk=1, phase="Running")]
    assert decided(job, chunks, split_facts(job, 4, 2), *runs).requeue_seconds == 6
