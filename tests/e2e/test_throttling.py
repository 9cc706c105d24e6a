"""What lies outside the document: a rate limit shrinks the load, a common cause holds it, and both heal."""

from __future__ import annotations

import re
from typing import Any, Final

import pytest

from tests.support import pdfs
from tests.support.audit import job_creations
from tests.support.product import Job, Storage, run_plugin, submit, wait_until
from tests.support.puppets import Puppets
from tests.support.watching import watch

CHUNKS: Final = 10
PARALLELISM: Final = 4
FINE: Final = 'store "page $first"'
LIMITED: Final = 'say RATE_LIMIT "429 of the service"; exit 72'
RATE_LIMIT: Final = {"code": "RATE_LIMIT", "message": "429 of the service"}
REFUSED: Final = 'say AUTH_ERROR "the key was refused"; exit 73'
CHECKS: Final = "check: key valid, quota not exceeded, network to the API, text in the PDF"


@pytest.fixture(scope="module")
def source(place: str) -> dict[str, Any]:
    return Storage.connect().source(place, "book.pdf", pdfs.text_pdf(CHUNKS))


@pytest.fixture(scope="module")
def jobs(place: str, stage: Puppets, source: dict[str, Any]) -> dict[str, Job]:
    """Two jobs whose key is refused, the one with a short backoff, the other with a very long one."""
    jobs = {}
    for name, seconds in (("probed", 3), ("asked", 3600)):
        spec = stage.job(name, CHUNKS, REFUSED)
        policy = {"maxRetries": 0, "backoff": {"initialSeconds": seconds, "maxSeconds": seconds}}
        jobs[name] = submit(place, name, source, retryPolicy=policy, parallelism=PARALLELISM, **spec)
    return jobs


