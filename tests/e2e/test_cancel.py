"""Cancel, in every phase: within five seconds no process of a runner is left on the node, and what is saved stays."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any, Final

import pytest

from tests.support import pdfs
from tests.support.cluster import kubectl, kubectl_json
from tests.support.node import runner_processes, seconds_until_no_runner
from tests.support.product import Job, Storage, run_plugin, submit, throttled, wait_until
from tests.support.puppets import RESOURCES, Puppets
from tests.support.shell_runners import MANY_RECORDS

pytestmark = pytest.mark.alone

SECONDS: Final = 5.0
CANCELLED: Final = "Batch processing cancelled by user. Batch cancelled, checkpoint retained"
FINE: Final = 'store "page $first"'
GRACE_SECONDS: Final = 30.0
DEAF: Final = "trap '' TERM; door deaf-$chunk"
"""A runner that does not hear SIGTERM."""
DRAINS: Final = "trap 'until ajar saved; do sleep 0.2; done; exit 75' TERM; door drains-$chunk"
"""A runner whose page in hand takes until a door is open."""


@pytest.fixture(scope="module")
def source(place: str) -> dict[str, Any]:
    return Storage.connect().source(place, "book.pdf", pdfs.text_pdf(12))


@pytest.fixture(scope="module")
def small(place: str) -> dict[str, Any]:
    return Storage.connect().source(place, "small.pdf", pdfs.text_pdf(3))


@dataclass
class Deaf:
    """A job that was cancelled while runners drained that hear nothing, and what was seen until they were gone."""

    job: Job
    cancelled: float
    gone: float = 0.0
    finished: list[str] = field(default_factory=list)
    """Status of the condition Finished, while processes ran."""

    def follow(self) -> None:
        """Look at node and job until no process is left."""
        while runner_processes(self.job.namespace, self.job.name):
            finished = self.job.condition("Finished")["status"]
            if runner_processes(self.job.namespace, self.job.name):
                self.finished.append(finished)
            time.sleep(0.5)
        self.gone = time.monotonic()


@pytest.fixture(scope="module")
def deaf(place: str, stage: Puppets, small: dict[str, Any]) -> Iterator[Deaf]:
    job = submit(place, "deaf", small, **stage.job("deaf", 3, DEAF))
    job.wait_for_phases("Running", "Running", "Running")
    wait_until(lambda: all(stage.knocks("deaf", f"deaf-{chunk}") for chunk in range(3)), "they do not hear SIGTERM")
    job.edit(shutdown="Stop")
    job.wait_for(currentStep="Stopping: runners save their pages")
    wait_until(lambda: len(told_to_end(job)) == 3, "the kubelet waits for them")
    seen = Deaf(job, cancel(job))
    thread = threading.Thread(target=seen.follow)
    thread.start()
    yield seen
    thread.join()


def told_to_end(job: Job) -> set[str]:
    """Return the pods of a job of which the kubelet has said that it ends their container."""
    events = kubectl_json("get", "events", "-n", job.namespace, "--field-selector", "reason=Killing")["items"]
    names = {event["involvedObject"]["name"] for event in events}
    return {pod["metadata"]["name"] for pod in job.children("pods")} & names


def assert_cancelled(job: Job, succeeded: int = 0, total: int = 3) -> dict[str, Any]:
    """Assert what every cancelled job shows; return its status."""
    status = job.wait(30)
    assert (status["phase"], status["currentStep"]) == ("Cancelled", "Cancelled")
    assert "lastError" not in status, "it is no failure"
    for kind, value in (("Finished", "True"), ("Succeeded", "False")):
        condition = job.condition(kind)
        assert (condition["status"], condition["reason"]) == (value, "Cancelled")
        done = f"{succeeded} of {total} chunks are done" if total else "no chunk was made"
        assert condition["message"] == f"{CANCELLED}: {done}"
    if total:
        counts = status["chunks"]
        assert (counts["succeeded"], counts["cancelled"], counts["total"]) == (succeeded, total - succeeded, total)
        assert sum(counts.values()) == 2 * total
    warnings = [line for line in job.events().splitlines() if " Warning " in line and "ChunkFailed" in line]
    assert warnings == []
    return status


def cancel(job: Job) -> float:
    """Cancel a job; return the moment."""
    job.edit(shutdown="Cancel")
    return time.monotonic()


def test_running_chunks_are_killed_and_saved_pages_stay_saved(
    deaf: Deaf, place: str, product: None, storage: Storage, source: dict[str, Any]
) -> None:
    job = submit(
        place,
        "running",
        source,
        chunking={"pagesPerChunk": 4, "thresholdPages": 0},
        runner={**throttled(10), "resources": {**RESOURCES, "requests": {"cpu": "100m"}}},
    )
    folder = f"pdfjob/jobs/{place}/running/"
    wait_until(lambda: len(storage.keys(f"{folder}checkpoints/")) == 3, "all three have saved pages")
    assert len(runner_processes(place, "running")) >= 3
    took = seconds_until_no_runner(place, "running", cancel(job))
    print(f"no runner on the node {took:.1f} s after the cancellation")
    assert took < SECONDS
    status = assert_cancelled(job)
    assert status["shutdown"]["requestedBy"] == "kubectl-patch", "the field manager"
    assert status["shutdown"]["requestedAt"] <= status["completionTime"]
    wait_until(lambda: job.phases() == ["Cancelled"] * 3, "the chunks say so too")
    assert len(storage.keys(f"{folder}checkpoints/")) == 3
    records = [chunk["status"]["history"][-1] for chunk in job.chunks()]
    assert [(record["outcome"], record["counted"], record["items"] > 0) for record in records] == [
        ("Ended", False, True)
    ] * 3
    wait_until(lambda: job.children("jobs,pods") == [], "neither Job nor pod is left")


def test_a_job_is_cancelled_while_it_drains_and_finished_chunks_stay(
    place: str, product: None, stage: Puppets, small: dict[str, Any]
) -> None:
    job = submit(place, "draining", small, **stage.job("draining", 3, DRAINS))
    stage.tell("draining", [0], FINE)
    job.wait_for_phases("Succeeded", "Running", "Running")
    wait_until(lambda: all(stage.knocks("draining", f"drains-{chunk}") for chunk in (1, 2)), "they have their orders")
    job.edit(suspend=True)
    message = job.wait_for_condition("Suspended", "False", "Draining")
    assert message == "Batch processing paused by user: 2 runners finish the page in hand"
    assert job.status["phase"] == "Suspended"
    wait_until(lambda: stage.knocks("draining", "saved"), "they drain", 20)
    assert runner_processes(place, "draining")
    cancelled = cancel(job)
    stage.open("draining", "saved")
    took = seconds_until_no_runner(place, "draining", cancelled)
    assert took < SECONDS
    assert_cancelled(job, succeeded=1)
    partial = run_plugin("results", "draining", "-n", place, "--partial", "--format", "txt")
    assert partial.returncode == 0, partial.stderr
    assert "page 1" in partial.stdout


def test_a_suspended_job_can_be_cancelled(place: str, product: None, stage: Puppets, small: dict[str, Any]) -> None:
    job = submit(place, "paused", small, **stage.job("paused", 3, "door never"))
    job.wait_for_phases("Running", "Running", "Running")
    wait_until(lambda: stage.starts("paused", 3) == [1] * 3, "they have their orders")
    job.edit(suspend=True)
    job.wait_for_condition("Suspended", "True")
    done = run_plugin("cancel", "paused", "-n", place, "--wait")
    assert done.returncode == 0, done.stderr
    user = kubectl("auth", "whoami", "-o", "jsonpath={.status.userInfo.username}").stdout
    assert f"pdfjob.pdfjob.dev/paused cancelled by {user}" in done.stdout
    assert assert_cancelled(job)["shutdown"]["requestedBy"] == user
    assert runner_processes(place, "paused") == []
    assert stage.starts("paused", 3) == [1] * 3


def test_a_pod_that_appears_after_the_cancellation_never_works(
    place: str, product: None, stage: Puppets, small: dict[str, Any]
) -> None:
    """The node takes its pods only once the job is cancelled."""
    job = submit(place, "late", small, **stage.job("late", 3, "door never"))
    wait_until(lambda: job.children("jobs"), "its Jobs are made", interval=0.01)
    took = seconds_until_no_runner(place, "late", cancel(job))
    assert took < SECONDS
    assert_cancelled(job)
    wait_until(lambda: job.children("jobs,pods") == [], "neither Job nor pod is left")
    assert runner_processes(place, "late") == []


def test_a_job_that_has_hardly_begun_is_cancelled(
    place: str, product: None, stage: Puppets, small: dict[str, Any]
) -> None:
    job = submit(place, "pending", small, shutdown="Cancel", **stage.job("pending", 3, FINE))
    assert_cancelled(job, total=0)
    assert (job.chunks(), stage.starts("pending", 3)) == ([], [0] * 3)


def test_a_job_that_fetches_or_splits_its_source_is_cancelled(place: str, product: None, stage: Puppets) -> None:
    def drip(request: BaseHTTPRequestHandler) -> None:
        request.send_response(200)
        request.end_headers()
        try:
            while True:
                request.wfile.write(b"%PDF-1.7\n")
                time.sleep(0.2)
        except OSError:
            dropped.append(time.monotonic())

    dropped: list[float] = []
    stage.server.answers["/endless.pdf"] = drip
    job = submit(place, "splitting", {"http": {"url": stage.server.url("/endless.pdf")}})
    job.wait_for(phase="Splitting", currentStep="Fetching source")
    since = cancel(job)
    assert_cancelled(job, total=0)
    wait_until(lambda: dropped, "the operator has hung up", 10)
    assert dropped[0] - since < SECONDS


def test_a_merge_is_cancelled_and_leaves_no_result(
    place: str, product: None, stage: Puppets, small: dict[str, Any], storage: Storage
) -> None:
    job = submit(place, "merging", small, **stage.job("merging", 3, MANY_RECORDS))
    job.wait_for(phase="Merging")
    cancel(job)
    status = assert_cancelled(job, succeeded=3)
    assert "result" not in status
    folder = f"pdfjob/jobs/{place}/merging/"
    assert [key for key in storage.keys(folder) if key.startswith(f"{folder}result.")] == []
    assert len(storage.keys(f"{folder}results/")) == 3, "what the chunks have saved stays"


def test_a_runner_that_drains_and_hears_nothing_is_waited_for(deaf: Deaf, product: None) -> None:
    """The kubelet heeds no shorter grace once it waits for a container; the job says Cancelled only when it is gone."""
    wait_until(lambda: deaf.gone, "no process is left", 60)
    assert deaf.gone - deaf.cancelled < GRACE_SECONDS + SECONDS
    assert len(deaf.finished) > 5
    assert set(deaf.finished) == {"False"}
    assert_cancelled(deaf.job)
