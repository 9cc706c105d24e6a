"""The records of finished jobs as text."""

from __future__ import annotations

from typing import Any

from kubectl_pdfjob.history import record_table, record_view
from kubectl_pdfjob.screen import plain
from pdfjob_api.history import ErrorRecord, JobRecord

from .builders import NOW, ago


def record(**fields: Any) -> JobRecord:
    return JobRecord.model_validate(
        {
            "namespace": "lib",
            "name": "novel",
            "uid": "01234567-89ab",
            "created": ago(700),
            "started": "2026-11-22T11:48:40Z",
            "completed": ago(100),
            "recorded": ago(100),
            "processingSeconds": 580,
            "phase": "Failed",
            "source": {"sha256": "0" * 64, "sizeBytes": 1_200_000, "pages": 100, "fileName": "novel.pdf"},
            "counts": {"total": 2, "succeeded": 1, "failed": 1},
            "failedChunks": "1",
            "retries": 3,
            "chunks": [chunk(0, "Succeeded", [start(1, "Succeeded")]), chunk(1, "Failed", [start(1), start(2)])],
            **fields,
        }
    )


def chunk(index: int, phase: str, history: list[dict[str, Any]]) -> dict[str, Any]:
    pages = {"startPage": 50 * index + 1, "endPage": 50 * index + 50}
    return {"index": index, **pages, "phase": phase, "attempts": len(history), "starts": 2, "history": history}


def start(number: int, outcome: str = "Failed") -> dict[str, Any]:
    code = {} if outcome == "Succeeded" else {"code": "TIMEOUT"}
    times = {"startedAt": ago(140), "finishedAt": "2026-11-22T11:58:20Z"}
    return {"start": number, "attempt": number, "counted": True, "outcome": outcome, **code, **times}


def error(**fields: Any) -> ErrorRecord:
    return ErrorRecord.model_validate(
        {
            "namespace": "lib",
            "job": "novel",
            "uid": "01234567-89ab",
            "chunk": 1,
            "startPage": 51,
            "endPage": 100,
            "start": 2,
            "attempt": 2,
            "counted": True,
            "outcome": "Failed",
            "code": "TIMEOUT",
            "message": "Processing timeout exceeded",
            "time": ago(110),
            "jobName": "novel-c00001-a2",
            "pod": {"name": "novel-c00001-a2-x", "phase": "Failed", "exitCode": 76, "exitReason": "Error"},
            **fields,
        }
    )


def test_the_list_says_how_each_job_ended() -> None:
    ended = record()
    deleted = record(name="essay", phase="Running", completed=None, processingSeconds=None, counts=None, source=None)

    assert plain(record_table([ended, deleted])).splitlines() == [
        "NAME   PHASE    PAGES  CHUNKS  FAILED  STARTED                  TOOK     RUN",
        "novel  Failed   100    1/2     1       2026-11-22 11:48:40 UTC  9m40s    01234567",
        "essay  Running  -      -       -       2026-11-22 11:48:40 UTC  deleted  01234567",
    ]


def test_one_record_tells_every_start_of_every_chunk_and_its_error() -> None:
    text = plain(record_view(record(), [error()], NOW))
    chunks, errors = (part.splitlines()[2:] for part in text.split("\n\n")[1:])

    assert "1 succeeded, 1 failed (numbers 1); 3 retries" in text
    assert chunks[0].split() == [
        *("0", "1-50", "Succeeded", "1", "2", "2026-11-22", "11:58:20", "UTC", "a1", "Succeeded", "after", "40s")
    ]
    assert chunks[1].endswith("a1 TIMEOUT after 40s, a2 TIMEOUT after 40s")
    assert errors[0].split()[:3] == ["1", "2", "2026-11-22"]
    assert errors[0].endswith("TIMEOUT  Error exit 76  Processing timeout exceeded")


def test_a_job_that_was_ended_by_its_user_says_by_whom() -> None:
    ended = record(phase="Stopped", shutdown={"requestedAt": "2026-11-22T11:00:00Z", "requestedBy": "ada"})

    assert "ada, 2026-11-22 11:00:00 UTC" in plain(record_view(ended, [], NOW))


def test_a_job_that_was_deleted_under_way_says_so() -> None:
    assert "deleted under way 2026-11-22 11:58:20 UTC" in plain(record_view(record(completed=None), [], NOW))


def test_a_pod_that_was_gone_is_no_blank() -> None:
    assert "TIMEOUT  gone  " in plain(record_view(record(), [error(pod=None)], NOW))


def test_many_errors_are_cut_and_long_messages_too() -> None:
    errors = [error(start=number, message="slow " * 100) for number in range(21)]
    lines = plain(record_view(record(), errors, NOW)).split("\n\n")[-1].splitlines()

    assert len(lines) == 2 + 20 + 1
    assert lines[2].endswith(" ...")
    assert lines[-1].strip() == "... and more; -o json has the log and the pod of each"


def test_a_job_that_a_credit_account_paid_for_tells_what_it_was_charged() -> None:
    assert "Charged:  173,456 tokens to its credit account" in plain(record_view(record(charged=173_456), [], NOW))
    assert "Charged:" not in plain(record_view(record(), [], NOW))
