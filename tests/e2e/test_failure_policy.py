"""failurePolicy: a result that lacks chunks says so everywhere: in the status, on the screen, and in the files."""

from __future__ import annotations

import csv
import io
import json
from typing import Final

import pytest

from tests.support import pdfs
from tests.support.cluster import kubectl
from tests.support.product import Job, Storage, run_plugin, submit
from tests.support.puppets import Puppets

CHUNKS: Final = 6
FINE: Final = 'store "Page $first."'
FAILS: Final = 'say PROCESSING_ERROR "no luck"; exit 70'


@pytest.fixture(scope="module")
def jobs(place: str, stage: Puppets) -> dict[str, Job]:
    """Of each job two chunks of six fail for good: pages 2 and 3, with different codes."""
    key = f"pdfjob/inbox/{place}/small.pdf"
    Storage.connect().put(key, pdfs.text_pdf(CHUNKS))
    allowed: dict[str, int | str] = {"number": 2, "percentage": "34%", "too-many": "33%"}
    jobs = {}
    for name, most in allowed.items():
        spec = stage.job(name, CHUNKS, FINE)
        stage.tell(name, [1], FAILS)
        stage.tell(name, [2], "exit 66")
        policy = {"failurePolicy": {"maxFailedChunks": most}, "retryPolicy": {"maxRetries": 0}}
        jobs[name] = submit(place, name, {"s3": {"key": key}}, **policy, **spec)
    return jobs


@pytest.mark.parametrize("name", ["number", "percentage"])
def test_a_job_that_lacks_no_more_than_allowed_succeeds_and_says_what_it_lacks(
    jobs: dict[str, Job], product: None, name: str
) -> None:
    job = jobs[name]
    status = job.succeed()
    succeeded = job.condition("Succeeded")
    assert (succeeded["status"], succeeded["reason"]) == ("True", "PartialResult")
    assert succeeded["message"] == "the result lacks pages, see status.result.missingPages"
    chunks = job.condition("ChunksSucceeded")
    assert (chunks["status"], chunks["reason"]) == ("False", "ChunksFailed")
    assert "as spec.failurePolicy.maxFailedChunks:" in chunks["message"]
    assert (status["result"]["partial"], status["result"]["missingPages"]) == (True, "2-3")
    assert (status["failedChunks"], status["progressPercent"], status["phase"]) == ("1-2", 100, "Succeeded")
    assert status["chunks"] == {**status["chunks"], "succeeded": 4, "failed": 2, "total": CHUNKS}
    assert "lastError" not in status
    row = kubectl("get", "pdfjob", name, "-n", job.namespace, "--no-headers").stdout.split()
    assert row[:5] == [name, "Succeeded", "66%", "4/6", "2"]


def test_the_files_name_the_missing_pages_in_their_place(jobs: dict[str, Job], storage: Storage) -> None:
    job = jobs["number"]
    job.succeed()
    lines = [json.loads(line) for line in job.result(storage, "jsonl").splitlines()]
    gaps = [{"missing": [2, 2], "code": "PROCESSING_ERROR"}, {"missing": [3, 3], "code": "NO_TEXT"}]
    assert lines[1:3] == gaps
    there = [line for line in lines if "n" in line]
    assert [(line["n"], line["page"], line["text"]) for line in there] == [
        (n, page, f"Page {page}.") for n, page in enumerate((1, 4, 5, 6))
    ]
    assert job.result(storage, "txt").decode() == (
        "Page 1.\n\n[pages 2-2 missing: PROCESSING_ERROR]\n\n[pages 3-3 missing: NO_TEXT]\n\n"
        "Page 4.\n\nPage 5.\n\nPage 6.\n"
    )
    rows = list(csv.reader(io.StringIO(job.result(storage, "csv").decode(), newline="")))
    assert rows[0] == ["n", "page", "end_page", "text"]
    assert [row[1] for row in rows[1:] if row[0]] == ["1", "4", "5", "6"]


def test_the_plugin_warns_of_what_is_missing(jobs: dict[str, Job], product: None) -> None:
    job = jobs["number"]
    job.succeed()
    printed = run_plugin("results", job.name, "-n", job.namespace, "--format", "txt")
    assert printed.returncode == 0, printed.stderr
    assert "missing pages: 2-3" in printed.stderr
    shown = run_plugin("status", job.name, "-n", job.namespace)
    assert "2-3" in shown.stdout
    assert "no luck" in shown.stdout, "each failed chunk with its reason"


def test_one_chunk_more_than_allowed_fails_the_job(jobs: dict[str, Job], product: None) -> None:
    """33 % of six is one, rounded down; nothing is merged, and what is there can be read all the same."""
    job = jobs["too-many"]
    status = job.wait()
    assert (status["phase"], status["lastError"]["code"]) == ("Failed", "CHUNK_PROCESSING_ERROR")
    assert status["chunks"]["succeeded"] == 4, "one failed chunk never ends the others"
    assert "result" not in status
    partial = run_plugin("results", job.name, "-n", job.namespace, "--partial", "--format", "txt")
    assert partial.returncode == 0, partial.stderr
    assert "Page 1." in partial.stdout
    assert "Page 6." in partial.stdout


def test_a_policy_that_is_loosened_takes_effect_with_a_retry(
    jobs: dict[str, Job], product: None, stage: Puppets
) -> None:
    """Nothing runs again: the chunks are beyond their limit, so what is there is merged."""
    job = jobs["too-many"]
    job.wait()
    job.edit(failurePolicy={"maxFailedChunks": 2})
    answer = job.retry("as-it-is")
    assert answer["retriedCount"] == 0
    assert "what is there is merged again" in answer["message"]
    job.wait_for(phase="Succeeded")
    assert job.condition("Succeeded")["reason"] == "PartialResult"
    assert stage.starts("too-many", CHUNKS) == [1] * CHUNKS


def test_a_retry_makes_a_partial_result_whole(
    jobs: dict[str, Job], product: None, stage: Puppets, storage: Storage
) -> None:
    job = jobs["percentage"]
    job.succeed()
    stage.tell(job.name, [1, 2], FINE)
    assert job.retry("whole", force=True)["chunks"] == [1, 2]
    job.wait_for_condition("Succeeded", "True", "Completed")
    status = job.status
    assert (status["result"].get("partial", False), "missingPages" in status["result"]) == (False, False)
    assert "failedChunks" not in status
    assert job.result(storage, "txt").decode() == "\n".join(f"Page {page}.\n" for page in range(1, 7))
