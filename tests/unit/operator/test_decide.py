"""What is decided about a whole PdfJob: order of starts, background work, the end, deletion."""

from __future__ import annotations

from datetime import timedelta

import pytest

from pdfjob_api.conditions import ChunkPhase, JobCondition, JobPhase, Reason
from pdfjob_api.jobstatus import PdfJobStatus
from pdfjob_api.meta import Condition
from pdfjob_api.pdfchunk import PdfChunk
from pdfjob_api.pdfjob import DeletionPolicy
from pdfjob_operator.actions import (
    AddFinalizer,
    DeleteChunks,
    DeleteJob,
    DeletePod,
    ReadAdopted,
    RemoveFinalizer,
    RestoreChunk,
    StartWork,
    StopWork,
    WriteChunk,
)
from pdfjob_operator.decide import decide
from pdfjob_operator.jobspec import grace_seconds
from pdfjob_operator.observation import Facts, Merged, WorkError, WorkKind
from pdfjob_operator.plan import merge_inputs
from tests.support.builders import (
    NOW,
    at,
    failed,
    observation,
    pdf_chunk,
    pdf_job,
    plan_of,
    raw_job,
    raw_pod,
    running,
    split_facts,
    succeeded,
)
from tests.support.deciding import decided, of_type, started

FINISHED = PdfJobStatus(
    conditions=[
        Condition(
            type=JobCondition.FINISHED.value, status="True", reason=Reason.FAILED.value, last_transition_time=at(0)
        )
    ]
)


def test_the_finalizer_comes_before_everything_else() -> None:
    job = pdf_job()
    bare = job.model_copy(update={"metadata": job.metadata.model_copy(update={"finalizers": []})})
    decision = decided(bare, [], Facts())
    assert (decision.actions, decision.status) == ((AddFinalizer(),), None)


def test_a_new_job_is_split() -> None:
    assert decided(pdf_job(), [], Facts()).actions == (StartWork(WorkKind.SPLIT),)


def test_chunks_start_while_others_are_still_split() -> None:
    job = pdf_job()
    facts = Facts(working=WorkKind.SPLIT, step=Reason.SPLITTING, plan=plan_of(job, 8), stored=1)
    assert started(decided(job, [pdf_chunk(0)], facts)) == [0]


def test_nothing_starts_before_the_plan_is_read_back_after_a_restart() -> None:
    assert started(decided(pdf_job(), [pdf_chunk(0)], Facts(working=WorkKind.SPLIT))) == []


def test_results_of_an_earlier_life_are_looked_for_in_portions() -> None:
    job = pdf_job(parallelism=100)
    chunks = [pdf_chunk(index) for index in range(100)]
    facts = split_facts(job, 200, 100, plan=plan_of(job, 200, adopted=["11112222"]))
    decision = decided(job, chunks, facts)
    assert [action.chunk.spec.index for action in of_type(decision, ReadAdopted)] == list(range(64))
    assert started(decision) == []


def test_work_that_failed_waits_for_its_time() -> None:
    error = WorkError(Reason.STORAGE_UNREACHABLE, "away", NOW + timedelta(seconds=40))
    decision = decided(pdf_job(), [], Facts(errors={WorkKind.SPLIT: error}))
    assert (decision.actions, decision.requeue_seconds) == ((), 40)
    over = decide(observation(pdf_job(), [], Facts(errors={WorkKind.SPLIT: error})), NOW + timedelta(seconds=40))
    assert over.actions == (StartWork(WorkKind.SPLIT),)


def test_starts_keep_within_the_parallelism_lowest_index_first() -> None:
    job = pdf_job(parallelism=3)
    chunks = [pdf_chunk(index) for index in range(6)]
    decision = decided(job, chunks, split_facts(job, 12, 6), raw_job(chunk=0))
    assert (started(decision), decision.in_flight) == ([1, 2], 1)


def test_a_chunk_with_a_higher_priority_starts_first() -> None:
    job = pdf_job(parallelism=2)
    chunks = [pdf_chunk(0), pdf_chunk(1), pdf_chunk(2, spec={"priority": 8})]
    assert started(decided(job, chunks, split_facts(job, 6, 3))) == [2, 0]


def test_more_in_flight_than_the_parallelism_after_scaling_down_starts_nothing() -> None:
    job = pdf_job(parallelism=1)
    chunks = [pdf_chunk(index) for index in range(4)]
    decision = decided(job, chunks, split_facts(job, 8, 4), raw_job(chunk=0), raw_job(chunk=1))
    assert (started(decision), decision.in_flight) == ([], 2)


def test_a_pdfchunk_that_vanished_is_made_again() -> None:
    job = pdf_job()
    decision = decided(job, [succeeded(0), succeeded(2)], split_facts(job, 6, 3))
    assert decision.actions == (RestoreChunk(1),)


def test_the_merge_begins_when_every_chunk_has_its_result() -> None:
    job = pdf_job()
    waits = decided(
        job, [succeeded(0), pdf_chunk(1, phase=ChunkPhase.RUNNING, starts=1)], split_facts(job, 4, 2), raw_job(chunk=1)
    )
    assert not [action for action in waits.actions if isinstance(action, StartWork)]
    assert decided(job, [succeeded(0), succeeded(1)], split_facts(job, 4, 2)).actions == (StartWork(WorkKind.MERGE),)


def test_nothing_is_merged_when_a_chunk_failed() -> None:
    job = pdf_job()
    decision = decided(job, [succeeded(0), failed(1)], split_facts(job, 4, 2))
    assert decision.actions == ()
    assert decision.status is not None
    assert decision.requeue_seconds == 1, "what is left is removed after the end is written"


