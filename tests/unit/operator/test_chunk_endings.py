"""A start that the operator ends: the reason is written first, the Job deleted, the end recorded without a live pod."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from pdfjob_api.conditions import ChunkPhase
from pdfjob_api.contract import Progress
from pdfjob_api.errors import ChunkCode
from pdfjob_api.pdfchunk import Ending, EndReason, Outcome, PdfChunk
from pdfjob_api.pdfjob import Limits
from pdfjob_operator.actions import DeleteJob, DeletePod, ReadEnd, ReadProgress, WriteChunk
from pdfjob_operator.intent import Intent
from pdfjob_operator.memory import JobMemory
from pdfjob_operator.observation import EndFacts, Heartbeat
from tests.support.builders import NOW, at, pdf_chunk, pdf_job, raw_job, raw_pod, running, terminated, waiting
from tests.support.deciding import NOTHING, RESULT, chunk_decided, of_type, queued_job, record, written

JOB = raw_job()
RUNS = raw_pod(running(), phase="Running")
DRAINS = raw_pod(running(), phase="Running", deleted=25)
OVER = raw_pod(terminated(75), phase="Failed", deleted=25)
DELETE = DeleteJob("novel-c00000-a1", "job-0-1")
ENDS = [Intent.SUSPEND, Intent.STOP, Intent.CANCEL, Intent.TIME_OUT]


def under_way(reason: EndReason | None = None, **status: Any) -> PdfChunk:
    ending = Ending(start=1, reason=reason) if reason is not None else None
    values = {"phase": ChunkPhase.RUNNING, "attempts": 1, "starts": 1, "ending": ending, **status}
    return pdf_chunk(0, **values)


@pytest.mark.parametrize("intent", ENDS)
@pytest.mark.parametrize(
    "raws",
    [
        pytest.param([JOB], id="no pod yet"),
        pytest.param([JOB, raw_pod()], id="pod waits"),
        pytest.param([JOB, raw_pod(waiting("ImagePullBackOff"))], id="image missing"),
        pytest.param([JOB, RUNS], id="runs"),
        pytest.param([queued_job()], id="in a queue"),
    ],
)
def test_the_reason_is_written_before_the_job_is_deleted_at_every_stage_of_a_start(
    intent: Intent, raws: list[dict[str, Any]]
) -> None:
    decision = chunk_decided(pdf_chunk(0), *raws, intent=intent)
    status = written(decision)
    assert status.ending == Ending(start=1, reason=intent.value or EndReason.STUCK)
    assert (status.phase, status.starts, status.job_name) == (ChunkPhase.PENDING, 1, "novel-c00000-a1")
    assert [action for action in decision.actions if not isinstance(action, DeletePod)] == [
        of_type(decision, WriteChunk)[0],
        DELETE,
    ]
    assert decision.in_flight


def test_what_runs_is_ended_and_stays_running_until_its_pod_is_gone() -> None:
    assert written(chunk_decided(under_way(), JOB, RUNS, intent=Intent.SUSPEND)).phase is ChunkPhase.RUNNING
    waits = chunk_decided(under_way(EndReason.SUSPENDED), DRAINS, intent=Intent.SUSPEND)
    assert (waits.actions, waits.in_flight) == ((), True)
    assert waits.requeue_seconds == 25 + 600 + 1, "a node that is lost never tells"


def test_after_a_crash_between_write_and_deletion_the_job_is_deleted_and_nothing_written_again() -> None:
    decision = chunk_decided(under_way(EndReason.SUSPENDED), JOB, RUNS, intent=Intent.SUSPEND)
    assert (decision.actions, decision.status) == ((DELETE,), None)


@pytest.mark.parametrize(
    ("reason", "phase"),
    [
        (EndReason.SUSPENDED, ChunkPhase.PENDING),
        (EndReason.REQUEUED, ChunkPhase.PENDING),
        (EndReason.TIMED_OUT, ChunkPhase.PENDING),
        (EndReason.STOPPED, ChunkPhase.CANCELLED),
        (EndReason.CANCELLED, ChunkPhase.CANCELLED),
    ],
)
@pytest.mark.parametrize("raws", [[], [OVER], [raw_pod(running(), deleted=-601)]], ids=["gone", "ended", "lost node"])
def test_the_end_is_recorded_without_a_live_pod_and_never_counted(
    reason: EndReason, phase: ChunkPhase, raws: list[dict[str, Any]]
) -> None:
    chunk = under_way(reason, uncounted=2)
    assert chunk_decided(chunk, *raws).actions == (ReadEnd(chunk, 1),)
    status = written(chunk_decided(chunk, *raws, end=NOTHING))
    assert (status.phase, status.attempts, status.uncounted, status.ending) == (phase, 0, 2, None)
    assert (status.last_error, status.next_retry_time) == (None, None)
    (last,) = status.history
    assert (last.outcome, last.counted, last.code, last.final) == (Outcome.ENDED, False, None, False)


def test_a_start_that_finished_while_it_was_ended_has_succeeded() -> None:
    status = written(chunk_decided(under_way(EndReason.CANCELLED), OVER, end=EndFacts(RESULT, None, 2)))
    assert (status.phase, status.attempts, status.result, status.ending) == (ChunkPhase.SUCCEEDED, 1, RESULT, None)


def test_a_start_that_had_ended_by_itself_before_is_judged_by_itself() -> None:
    failed = JOB, raw_pod(terminated(71), phase="Failed")
    status = written(chunk_decided(under_way(), *failed, end=NOTHING, intent=Intent.SUSPEND))
    assert (status.phase, status.attempts) == (ChunkPhase.RETRY_SCHEDULED, 1)
    assert status.history[-1].code == ChunkCode.API_ERROR


def test_an_ending_of_an_earlier_start_says_nothing_of_a_later_one() -> None:
    chunk = under_way(EndReason.SUSPENDED, starts=2, history=[record(1)])
    failed = raw_job(start=2), raw_pod(terminated(71), start=2, phase="Failed")
    assert written(chunk_decided(chunk, *failed, end=NOTHING)).history[-1].outcome is Outcome.FAILED
    runs = raw_job(start=2), raw_pod(running(), start=2, phase="Running")
    assert of_type(chunk_decided(chunk, *runs), DeleteJob) == []


def test_what_was_being_suspended_still_ends_when_the_job_is_resumed_and_goes_on_with_its_pages() -> None:
    draining = chunk_decided(under_way(EndReason.SUSPENDED), JOB, DRAINS)
    assert draining.actions == (DELETE,)
    status = written(chunk_decided(under_way(EndReason.SUSPENDED), end=EndFacts(None, None, 1)))
    assert (status.phase, status.history[-1].items) == (ChunkPhase.PENDING, 1)
    create = chunk_decided(pdf_chunk(0, **{**status.model_dump(), "history": status.history})).create
    assert create is not None
    assert create.start == 2


@pytest.mark.parametrize(
    ("pod", "kills"),
    [
        (RUNS, [DeletePod("novel-c00000-a1-x", "pod-0-1", 1)]),
        (raw_pod(), [DeletePod("novel-c00000-a1-x", "pod-0-1", 1)]),
        (DRAINS, [DeletePod("novel-c00000-a1-x", "pod-0-1", 1)]),
        (raw_pod(running(), phase="Running", deleted=2), []),
        (raw_pod(running(), phase="Running", deleted=3), [DeletePod("novel-c00000-a1-x", "pod-0-1", 1)]),
        (OVER, []),
        (raw_pod(phase="Succeeded"), []),
    ],
)
def test_cancel_kills_with_one_second_of_grace_also_what_drains(pod: dict[str, Any], kills: list[DeletePod]) -> None:
    """Without any grace the pod would be forgotten while its container runs on."""
    assert of_type(chunk_decided(under_way(), JOB, pod, intent=Intent.CANCEL, end=NOTHING), DeletePod) == kills


@pytest.mark.parametrize("phase", [ChunkPhase.CANCELLED, ChunkPhase.SUCCEEDED, ChunkPhase.RETRY_SCHEDULED])
def test_cancel_kills_pods_of_starts_that_are_recorded_and_pods_that_appear_afterwards(phase: ChunkPhase) -> None:
    chunk = pdf_chunk(0, phase=phase, starts=1, history=[record(1)])
    kills = of_type(chunk_decided(chunk, JOB, RUNS, intent=Intent.CANCEL), DeletePod)
    assert [(kill.uid, kill.grace_seconds) for kill in kills] == [("pod-0-1", 1)]


@pytest.mark.parametrize("intent", [Intent.RUN, Intent.SUSPEND, Intent.STOP, Intent.TIME_OUT])
def test_nothing_but_cancel_kills(intent: Intent) -> None:
    assert of_type(chunk_decided(under_way(), JOB, RUNS, intent=intent), DeletePod) == []


def test_a_job_in_a_queue_waits_without_end() -> None:
    decision = chunk_decided(pdf_chunk(0), queued_job(), seconds=90_000)
    assert (decision.in_flight, decision.requeue_seconds) == (True, None)
    assert of_type(decision, DeleteJob) == []


def test_a_job_back_in_the_queue_before_its_container_ran_waits_on() -> None:
    decision = chunk_decided(pdf_chunk(0), queued_job(), raw_pod(waiting("ContainerCreating")))
    assert (of_type(decision, DeleteJob), decision.in_flight) == ([], True)


@pytest.mark.parametrize(
    ("chunk", "raws"),
    [
        (under_way(), [queued_job()]),
        (under_way(), [queued_job(), DRAINS]),
        (pdf_chunk(0), [queued_job(), RUNS]),
    ],
    ids=["pod gone", "pod drains", "running not written yet"],
)
def test_a_job_put_back_into_the_queue_after_its_pod_ran_is_ended(chunk: PdfChunk, raws: list[dict[str, Any]]) -> None:
    """Resumed, it would make a second pod."""
    decision = chunk_decided(chunk, *raws)
    assert written(decision).ending == Ending(start=1, reason=EndReason.REQUEUED)
    assert of_type(decision, DeleteJob) == [DELETE]


def beats(since: float, done: int | None = 1) -> dict[str, Any]:
    progress = Progress(done=done, total=2, time=at(since)) if done is not None else None
    return {"progress": {("chunk-0", 1): Heartbeat(progress, NOW + timedelta(seconds=since))}}


@pytest.mark.parametrize("done", [1, None])
@pytest.mark.parametrize(("seconds", "stuck"), [(599, False), (600, True)])
def test_a_start_without_a_new_heartbeat_is_ended_as_stuck(seconds: float, done: int | None, *, stuck: bool) -> None:
    """No heartbeat at all counts from when it was first looked for."""
    decision = chunk_decided(under_way(), JOB, RUNS, facts=beats(0, done), seconds=seconds)
    if not stuck:
        assert decision.actions == (ReadProgress(under_way(), 1, 20),)
        return
    assert written(decision).ending == Ending(start=1, reason=EndReason.STUCK)
    assert of_type(decision, DeleteJob) == [DELETE]


def test_the_end_of_a_stuck_start_is_a_counted_timeout() -> None:
    status = written(chunk_decided(under_way(EndReason.STUCK), end=NOTHING))
    assert status.last_error is not None
    assert (status.last_error.code, status.last_error.message) == (
        "TIMEOUT",
        "Processing timeout - worker may have crashed",
    )
    assert (status.phase, status.attempts) == (ChunkPhase.RETRY_SCHEDULED, 1)


def test_the_limit_is_the_jobs_own() -> None:
    job = pdf_job(limits=Limits(stuck_timeout_seconds=30))
    assert of_type(chunk_decided(under_way(), JOB, RUNS, facts=beats(0), seconds=29, job=job), DeleteJob) == []
    assert of_type(chunk_decided(under_way(), JOB, RUNS, facts=beats(0), seconds=30, job=job), DeleteJob) == [DELETE]


def test_a_heartbeat_never_read_says_nothing() -> None:
    assert of_type(chunk_decided(under_way(), JOB, RUNS, seconds=50_000), DeleteJob) == []


def test_a_heartbeat_older_than_the_container_counts_from_its_start() -> None:
    raws = JOB, raw_pod(running(500), phase="Running")
    assert of_type(chunk_decided(under_way(), *raws, facts=beats(0), seconds=1099), DeleteJob) == []
    assert of_type(chunk_decided(under_way(), *raws, facts=beats(0), seconds=1100), DeleteJob) == [DELETE]


def test_storage_that_does_not_answer_makes_nobody_stuck() -> None:
    memory = JobMemory()
    memory.learn_progress("chunk-0", 1, Progress(done=1, total=2, time=at(0)), NOW)
    memory.forgive_silence("chunk-0", 1, NOW + timedelta(seconds=550))
    for seconds, ended in ((1149, []), (1150, [DELETE])):
        memory.learn_progress("chunk-0", 1, Progress(done=1, total=2, time=at(0)), NOW + timedelta(seconds=seconds))
        facts = {"progress": memory.facts.progress}
        assert of_type(chunk_decided(under_way(), JOB, RUNS, facts=facts, seconds=seconds), DeleteJob) == ended


def test_a_limit_shorter_than_the_pauses_between_two_looks_ends_nobody_who_lives() -> None:
    memory, job = JobMemory(), pdf_job(limits=Limits(stuck_timeout_seconds=10))
    for seconds in range(20, 200, 20):
        memory.learn_progress(
            "chunk-0", 1, Progress(done=1, total=2, time=at(seconds)), NOW + timedelta(seconds=seconds)
        )
        later = chunk_decided(
            under_way(), JOB, RUNS, facts={"progress": memory.facts.progress}, seconds=seconds + 20, job=job
        )
        assert of_type(later, DeleteJob) == []


def test_only_new_content_of_a_heartbeat_is_a_sign_of_life() -> None:
    memory = JobMemory()
    same = Progress(done=1, total=2, time=at(0))
    for seconds in (0, 300):
        memory.learn_progress("chunk-0", 1, same, NOW + timedelta(seconds=seconds))
    assert memory.facts.progress["chunk-0", 1].since == NOW
    memory.learn_progress("chunk-0", 1, same.model_copy(update={"done": 2}), NOW + timedelta(seconds=400))
    assert memory.facts.progress["chunk-0", 1].since == NOW + timedelta(seconds=400)


def test_what_was_read_when_the_first_pod_of_a_job_had_ended_says_nothing_of_its_second() -> None:
    """The queueing system took the first; its end could not be written, and the Job was admitted again."""
    chunk, job = under_way(), raw_job()
    first, second = raw_pod(terminated(137), uid="first"), raw_pod(terminated(0), uid="second")
    (read,) = of_type(chunk_decided(chunk, job, first), ReadEnd)
    known = replace(NOTHING, pods=read.pods)
    assert written(chunk_decided(chunk, job, first, end=known)).history[-1].start == 1
    for pods in ([first, second], [second]):
        (again,) = of_type(chunk_decided(chunk, job, *pods, end=known), ReadEnd)
        assert "second" in again.pods
    assert of_type(chunk_decided(chunk, end=known), ReadEnd) == [], "the pod it tells of may be gone by now"