def test_a_rate_limit_halves_the_parallelism_and_successes_give_it_back(
    place: str, product: None, stage: Puppets, source: dict[str, Any]
) -> None:
    spec = stage.job("limited", CHUNKS, f"rest 1; {FINE}")
    stage.tell("limited", [0, 1], f"door full; {LIMITED}")
    stage.tell("limited", [2, 3], f"door limited; {FINE}")
    path = "{.status.effectiveParallelism}|{.status.phase}"
    with watch(place, "pdfjobs", path, "--field-selector", "metadata.name=limited") as seen:
        policy = {"maxRetries": 0, "backoff": {"initialSeconds": 1, "maxSeconds": 4}}
        job = submit(place, "limited", source, retryPolicy=policy, parallelism=PARALLELISM, **spec)
        wait_until(lambda: stage.starts("limited", PARALLELISM) == [1] * PARALLELISM, "all are under way", 240)
        stage.tell("limited", [0, 1], f"rest 1; {FINE}")
        stage.open("limited", "full")
        wait_until(lambda: job.phases()[:2] == ["RetryScheduled"] * 2, "both are due for a retry")
        job.wait_for(effectiveParallelism=PARALLELISM // 2)
        limited = [chunk["status"] for chunk in job.chunks()[:2]]  # no more start before the other two leave
        assert [(status["phase"], status["attempts"]) for status in limited] == [("RetryScheduled", 0)] * 2
        assert [status["lastError"] for status in limited] == [RATE_LIMIT] * 2
        assert job.condition("Degraded") == {}, "two are no common cause"
        stage.open("limited", "limited")
        status = job.succeed()
        wait_until(lambda: seen[-1][1].endswith("|Succeeded"), "the watch has seen the end", 10)
    told = [line.split("|")[0] for _, line in seen]
    steps = [step for at, step in enumerate(told) if at == 0 or step != told[at - 1]]
    print("effective parallelism:", steps)
    assert steps in (["", "2", "3", ""], ["", "2", ""]), "down at once, then up one by one"
    assert steps[-1] == "" == told[-1]
    assert ("effectiveParallelism" in status, status["retries"]) == (False, 0)
    assert stage.starts("limited", CHUNKS) == [2, 2] + [1] * (CHUNKS - 2)


def held(job: Job) -> str:
    """Wait until dispatch is held for the refused key; return the message."""
    message = job.wait_for_condition("Degraded", "True", "AUTH_ERROR", timeout=120)
    status = job.status
    assert (status["phase"], status["effectiveParallelism"], status["retries"]) == ("Running", 1, 0)
    ended = [chunk["status"] for chunk in job.chunks() if chunk["status"]["phase"] == "RetryScheduled"]
    assert {chunk["attempts"] for chunk in ended} == {0}, "a start that the cause ended does not count"
    assert status["currentStep"] in {"Waiting: AUTH_ERROR", "Processing chunk 0/10"}, "the latter while a probe runs"
    assert CHECKS in message
    assert f"kubectl pdfjob retry {job.name}" in message
    assert message.endswith("the last error: the key was refused")
    return message


def test_a_key_that_every_chunk_refuses_holds_the_job_until_a_probe_succeeds(
    jobs: dict[str, Job], product: None, stage: Puppets
) -> None:
    job = jobs["probed"]
    message = held(job)
    assert re.search(r"so none is started but one to try, the next at \d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ; check", message)
    job.wait_for_event("Warning", "AUTH_ERROR")
    wait_until(lambda: len(job.children("jobs")) <= 1, "what was in flight before has ended")
    first = sum(stage.starts("probed", CHUNKS))
    wait_until(lambda: sum(stage.starts("probed", CHUNKS)) >= first + 2, "it probes")
    assert len(job.running_pods()) <= 1
    stage.tell("probed", range(CHUNKS), FINE)
    status = job.succeed()
    degraded = job.condition("Degraded")
    assert (degraded["status"], degraded["reason"]) == ("False", "Dispatching")
    assert ("effectiveParallelism" in status, status["retries"]) == (False, 0)
    assert [chunk["status"]["attempts"] for chunk in job.chunks()] == [1] * CHUNKS


def test_a_retry_request_ends_the_hold_at_once(jobs: dict[str, Job], product: None, stage: Puppets) -> None:
    job = jobs["asked"]
    held(job)
    # A chunk whose Job is made is Pending until its pod runs.
    wait_until(lambda: job.children("jobs") == [], "what was in flight has ended")
    assert set(job.phases()) == {"Pending", "RetryScheduled"}
    assert sum(stage.starts("asked", CHUNKS)) < 2 * PARALLELISM, "the rest was not burnt"
    shown = run_plugin("status", "asked", "-n", job.namespace)
    assert "the key was refused" in shown.stdout
    stage.tell("asked", range(CHUNKS), FINE)
    done = run_plugin("retry", "asked", "-n", job.namespace, "--wait", "--timeout", "240s")
    assert done.returncode == 0, done.stderr
    tried = len([count for count in stage.starts("asked", CHUNKS) if count == 2])
    assert done.stdout.splitlines()[0] == f"Retrying {tried} chunks"
    assert sum(job_creations(job.namespace)[chunk["metadata"]["name"]] for chunk in job.chunks()) == CHUNKS + tried
    assert job.condition("Degraded")["status"] == "False"


def test_a_scan_is_no_common_cause_it_fails_and_says_what_to_do(
    place: str, product: None, stage: Puppets, source: dict[str, Any]
) -> None:
    path = '{.status.conditions[?(@.type=="Degraded")].status}'
    with watch(place, "pdfjobs", path, "--field-selector", "metadata.name=scan") as seen:
        job = submit(place, "scan", source, parallelism=PARALLELISM, **stage.job("scan", CHUNKS, "exit 66"))
        status = job.wait()
    assert "True" not in {line for _, line in seen}
    assert status["lastError"]["code"] == "CHUNK_PROCESSING_ERROR"
    assert "no chunk has text: scan? use OCR or Gemini Pdf mode" in status["lastError"]["message"]
    assert stage.starts("scan", CHUNKS) == [1] * CHUNKS, "nothing is tried twice"
