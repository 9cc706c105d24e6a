"""Progress as data, as text, and as the watch line."""

from __future__ import annotations

import re

import pytest

from kubectl_pdfjob.progress import progress_of, progress_text
from kubectl_pdfjob.watch import Point, base_of, watch_line, worked_seconds
from pdfjob_api.pdfjob import PdfJob

from .builders import NOW, ago, condition, make_job, running_job


def test_progress_has_exactly_the_documented_keys() -> None:
    job = make_job(chunks={"total": 5, "pending": 2, "running": 1, "succeeded": 2})

    assert progress_of(job, NOW) == {
        "job_id": "novel",
        "total_chunks": 5,
        "pending_chunks": 2,
        "processing_chunks": 1,
        "completed_chunks": 2,
        "failed_chunks": 0,
        "completion_percentage": 40.0,
        "is_complete": False,
        "timestamp": "2026-11-22T12:00:00Z",
    }


def test_a_chunk_that_waits_for_a_retry_is_pending() -> None:
    found = progress_of(make_job(chunks={"total": 3, "retryScheduled": 1, "succeeded": 2}), NOW)

    assert (found["pending_chunks"], found["completion_percentage"], found["is_complete"]) == (1, 66.7, False)


@pytest.mark.parametrize(
    "counts", [{"succeeded": 3}, {"succeeded": 1, "failed": 2}, {"succeeded": 1, "failed": 1, "cancelled": 1}]
)
def test_it_is_complete_when_every_chunk_has_settled(counts: dict[str, int]) -> None:
    assert progress_of(make_job(chunks={"total": 3, **counts}), NOW)["is_complete"] is True


def test_before_the_plan_there_is_nothing() -> None:
    assert progress_of(make_job(), NOW) == {}
    assert progress_text(make_job()) == "not cut into chunks yet (Pending)"


def test_the_text_has_counts_and_pages() -> None:
    counts = {"total": 10, "pending": 1, "running": 4, "retryScheduled": 1, "succeeded": 4}
    job = make_job(chunks=counts, items={"total": 1500, "done": 1003, "failed": 0})

    assert progress_text(job) == ("4/10 chunks done (40.0%), 4 at work, 2 waiting, 0 failed; 1,003 of 1,500 pages done")


def test_the_watch_line_is_the_documented_one() -> None:
    job = make_job(
        phase="Running",
        startTime=ago(54.4 * 60),
        chunks={"total": 253, "succeeded": 136, "failed": 12, "running": 4, "pending": 101},
    )
    line = watch_line(1, job, NOW)

    assert re.sub(r"\d\d:\d\d:\d\d", "20:43:25", line) == (
        "[1] 20:43:25 | Status: PROGRESS | Progress: 136/253 (53.8%) | Failed: 12 | Rate: 2.5 chunks/min"
    )
    assert f"{NOW.astimezone():%H:%M:%S}" in line


@pytest.mark.parametrize(
    ("phase", "shown"), [("Running", "PROGRESS"), ("Suspended", "SUSPENDED"), ("Splitting", "SPLITTING")]
)
def test_the_watch_line_shows_running_as_progress_and_other_phases_in_capitals(phase: str, shown: str) -> None:
    assert f"| Status: {shown} |" in watch_line(7, make_job(phase=phase), NOW)


def test_the_watch_line_before_the_plan_counts_nothing() -> None:
    line = watch_line(1, make_job(), NOW)

    assert line.endswith("| Status: PENDING | Progress: 0/0 (0.0%) | Failed: 0 | Rate: 0.0 chunks/min")


def test_the_rate_leaves_out_suspension() -> None:
    stands = make_job(startTime=ago(3600), clock={"seconds": 120})
    runs = make_job(startTime=ago(3600), clock={"seconds": 120, "since": ago(30)})

    assert worked_seconds(stands, NOW) == 120
    assert worked_seconds(runs, NOW) == 150


def test_without_a_clock_the_time_since_the_start_counts_and_ends_with_the_job() -> None:
    assert worked_seconds(make_job(), NOW) == 0
    assert worked_seconds(running_job(startTime=ago(60)), NOW) == 60
    ended = make_job(
        startTime=ago(600), completionTime=ago(540), conditions=[condition("Finished", "True", "Completed")]
    )
    assert worked_seconds(ended, NOW) == 60


def test_the_rate_after_a_retry_counts_what_the_watch_has_seen() -> None:
    answer = {"id": "x", "message": "Retrying 4 chunks", "retriedCount": 4, "time": ago(60)}

    def retried(succeeded: int, seconds: int) -> PdfJob:
        return make_job(clock={"seconds": seconds}, lastRetry=answer, chunks={"total": 100, "succeeded": succeeded})

    first = base_of(retried(96, 10), NOW, None)
    assert first == (96, 10.0)
    assert watch_line(1, retried(96, 10), NOW, first).endswith("Rate: 0.0 chunks/min")
    assert base_of(retried(98, 70), NOW, first) == first
    assert watch_line(2, retried(98, 70), NOW, first).endswith("Rate: 2.0 chunks/min")


def test_chunks_that_are_taken_back_begin_the_rate_anew() -> None:
    begin = base_of(running_job(4, clock={"seconds": 60}), NOW, None)
    assert begin == (0, 0.0)
    assert base_of(running_job(5, clock={"seconds": 3}), NOW, Point(4, 60.0)) == (5, 3.0)
    assert base_of(running_job(3, clock={"seconds": 70}), NOW, Point(4, 60.0)) == (3, 70.0)
