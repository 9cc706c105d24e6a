"""What is decided about one chunk: starting, watching, recording its end, and when to look again."""

from __future__ import annotations

from typing import Any

import pytest

from pdfjob_api.conditions import ChunkPhase, Reason
from pdfjob_api.pdfchunk import EndReason, Outcome
from pdfjob_api.pdfjob import RetryPolicy
from pdfjob_operator.actions import DeleteJob, ReadEnd, ReadProgress, WriteChunk
from pdfjob_operator.observation import EndFacts, Start
from tests.support.builders import at, pdf_chunk, pdf_job, raw_job, raw_pod, running, terminated, waiting
from tests.support.deciding import NOTHING, RESULT, chunk_decided, record, starts_of, written

LOST = [raw_job({"type": "Failed", "reason": "BackoffLimitExceeded"})]
FAILED_70 = [raw_job(), raw_pod(terminated(70), phase="Failed")]


def test_a_new_chunk_starts_with_number_1() -> None:
    create = chunk_decided(pdf_chunk(0)).create
    assert create is not None
    assert (create.start, create.priority) == (1, 5)


def test_priority_and_retries_of_the_chunk_override_the_jobs() -> None:
    create = chunk_decided(pdf_chunk(0, spec={"priority": 9})).create
    assert create is not None
    assert create.priority == 9
    chunk = pdf_chunk(0, spec={"max_retries": 0}, phase=ChunkPhase.RUNNING, attempts=1, starts=1)
    assert written(chunk_decided(chunk, *FAILED_70, end=NOTHING)).phase is ChunkPhase.FAILED


def test_a_job_without_a_pod_is_waited_for() -> None:
    decision = chunk_decided(pdf_chunk(0), raw_job(), seconds=-25)
    assert (decision.actions, decision.create, decision.in_flight, decision.requeue_seconds) == ((), None, True, 5)


def test_running_is_written_when_the_container_runs_with_job_name_and_time() -> None:
    status = written(chunk_decided(pdf_chunk(0), raw_job(), raw_pod(running(-3), phase="Running")))
    assert (status.phase, status.attempts, status.starts) == (ChunkPhase.RUNNING, 1, 1)
    assert (status.job_name, status.started_at) == ("novel-c00000-a1", at(-3))


def test_running_is_written_once() -> None:
    chunk = pdf_chunk(0, phase=ChunkPhase.RUNNING, attempts=1, starts=1)
    decision = chunk_decided(chunk, raw_job(), raw_pod(running(-3), phase="Running"))
    assert (decision.actions, decision.in_flight, decision.requeue_seconds) == ((), True, 17)


def test_the_heartbeat_is_read_after_20_seconds() -> None:
    chunk = pdf_chunk(0, phase=ChunkPhase.RUNNING, attempts=1, starts=1)
    assert chunk_decided(chunk, raw_job(), raw_pod(running(-19), phase="Running")).actions == ()
    decision = chunk_decided(chunk, raw_job(), raw_pod(running(-20), phase="Running"))
    assert decision.actions == (ReadProgress(chunk, 1, 20),)
    assert decision.requeue_seconds == 20


def test_an_end_is_read_before_anything_is_written() -> None:
    chunk = pdf_chunk(0, phase=ChunkPhase.RUNNING, attempts=1, starts=1)
    decision = chunk_decided(chunk, *FAILED_70)
    assert decision.actions == (ReadEnd(chunk, 1),)


def test_success_skips_running_when_the_end_is_seen_first_and_deletes_the_job_after_writing() -> None:
    decision = chunk_decided(
        pdf_chunk(0),
        raw_job(),
        raw_pod(terminated(0), phase="Succeeded"),
        end=EndFacts(RESULT, None, 2),
    )
    status = written(decision)
    assert (status.phase, status.attempts, status.starts, status.result) == (ChunkPhase.SUCCEEDED, 1, 1, RESULT)
    assert (status.processed_at, status.last_error) == (at(0), None)
    assert [type(action) for action in decision.actions] == [WriteChunk, DeleteJob]


