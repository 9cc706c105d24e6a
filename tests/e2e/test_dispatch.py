"""How many chunks run, and which first.

The priorities are above the default, so that a job of somebody else on the same cluster does not come in between.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from datetime import datetime
from functools import partial
from typing import Any, Final

import pytest

from tests.support import pdfs
from tests.support.audit import operator_writes
from tests.support.cluster import fresh_namespace, kubectl, kubectl_json
from tests.support.product import MAX_CONCURRENT_CHUNKS, Job, Storage, submit, wait_until
from tests.support.puppets import RESOURCES, Puppets, puppets
from tests.support.shell_runners import shell_processor

pytestmark = pytest.mark.alone

CHUNKS: Final = 9
FEW: Final = 5


@pytest.fixture
def source(namespace: str, storage: Storage) -> dict[str, Any]:
    """A document of `CHUNKS` pages, more than may run at once."""
    return stored(namespace, storage, CHUNKS)


@pytest.fixture
def small(namespace: str, storage: Storage) -> dict[str, Any]:
    """A document of `FEW` pages."""
    return stored(namespace, storage, FEW)


@pytest.fixture
def stage() -> Iterator[Puppets]:
    with puppets() as made:
        yield made


def stored(namespace: str, storage: Storage, pages: int) -> dict[str, Any]:
    return storage.source(namespace, f"{pages}.pdf", pdfs.text_pdf(pages))


def submit_chunks(namespace: str, name: str, source: dict[str, Any], **spec: Any) -> Job:
    """Submit a job of chunks of one page that are done at once."""
    chunking = {"pagesPerChunk": 1, "thresholdPages": 0}
    processor, runner = shell_processor("store x"), {"resources": RESOURCES}
    return submit(namespace, name, source, chunking=chunking, processor=processor, runner=runner, **spec)


def test_parallelism_is_kept_and_follows_kubectl_scale_in_flight(
    namespace: str, stage: Puppets, small: dict[str, Any]
) -> None:
    job = submit(namespace, "scaled", small, parallelism=1, **stage.job("scaled", FEW, "door go; store x"))
    stage.tell("scaled", [0], "store x")
    wait_until(lambda: phases(job)[:2] == ["Succeeded", "Running"], "the second chunk runs")
    assert running(job) == 1
    kubectl("scale", "pdfjob/scaled", "-n", namespace, "--replicas=3")
    wait_until(lambda: running(job) == 3, "as many run as wanted")
    stage.open("scaled", "go")
    job.succeed()
    assert most_at_once(run_times(job)) == 3


def test_a_job_of_higher_priority_goes_first_and_nothing_that_runs_is_pre_empted(
    namespace: str, stage: Puppets, source: dict[str, Any]
) -> None:
    spec = stage.job("low", CHUNKS, "door go; store x")
    low = submit(namespace, "low", source, priority=6, parallelism=8, **spec)
    wait_until(lambda: running(low) == MAX_CONCURRENT_CHUNKS, "the low one runs as it was alone")
    high = submit(namespace, "high", source, priority=9, parallelism=8, **stage.job("high", CHUNKS, "store x"))
    high.wait_for(phase="Running")
    assert running(low) == MAX_CONCURRENT_CHUNKS
    stage.open("low", "go")
    high.succeed()
    low.succeed()
    order = dispatched(namespace)
    assert order[:MAX_CONCURRENT_CHUNKS] == ["low"] * MAX_CONCURRENT_CHUNKS
    assert between(order, "high") == ["high"] * CHUNKS, "one of low priority started although a higher one waited"
    assert most_at_once([*run_times(low), *run_times(high)]) <= MAX_CONCURRENT_CHUNKS
    assert [chunk["status"]["starts"] for chunk in low.chunks()] == [1] * CHUNKS


def test_jobs_of_equal_priority_take_turns(namespace: str, stage: Puppets, source: dict[str, Any]) -> None:
    jobs = []
    for name in ("early", "late"):
        spec = stage.job(name, CHUNKS, "door second; store x")
        stage.tell(name, range(MAX_CONCURRENT_CHUNKS) if name == "early" else [], "door first; store x")
        jobs.append(submit(namespace, name, source, priority=9, parallelism=8, **spec))
        wait_until(lambda: running(jobs[0]) == MAX_CONCURRENT_CHUNKS, "the early one has every place")
    jobs[1].wait_for(phase="Running")
    stage.open("early", "first")
    half = MAX_CONCURRENT_CHUNKS // 2
    wait_until(lambda: [running(job) for job in jobs] == [half, half], "each has half of the places")
    for job in jobs:
        stage.open(job.name, "second")
        job.succeed()
    assert most_at_once([interval for job in jobs for interval in run_times(job)]) <= MAX_CONCURRENT_CHUNKS


def test_a_priority_edited_in_flight_decides_the_next_start(
    namespace: str, stage: Puppets, source: dict[str, Any]
) -> None:
    jobs = {}
    for name, priority in (("first", 9), ("second", 8)):
        spec = stage.job(name, CHUNKS, "door go; store x")
        jobs[name] = submit(namespace, name, source, priority=priority, parallelism=CHUNKS, **spec)
        wait_until(lambda: running(jobs["first"]) == MAX_CONCURRENT_CHUNKS, "the first has every place")
    first, second = jobs.values()
    second.wait_for(phase="Running")
    capped = "chunks wait for a free place of the installation (maxConcurrentChunks)"
    wait_until(
        lambda: capped in second.condition("ChunksSucceeded").get("message", ""), "the second says what it waits for"
    )
    second.edit(priority=10)
    second.wait_for(observedGeneration=2)
    for job in (second, first):
        stage.open(job.name, "go")
    second.succeed()
    first.succeed()
    order = dispatched(namespace)
    assert order[:MAX_CONCURRENT_CHUNKS] == ["first"] * MAX_CONCURRENT_CHUNKS
    assert between(order, "second") == ["second"] * CHUNKS, "one of lower priority started although a higher one waited"


def test_a_job_of_many_chunks_does_not_starve_one_of_three(namespace: str, stage: Puppets, storage: Storage) -> None:
    """Of equal priority, and the big one came first and has every place."""
    spec = stage.job("big", 5 * CHUNKS, "door never; store x")
    stage.tell("big", range(MAX_CONCURRENT_CHUNKS), "door first; store x")
    big = submit(namespace, "big", stored(namespace, storage, 5 * CHUNKS), priority=9, parallelism=100, **spec)
    wait_until(lambda: running(big) == MAX_CONCURRENT_CHUNKS, "the big one has every place")
    spec = stage.job("small", 3, "store x")
    small = submit(namespace, "small", stored(namespace, storage, 3), priority=9, parallelism=100, **spec)
    small.wait_for(phase="Running")
    stage.open("big", "first")
    small.succeed()
    left = big.status["chunks"]
    assert left["pending"] > CHUNKS, "the small one is done although chunks of the big one had waited longer"
    big.edit(shutdown="Cancel")


def test_a_lower_parallelism_takes_effect_as_chunks_end(namespace: str, stage: Puppets, storage: Storage) -> None:
    spec = stage.job("narrowed", 7, "door go; store x")
    job = submit(namespace, "narrowed", stored(namespace, storage, 7), priority=9, parallelism=4, **spec)
    wait_until(lambda: running(job) == 4, "four run")
    wait_until(lambda: stage.starts("narrowed", 4) == [1] * 4, "they have their orders")
    stage.tell("narrowed", range(7), "rest 1; store x")
    job.edit(parallelism=1)
    job.wait_for(observedGeneration=2)
    assert running(job) == 4, "nothing that runs is ended"
    stage.open("narrowed", "go")
    job.succeed()
    late = sorted(run_times(job))[4:]
    assert most_at_once(late) == 1


def test_a_chunk_with_a_priority_of_its_own_goes_first(namespace: str, stage: Puppets, small: dict[str, Any]) -> None:
    job = submit(namespace, "urgent", small, parallelism=1, **stage.job("urgent", FEW, "door go; store x"))
    wait_until(lambda: len(job.chunks()) == FEW and running(job) == 1, "the first chunk runs")
    patch = json.dumps({"spec": {"priority": 10}})
    kubectl("patch", "pdfchunk", "urgent-c00003", "-n", namespace, "--type=merge", "-p", patch)
    stage.open("urgent", "go")
    job.succeed()
    starts = [start for start, _ in run_times(job)]
    order = sorted(range(FEW), key=lambda index: starts[index])
    assert order == [0, 3, 1, 2, 4]


def test_a_quota_on_jobs_neither_stops_a_job_for_good_nor_holds_up_others(
    namespace: str, storage: Storage, small: dict[str, Any]
) -> None:
    kubectl("create", "quota", "jobs", "--hard=count/jobs.batch=0", "-n", namespace)
    quota = partial(kubectl_json, "get", "quota", "jobs", "-n", namespace)
    wait_until(lambda: quota().get("status", {}).get("hard"), "the quota holds")
    job = submit_chunks(namespace, "tight", small, priority=9)
    wait_until(lambda: job.condition("Split").get("status") == "True", "it is split and wants to start chunks")
    wait_until(
        lambda: "exceeded quota" in job.condition("ChunksSucceeded").get("message", ""), "it says what it waits for"
    )
    with fresh_namespace() as elsewhere:
        other = submit_chunks(elsewhere, "other", stored(elsewhere, storage, FEW), priority=8)
        other.succeed()
    assert phases(job) == ["Pending"] * FEW
    kubectl("patch", "quota", "jobs", "-n", namespace, "-p", '{"spec":{"hard":{"count/jobs.batch":"2"}}}')
    job.succeed()
    assert [chunk["status"]["starts"] for chunk in job.chunks()] == [1] * FEW


def dispatched(namespace: str) -> list[str]:
    """Return the name of the PdfJob of each child Job that was made, in this order."""
    return [
        write.name.rsplit("-c", 1)[0]
        for write in operator_writes(namespace)
        if (write.verb, write.resource, write.code) == ("create", "jobs", 201)
    ]


def between(order: list[str], name: str) -> list[str]:
    """Return what stands from the first to the last of a name."""
    return order[order.index(name) : len(order) - order[::-1].index(name)]


def phases(job: Job) -> list[str]:
    return [chunk["status"]["phase"] for chunk in job.chunks()]


def running(job: Job) -> int:
    return len(job.running_pods())


def run_times(job: Job) -> list[tuple[datetime, datetime]]:
    """Start of the container and record of the end, of every start of every chunk, by index; in whole seconds."""
    return [
        (datetime.fromisoformat(record["startedAt"]), datetime.fromisoformat(record["finishedAt"]))
        for chunk in job.chunks()
        for record in chunk["status"]["history"]
    ]


def most_at_once(intervals: Iterable[tuple[datetime, datetime]]) -> int:
    """Return how many of them overlap at most; one that ends in the second in which another starts does not."""
    steps = sorted(step for start, end in intervals for step in ((start, 1), (end, -1)))
    most = now = 0
    for _, change in steps:
        now += change
        most = max(most, now)
    return most
