"""Runners that the infrastructure takes away: the chunk goes on from its checkpoint, and nothing is counted."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any, Final

import pytest

from tests.support import pdfs
from tests.support.audit import job_creations
from tests.support.cluster import kubectl
from tests.support.product import Job, Storage, submit, throttled, wait_until

PAGES: Final = 12
"""Of each chunk."""
SECONDS_PER_PAGE: Final = 2
"""So that every runner is still at work when it is lost, and when its successor's log is read."""


def deleted_without_grace(pod: Mapping[str, Any]) -> None:
    kubectl("delete", "pod", *_named(pod), "--grace-period=0", "--force", "--wait=false")


def deleted_with_grace(pod: Mapping[str, Any]) -> None:
    kubectl("delete", "pod", *_named(pod), "--wait=false")


def evicted(pod: Mapping[str, Any]) -> None:
    name, namespace = pod["metadata"]["name"], pod["metadata"]["namespace"]
    eviction = {
        "apiVersion": "policy/v1",
        "kind": "Eviction",
        "metadata": {"name": name, "namespace": namespace},
    }
    path = f"/api/v1/namespaces/{namespace}/pods/{name}/eviction"
    kubectl("create", "--raw", path, "-f", "-", stdin=json.dumps(eviction))


def job_deleted(pod: Mapping[str, Any]) -> None:
    (owner,) = pod["metadata"]["ownerReferences"]
    kubectl("delete", "job", owner["name"], "-n", pod["metadata"]["namespace"], "--wait=false")


def _named(pod: Mapping[str, Any]) -> tuple[str, str, str]:
    return pod["metadata"]["name"], "-n", pod["metadata"]["namespace"]


LOSSES: Final[tuple[Callable[[Mapping[str, Any]], None], ...]] = (
    deleted_without_grace,
    deleted_with_grace,
    evicted,
    job_deleted,
)
"""How the runner of each chunk is lost, by index."""


@pytest.fixture
def source(namespace: str, storage: Storage) -> dict[str, Any]:
    return storage.source(namespace, "book.pdf", pdfs.text_pdf(PAGES * len(LOSSES)))


def test_lost_runners_resume_from_their_checkpoint_and_are_not_counted(
    namespace: str, storage: Storage, source: dict[str, Any]
) -> None:
    chunking = {"pagesPerChunk": PAGES, "thresholdPages": 0}
    job = submit(
        namespace,
        "lost",
        source,
        chunking=chunking,
        runner=throttled(SECONDS_PER_PAGE),
        parallelism=len(LOSSES),
        retryPolicy={"maxRetries": 0},
    )
    left = dict(enumerate(LOSSES))
    while left:  # as they come: pods do not start at the same time
        saved = wait_until(partial(with_checkpoints, storage, job, left), f"one of the chunks {[*left]} saved pages")
        for index in saved:
            left.pop(index)(pod_of(job, index, start=1))
    resumed = {index: job.resumed_from(index) for index in range(len(LOSSES))}
    job.succeed()
    for index, chunk in enumerate(job.chunks()):
        status, first = chunk["status"], chunk["spec"]["startPage"]
        assert (status["attempts"], status["starts"]) == (1, 2), LOSSES[index].__name__
        lost, done = status["history"]
        assert (lost["outcome"], lost["counted"], done["outcome"]) == ("Lost", False, "Succeeded")
        assert resumed[index] == first + lost["items"], LOSSES[index].__name__
        assert lost["items"] > 0
        assert job_creations(namespace)[chunk["metadata"]["name"]] == 2
    assert job.status["retries"] == 0
    assert job.events().count("ChunkRestarted") == len(LOSSES)
    undisturbed = submit(namespace, "undisturbed", source, chunking=chunking)
    undisturbed.succeed()
    assert job.result(storage) == undisturbed.result(storage)


def with_checkpoints(storage: Storage, job: Job, indices: Iterable[int]) -> list[int]:
    folder = f"pdfjob/jobs/{job.namespace}/{job.name}/checkpoints"
    return [index for index in indices if storage.keys(f"{folder}/c{index:05d}/")]


def pod_of(job: Job, index: int, start: int) -> dict[str, Any]:
    labels = {"pdfjob.dev/chunk": str(index), "pdfjob.dev/start": str(start)}
    (pod,) = (pod for pod in job.children("pods") if labels.items() <= pod["metadata"]["labels"].items())
    return pod
