"""The first promise: whatever instant the operator dies at, nothing is lost and nothing is done twice."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import pytest

from tests.support import pdfs
from tests.support.audit import operator_writes
from tests.support.cluster import environment, kubectl
from tests.support.corpora import manual
from tests.support.once import assert_nothing_done_twice
from tests.support.product import (
    SYSTEM,
    Job,
    Storage,
    kill_containers,
    kill_operator,
    operator_log,
    operator_pods,
    submit,
    throttled,
    wait_for_operator,
    wait_until,
)
from tests.support.watching import watch

pytestmark = pytest.mark.alone

PAGES_PER_CHUNK: Final = 100
TRIES: Final = 3
"""A merge takes about a second; a kill may come too late for it."""


@dataclass(frozen=True)
class Document:
    """A document in the inbox, and what an undisturbed run makes of it."""

    source: dict[str, Any]
    result: bytes


@pytest.fixture(scope="module")
def large(place: str) -> Document:
    """A manual of over 1,100 pages: splitting and merging it take long enough to strike in."""
    storage = Storage.connect()
    source = {"s3": {"key": storage.upload(place, manual("octave"))}}
    return Document(source, undisturbed(place, "large", source, pagesPerChunk=300))


@pytest.fixture(scope="module")
def small(place: str) -> Document:
    storage = Storage.connect()
    storage.put(f"pdfjob/inbox/{place}/small.pdf", pdfs.text_pdf(32))
    source = {"s3": {"key": f"pdfjob/inbox/{place}/small.pdf"}}
    return Document(source, undisturbed(place, "small", source, pagesPerChunk=8, thresholdPages=0))


def undisturbed(place: str, name: str, source: dict[str, Any], **chunking: int) -> bytes:
    wait_for_operator()
    job = submit(place, name, source, chunking=chunking)
    job.succeed()
    return job.result(Storage.connect())


def test_operator_killed_while_splitting(place: str, product: None, storage: Storage, large: Document) -> None:
    (pod,) = operator_pods()
    with watch(place, "pdfchunks", "{.metadata.name}", "-l", "pdfjob.dev/job=split") as seen:
        job = submit(place, "split", large.source, chunking={"pagesPerChunk": PAGES_PER_CHUNK})
        wait_until(lambda: len({name for _, name in seen}) >= 2, "the first chunks are stored", interval=0.02)
        kill_at_once(pod)
    before = {chunk["metadata"]["name"] for chunk in job.chunks()}
    assert f"pdfjob/jobs/{place}/split/manifest.json" not in storage.keys(f"pdfjob/jobs/{place}/split/")
    job.succeed()
    after = {chunk["metadata"]["name"] for chunk in job.chunks()}
    assert before < after, "the kill came after the last chunk was stored"
    made = [write.name for write in operator_writes(place) if (write.verb, write.resource) == ("create", "pdfchunks")]
    assert sorted(name for name in made if name in after) == sorted(after), "no chunk was stored twice"
    assert_nothing_done_twice(job)
    assert job.result(storage) == large.result


def test_operator_killed_while_chunks_run(place: str, product: None, storage: Storage, small: Document) -> None:
    job = submit_slow(place, "run", small, pages=4, seconds_per_page=2)
    wait_until(lambda: "Succeeded" in phases(job) and "Running" in phases(job)[4:], "some are done, the next ones run")
    kill_operator()
    assert {"Succeeded", "Running"} <= set(phases(job)), "the kill came too late"
    job.succeed()
    assert_nothing_done_twice(job)
    assert job.result(storage) == small.result


def test_operator_rolled_while_chunks_run(place: str, product: None, storage: Storage, small: Document) -> None:
    job = submit_slow(place, "roll", small, pages=8, seconds_per_page=5)
    wait_until(lambda: phases(job).count("Running") >= 2, "chunks run")
    (old,) = operator_pods()
    kubectl("rollout", "restart", "deployment/pdfjob", "-n", SYSTEM)
    wait_until(lambda: old["metadata"]["uid"] not in {pod["metadata"]["uid"] for pod in operator_pods()}, "it ended")
    assert set(phases(job)) != {"Succeeded"}, "the operator ended after the chunks"
    job.succeed()
    assert_nothing_done_twice(job)
    assert job.result(storage) == small.result


def test_operator_killed_after_every_chunk(place: str, product: None, storage: Storage, small: Document) -> None:
    job = submit_slow(place, "again", small, pages=6, seconds_per_page=0.5)
    for done in range(1, 6):
        wait_until(partial(has_succeeded, job, done), f"{done} chunks are done")
        kill_operator()
    job.succeed()
    assert_nothing_done_twice(job)
    assert job.result(storage) == small.result


def test_storage_restarted_while_chunks_run(place: str, product: None, storage: Storage, small: Document) -> None:
    job = submit_slow(place, "storage", small, pages=8, seconds_per_page=0.6)
    wait_until(lambda: "Running" in phases(job), "chunks run")
    kubectl("delete", "pod", "-n", SYSTEM, "-l", "app.kubernetes.io/component=s3", "--grace-period=0", "--force")
    kubectl("rollout", "status", "deployment/pdfjob-s3", "-n", SYSTEM, "--timeout=90s")
    job.succeed()
    assert [chunk["status"]["attempts"] for chunk in job.chunks()] == [1] * 4
    assert job.result(storage) == small.result


def submit_slow(place: str, name: str, document: Document, *, pages: int, seconds_per_page: float) -> Job:
    chunking = {"pagesPerChunk": pages, "thresholdPages": 0}
    return submit(place, name, document.source, chunking=chunking, runner=throttled(seconds_per_page))


def has_succeeded(job: Job, chunks: int) -> bool:
    return phases(job).count("Succeeded") >= chunks


def phases(job: Job) -> list[str]:
    return [chunk["status"]["phase"] for chunk in job.chunks()]


def test_operator_killed_while_merging(place: str, product: None, storage: Storage, large: Document) -> None:
    for number in range(TRIES):
        wait_for_operator()
        job = submit(place, f"merge{number}", large.source, chunking={"pagesPerChunk": 200})
        struck = kill_when_merge_begins(job)
        job.succeed()
        assert_nothing_done_twice(job)
        assert job.result(storage) == large.result
        if struck:
            assert merges(job, operator_log()) == ["work begins", "work done"], "the new operator merged"
            return
    raise AssertionError(f"none of {TRIES} kills came while results were merged")


def kill_when_merge_begins(job: Job) -> bool:
    """Kill the operator as soon as its log says that it merges; return whether it had not ended the merge by then."""
    (pod,) = operator_pods()
    command = ["kubectl", "logs", "--follow", "--since=1s", pod["metadata"]["name"], "-n", SYSTEM]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment()) as follow:
        assert follow.stdout is not None
        entries = (json.loads(line) for line in follow.stdout if line.startswith("{"))
        first = next(entry for entry in entries if merges(job, [entry]))
        assert first["event"] == "work begins"
        kill_at_once(pod)
        return merges(job, entries) == []


def kill_at_once(pod: dict[str, Any]) -> None:
    """Kill the operator, whose pod is known: to look it up first would take longer than what is to be interrupted."""
    kill_containers(pod)
    kill_operator()


def merges(job: Job, entries: Iterable[dict[str, Any]]) -> list[str]:
    """Return what an operator's log tells of the merge of a job."""
    key = f"{job.namespace}/{job.name}"
    return [entry["event"] for entry in entries if (entry.get("job"), entry.get("work")) == (key, "merge")]