def test_a_counted_failure_is_scheduled_with_its_backoff() -> None:
    chunk = pdf_chunk(0, phase=ChunkPhase.RUNNING, attempts=1, starts=1)
    decision = chunk_decided(chunk, *FAILED_70, end=NOTHING)
    status = written(decision)
    assert (status.phase, status.attempts) == (ChunkPhase.RETRY_SCHEDULED, 1)
    assert status.next_retry_time is not None
    assert at(7) <= status.next_retry_time <= at(10)
    assert decision.requeue_seconds is not None
    assert 7 <= decision.requeue_seconds <= 10
    assert status.last_error is not None
    assert status.last_error.code == "PROCESSING_ERROR"


def test_a_scheduled_retry_waits_for_its_time_and_then_takes_the_next_number() -> None:
    chunk = pdf_chunk(
        0, phase=ChunkPhase.RETRY_SCHEDULED, attempts=1, starts=1, next_retry_time=at(8), history=[record(1)]
    )
    early = chunk_decided(chunk)
    assert (early.create, early.requeue_seconds) == (None, 8)
    create = chunk_decided(chunk, seconds=8).create
    assert create is not None
    assert create.start == 2


@pytest.mark.parametrize(("max_retries", "attempts"), [(0, 1), (1, 2), (3, 4)])
def test_the_last_attempt_fails_for_good(max_retries: int, attempts: int) -> None:
    job = pdf_job(retry_policy=RetryPolicy(max_retries=max_retries))
    chunk = pdf_chunk(0, phase=ChunkPhase.RUNNING, attempts=attempts, starts=1)
    decision = chunk_decided(chunk, *FAILED_70, end=NOTHING, job=job)
    status = written(decision)
    assert (status.phase, status.attempts) == (ChunkPhase.FAILED, attempts)
    assert status.next_retry_time is None


def test_the_attempt_before_the_last_is_scheduled() -> None:
    job = pdf_job(retry_policy=RetryPolicy(max_retries=3))
    chunk = pdf_chunk(0, phase=ChunkPhase.RUNNING, attempts=3, starts=1)
    assert written(chunk_decided(chunk, *FAILED_70, end=NOTHING, job=job)).phase is ChunkPhase.RETRY_SCHEDULED


@pytest.mark.parametrize("code", [64, 65, 66])
def test_what_no_start_can_heal_fails_at_once_with_advice(code: int) -> None:
    decision = chunk_decided(pdf_chunk(0), raw_job(), raw_pod(terminated(code), phase="Failed"), end=NOTHING)
    assert written(decision).phase is ChunkPhase.FAILED
    (write,) = [action for action in decision.actions if isinstance(action, WriteChunk)]
    assert write.event is not None
    assert write.event[:2] == ("Warning", Reason.CHUNK_FAILED)
    assert "chunk 0 (pages 1-2) failed" in write.event[2]


def test_a_lost_start_is_not_counted_and_starts_again_at_once() -> None:
    chunk = pdf_chunk(0, phase=ChunkPhase.RUNNING, attempts=1, starts=1)
    decision = chunk_decided(chunk, *LOST, end=NOTHING)
    status = written(decision)
    assert (status.phase, status.attempts, status.uncounted) == (ChunkPhase.RETRY_SCHEDULED, 0, 1)
    assert status.next_retry_time == at(0)
    assert status.history[-1].outcome is Outcome.LOST


def test_from_the_second_lost_start_in_a_row_there_is_backoff() -> None:
    chunk = pdf_chunk(0, phase=ChunkPhase.RUNNING, attempts=1, starts=1, uncounted=1)
    status = written(chunk_decided(chunk, *LOST, end=NOTHING))
    assert status.next_retry_time is not None
    assert status.next_retry_time >= at(7)


def test_the_tenth_lost_start_without_a_new_page_counts() -> None:
    chunk = pdf_chunk(0, phase=ChunkPhase.RUNNING, attempts=1, starts=1, uncounted=9)
    status = written(chunk_decided(chunk, *LOST, end=NOTHING))
    assert (status.attempts, status.uncounted, status.history[-1].counted) == (1, 0, True)


def test_a_new_page_begins_the_row_of_lost_starts_anew() -> None:
    history = [record(1, counted=False, items=1)]
    chunk = pdf_chunk(0, phase=ChunkPhase.RUNNING, attempts=1, starts=2, uncounted=9, history=history)
    lost = raw_job({"type": "Failed", "reason": "BackoffLimitExceeded"}, start=2)
    assert written(chunk_decided(chunk, lost, end=EndFacts(None, None, 2))).uncounted == 0
    assert written(chunk_decided(chunk, lost, end=EndFacts(None, None, 1))).uncounted == 0, "ten: counted, the row ends"
    assert written(chunk_decided(chunk, lost, end=EndFacts(None, None, 1))).attempts == 1