def test_the_end_starts_nothing_more() -> None:
    job = pdf_job()
    merged = Merged((), (), merge_inputs([succeeded(0).status]))
    decision = decided(job, [succeeded(0)], split_facts(job, 2, 1, merged=merged))
    assert (decision.actions, decision.requeue_seconds) == ((), 1)


def test_a_result_merged_of_other_chunks_is_merged_again() -> None:
    job = pdf_job()
    stale = Merged((), (), merge_inputs([succeeded(0, sha256="e" * 64).status]))
    decision = decided(job, [succeeded(0)], split_facts(job, 2, 1, merged=stale))
    assert decision.actions == (StartWork(WorkKind.MERGE),)
    assert decision.status is not None
    assert (decision.status.phase, decision.status.result) == (JobPhase.MERGING, None)


def test_a_spec_that_is_refused_starts_nothing() -> None:
    job = pdf_job()
    assert started(decided(job, [pdf_chunk(0)], split_facts(job, 2, 1, invalid="no"))) == []


def test_a_finished_job_ends_what_is_left_of_it_and_writes_no_status() -> None:
    job = pdf_job(FINISHED)
    chunk = pdf_chunk(0, phase=ChunkPhase.RUNNING, attempts=2, starts=2)
    decision = decided(
        job, [chunk, succeeded(1)], Facts(), raw_job(start=2), raw_pod(running(), start=2), raw_job(chunk=1)
    )
    writes = [action for action in decision.actions if isinstance(action, WriteChunk)]
    assert [(write.chunk.spec.index, write.status.phase, write.status.attempts) for write in writes] == [
        (0, ChunkPhase.CANCELLED, 1)
    ]
    deleted = {action.uid for action in decision.actions if isinstance(action, DeleteJob)}
    assert deleted == {"job-0-2", "job-1-1"}
    assert (decision.status, decision.in_flight) == (None, 0)


def test_deletion_stops_background_work_first() -> None:
    decision = decided(pdf_job(deleted=True), [], Facts(working=WorkKind.MERGE))
    assert decision.actions == (StopWork(),)


def test_deletion_ends_jobs_and_pods_without_a_job() -> None:
    decision = decided(
        pdf_job(deleted=True),
        [],
        Facts(),
        raw_job(chunk=0),
        raw_pod(running(), chunk=0),
        raw_pod(running(), chunk=1),
        raw_pod(running(), chunk=2, deleted=30),
    )
    assert set(decision.actions) == {DeleteJob("novel-c00000-a1", "job-0-1"), DeletePod("novel-c00001-a1-x", "pod-1-1")}


def test_deletion_waits_until_no_pod_lives() -> None:
    decision = decided(pdf_job(deleted=True), [pdf_chunk(0)], Facts(cleaned=True), raw_pod(running(), deleted=30))
    assert decision.actions == ()
    assert decision.requeue_seconds is not None


def test_deletion_waits_for_a_runner_whose_pod_was_deleted_by_force() -> None:
    """Its node lets it run for its grace, and it may save a checkpoint after all objects are removed."""
    job, facts = pdf_job(deleted=True), Facts(recorded="s3://pdfjob/job.json")
    early = decided(job, [], facts, seconds=grace_seconds(job) - 1, torn_away=NOW)
    assert (early.actions, early.requeue_seconds) == ((), 1)
    late = decided(job, [], facts, seconds=grace_seconds(job), torn_away=NOW)
    assert late.actions == (StartWork(WorkKind.CLEAN),)


@pytest.mark.parametrize(
    ("facts", "chunks", "actions"),
    [
        (Facts(), [pdf_chunk(0)], (StartWork(WorkKind.RECORD),)),
        (Facts(working=WorkKind.RECORD), [pdf_chunk(0)], ()),
        (Facts(recorded="s3://pdfjob/job.json"), [pdf_chunk(0)], (DeleteChunks(),)),
        (Facts(recorded="", cleaned=True), [pdf_chunk(0)], (DeleteChunks(),)),
        (Facts(recorded="s3://pdfjob/job.json"), [], (StartWork(WorkKind.CLEAN),)),
        (Facts(recorded="s3://pdfjob/job.json", working=WorkKind.CLEAN), [], ()),
        (Facts(recorded="", cleaned=True), [], (RemoveFinalizer(),)),
    ],
)
def test_deletion_keeps_the_record_then_takes_chunks_then_objects_then_the_finalizer(
    facts: Facts, chunks: list[PdfChunk], actions: tuple[object, ...]
) -> None:
    decision = decided(pdf_job(deleted=True), chunks, facts, raw_pod(running(), deleted=-700))
    assert (decision.actions, decision.status, decision.in_flight) == (actions, None, 0)


def test_retained_objects_are_not_removed() -> None:
    job = pdf_job(deleted=True, deletion_policy=DeletionPolicy.RETAIN)
    assert decided(job, [], Facts(recorded="s3://pdfjob/job.json")).actions == (RemoveFinalizer(),)


def test_a_job_recorded_at_its_end_is_not_recorded_again_when_it_is_deleted() -> None:
    job = pdf_job(PdfJobStatus(history="s3://pdfjob/job.json"), deleted=True)
    assert decided(job, [pdf_chunk(0)], Facts()).actions == (DeleteChunks(),)


def test_without_our_finalizer_a_deletion_is_not_our_business() -> None:
    job = pdf_job(deleted=True)
    bare = job.model_copy(update={"metadata": job.metadata.model_copy(update={"finalizers": []})})
    assert decided(bare, [pdf_chunk(0)], Facts(), raw_job()).actions == ()
