"""Pause, resume, stop: the page in hand is saved, nothing new starts, nothing is done twice, and it is no failure."""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from functools import partial
from typing import Any, Final

import pytest

from tests.support import pdfs
from tests.support.audit import job_creations, operator_writes
from tests.support.cluster import kubectl
from tests.support.product import Job, Storage, run_plugin, submit, throttled, wait_until
from tests.support.puppets import RESOURCES, Puppets
from tests.support.shell_runners import MANY_RECORDS
from tests.support.watching import watch

pytestmark = pytest.mark.alone

PAGES: Final = 40
PER_CHUNK: Final = 20
"""So many that none is done when the other, which may start late, has saved for the first time, after 4 s."""
SECONDS_PER_PAGE: Final = 1.0
PAUSED: Final = "Batch processing paused by user"
STOPPED: Final = "Batch processing stopped by user. Batch stopped, checkpoint retained"
FINE: Final = 'store "page $first"'
HEAVY_PAGES: Final = 24
HEAVY_PIXELS: Final = 2500


@pytest.fixture(scope="module")
def source(place: str) -> dict[str, Any]:
    return Storage.connect().source(place, "book.pdf", pdfs.text_pdf(PAGES))


@pytest.fixture(scope="module")
def small(place: str) -> dict[str, Any]:
    return Storage.connect().source(place, "small.pdf", pdfs.text_pdf(3))


@pytest.fixture(scope="module")
def undisturbed(place: str, source: dict[str, Any]) -> Job:
    return submit(place, "undisturbed", source)


def submit_slow(place: str, name: str, source: dict[str, Any]) -> Job:
    """Submit a job of two chunks whose standard runners save their pages one by one."""
    return submit(
        place,
        name,
        source,
        chunking={"pagesPerChunk": PER_CHUNK, "thresholdPages": 0},
        runner={**throttled(SECONDS_PER_PAGE), "resources": {**RESOURCES, "requests": {"cpu": "100m"}}},
        retryPolicy={"maxRetries": 0},
    )


def checkpoints(storage: Storage, job: Job) -> list[str]:
    return storage.keys(f"pdfjob/jobs/{job.namespace}/{job.name}/checkpoints/")


def test_a_paused_job_saves_what_it_has_and_goes_on_from_there(
    place: str, product: None, storage: Storage, source: dict[str, Any], undisturbed: Job
) -> None:
    job = submit_slow(place, "paused", source)
    wait_until(lambda: len(checkpoints(storage, job)) == 2, "both chunks have saved pages")
    job.edit(suspend=True)
    message = job.wait_for_condition("Suspended", "True", "Suspended", timeout=30)
    resume = f"resume with: kubectl pdfjob resume paused -n {place}"
    assert message == f"{PAUSED}. Batch paused, checkpoint retained: 0 of 2 chunks are done; {resume}"
    status = job.status
    assert (status["phase"], status["currentStep"]) == ("Suspended", "Suspended")
    assert (job.condition("Finished")["status"], job.condition("Succeeded")["status"]) == ("False", "Unknown")
    assert job.running_pods() == []
    assert job.children("jobs") == []
    for chunk in job.chunks():
        own = chunk["status"]
        assert (own["phase"], own["attempts"], own["starts"]) == ("Pending", 0, 1)
        (ended,) = own["history"]
        assert (ended["outcome"], ended["counted"], "lastError" in own) == ("Ended", False, False)
        assert 0 < ended["items"] < PER_CHUNK
    told = [line for line in job.events().splitlines() if PAUSED in line]
    assert len(told) <= 2, "once that it drains, once that it is suspended"
    assert all("Normal" in line for line in told)

    resumed = run_plugin("resume", "paused", "-n", place)
    assert resumed.returncode == 0, resumed.stderr
    assert re.search(r"so far: +0/2 chunks", resumed.stdout)
    went_on = {index: job.resumed_from(index) for index in range(2)}
    job.succeed()
    for index, chunk in enumerate(job.chunks()):
        own, first = chunk["status"], chunk["spec"]["startPage"]
        assert (own["attempts"], own["starts"]) == (1, 2)
        assert went_on[index] == first + own["history"][0]["items"]
        assert job_creations(place)[chunk["metadata"]["name"]] == 2
    assert job.status["retries"] == 0
    assert (job.condition("Suspended")["status"], job.condition("Suspended")["reason"]) == ("False", "Resumed")
    undisturbed.succeed()
    assert job.result(storage) == undisturbed.result(storage)


