"""Chunks that fail: what a user sees of each cause, what is tried again, and that every end is an end."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from itertools import pairwise
from typing import Any, Final

import pytest

from tests.support import pdfs
from tests.support.cluster import REPOSITORY
from tests.support.product import Job, Storage, images, submit, throttled
from tests.support.shell_runners import python_processor, shell_processor

PAGES: Final = 4
NO_RETRY: Final[Mapping[str, Any]] = {"retryPolicy": {"maxRetries": 0}}
FAILS_AT_ONCE: Final = "exit 70"
OUT_OF_MEMORY: Final = "data = bytearray(512 * 1024 * 1024)\nimport time\ntime.sleep(60)"


@dataclass(frozen=True)
class Cause:
    """A way in which every chunk fails at its first start, and what must be told of it."""

    code: str
    message: str
    """Part of the message of the chunk."""
    script: str = FAILS_AT_ONCE
    spec: Mapping[str, Any] = field(default_factory=lambda: NO_RETRY)


CAUSES: Final[Mapping[str, Cause]] = {
    "exit-3": Cause("PROCESSING_ERROR", "exit code 3", "exit 3"),
    "exit-64": Cause("PROCESSING_ERROR", "page 0?", 'say PROCESSING_ERROR "page 0?"; exit 64', {}),
    "exit-65": Cause("INVALID_PDF", "source.repair: Repair", "exit 65", {}),
    "exit-66": Cause("NO_TEXT", "OCR", "exit 66", {}),
    "exit-74": Cause("STORAGE_ERROR", "no room", 'say STORAGE_ERROR "no room"; exit 74'),
    "hard-timeout": Cause(
        "TIMEOUT",
        "hard time limit",
        "rest 60",
        {**NO_RETRY, "limits": {"chunkTimeoutSeconds": 3, "chunkSoftTimeoutSeconds": 2}},
    ),
    "no-result": Cause("PROCESSING_ERROR", "stored no result", "exit 0"),
    "other-pages": Cause("PROCESSING_ERROR", "result is for pages 90-90", "first=90; last=90; store hello"),
    "no-json": Cause(
        "PROCESSING_ERROR",
        "the result object is not valid",
        """printf hello | curl -fsS -X PUT -H 'If-None-Match: *' --data-binary @- "$PDFJOB_RESULT_URL" """,
    ),
}


@pytest.fixture(scope="module")
def source(place: str) -> dict[str, Any]:
    return Storage.connect().source(place, "small.pdf", pdfs.text_pdf(PAGES))


@pytest.fixture(scope="module")
def two_chunks() -> dict[str, Any]:
    return {"pagesPerChunk": PAGES // 2, "thresholdPages": 0}


@pytest.fixture(scope="module")
def jobs(place: str, source: dict[str, Any], two_chunks: dict[str, Any]) -> dict[str, Job]:
    """The jobs that take long, and all that fail at their first start, under way together."""
    fails = 'if [ "$chunk" = 0 ]; then say PROCESSING_ERROR "no luck"; exit 70; fi; rest 4; store fine'
    limited = 'if [ "$start" = 1 ]; then exit 72; fi; store "at last"'
    policy = {"maxRetries": 2, "backoff": {"initialSeconds": 2, "factor": 2, "maxSeconds": 60}}
    slow: dict[str, dict[str, Any]] = {
        "retries": {"processor": shell_processor(fails), "retryPolicy": policy, "chunking": two_chunks},
        "limited": {"processor": shell_processor(limited), "retryPolicy": {**policy, "maxRetries": 0}},
        "key": {"processor": shell_processor(limited.replace("72", "73")), "retryPolicy": {**policy, "maxRetries": 0}},
    }
    causes = {name: {"processor": shell_processor(cause.script), **cause.spec} for name, cause in CAUSES.items()}
    return {name: submit(place, name, source, **spec) for name, spec in {**slow, **causes}.items()}


@pytest.mark.parametrize("name", CAUSES)
def test_the_cause_of_a_failure_is_told_on_chunk_job_and_event(jobs: dict[str, Job], product: None, name: str) -> None:
    job, cause = jobs[name], CAUSES[name]
    status = job.wait()
    assert_failed(job, status, cause.code, cause.message)
    (chunk,) = job.chunks()
    assert chunk["status"]["starts"] == 1
    assert [record["code"] for record in chunk["status"]["history"]] == [cause.code]


def assert_failed(job: Job, status: Mapping[str, Any], code: str, message: str) -> None:
    """Assert what every failed job shows, with code and message of its first chunk."""
    assert status["phase"] == "Failed"
    assert status["lastError"]["code"] == "CHUNK_PROCESSING_ERROR"
    assert status["failedChunks"].startswith("0")
    assert "result" not in status
    succeeded = job.condition("Succeeded")
    assert (succeeded["status"], succeeded["reason"]) == ("False", "CHUNK_PROCESSING_ERROR")
    chunk = job.chunks()[0]["status"]
    assert chunk["phase"] == "Failed"
    assert chunk["lastError"]["code"] == code
    assert message in chunk["lastError"]["message"]
    assert (code in succeeded["message"]) or (code == "NO_TEXT" and "OCR" in succeeded["message"])
    pages = f"{job.chunks()[0]['spec']['startPage']}-{job.chunks()[0]['spec']['endPage']}"
    told = [line for line in job.events().splitlines() if f"chunk 0 (pages {pages}) failed: {code}: " in line]
    assert len([line for line in told if "ChunkFailed" in line and "Warning" in line]) == 1


def test_a_scan_without_text_is_told_to_go_through_ocr(
    place: str, product: None, source: dict[str, Any], two_chunks: dict[str, Any]
) -> None:
    job = submit(place, "scan", source, processor=shell_processor("exit 66"), chunking=two_chunks)
    status = job.wait()
    assert "no chunk has text" in status["lastError"]["message"]
    assert "OCR" in status["lastError"]["message"]
    assert [chunk["status"]["starts"] for chunk in job.chunks()] == [1, 1]
    job.wait_for_event("no chunk has text")


def test_a_failing_chunk_is_retried_with_growing_waits_while_the_others_run_to_their_end(
    jobs: dict[str, Job], product: None
) -> None:
    job = jobs["retries"]
    status = job.wait()
    assert_failed(job, status, "PROCESSING_ERROR", "no luck")
    assert (status["failedChunks"], status["retries"]) == ("0", 2)
    failed, fine = (chunk["status"] for chunk in job.chunks())
    assert (failed["attempts"], failed["starts"]) == (3, 3)
    assert [(record["attempt"], record["counted"]) for record in failed["history"]] == [(1, True), (2, True), (3, True)]
    first, second = waits(failed)
    # 2 s and 4 s, each less at most 20 % of jitter; the times are written in whole seconds.
    assert first >= 1
    assert second >= 3
    assert (fine["phase"], fine["attempts"], fine["starts"]) == ("Succeeded", 1, 1)
    assert job.events().count("ChunkRetry") == 2


def waits(status: Mapping[str, Any]) -> list[float]:
    """Seconds between the end of each start and the container of the next."""
    times = [
        (datetime.fromisoformat(record["startedAt"]), datetime.fromisoformat(record["finishedAt"]))
        for record in status["history"]
    ]
    return [(after[0] - before[1]).total_seconds() for before, after in pairwise(times)]


def test_a_failure_that_heals_leaves_a_whole_result(place: str, product: None, source: dict[str, Any]) -> None:
    script = 'if [ "$start" = 1 ]; then say API_ERROR "later"; exit 71; fi; store healed'
    policy = {"maxRetries": 1, "backoff": {"initialSeconds": 1}}
    job = submit(place, "heals", source, processor=shell_processor(script), retryPolicy=policy)
    status = job.succeed()
    (chunk,) = job.chunks()
    assert (chunk["status"]["attempts"], chunk["status"]["starts"], status["retries"]) == (2, 2, 1)
    assert "lastError" not in chunk["status"]
    assert job.result(Storage.connect()) == b'{"n":0,"page":1,"endPage":1,"text":"healed"}\n'


def test_a_rate_limit_is_waited_out_longer_and_not_counted(jobs: dict[str, Job], product: None) -> None:
    job = jobs["limited"]
    status = job.succeed()
    (chunk,) = job.chunks()
    assert (chunk["status"]["attempts"], chunk["status"]["starts"], status["retries"]) == (1, 2, 0)
    limited = chunk["status"]["history"][0]
    assert (limited["code"], limited["counted"]) == ("RATE_LIMIT", False)
    assert waits(chunk["status"])[0] >= 6, "four times the 2 s of the backoff, less jitter"


def test_a_key_refused_to_one_chunk_is_tried_again_and_not_counted(jobs: dict[str, Job], product: None) -> None:
    job = jobs["key"]
    status = job.succeed()
    (chunk,) = job.chunks()
    assert (chunk["status"]["attempts"], chunk["status"]["starts"], status["retries"]) == (1, 2, 0)
    refused = chunk["status"]["history"][0]
    assert (refused["code"], refused["counted"], refused["outcome"]) == ("AUTH_ERROR", False, "Failed")
    assert job.condition("Degraded") == {}, "one is no common cause"
    assert "AUTH_ERROR" in job.events()


def test_expired_urls_are_replaced_by_fresh_ones_and_not_counted(
    place: str, product: None, source: dict[str, Any]
) -> None:
    # The first start leaves the time of its signature in the heartbeat, the second in the result.
    script = r"""
