"""Time limits and waits: of the whole job, without a heartbeat, without a node, a pod or an image."""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterator
from typing import Any, Final

import pytest

from tests.support import pdfs
from tests.support.cluster import fresh_namespace, kubectl, kubectl_json
from tests.support.product import Job, Storage, images, run_plugin, submit, wait_until
from tests.support.puppets import RESOURCES, Puppets

PAGES: Final = 3
PENDING_SECONDS: Final = 12
JOB_SECONDS: Final = 30
LABEL: Final = f"tests.pdfjob.dev/{uuid.uuid4().hex[:8]}"
"""Of the node on which a job wants to run."""
NOWHERE: Final = "localhost/pdfjob-nowhere:1"
FINE: Final = 'store "page $first"'
STUCK_MESSAGE: Final = "Processing timeout - worker may have crashed"
BEAT: Final = """
beat() {
  printf '{"done":0,"total":1,"time":"%s"}' "$(date -u +%FT%TZ)" |
    curl -fsS -X PUT --data-binary @- "$PDFJOB_PROGRESS_URL"
}
"""
LONG: Final = f"{BEAT} for turn in $(seq 10); do beat; rest 5; done; {FINE}"
"""A runner that takes long and says that it lives."""
SILENT: Final = f"""{BEAT}
if [ "$start" = 1 ]; then rest 600; fi
until ajar late; do beat; rest 3; done
store "second start"
"""
"""A runner whose first start hangs."""


@pytest.fixture(scope="module")
def tight(installed: None) -> Iterator[str]:
    """A namespace in which no pod may be made."""
    with fresh_namespace() as name:
        kubectl("create", "quota", "pods", "--hard=pods=0", "-n", name)
        yield name


@pytest.fixture(scope="module")
def jobs(place: str, tight: str, stage: Puppets) -> dict[str, Job]:
    """All jobs of this file, under way together."""
    pending = {"limits": {"pendingTimeoutSeconds": PENDING_SECONDS}}
    soon = {"maxRetries": 1, "backoff": {"initialSeconds": 2, "maxSeconds": 4}}
    specs: dict[str, dict[str, Any]] = {
        "stuck": {**stage.job("stuck", 2, LONG), "limits": {"stuckTimeoutSeconds": 10}, "retryPolicy": soon},
        "no-node": {**stage.job("no-node", 1, FINE, nodeSelector={LABEL: "yes"}), **pending},
        "no-pod": {**stage.job("no-pod", 1, FINE), **pending},
        "no-image": {
            "chunking": {"pagesPerChunk": 1, "thresholdPages": 0},
            "runner": {"image": NOWHERE, "resources": RESOURCES},
            "limits": {"pendingTimeoutSeconds": 5},
            "retryPolicy": {**soon, "maxRetries": 0},
        },
        "limit": {**stage.job("limit", PAGES, FINE), "limits": {"jobTimeoutSeconds": JOB_SECONDS}, "parallelism": 1},
    }
    stage.tell("stuck", [0], SILENT)
    stage.tell("limit", [1], f"door one; {FINE}")
    storage, jobs = Storage.connect(), {}
    for name, spec in specs.items():
        namespace = tight if name == "no-pod" else place
        pages = 2 if name == "stuck" else 1 if name in {"no-node", "no-pod"} else PAGES
        key = f"pdfjob/inbox/{namespace}/{pages}.pdf"
        storage.put(key, pdfs.text_pdf(pages))
        jobs[name] = submit(namespace, name, {"s3": {"key": key}}, **spec)
    return jobs


@pytest.fixture(scope="module")
def late_url(jobs: dict[str, Job]) -> str:
    """Where the first start of the stuck chunk stores its result."""
    return result_url(jobs["stuck"], chunk=0)


def told_waiting(job: Job, reason: str) -> dict[str, Any]:
    """Wait until a chunk has the condition Waiting for this reason, which others may come before; return it."""

    def told() -> dict[str, Any] | None:
        found = (item for chunk in job.chunks() for item in chunk["status"].get("conditions", []))
        return next((item for item in found if (item["type"], item["reason"]) == ("Waiting", reason)), None)

    condition: dict[str, Any] = wait_until(told, f"a chunk of {job.name} says that it waits: {reason}")
    return condition


def test_a_chunk_without_a_node_says_so_and_goes_on_when_there_is_one(
    jobs: dict[str, Job], late_url: str, product: None
) -> None:
    """The URL is looked up here since the stuck start may be over when its test begins."""
    assert late_url
    job = jobs["no-node"]
    told = told_waiting(job, "Unschedulable")
    assert told["status"] == "True"
    assert re.match(r"no node takes its pod: 0/\d+ nodes are available", told["message"])
    message = job.wait_for_condition("Degraded", "True", "Unschedulable")
    assert re.match(r"no node takes the pods? of chunks? 0: 0/\d+ nodes are available", message)
    assert job.status["phase"] == "Running"
    shown = run_plugin("status", "no-node", "-n", job.namespace)
    assert "Unschedulable: no node takes" in shown.stdout
    kubectl("label", "node", "--all", f"{LABEL}=yes")
    try:
        job.succeed()
    finally:
        kubectl("label", "node", "--all", f"{LABEL}-")
    (chunk,) = job.chunks()
    assert (chunk["status"]["starts"], chunk["status"]["attempts"]) == (1, 1)
    assert chunk["status"].get("conditions", []) == []
    assert (job.condition("Degraded")["status"], job.condition("Degraded")["reason"]) == ("False", "Dispatching")