def test_stop_saves_the_page_in_hand_and_is_for_good(
    place: str, product: None, storage: Storage, source: dict[str, Any]
) -> None:
    job = submit_slow(place, "stopped", source)
    wait_until(lambda: len(checkpoints(storage, job)) == 2, "both chunks have saved pages")
    with watch(place, "pdfjobs", "{.status.phase}", "--field-selector", "metadata.name=stopped") as phases:
        job.edit("--field-manager=alice", shutdown="Stop")
        status = job.wait(40)
    assert [line for _, line in phases if line in {"Failed", "Suspended"}] == []
    assert (status["phase"], "lastError" in status) == ("Stopped", False)
    assert status["chunks"] == {**status["chunks"], "total": 2, "cancelled": 2, "pending": 0, "running": 0}
    for kind, value in (("Finished", "True"), ("Succeeded", "False")):
        condition = job.condition(kind)
        assert (condition["status"], condition["reason"]) == (value, "Stopped")
        assert condition["message"] == f"{STOPPED}: 0 of 2 chunks are done"
    job.wait_for_event(STOPPED)
    assert status["shutdown"]["requestedBy"] == "alice"
    assert status["shutdown"]["requestedAt"] <= status["completionTime"]
    wait_until(lambda: job.phases() == ["Cancelled"] * 2, "the chunks say so too", 15)
    saved = [chunk["status"]["history"][-1] for chunk in job.chunks()]
    assert [(record["outcome"], record["counted"]) for record in saved] == [("Ended", False)] * 2
    assert all(0 < record["items"] < PER_CHUNK for record in saved)
    assert len(checkpoints(storage, job)) == 2
    assert job.running_pods() == []

    unset = job.edit(check=False, shutdown=None)
    assert unset.returncode != 0
    assert "spec.shutdown is for good: only Stop may still become Cancel" in unset.stderr
    resumed = run_plugin("resume", "stopped", "-n", place)
    assert resumed.returncode != 0
    assert "spec.shutdown is for good" in resumed.stderr


def test_who_stopped_a_job_is_told_by_the_plugin(
    place: str, product: None, stage: Puppets, small: dict[str, Any]
) -> None:
    job = submit(place, "by-plugin", small, **stage.job("by-plugin", 3, f"door never; {FINE}"))
    wait_until(lambda: "Running" in job.phases(), "chunks run")
    done = run_plugin("stop", "by-plugin", "-n", place, "--wait")
    assert done.returncode == 0, done.stderr
    user = kubectl("auth", "whoami", "-o", "jsonpath={.status.userInfo.username}").stdout
    assert f"pdfjob.pdfjob.dev/by-plugin stopped by {user}" in done.stdout
    assert job.status["shutdown"]["requestedBy"] == user
    assert job.status["phase"] == "Stopped"


def test_a_job_may_be_suspended_from_its_creation(
    place: str, product: None, stage: Puppets, small: dict[str, Any]
) -> None:
    job = submit(place, "from-birth", small, suspend=True, **stage.job("from-birth", 3, FINE))
    message = job.wait_for_condition("Suspended", "True", "Suspended")
    assert message.startswith(f"{PAUSED}. Batch paused, checkpoint retained: resume with: kubectl pdfjob resume")
    assert job.status["phase"] == "Suspended"
    assert "chunks" not in job.status
    assert job.chunks() == []
    job.edit(suspend=False)
    job.succeed()
    assert stage.starts("from-birth", 3) == [1] * 3


