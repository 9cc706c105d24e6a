"""Queueing systems such as Kueue: their labels reach the Jobs, and a Job they suspend is waited for or started anew."""

from __future__ import annotations

import json
import time
import uuid
from typing import Any, Final

import pytest

from tests.support import pdfs
from tests.support.cluster import kubectl, kubectl_json
from tests.support.product import Job, Storage, submit, wait_until
from tests.support.puppets import Puppets
from tests.support.watching import watch

FINE: Final = 'store "page $first"'
QUEUE: Final = "kueue.x-k8s.io/queue-name"
LABEL: Final = f"tests.pdfjob.dev/{uuid.uuid4().hex[:8]}"
"""Of the node on which a job wants to run."""
PENDING_SECONDS: Final = 5
JOB_SECONDS: Final = 25
POD_PATH: Final = r"{.metadata.labels.pdfjob\.dev/start}|{.metadata.uid}"


@pytest.fixture(scope="module")
def source(place: str) -> dict[str, Any]:
    return Storage.connect().source(place, "page.pdf", pdfs.text_pdf(1))


def set_suspended(job: Job, start: int, *, suspended: bool) -> None:
    """Suspend or resume a child Job, as a queueing system does."""
    patch = json.dumps({"spec": {"suspend": suspended}})
    kubectl("patch", "job", f"{job.name}-c00000-a{start}", "-n", job.namespace, "--type=merge", "-p", patch)


def waiting(job: Job) -> dict[str, Any]:
    """Return the condition Waiting of its chunk; empty when there is none."""
    (chunk,) = job.chunks()
    return next((item for item in chunk["status"].get("conditions", []) if item["type"] == "Waiting"), {})


def test_a_job_held_back_before_its_pod_runs_waits_says_so_and_no_time_limit_runs(
    place: str, product: None, stage: Puppets, source: dict[str, Any]
) -> None:
    limits = {"pendingTimeoutSeconds": PENDING_SECONDS, "jobTimeoutSeconds": JOB_SECONDS}
    spec = stage.job("queued", 1, FINE, nodeSelector={LABEL: "yes"})
    job = submit(place, "queued", source, suspend=True, limits=limits, retryPolicy={"maxRetries": 0}, **spec)
    kubectl("label", "pdfjob", "queued", "-n", place, f"{QUEUE}=books")
    job.wait_for_condition("Suspended", "True")
    job.edit(suspend=False)
    (child,) = wait_until(lambda: job.children("jobs"), "its Job is made")
    assert child["metadata"]["labels"][QUEUE] == "books"
    set_suspended(job, 1, suspended=True)
    told = wait_until(
        lambda: waiting(job).get("reason") == "Queued" and waiting(job), "the chunk says that it is queued"
    )
    assert told["message"] == "its Job is suspended by a queueing system (Kueue); no time limit runs"
    held = time.monotonic()
    wait_until(lambda: time.monotonic() - held > JOB_SECONDS + 1, "both limits would be over")
    assert (job.status["phase"], job.condition("Degraded").get("status", "False")) == ("Running", "False")
    assert waiting(job)["reason"] == "Queued"
    kubectl("label", "node", "--all", f"{LABEL}=yes")
    try:
        set_suspended(job, 1, suspended=False)
        job.succeed()
    finally:
        kubectl("label", "node", "--all", f"{LABEL}-")
    (chunk,) = job.chunks()
    assert (chunk["status"]["starts"], chunk["status"]["attempts"]) == (1, 1)
    assert stage.starts("queued", 1) == [1]


def test_a_job_suspended_after_its_pod_ran_is_started_anew_and_makes_no_second_pod(
    place: str, product: None, stage: Puppets, source: dict[str, Any]
) -> None:
    spec = stage.job("taken", 1, "door first")
    selector = ("-l", "pdfjob.dev/job=taken")
    with watch(place, "pods", POD_PATH, *selector) as seen:
        job = submit(place, "taken", source, retryPolicy={"maxRetries": 0}, **spec)
        wait_until(lambda: stage.starts("taken", 1) == [1] and job.phases() == ["Running"], "its pod runs")
        stage.tell("taken", [0], FINE)
        set_suspended(job, 1, suspended=True)
        status = job.succeed()
    (chunk,) = job.chunks()
    taken, done = chunk["status"]["history"]
    assert (taken["outcome"], taken["counted"], done["outcome"]) == ("Ended", False, "Succeeded")
    assert (chunk["status"]["starts"], chunk["status"]["attempts"], status["retries"]) == (2, 1, 0)
    assert sorted({line.split("|")[0]: line for _, line in seen}) == ["1", "2"]
    assert len({line for _, line in seen}) == 2, "one pod of each Job"
    words = ("get", "jobs", "-n", place, *selector)
    wait_until(lambda: kubectl_json(*words)["items"] == [], "no Job is left", 15)