def test_a_quota_that_forbids_pods_is_told_and_waited_out(jobs: dict[str, Job], product: None) -> None:
    job = jobs["no-pod"]
    told = told_waiting(job, "NoPod")
    assert told["status"] == "True"
    assert "quota" in told["message"]
    message = job.wait_for_condition("Degraded", "True", "NoPod")
    assert f"kubectl describe jobs -n {job.namespace} -l pdfjob.dev/job=no-pod" in message
    kubectl("delete", "quota", "pods", "-n", job.namespace)
    job.succeed(timeout=240)
    assert job.chunks()[0]["status"]["starts"] == 1


def test_an_image_that_cannot_be_pulled_holds_the_job_until_the_spec_is_mended(
    jobs: dict[str, Job], product: None
) -> None:
    job = jobs["no-image"]
    message = job.wait_for_condition("Degraded", "True", "IMAGE_ERROR", timeout=120)
    assert NOWHERE in message
    assert "spec.runner.imagePullSecrets" in message
    assert "kubectl pdfjob retry no-image" in message
    assert job.status["phase"] == "Running"
    for chunk in job.chunks():
        assert chunk["status"]["attempts"] == 0, "nothing is burnt although there are no retries"
        assert chunk["status"]["phase"] in {"RetryScheduled", "Pending"}
    job.edit(runner={"image": images()["runner"]})
    status = job.succeed()
    assert (job.condition("Degraded")["status"], status["retries"]) == ("False", 0)
    assert [chunk["status"]["attempts"] for chunk in job.chunks()] == [1] * PAGES


def test_a_job_beyond_its_time_limit_keeps_what_is_done_and_a_retry_runs_only_the_rest(
    jobs: dict[str, Job], late_url: str, product: None, stage: Puppets, storage: Storage
) -> None:
    job = jobs["limit"]
    status = job.wait()
    told = (
        f"Task exceeded time limit ({JOB_SECONDS} s): 1 of 3 chunks are done; finished chunks are kept: raise "
        f"spec.limits.jobTimeoutSeconds, then kubectl pdfjob retry limit"
    )
    assert (status["phase"], status["lastError"]) == ("Failed", {"code": "TASK_TIMEOUT", "message": told})
    assert status["currentStep"] == "Failed: TASK_TIMEOUT"
    assert status["chunks"] == {**status["chunks"], "succeeded": 1, "cancelled": 2, "failed": 0}
    job.wait_for_phases("Succeeded", "Cancelled", "Cancelled")
    ended = job.chunks()[1]["status"]["history"][-1]
    assert (ended["outcome"], ended["counted"]) == ("Ended", False)
    stage.open("limit", "one")
    job.edit(parallelism=2)
    done = run_plugin("retry", "limit", "-n", job.namespace, "--wait")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[:2] == ["Retrying 2 chunks", "  again:    1, 2"]
    assert stage.starts("limit", PAGES) == [1, 2, 1]
    assert job.result(storage, "txt").decode() == "page 1\n\npage 2\n\npage 3\n"


def test_a_start_without_a_heartbeat_is_given_up_and_its_late_result_changes_nothing(
    jobs: dict[str, Job], late_url: str, product: None, stage: Puppets, storage: Storage
) -> None:
    job = jobs["stuck"]
    wait_until(lambda: job.chunks()[0]["status"].get("history"), "it is given up", 150)
    given_up = job.chunks()[0]["status"]
    assert given_up["lastError"] == {"code": "TIMEOUT", "message": STUCK_MESSAGE}
    (record,) = given_up["history"]
    assert (record["outcome"], record["code"], record["counted"]) == ("Failed", "TIMEOUT", True)
    job.wait_for_event(f"TIMEOUT: {STUCK_MESSAGE}")
    wait_until(lambda: stage.starts("stuck", 1) == [2], "it has started anew")
    result = b'{"version":1,"startPage":1,"endPage":1,"records":[{"page":1,"endPage":1,"text":"late"}]}'
    assert storage.put_by(late_url, result, {"If-None-Match": "*"}) == 200
    stage.open("stuck", "late")
    status = job.succeed()
    assert job.result(storage, "txt").decode() == "second start\n\npage 2\n"
    stuck, alive = (chunk["status"] for chunk in job.chunks())
    assert (stuck["attempts"], stuck["starts"], status["retries"]) == (2, 2, 1)
    assert (alive["attempts"], alive["starts"]) == (1, 1), "a runner that tells that it lives is left alone"


def result_url(job: Job, chunk: int) -> str:
    """Wait for the first start of a chunk and return the URL that it stores its result by."""
    selector = f"pdfjob.dev/job={job.name},pdfjob.dev/chunk={chunk},pdfjob.dev/start=1"
    words = ("get", "jobs", "-n", job.namespace, "-l", selector)
    (child,) = wait_until(lambda: kubectl_json(*words)["items"], "its Job is there")
    (container,) = child["spec"]["template"]["spec"]["containers"]
    url: str = next(item["value"] for item in container["env"] if item["name"] == "PDFJOB_RESULT_URL")
    return url
