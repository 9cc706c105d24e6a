"""What a PdfJob shows when the operator has started anew and the storage does not give the plan back."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, Final

import pytest

from pdfjob_api.conditions import ChunkPhase, JobCondition, JobPhase, Reason
from pdfjob_api.jobstatus import Clock, PdfJobStatus
from pdfjob_api.pdfchunk import PdfChunk
from pdfjob_api.pdfjob import Limits, PdfJob, Shutdown
from pdfjob_operator.observation import Facts, WorkError, WorkKind
from pdfjob_operator.status import compute_status
from tests.support.builders import NOW, failed, manifest_of, observation, pdf_chunk, pdf_job, plan_of, succeeded
from tests.support.deciding import condition

AWAY: Final = {WorkKind.SPLIT: WorkError(Reason.STORAGE_UNREACHABLE, "it does not answer", NOW + timedelta(seconds=10))}
CHUNKS: Final = [succeeded(0), failed(1), pdf_chunk(2), pdf_chunk(3)]


def told(job: PdfJob, chunks: list[PdfChunk], facts: Facts) -> PdfJobStatus | None:
    obs = observation(job, chunks, facts)
    return compute_status(obs, {chunk.spec.index: chunk.status for chunk in chunks}, NOW)


def before(*, split: bool = True) -> PdfJobStatus:
    """Return what the process before has written: 5 chunks planned, 4 of them made."""
    job = pdf_job()
    facts = Facts(plan=plan_of(job, 10), manifest=manifest_of(5) if split else None, stored=4)
    status = told(job, CHUNKS, facts)
    assert status is not None
    return status


def after(status: PdfJobStatus, **spec: Any) -> PdfJobStatus:
    now = told(pdf_job(status, **spec), CHUNKS, Facts(errors=AWAY))
    assert now is not None
    return now


@pytest.mark.parametrize(
    ("split", "stage", "phase"),
    [(True, JobCondition.MERGED, JobPhase.RUNNING), (False, JobCondition.SPLIT, JobPhase.SPLITTING)],
)
def test_the_stage_that_waits_names_the_storage_and_no_count_is_lost(
    stage: JobCondition, phase: JobPhase, *, split: bool
) -> None:
    known = before(split=split)
    status = after(known)
    found = condition(status, stage)
    assert (found.status, found.reason) == ("Unknown", Reason.STORAGE_UNREACHABLE)
    assert "it does not answer" in found.message
    assert (status.phase, status.current_step) == (phase, "Waiting: StorageUnreachable")
    for name in ("chunks", "summary", "items", "source", "failed_chunks", "retries", "sentences", "progress_percent"):
        assert getattr(status, name) == getattr(known, name), name
    assert condition(status, JobCondition.SPLIT).status == ("True" if split else "Unknown")


def test_a_pause_is_confirmed_although_the_storage_is_away() -> None:
    status = after(before(), suspend=True)
    paused = condition(status, JobCondition.SUSPENDED)
    assert (status.phase, paused.status) == (JobPhase.SUSPENDED, "True")
    assert "1 of 5 chunks are done" in paused.message


@pytest.mark.parametrize("working", [None, WorkKind.SPLIT])
def test_a_paused_job_stays_paused_while_the_plan_is_read_back(working: WorkKind | None) -> None:
    job = pdf_job(before(), suspend=True)
    for facts in (Facts(working=working), Facts(working=working, errors=AWAY)):
        status = told(job, CHUNKS, facts)
        assert condition(status, JobCondition.SUSPENDED).status == "True"


def test_what_settled_before_is_shown_as_merging() -> None:
    chunks = [succeeded(index) for index in range(5)]
    known = told(pdf_job(), chunks, Facts(plan=plan_of(pdf_job(), 10), manifest=manifest_of(5), stored=5))
    status = told(pdf_job(known), chunks, Facts(errors=AWAY))
    assert status is not None
    assert (status.phase, status.progress_percent) == (JobPhase.MERGING, 75)


def test_running_chunks_are_told_of() -> None:
    chunks = [*CHUNKS[:2], pdf_chunk(2, phase=ChunkPhase.RUNNING, starts=1, attempts=1), CHUNKS[3]]
    status = told(pdf_job(before()), chunks, Facts(errors=AWAY))
    assert status is not None
    assert status.current_step == "Processing chunk 1/5"


def test_no_job_fails_before_its_plan_is_read_back() -> None:
    known = before().model_copy(update={"clock": Clock(seconds=100)})
    status = after(known, limits=Limits(job_timeout_seconds=10))
    assert condition(status, JobCondition.FINISHED).status == "False"


def test_a_job_that_is_cancelled_ends_all_the_same() -> None:
    status = after(before(), shutdown=Shutdown.CANCEL)
    assert (status.phase, condition(status, JobCondition.FINISHED).status) == (JobPhase.CANCELLED, "True")


def test_when_it_has_been_read_back_nothing_of_it_is_left() -> None:
    known = before()
    facts = Facts(plan=plan_of(pdf_job(), 10), manifest=manifest_of(5), stored=5)
    status = told(pdf_job(after(known)), CHUNKS, facts)
    assert status is not None
    assert condition(status, JobCondition.MERGED) == condition(known, JobCondition.MERGED)
    assert status.current_step == known.current_step