signed=$(printf %s "$PDFJOB_RESULT_URL" | sed -n 's/.*X-Amz-Date=\([0-9TZ]*\).*/\1/p')
if [ "$start" = 1 ]; then
  printf '{"done":0,"total":4,"time":"%s"}' "$signed" | curl -fsS -X PUT --data-binary @- "$PDFJOB_PROGRESS_URL"
  sleep 1
  exit 77
fi
store "$signed"
"""
    job = submit(place, "expired", source, processor=shell_processor(script), **NO_RETRY)
    status = job.succeed()
    (chunk,) = job.chunks()
    assert (chunk["status"]["attempts"], chunk["status"]["starts"], status["retries"]) == (1, 2, 0)
    lost, done = chunk["status"]["history"]
    assert (lost["outcome"], lost["counted"], done["outcome"]) == ("Lost", False, "Succeeded")
    storage = Storage.connect()
    (heartbeat,) = storage.keys(f"pdfjob/jobs/{place}/expired/progress/")
    first = storage.read(heartbeat).decode().split('"time":"')[1].split('"')[0]
    assert first.encode() not in job.result(storage)


def test_memory_beyond_the_limit_is_named_with_the_field_to_raise(
    place: str, product: None, source: dict[str, Any]
) -> None:
    resources = {"requests": {"cpu": "50m", "memory": "32Mi"}, "limits": {"memory": "64Mi"}}
    job = submit(
        place, "memory", source, processor=python_processor(OUT_OF_MEMORY), runner={"resources": resources}, **NO_RETRY
    )
    status = job.wait()
    assert_failed(job, status, "OUT_OF_MEMORY", "memory limit")


def test_a_soft_timeout_that_saved_pages_goes_on_from_there_and_is_not_counted(
    place: str, product: None, storage: Storage, source: dict[str, Any]
) -> None:
    limits = {"chunkSoftTimeoutSeconds": 6, "chunkTimeoutSeconds": 60}
    slow = submit(place, "soft", source, limits=limits, runner=throttled(4), **NO_RETRY)
    swift = submit(place, "swift", source)
    swift.succeed()
    status = slow.succeed()
    (chunk,) = slow.chunks()
    history = chunk["status"]["history"]
    assert len(history) >= 2
    assert {(record["code"], record["counted"]) for record in history[:-1]} == {("TIMEOUT", False)}
    saved = [record["items"] for record in history]
    assert saved == sorted(set(saved)), "each start saved more than the one before"
    assert (chunk["status"]["attempts"], status["retries"]) == (1, 0)
    assert "SoftTimeout" in slow.events()
    assert slow.result(storage) == swift.result(storage)


def test_a_runner_that_the_api_server_refuses_fails_the_job_with_the_api_servers_words(
    place: str, product: None, source: dict[str, Any]
) -> None:
    resources = {"limits": {"memory": "many"}}
    job = submit(place, "refused", source, runner={"resources": resources})
    status = job.wait()
    accepted = job.condition("Accepted")
    assert (accepted["status"], accepted["reason"]) == ("False", "InvalidSpec")
    assert "spec.runner" in accepted["message"]
    assert "many" in accepted["message"] or "quantities must match" in accepted["message"]
    assert (status["phase"], status["lastError"]["code"]) == ("Failed", "PROCESSING_ERROR")
    job.wait_for_event("InvalidSpec")
    assert job.children("jobs") == []


def test_the_example_runner_of_shell_and_curl_makes_a_whole_result(
    place: str, product: None, source: dict[str, Any], two_chunks: dict[str, Any]
) -> None:
    script = (REPOSITORY / "examples" / "custom-runner.sh").read_text()
    processor = {"custom": {"image": images()["test-curl"], "command": ["sh", "-c", script]}}
    job = submit(place, "custom", source, processor=processor, chunking=two_chunks)
    status = job.succeed()
    assert (status["sentences"], status["items"]) == (PAGES, {"total": PAGES, "done": PAGES, "failed": 0})
    # Without pdftotext in its image it names the pages of the chunk PDF, context pages included.
    assert job.result(Storage.connect()).decode().splitlines() == [
        f'{{"n":{n},"page":{n + 1},"endPage":{n + 1},"text":"This is page {number} of the chunk."}}'
        for n, number in enumerate((1, 2, 2, 3))
    ]