def test_splitting_can_be_paused_and_no_chunk_is_stored_twice(place: str, product: None, stage: Puppets) -> None:
    """Chunks of 19 MB, so that the pause comes in between; their runners do not read them."""
    key = f"pdfjob/inbox/{place}/heavy.pdf"
    Storage.connect().put(key, pdfs.image_pdf(HEAVY_PAGES, HEAVY_PIXELS))
    job = submit(place, "splitting", {"s3": {"key": key}}, **stage.job("splitting", HEAVY_PAGES, FINE))
    wait_until(lambda: len(job.chunks()) >= 2, "the first chunks are stored", interval=0.05)
    job.edit(suspend=True)
    job.wait_for_condition("Suspended", "True", "Suspended")
    status = job.status
    assert (status["phase"], job.condition("Split")["status"]) == ("Suspended", "Unknown")
    before = len(job.chunks())
    assert 2 <= before < status["chunks"]["total"]
    job.edit(suspend=False)
    job.succeed()
    chunks = len(job.chunks())
    for came, chunk in zip(stage.starts("splitting", chunks), job.chunks(), strict=True):
        *paused, done = (record["outcome"] for record in chunk["status"]["history"])
        assert (paused in ([], ["Ended"]), done) == (True, "Succeeded")
        assert 1 <= came <= 1 + len(paused), "a second runner follows only one that the pause ended"
        assert not paused or chunk["spec"]["index"] < before
    made = [
        write.name
        for write in operator_writes(place)
        if (write.verb, write.resource, write.code) == ("create", "pdfchunks", 201)
        and write.name.startswith("splitting")
    ]
    assert len(made) == len(set(made)) == chunks


def test_merging_can_be_paused(
    place: str, product: None, stage: Puppets, small: dict[str, Any], storage: Storage
) -> None:
    job = submit(place, "merging", small, **stage.job("merging", 3, MANY_RECORDS))
    job.wait_for(phase="Merging")
    job.edit(suspend=True)
    job.wait_for_condition("Suspended", "True", "Suspended")
    status = job.status
    assert (status["phase"], "result" in status) == ("Suspended", False), "the pause came after the merge"
    assert status["chunks"]["succeeded"] == 3
    job.edit(suspend=False)
    assert job.succeed()["sentences"] == 3 * 150001
    assert stage.starts("merging", 3) == [1] * 3
    assert job.result(storage).count(b"\n") == 3 * 150001


def test_a_chunk_that_waits_for_its_retry_starts_only_after_the_pause(
    place: str, product: None, stage: Puppets, small: dict[str, Any]
) -> None:
    policy = {"maxRetries": 1, "backoff": {"initialSeconds": 20}}
    spec = stage.job("retrying", 3, FINE)
    stage.tell("retrying", [1], "door others; exit 71")
    job = submit(place, "retrying", small, retryPolicy=policy, **spec)
    job.wait_for_phases("Succeeded", "Running", "Succeeded")
    wait_until(lambda: stage.knocks("retrying", "others"), "its runner has its orders")
    stage.tell("retrying", [1], FINE)
    stage.open("retrying", "others")
    job.wait_for_phases("Succeeded", "RetryScheduled", "Succeeded")
    job.edit(suspend=True)
    job.wait_for_condition("Suspended", "True", "Suspended", timeout=10)
    due = job.chunks()[1]["status"]["nextRetryTime"]
    wait_until(partial(is_over, due), "the time of the retry is over", 60)
    assert stage.starts("retrying", 3) == [1] * 3
    assert job.phases()[1] == "RetryScheduled"
    job.edit(suspend=False)
    status = job.succeed()
    assert stage.starts("retrying", 3) == [1, 2, 1]
    assert (job.chunks()[1]["status"]["attempts"], status["retries"]) == (2, 1)


def is_over(moment: str) -> bool:
    """Whether a moment is two seconds ago, by this machine's clock."""
    return datetime.now().astimezone() > datetime.fromisoformat(moment) + timedelta(seconds=2)


def test_a_pause_never_becomes_a_failure_even_when_every_chunk_has_ended(
    place: str, product: None, stage: Puppets, small: dict[str, Any]
) -> None:
    """One chunk has failed; the others store their results while they drain."""
    spec = stage.job("no-failure", 3, "exit 70")
    stage.tell("no-failure", [1, 2], f"trap '{FINE}; exit 0' TERM; door never$chunk")
    job = submit(place, "no-failure", small, retryPolicy={"maxRetries": 0}, **spec)
    job.wait_for_phases("Failed", "Running", "Running")
    for chunk in (1, 2):
        wait_until(partial(stage.knocks, "no-failure", f"never{chunk}"), "its runner knows what to do when it is ended")
    job.edit(suspend=True)
    job.wait_for_condition("Suspended", "True", "Suspended")
    assert job.phases() == ["Failed", "Succeeded", "Succeeded"]
    status = job.status
    assert (status["phase"], "lastError" in status) == ("Suspended", False)
    assert job.condition("Finished")["status"] == "False"
    job.edit(suspend=False)
    assert job.wait()["phase"] == "Failed"
    assert job.status["lastError"]["code"] == "CHUNK_PROCESSING_ERROR"
