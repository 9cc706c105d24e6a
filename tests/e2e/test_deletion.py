"""Deletion: of the PdfJob in mid-run, of one of its parts; what stays, and that the name is free at once."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from tests.support import pdfs
from tests.support.audit import job_creations
from tests.support.cluster import kubectl, kubectl_json
from tests.support.product import Job, Storage, submit, throttled, wait_until

CHUNKING = {"pagesPerChunk": 4, "thresholdPages": 0}
MERGED = ["result.csv", "result.jsonl", "result.txt"]


@pytest.fixture
def source(namespace: str, storage: Storage) -> dict[str, Any]:
    storage.put(f"pdfjob/inbox/{namespace}/book.pdf", pdfs.text_pdf(16))
    return {"s3": {"key": f"pdfjob/inbox/{namespace}/book.pdf"}}


def objects(storage: Storage, job: Job) -> list[str]:
    """Return the keys of a job, without its folder."""
    folder = f"pdfjob/jobs/{job.namespace}/{job.name}/"
    return [key.removeprefix(folder) for key in storage.keys(folder)]


def left_in(namespace: str) -> list[str]:
    """Return kind and name of everything of pdfjob in a namespace."""
    items = kubectl_json("get", "pdfjobs,pdfchunks,jobs,pods", "-n", namespace)["items"]
    return [f"{item['kind']}/{item['metadata']['name']}" for item in items]


def some_saved(storage: Storage, job: Job) -> bool:
    """Whether chunks run and have saved pages."""
    return len(job.running_pods()) >= 2 and any(key.startswith("checkpoints/") for key in objects(storage, job))


def test_a_job_deleted_in_mid_run_leaves_nothing_and_its_name_is_free_at_once(
    namespace: str, storage: Storage, source: dict[str, Any]
) -> None:
    job = submit(namespace, "book", source, chunking=CHUNKING, runner=throttled(5))
    wait_until(lambda: some_saved(storage, job), "chunks run and have saved pages")
    kubectl("delete", "pdfjob", "book", "-n", namespace, "--timeout=60s")
    assert [name for name in left_in(namespace) if not name.startswith("Pod/")] == []
    assert job.running_pods() == []
    assert objects(storage, job) == []
    again = submit(namespace, "book", source, chunking=CHUNKING)
    status = again.succeed()
    assert status["chunks"]["succeeded"] == 4
    assert [chunk["status"]["starts"] for chunk in again.chunks()] == [1] * 4
    kubectl("delete", "pdfjob", "book", "-n", namespace, "--timeout=60s")
    wait_until(lambda: left_in(namespace) == [], "nothing is left of either life, pods that have ended included")
    assert sorted(objects(storage, again)) == MERGED


def test_retain_keeps_the_intermediates(namespace: str, storage: Storage, source: dict[str, Any]) -> None:
    job = submit(namespace, "kept", source, chunking=CHUNKING, deletionPolicy="Retain")
    job.succeed()
    before = objects(storage, job)
    kubectl("delete", "pdfjob", "kept", "-n", namespace, "--timeout=60s")
    wait_until(lambda: left_in(namespace) == [], "nothing is left but objects")
    assert objects(storage, job) == before
    assert {"plan.json", "manifest.json", "chunks/c00003.pdf", *MERGED} <= set(before)
    assert sum(key.startswith("results/") for key in before) == 4


def test_a_job_deleted_at_any_stage_leaves_no_object(namespace: str, storage: Storage, source: dict[str, Any]) -> None:
    strikes: dict[str, Callable[[Job], object]] = {
        "accepted": lambda job: job.get()["metadata"].get("finalizers"),
        "split": lambda job: job.chunks(),
        "started": lambda job: job.children("pods"),
        "half-done": lambda job: [chunk for chunk in job.chunks() if chunk["status"]["phase"] == "Succeeded"],
    }
    jobs = []
    for name, reached in strikes.items():
        job = submit(namespace, name, source, chunking=CHUNKING, priority=9)
        wait_until(partial(reached, job), f"it is {name}", interval=0.02)
        kubectl("delete", "pdfjob", name, "-n", namespace, "--wait=false")
        jobs.append(job)
    wait_until(lambda: left_in(namespace) == [], "nothing is left in the namespace")
    assert [key for job in jobs for key in objects(storage, job) if key not in MERGED] == []


def test_pdfchunks_deleted_by_hand_are_made_again_and_the_job_completes(
    namespace: str, storage: Storage, source: dict[str, Any]
) -> None:
    job = submit(namespace, "torn", source, chunking=CHUNKING, runner=throttled(3), parallelism=1)
    undisturbed = submit(namespace, "whole", source, chunking=CHUNKING)

    job.wait_for_phases("Succeeded", "Running", "Pending", "Pending")  # for twelve seconds
    done, running, waiting = "torn-c00000", "torn-c00001", "torn-c00003"
    kubectl("delete", "pdfchunk", done, running, waiting, "-n", namespace, "--wait=false")
    job.edit(parallelism=4)
    job.succeed()
    undisturbed.succeed()
    assert len(job.chunks()) == 4
    assert job.result(storage) == undisturbed.result(storage)
    made = job_creations(namespace)
    assert made[done] == 1, "the result of a chunk that was done is still there"
