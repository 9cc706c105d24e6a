"""The third promise: few writes for each chunk, and none, nor any read, while a job only waits."""

from __future__ import annotations

import time
from collections import Counter
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any, Final

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.support import pdfs
from tests.support.audit import Write, operator_writes
from tests.support.cluster import kubectl, kubectl_json
from tests.support.product import SYSTEM, Storage, operator_pods, submit, wait_until
from tests.support.shell_runners import shell_processor

pytestmark = pytest.mark.alone

CHUNKS: Final = 12
WAIT_SECONDS: Final = 30
"""Longer than the interval of the heartbeats."""
WINDOWS: Final = 3


def test_a_job_that_goes_well_costs_at_most_five_writes_for_each_chunk(namespace: str, storage: Storage) -> None:
    source = upload(storage, namespace)
    chunking = {"pagesPerChunk": 2, "thresholdPages": 0}
    # Two at a time: a pod that has not started after ten seconds, of many on a slow machine, is told of by one more.
    job = submit(namespace, "cheap", source, chunking=chunking, parallelism=2)
    job.succeed()
    wait_until(lambda: not job.children("jobs"), "the last child Job is deleted")
    writes = operator_writes(namespace)
    for_chunks = [write for write in writes if write.resource in {"pdfchunks", "pdfchunks/status", "jobs"}]
    assert len(for_chunks) <= 5 * CHUNKS, Counter((write.verb, write.resource, write.code) for write in for_chunks)
    others = [write for write in writes if write not in for_chunks]
    assert {write.resource for write in others} == {"pdfjobs", "pdfjobs/status", "events"}
    assert sum(write.resource == "events" for write in others) <= 20
    assert sum(write.resource == "pdfjobs" for write in others) == 1, "the finalizer"
    assert_at_most_one_a_second([write for write in others if write.resource == "pdfjobs/status"])


def assert_at_most_one_a_second(writes: list[Write]) -> None:
    times = sorted(write.time for write in writes if write.code == 200)
    assert len(times) >= 4
    gaps = [(after - before).total_seconds() for before, after in pairwise(times)]
    assert min(gaps) >= 0.99, gaps


def test_a_job_that_only_waits_costs_no_write_and_no_read(namespace: str, storage: Storage) -> None:
    source = upload(storage, namespace)
    chunking = {"pagesPerChunk": 2, "thresholdPages": 0}
    blocked = shell_processor("rest 600; exit 0")
    job = submit(namespace, "waits", source, processor=blocked, chunking=chunking, parallelism=2)
    wait_until(lambda: job.status.get("chunks", {}).get("running") == 2, "two chunks run, the others wait")
    wait_until(lambda: job.condition("Split").get("status") == "True", "every chunk is stored")
    wait_until(lambda: since_last_write(namespace) > 2, "the last status is written")
    # The metrics know no namespace: other people's jobs on the same cluster may spoil a window, but not each one.
    assert any(nothing_read(namespace) for _ in range(WINDOWS))
    assert [pod["status"]["phase"] for pod in job.children("pods")] == ["Running", "Running"]


def nothing_read(namespace: str) -> bool:
    """Watch the operator for a while; whatever happens on the cluster, it writes nothing in the namespace."""
    wait_until(lambda: active_jobs() == [f"{namespace}/waits"], "no other PdfJob is under way on the cluster", 180)
    before, reads = operator_writes(namespace), api_reads()
    time.sleep(WAIT_SECONDS)
    assert operator_writes(namespace)[len(before) :] == []
    return api_reads() == reads


def active_jobs() -> list[str]:
    """Return the PdfJobs of all namespaces that the operator has something to do with."""
    return [
        f"{item['metadata']['namespace']}/{item['metadata']['name']}"
        for item in kubectl_json("get", "pdfjobs", "-A")["items"]
        if "deletionTimestamp" in item["metadata"] or "completionTime" not in item.get("status", {})
    ]


def since_last_write(namespace: str) -> float:
    """Seconds since the operator's last write in a namespace."""
    return (datetime.now(UTC) - operator_writes(namespace)[-1].time).total_seconds()


def upload(storage: Storage, namespace: str) -> dict[str, Any]:
    return storage.source(namespace, "book.pdf", pdfs.text_pdf(2 * CHUNKS))


def api_reads() -> float:
    """Return how often the operator has read from the API server; its watches are long and not counted."""
    (pod,) = operator_pods()
    path = f"/api/v1/namespaces/{SYSTEM}/pods/{pod['metadata']['name']}:8080/proxy/metrics"
    samples = [
        sample
        for family in text_string_to_metric_families(kubectl("get", "--raw", path).stdout)
        for sample in family.samples
        if sample.name == "pdfjob_api_request_seconds_count"
    ]
    assert {"PATCH", "POST"} <= {sample.labels["verb"] for sample in samples}
    return sum(sample.value for sample in samples if sample.labels["verb"] == "GET")