def test_a_soft_timeout_with_new_pages_is_not_counted_and_is_told() -> None:
    decision = chunk_decided(
        pdf_chunk(0), raw_job(), raw_pod(terminated(76), phase="Failed"), end=EndFacts(None, None, 1)
    )
    status = written(decision)
    assert (status.phase, status.attempts) == (ChunkPhase.RETRY_SCHEDULED, 0)
    (write,) = [action for action in decision.actions if isinstance(action, WriteChunk)]
    assert write.event is not None
    assert write.event[1] is Reason.SOFT_TIMEOUT


def test_a_rate_limit_waits_longer_and_is_not_counted() -> None:
    status = written(chunk_decided(pdf_chunk(0), raw_job(), raw_pod(terminated(72), phase="Failed"), end=NOTHING))
    assert status.attempts == 0
    assert status.next_retry_time is not None
    assert status.next_retry_time >= at(31)


def test_a_running_chunk_whose_job_and_pod_are_gone_has_ended() -> None:
    chunk = pdf_chunk(0, phase=ChunkPhase.RUNNING, attempts=1, starts=1)
    assert chunk_decided(chunk).actions == (ReadEnd(chunk, 1),)
    assert written(chunk_decided(chunk, end=EndFacts(RESULT, None, 2))).phase is ChunkPhase.SUCCEEDED


def test_a_job_that_vanished_before_its_pod_ran_keeps_its_number() -> None:
    chunk = pdf_chunk(0)
    assert chunk_decided(chunk, seen=1).actions == (ReadEnd(chunk, 1),)
    status = written(chunk_decided(chunk, seen=1, end=NOTHING))
    assert (status.starts, status.uncounted) == (1, 1)


@pytest.mark.parametrize("deleted", [-599, 20])
def test_nothing_starts_while_a_pod_of_an_earlier_start_may_run(deleted: float) -> None:
    chunk = pdf_chunk(0, phase=ChunkPhase.RETRY_SCHEDULED, starts=1, history=[record(1)])
    decision = chunk_decided(chunk, raw_pod(running(), phase="Running", deleted=deleted))
    assert (decision.create, decision.in_flight) == (None, True)
    assert decision.requeue_seconds is not None


@pytest.mark.parametrize(
    "pod",
    [
        raw_pod(running(), phase="Running", deleted=-601),
        raw_pod(terminated(75), phase="Running", deleted=20),
        raw_pod(phase="Failed"),
    ],
)
def test_a_pod_that_is_dead_or_lost_holds_nothing_up(pod: dict[str, Any]) -> None:
    chunk = pdf_chunk(0, phase=ChunkPhase.RETRY_SCHEDULED, starts=1, history=[record(1)])
    assert chunk_decided(chunk, pod).create is not None


def test_a_pod_that_was_told_to_end_before_it_ran_is_looked_at_when_its_node_counts_as_lost() -> None:
    decision = chunk_decided(pdf_chunk(0), raw_job(), raw_pod(deleted=30))
    assert decision.in_flight
    assert decision.requeue_seconds == 631


def test_a_pod_still_alive_keeps_a_failed_job_open() -> None:
    failed = raw_job({"type": "FailureTarget", "reason": "PodFailurePolicy"})
    decision = chunk_decided(pdf_chunk(0), failed, raw_pod(running(), phase="Running"))
    assert decision.in_flight
    assert not any(isinstance(action, ReadEnd) for action in decision.actions)


@pytest.mark.parametrize("reason", ["ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull"])
def test_an_image_that_cannot_be_pulled_ends_the_start_after_its_time_and_is_tried_again(reason: str) -> None:
    objects = raw_job(), raw_pod(waiting(reason, "no such image"))
    waits = chunk_decided(pdf_chunk(0), *objects, seconds=569)
    assert (waits.in_flight, waits.requeue_seconds) == (True, 1)
    assert not any(isinstance(action, DeleteJob) for action in waits.actions)
    over = chunk_decided(pdf_chunk(0), *objects, seconds=570)
    ending = written(over).ending
    assert ending is not None
    assert (ending.start, ending.reason, ending.code) == (1, EndReason.PENDING, "IMAGE_ERROR")
    assert [type(action) for action in over.actions] == [WriteChunk, DeleteJob], "the reason first, then the deletion"
    assert over.in_flight, "its pod stands until the Job is deleted"
    status = written(chunk_decided(pdf_chunk(0, starts=1, ending=ending), end=NOTHING, seconds=580))
    assert status.last_error is not None
    assert (status.last_error.code, status.last_error.message) == ("IMAGE_ERROR", f"{reason}: no such image")
    assert (status.phase, status.attempts, status.ending) == (ChunkPhase.RETRY_SCHEDULED, 0, None)


