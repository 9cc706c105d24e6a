"""What /metrics tells of chunks: counted from the statuses that are written, and summed from those of the PdfJobs."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import pytest

from pdfjob_api.conditions import ChunkPhase, JobPhase
from pdfjob_api.jobstatus import ChunkCounts, LastRetry, PdfJobStatus
from pdfjob_api.meta import Condition
from pdfjob_api.pdfchunk import (
    ChunkResultStatus,
    ChunkRetry,
    Ending,
    EndReason,
    Outcome,
    PdfChunk,
    PdfChunkStatus,
    StartRecord,
)
from pdfjob_api.pdfjob import PdfJob
from pdfjob_operator.cache import Cache
from pdfjob_operator.chunk_end import cancelled
from pdfjob_operator.decide_chunk import reopened
from pdfjob_operator.metrics import Metrics
from tests.support.builders import NOW, at, pdf_chunk, pdf_job

OPERATIONS: Final = Path(__file__).parents[3] / "docs" / "operations.md"


def created(chunk: PdfChunk, seconds: float = -30) -> PdfChunk:
    """Give a PdfChunk its time of creation, in seconds after NOW."""
    return chunk.model_copy(update={"metadata": chunk.metadata.model_copy(update={"creation_timestamp": at(seconds)})})


def ended(
    outcome: Outcome, code: str | None = None, *, start: int = 1, items: int = 0, missing: int = 0
) -> PdfChunkStatus:
    """Return the status of a chunk whose start ended at NOW, after 12 seconds."""
    record = StartRecord(
        start=start,
        attempt=start,
        counted=True,
        outcome=outcome,
        code=code,
        items=items,
        started_at=at(-12),
        finished_at=at(0),
    )
    good = outcome is Outcome.SUCCEEDED
    result = ChunkResultStatus(uri="s3://r", sha256="d", bytes=1, sentences=3, missing_pages=missing)
    return PdfChunkStatus(
        phase=ChunkPhase.SUCCEEDED if good else ChunkPhase.RETRY_SCHEDULED,
        attempts=start,
        starts=start,
        started_at=at(-12),
        history=[record],
        result=result if good else None,
    )


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


def value(metrics: Metrics, name: str, **labels: str) -> float:
    """Return a sample, which must be there."""
    found = metrics.registry.get_sample_value(name, labels)
    assert found is not None, f"{name} {labels} is not told"
    return found


def test_a_success_counts_chunk_attempts_duration_and_pages(metrics: Metrics) -> None:
    metrics.chunk_written(created(pdf_chunk()), ended(Outcome.SUCCEEDED, items=2))
    assert value(metrics, "pdfjob_chunks_finished_total", outcome="Succeeded") == 1
    assert value(metrics, "pdfjob_chunk_attempts_sum") == 1
    assert value(metrics, "pdfjob_chunk_duration_seconds_sum") == 12
    assert value(metrics, "pdfjob_items_total", outcome="Succeeded") == 2
    assert value(metrics, "pdfjob_items_total", outcome="Failed") == 0


def test_pages_that_a_result_lacks_are_failed_items(metrics: Metrics) -> None:
    metrics.chunk_written(created(pdf_chunk()), ended(Outcome.SUCCEEDED, items=2, missing=1))
    assert value(metrics, "pdfjob_items_total", outcome="Succeeded") == 1
    assert value(metrics, "pdfjob_items_total", outcome="Failed") == 1


def test_a_failed_start_is_an_error_by_its_code_but_no_end_of_the_chunk(metrics: Metrics) -> None:
    metrics.chunk_written(created(pdf_chunk()), ended(Outcome.FAILED, "TIMEOUT", items=1))
    assert value(metrics, "pdfjob_chunk_errors_total", code="TIMEOUT") == 1
    assert value(metrics, "pdfjob_chunk_attempts_count") == 0
    assert value(metrics, "pdfjob_chunk_duration_seconds_count") == 0
    assert value(metrics, "pdfjob_items_total", outcome="Succeeded") == 1


def test_pages_saved_by_an_earlier_start_are_not_counted_again(metrics: Metrics) -> None:
    first = ended(Outcome.FAILED, "API_ERROR", items=1)
    metrics.chunk_written(created(pdf_chunk()), first)
    later = ended(Outcome.SUCCEEDED, start=2, items=2)
    metrics.chunk_written(created(pdf_chunk().model_copy(update={"status": first})), later)
    assert value(metrics, "pdfjob_items_total", outcome="Succeeded") == 2


def test_a_failed_chunk_counts_once_and_again_after_a_retry(metrics: Metrics) -> None:
    over = ended(Outcome.FAILED, "NO_TEXT").model_copy(update={"phase": ChunkPhase.FAILED})
    chunk = created(pdf_chunk())
    metrics.chunk_written(chunk, over)
    chunk = chunk.model_copy(update={"status": over})
    opened = reopened(chunk, NOW)
    metrics.chunk_written(chunk, opened)
    assert value(metrics, "pdfjob_chunk_errors_total", code="NO_TEXT") == 1
    assert value(metrics, "pdfjob_chunks_finished_total", outcome="Failed") == 1
    again = ended(Outcome.FAILED, "NO_TEXT", start=2).model_copy(update={"phase": ChunkPhase.FAILED})
    metrics.chunk_written(chunk.model_copy(update={"status": opened}), again)
    assert value(metrics, "pdfjob_chunks_finished_total", outcome="Failed") == 2
    assert value(metrics, "pdfjob_chunk_starts_ended_total", outcome="Failed", code="NO_TEXT") == 2


def test_a_cancelled_chunk_ends_without_attempts(metrics: Metrics) -> None:
    chunk = created(pdf_chunk())
    metrics.chunk_written(chunk, cancelled(chunk, NOW))
    assert value(metrics, "pdfjob_chunks_finished_total", outcome="Cancelled") == 1
    assert value(metrics, "pdfjob_chunk_attempts_count") == 0


def test_the_wait_lasts_until_the_first_container_starts_and_is_told_once(metrics: Metrics) -> None:
    chunk = created(pdf_chunk(), -30)
    running = PdfChunkStatus(phase=ChunkPhase.RUNNING, attempts=1, starts=1, started_at=at(-12))
    metrics.chunk_written(chunk, running)
    metrics.chunk_written(chunk.model_copy(update={"status": running}), ended(Outcome.SUCCEEDED, items=2))
    assert value(metrics, "pdfjob_queue_wait_seconds_count") == 1
    assert value(metrics, "pdfjob_queue_wait_seconds_sum") == 18


def test_a_container_that_ended_before_it_was_seen_to_run_has_waited_too(metrics: Metrics) -> None:
    metrics.chunk_written(created(pdf_chunk(), -30), ended(Outcome.SUCCEEDED, items=2))
    assert value(metrics, "pdfjob_queue_wait_seconds_sum") == 18


def test_a_clock_behind_that_of_the_api_server_makes_no_wait_below_zero(metrics: Metrics) -> None:
    metrics.chunk_written(created(pdf_chunk(), 30), ended(Outcome.SUCCEEDED, items=2))
    assert value(metrics, "pdfjob_queue_wait_seconds_sum") == 0


def named(name: str, **status: object) -> PdfJob:
    """Build a PdfJob by name, which is its UID as well."""
    job = pdf_job(PdfJobStatus(**status))
    return job.model_copy(update={"metadata": job.metadata.model_copy(update={"name": name, "uid": name})})


def cache_of(*objects: PdfJob | PdfChunk) -> Cache:
    """Return a cache that has read these."""
    cache = Cache()
    for one in objects:
        raw = one.wire()
        if isinstance(one, PdfChunk):
            owner = {"apiVersion": "pdfjob.dev/v1alpha1", "kind": "PdfJob", "name": "a", "uid": "a", "controller": True}
            raw["metadata"]["ownerReferences"] = [owner]
        assert cache.apply("pdfchunks" if isinstance(one, PdfChunk) else "pdfjobs", raw) is not None
    return cache


def test_gauges_sum_the_statuses_of_all_jobs(metrics: Metrics) -> None:
    one = ChunkCounts(total=10, pending=1, running=2, retry_scheduled=3, succeeded=4)
    other = ChunkCounts(total=3, succeeded=1, failed=1, cancelled=1)
    metrics.resources.read_from(
        cache_of(
            named("a", phase=JobPhase.RUNNING, chunks=one),
            named("b", phase=JobPhase.FAILED, chunks=other),
            named("c", phase=JobPhase.PENDING),
        )
    )
    told = {phase.value: value(metrics, "pdfjob_chunks", phase=phase.value) for phase in ChunkPhase}
    assert told == {
        "Pending": 1,
        "Running": 2,
        "RetryScheduled": 3,
        "Succeeded": 5,
        "Failed": 1,
        "Cancelled": 1,
    }
    assert value(metrics, "pdfjob_jobs", phase="Running") == 1
    assert value(metrics, "pdfjob_jobs", phase="Failed") == 1
    assert value(metrics, "pdfjob_jobs", phase="Succeeded") == 0


def test_chunks_that_are_ended_as_stuck_are_told_while_they_are(metrics: Metrics) -> None:
    job = named("a", phase=JobPhase.RUNNING)
    stuck = pdf_chunk(0, starts=1, ending=Ending(start=1, reason=EndReason.STUCK))
    paused = pdf_chunk(1, starts=1, ending=Ending(start=1, reason=EndReason.SUSPENDED))
    metrics.resources.read_from(cache_of(job, stuck, paused))
    assert value(metrics, "pdfjob_chunks_stuck") == 1
    metrics.resources.read_from(cache_of(job, paused))
    assert value(metrics, "pdfjob_chunks_stuck") == 0


def test_a_start_that_was_given_up_as_stuck_is_counted_and_no_other_time_limit(metrics: Metrics) -> None:
    """It is being ended for moments only, between two scrapes."""
    over = ended(Outcome.FAILED, "TIMEOUT")
    for reason in (EndReason.STUCK, EndReason.SUSPENDED, None):
        ending = Ending(start=1, reason=reason) if reason is not None else None
        chunk = created(pdf_chunk(0, starts=1, attempts=1, phase=ChunkPhase.RUNNING, ending=ending))
        metrics.chunk_written(chunk, over)
        assert value(metrics, "pdfjob_chunk_starts_stuck_total") == 1
    done = created(pdf_chunk(0, starts=1, ending=Ending(start=1, reason=EndReason.STUCK)))
    metrics.chunk_written(done, ended(Outcome.SUCCEEDED, items=2))
    assert value(metrics, "pdfjob_chunk_starts_stuck_total") == 1, "its result was there after all"


def test_every_error_code_and_end_is_there_before_the_first_one(metrics: Metrics) -> None:
    assert value(metrics, "pdfjob_chunk_errors_total", code="RATE_LIMIT") == 0
    assert value(metrics, "pdfjob_chunks_finished_total", outcome="Cancelled") == 0
    assert value(metrics, "pdfjob_chunks_stuck") == 0
    assert value(metrics, "pdfjob_chunk_starts_stuck_total") == 0


def test_the_docs_name_every_metric(metrics: Metrics) -> None:
    text = OPERATIONS.read_text()
    families = [family for family in metrics.registry.collect() if not family.name.startswith("process_")]
    names = {f"{family.name}_total" if family.type == "counter" else family.name for family in families}
    assert {name for name in names if f"`{name}" not in text} == set()


def test_answers_to_retry_requests_are_counted_once(metrics: Metrics) -> None:
    taken = PdfJobStatus(last_retry=LastRetry(id="a", message="Retrying 1 chunk", retried_count=1, time=at(0)))
    metrics.job_written(PdfJobStatus(), taken)
    metrics.job_written(taken, taken)
    metrics.job_written(taken, PdfJobStatus(last_retry=LastRetry(id="b", message="Retrying 0 chunks", time=at(1))))
    refused = PdfChunkStatus(last_retry=ChunkRetry(id="c", accepted=False, message="runs already", time=at(0)))
    metrics.chunk_written(created(pdf_chunk()), refused)
    counts = {
        answer: value(metrics, "pdfjob_retry_requests_total", answer=answer)
        for answer in ("accepted", "nothing", "refused")
    }
    assert counts == {"accepted": 1, "nothing": 1, "refused": 1}


def test_jobs_that_are_held_up_are_told_by_reason(metrics: Metrics) -> None:
    cache = Cache()
    held = Condition(type="Degraded", status="True", reason="AUTH_ERROR", last_transition_time=at(0))
    over = held.model_copy(update={"status": "False"})
    for number, condition in enumerate((held, held, over)):
        raw = pdf_job(PdfJobStatus(conditions=[condition])).model_dump(mode="json", by_alias=True, exclude_none=True)
        raw["metadata"] |= {"uid": f"job-{number}", "name": f"novel-{number}"}
        cache.apply("pdfjobs", raw)
    metrics.resources.read_from(cache)
    assert value(metrics, "pdfjob_jobs_degraded", reason="AUTH_ERROR") == 2
