"""Somebody deletes or damages what a job is made of, with his own hands, in every stage."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import pytest

from tests.support.fault_lab import FaultJob, Lab
from tests.support.fault_requests import RUNNER
from tests.support.fault_verdict import Reference, ended_badly, lived_through, nothing_left, verdict

QUICK: Final = {"maxRetries": 1, "backoff": {"initialSeconds": 1, "maxSeconds": 1}}
SLOW: Final = {"env": [{"name": "RUNNER_THROTTLE_SECONDS_PER_PAGE", "value": "1.5"}]}
SLOWER: Final = {"env": [{"name": "RUNNER_THROTTLE_SECONDS_PER_PAGE", "value": "5"}]}
"""For a pod that must still be at work when it is ended: that takes seconds when many tests run."""
DAMAGE: Final = b'{"this is": "no '


def damage(lab: Lab, key: str) -> None:
    lab.storage.put(key, DAMAGE)


def remove(lab: Lab, key: str) -> None:
    lab.storage.client.delete_object(Bucket=lab.bucket, Key=key)


DEEDS: Final[dict[str, Callable[[Lab, str], None]]] = {"deleted": remove, "damaged": damage}
either = pytest.mark.parametrize("deed", [pytest.param(DEEDS[name], id=name) for name in DEEDS])


def fault(name: str, stage: str) -> pytest.MarkDecorator:
    return pytest.mark.fault(f"by hand: {name}", stage)


def is_at_work(lab: Lab, job: FaultJob, chunk: int) -> Callable[[], bool]:
    """Whether the runner of a chunk has begun: its first heartbeat was stored."""
    form = f"{job.keys}progress/c{chunk:05d}/"
    return lambda: any(
        one.request.caller == RUNNER and one.request.name.startswith(form) for one in list(lab.proxy.seen)
    )


def is_done(job: FaultJob, chunk: int) -> Callable[[], bool]:
    return lambda: (chunk, "Succeeded") in [(each["spec"]["index"], each["status"]["phase"]) for each in job.chunks()]


def result_key(job: FaultJob, chunk: int, start: int = 1) -> str:
    return f"{job.keys}results/c{chunk:05d}/{job.uid[:8]}-a{start}.json"


@pytest.mark.worst
@fault("Job deleted", "run")
def test_job_deleted_while_its_pod_runs(lab: Lab, reference: Reference) -> None:
    job = lab.submit(runner=SLOW)
    lab.wait(is_at_work(lab, job, 1), "chunk 1 is worked on")
    lab.api.delete("jobs", "book-c00001-a1")
    verdict(lab, job, reference, starts={1: 2})


@fault("pod deleted", "run")
def test_pod_deleted_while_it_runs(lab: Lab, reference: Reference) -> None:
    job = lab.submit(runner=SLOWER)
    lab.wait(is_at_work(lab, job, 1), "chunk 1 is worked on")
    (pod,) = job.children("pods", 1)
    lab.api.delete("pods", pod["metadata"]["name"])
    verdict(lab, job, reference, starts={1: 2})


@fault("pod deleted without grace", "run")
def test_pod_deleted_without_grace(lab: Lab, reference: Reference) -> None:
    job = lab.submit(runner=SLOWER)
    lab.wait(is_at_work(lab, job, 1), "chunk 1 is worked on")
    (pod,) = job.children("pods", 1)
    lab.api.delete("pods", pod["metadata"]["name"], gracePeriodSeconds=0)
    verdict(lab, job, reference, starts={1: 2})


@pytest.mark.worst
@fault("Job and pod of one chunk deleted at once", "run")
def test_job_and_pod_deleted_at_once(lab: Lab, reference: Reference) -> None:
    job = lab.submit(runner=SLOWER)
    lab.wait(is_at_work(lab, job, 1), "chunk 1 is worked on")
    (pod,) = job.children("pods", 1)
    lab.api.delete("pods", pod["metadata"]["name"], gracePeriodSeconds=0)
    lab.api.delete("jobs", "book-c00001-a1")
    verdict(lab, job, reference, starts={1: 2})


@fault("PdfChunk deleted while its pod runs", "run")
def test_running_pdfchunk_deleted(lab: Lab, reference: Reference) -> None:
    job = lab.submit(runner=SLOW)
    lab.wait(is_at_work(lab, job, 1), "chunk 1 is worked on")
    lab.api.delete("pdfchunks", "book-c00001")
    verdict(lab, job, reference, starts={1: 2})


@pytest.mark.worst
@fault("PdfChunk deleted that has succeeded", "run")
def test_succeeded_pdfchunk_deleted(lab: Lab, reference: Reference) -> None:
    with lab.hold_runner(2) as gate:
        job = lab.submit()
        lab.wait(is_done(job, 0), "chunk 0 has succeeded")
        lab.api.delete("pdfchunks", "book-c00000")
        lab.wait(is_done(job, 0), "chunk 0 is there again, with its result")
        gate.released.set()
        verdict(lab, job, reference)


@fault("all PdfChunks deleted", "run")
def test_all_pdfchunks_deleted(lab: Lab, reference: Reference) -> None:
    job = lab.submit(runner=SLOW)
    for chunk in range(3):
        lab.wait(is_at_work(lab, job, chunk), f"chunk {chunk} is worked on")
    lab.api.delete_all("pdfchunks")
    verdict(lab, job, reference, starts={0: 2, 1: 2, 2: 2})


@fault("PdfChunk deleted", "split")
def test_pdfchunk_deleted_while_splitting(lab: Lab, reference: Reference) -> None:
    with lab.hold_operator("put chunk", 2) as gate, lab.hold_runner(0) as runner:
        job = lab.submit()
        lab.wait(gate.reached.is_set, "the second chunk is being stored")
        lab.wait(runner.reached.is_set, "the first chunk runs")
        lab.api.delete("pdfchunks", "book-c00000")
        lab.wait(lambda: lab.api.find("pdfchunks", "book-c00000") is None, "it is gone")
        gate.released.set()
        runner.released.set()
        verdict(lab, job, reference, starts={0: 2})


@fault("Job deleted", "split")
def test_job_deleted_while_splitting(lab: Lab, reference: Reference) -> None:
    with lab.hold_operator("put chunk", 2) as gate:
        job = lab.submit(runner=SLOW)
        lab.wait(gate.reached.is_set, "the second chunk is being stored")
        lab.wait(is_at_work(lab, job, 0), "the first chunk is worked on")
        lab.api.delete("jobs", "book-c00000-a1")
        gate.released.set()
        verdict(lab, job, reference, starts={0: 2})


@either
@fault("plan {deed}", "split")
def test_plan_taken_while_splitting(deed: Callable[[Lab, str], None], lab: Lab, reference: Reference) -> None:
    with lab.hold_operator("put chunk", 2) as gate:
        job = lab.submit()
        lab.wait(gate.reached.is_set, "the second chunk is being stored")
        deed(lab, f"{job.keys}plan.json")
        lab.operator.kill()
        gate.released.set()
        verdict(lab, job, reference)


@either
@fault("plan {deed}, operator killed", "run")
def test_plan_taken_while_chunks_run(deed: Callable[[Lab, str], None], lab: Lab, reference: Reference) -> None:
    job = lab.submit(runner=SLOW)
    lab.wait(is_at_work(lab, job, 1), "chunk 1 is worked on")
    deed(lab, f"{job.keys}plan.json")
    lab.operator.kill()
    verdict(lab, job, reference)


@either
@fault("manifest {deed}, operator killed", "run")
def test_manifest_taken_while_chunks_run(deed: Callable[[Lab, str], None], lab: Lab, reference: Reference) -> None:
    job = lab.submit(runner=SLOW)
    lab.wait(is_at_work(lab, job, 1), "chunk 1 is worked on")
    deed(lab, f"{job.keys}manifest.json")
    lab.operator.kill()
    verdict(lab, job, reference)


@either
@fault("plan and manifest {deed}, operator killed", "merge")
def test_plan_and_manifest_taken_while_merging(
    deed: Callable[[Lab, str], None], lab: Lab, reference: Reference
) -> None:
    with lab.hold_operator("put result", 1) as gate:
        job = lab.submit()
        lab.wait(gate.reached.is_set, "the first file is being stored")
        deed(lab, f"{job.keys}plan.json")
        deed(lab, f"{job.keys}manifest.json")
        lab.operator.kill()
        gate.released.set()
        verdict(lab, job, reference)


@either
@fault("chunk PDF {deed}, then put back and retried", "run")
def test_chunk_object_taken_before_its_runner_reads_it(
    deed: Callable[[Lab, str], None], lab: Lab, reference: Reference
) -> None:
    with lab.hold_runner(0) as gate:
        job = lab.submit(retryPolicy=QUICK)
        lab.wait(gate.reached.is_set, "the runner of chunk 0 asks for its PDF")
        key = f"{job.keys}chunks/c00000.pdf"
        good = lab.storage.read(key)
        deed(lab, key)
        gate.released.set()
        lab.wait(job.finished, "the job has ended")
    ended_badly(lab, job, job_code="CHUNK_PROCESSING_ERROR", chunk_code="STORAGE_ERROR")
    lab.storage.put(key, good)
    retry(lab, job, {"id": "healed", "force": True})
    verdict(lab, job, reference, starts={0: 3})


@either
@fault("chunk result {deed} before it is read back", "run")
def test_chunk_result_taken_before_it_is_read(deed: Callable[[Lab, str], None], lab: Lab, reference: Reference) -> None:
    with lab.hold_operator_before("get chunk_result", name="c00000") as gate:
        job = lab.submit(retryPolicy=QUICK)
        lab.wait(gate.reached.is_set, "the operator reads the result of chunk 0")
        deed(lab, result_key(job, 0))
        gate.released.set()
        verdict(lab, job, reference, starts={0: 2}, finished={0: 2})


@either
@fault("chunk result {deed} before the merge, then retried", "merge")
def test_chunk_result_taken_before_the_merge(deed: Callable[[Lab, str], None], lab: Lab, reference: Reference) -> None:
    with lab.hold_runner(2) as gate:
        job = lab.submit()
        lab.wait(is_done(job, 0), "chunk 0 has succeeded")
        deed(lab, result_key(job, 0))
        gate.released.set()
        lab.wait(job.finished, "the job has ended")
    ended_badly(lab, job, job_code="MERGE_ERROR")
    retry(lab, job, {"id": "again", "chunks": [0], "force": True})
    verdict(lab, job, reference, starts={0: 2}, finished={0: 2})


@either
@fault("merged file {deed}, operator killed", "merge")
def test_merged_file_taken_while_merging(deed: Callable[[Lab, str], None], lab: Lab, reference: Reference) -> None:
    with lab.hold_operator("put result", 2) as gate:
        job = lab.submit()
        lab.wait(gate.reached.is_set, "the second file is being stored")
        deed(lab, f"{job.keys}result.jsonl")
        lab.operator.kill()
        gate.released.set()
        verdict(lab, job, reference)


@either
@fault("checkpoint {deed} of an interrupted start", "run")
def test_checkpoint_taken_between_two_starts(deed: Callable[[Lab, str], None], lab: Lab, reference: Reference) -> None:
    job = lab.submit(runner=SLOWER)
    lab.wait(is_at_work(lab, job, 1), "chunk 1 is worked on")
    (pod,) = job.children("pods", 1)
    with lab.hold_runner(1) as gate:
        lab.api.delete("jobs", "book-c00001-a1")
        lab.api.delete("pods", pod["metadata"]["name"])  # else it ends when the garbage collector comes, or by itself
        lab.wait(gate.reached.is_set, "the second start has begun")
        folder = f"{job.keys}checkpoints/c00001/"
        for key in lab.storage.keys(folder):
            deed(lab, key)
    verdict(lab, job, reference, starts={1: 2})


@fault("PdfChunk deleted", "merge")
def test_pdfchunk_deleted_while_merging(lab: Lab, reference: Reference) -> None:
    with lab.hold_operator("put result", 1) as gate:
        job = lab.submit()
        lab.wait(gate.reached.is_set, "the first file is being stored")
        lab.api.delete("pdfchunks", "book-c00000")
        gate.released.set()
        verdict(lab, job, reference)


@fault("all objects deleted", "delete")
def test_objects_deleted_while_the_job_is_deleted(lab: Lab, reference: Reference) -> None:
    job = lab.submit()
    lab.wait(job.finished, "the job has ended")
    with lab.hold_operator("deletecollection pdfchunks", 1) as gate:
        job.delete()
        lab.wait(gate.reached.is_set, "it is being deleted")
        for key in lab.storage.keys(job.keys):
            remove(lab, key)
    nothing_left(lab, job)
    lived_through(lab)


@fault("pods and Jobs deleted", "delete")
def test_children_deleted_while_the_job_is_deleted(lab: Lab) -> None:
    job = lab.submit(runner=SLOW)
    lab.wait(is_at_work(lab, job, 1), "chunk 1 is worked on")
    with lab.hold_operator("delete jobs", 1) as gate:
        job.delete()
        lab.wait(gate.reached.is_set, "it is being deleted")
        lab.api.delete_all("jobs")
        for pod in job.children("pods"):
            lab.api.delete("pods", pod["metadata"]["name"], gracePeriodSeconds=0)
    nothing_left(lab, job)
    lived_through(lab)


def retry(lab: Lab, job: FaultJob, request: dict[str, Any]) -> None:
    """Ask for another start, as ``kubectl pdfjob retry`` does, and wait until it was answered."""
    lab.api.patch("pdfjobs", job.name, {"spec": {"retryRequest": request}})
    lab.wait(lambda: job.status.get("lastRetry", {}).get("id") == request["id"], "the request is answered")
    lab.wait(lambda: not job.finished() or job.status["phase"] == "Succeeded", "the job is open again")