def test_a_container_that_cannot_be_made_is_a_processing_error_for_good() -> None:
    objects = raw_job(), raw_pod(waiting("CreateContainerConfigError", 'secret "key" not found'))
    ending = written(chunk_decided(pdf_chunk(0), *objects, seconds=600)).ending
    status = written(chunk_decided(pdf_chunk(0, starts=1, ending=ending), end=NOTHING, seconds=610))
    assert status.last_error is not None
    assert (status.phase, status.last_error.code) == (ChunkPhase.FAILED, "PROCESSING_ERROR")
    assert 'secret "key" not found' in status.last_error.message


@pytest.mark.parametrize("pod", [raw_pod(), raw_pod(waiting("ContainerCreating"))])
def test_a_pod_that_waits_for_a_node_or_its_image_waits_on(pod: dict[str, Any]) -> None:
    decision = chunk_decided(pdf_chunk(0), raw_job(), pod, seconds=5000)
    assert [type(action) for action in decision.actions] == [WriteChunk]
    assert (written(decision).phase, written(decision).ending) == (ChunkPhase.PENDING, None)
    assert decision.in_flight


@pytest.mark.parametrize("phase", [ChunkPhase.SUCCEEDED, ChunkPhase.FAILED, ChunkPhase.CANCELLED])
def test_a_chunk_that_has_ended_is_left_alone_but_for_its_jobs(phase: ChunkPhase) -> None:
    chunk = pdf_chunk(0, phase=phase, starts=1, attempts=1)
    decision = chunk_decided(chunk, raw_job(), raw_pod(running(), phase="Running"))
    assert decision.actions == (DeleteJob("novel-c00000-a1", "job-0-1"),)
    assert (decision.create, decision.status) == (None, None)


def test_the_history_keeps_the_last_ten_starts() -> None:
    history = [record(start) for start in range(1, 11)]
    chunk = pdf_chunk(0, phase=ChunkPhase.RUNNING, attempts=1, starts=11, history=history)
    gone = raw_job({"type": "Failed", "reason": "BackoffLimitExceeded"}, start=11)
    status = written(chunk_decided(chunk, gone, end=NOTHING))
    assert [item.start for item in status.history] == list(range(2, 12))


def test_a_damaged_checkpoint_takes_nothing_back() -> None:
    history = [record(1, items=2)]
    chunk = pdf_chunk(0, phase=ChunkPhase.RUNNING, attempts=2, starts=2, history=history)
    failed = raw_job(start=2), raw_pod(terminated(70), start=2, phase="Failed")
    assert written(chunk_decided(chunk, *failed, end=NOTHING)).history[-1].items == 2


def test_starts_are_put_together_by_their_labels() -> None:
    starts = starts_of(
        raw_job(chunk=1, start=2),
        raw_pod(chunk=1, start=2),
        raw_pod(chunk=1, start=1),
        raw_pod(chunk=4),
        newest={1: 2, 7: 3},
    )
    assert {chunk: [start.number for start in own] for chunk, own in starts.items()} == {1: [1, 2], 4: [1], 7: [3]}
    assert starts[7] == (Start(3, None, ()),)
    assert starts[1][1].job is not None
    assert len(starts[1][1].pods) == 1


def test_a_job_whose_end_was_recorded_before_a_crash_is_deleted_after_it() -> None:
    chunk = pdf_chunk(0, phase=ChunkPhase.RETRY_SCHEDULED, starts=1, history=[record(1)], next_retry_time=at(9))
    decision = chunk_decided(chunk, *FAILED_70)
    assert decision.actions == (DeleteJob("novel-c00000-a1", "job-0-1"),)
    assert decision.requeue_seconds == 9
