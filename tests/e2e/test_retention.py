"""What stays, and for how long: records on S3, the life after the end, and a second life of the same name."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any, Final

import pytest

from pdfjob_api.history import ErrorRecord, JobRecord
from tests.support import pdfs
from tests.support.audit import job_creations
from tests.support.cluster import kubectl, kubectl_json
from tests.support.product import Job, Storage, submit, throttled, wait_until
from tests.support.shell_runners import shell_processor

PAGES: Final = 16
CHUNKING: Final = {"pagesPerChunk": 4, "thresholdPages": 0}
CHUNKS: Final = 4
SOON_SECONDS: Final = 12
"""After which a job is deleted: there is time to look at its end before."""
QUICK_RETRY: Final = {"maxRetries": 1, "backoff": {"initialSeconds": 1}}
FAILS: Final = """
n=0; while [ $n -lt 60 ]; do n=$((n + 1)); echo "line $n"; done
echo "PUT $PDFJOB_RESULT_URL gave 503"
say API_ERROR "the model did not answer"
exit 71
"""


@pytest.fixture
def source(place: str, storage: Storage) -> dict[str, Any]:
    return upload(storage, place, "book.pdf", PAGES)


def upload(storage: Storage, place: str, name: str, pages: int) -> dict[str, Any]:
    return storage.source(place, name, pdfs.text_pdf(pages))


def run_of(job: Job) -> str:
    return str(job.get()["metadata"]["uid"])[:8]


def history(job: Job, run: str) -> str:
    return f"pdfjob/history/{job.namespace}/{job.name}/{run}/"


def record_of(storage: Storage, job: Job, run: str) -> JobRecord:
    return JobRecord.model_validate_json(storage.read(history(job, run) + "job.json"))


def objects(storage: Storage, job: Job) -> set[str]:
    """Return the keys of a job, without its folder."""
    folder = f"pdfjob/jobs/{job.namespace}/{job.name}/"
    return {key.removeprefix(folder) for key in storage.keys(folder)}


def delete(job: Job) -> None:
    kubectl("delete", "pdfjob", job.name, "-n", job.namespace, "--timeout=60s")


def done(job: Job) -> set[int]:
    return {chunk["spec"]["index"] for chunk in job.chunks() if chunk["status"]["phase"] == "Succeeded"}


def environment_of(child: dict[str, Any]) -> dict[str, str]:
    """Return the environment of the runner of a child Job."""
    (container,) = child["spec"]["template"]["spec"]["containers"]
    return {item["name"]: item.get("value", "") for item in container["env"]}


def is_gone(job: Job) -> bool:
    return not kubectl("get", "pdfjob", job.name, "-n", job.namespace, "--ignore-not-found").stdout


def test_each_failed_start_leaves_a_record_that_outlives_the_job(
    place: str, storage: Storage, source: dict[str, Any]
) -> None:
    job = submit(place, "fails", source, processor=shell_processor(FAILS), retryPolicy=QUICK_RETRY)
    assert job.wait()["phase"] == "Failed"
    run = run_of(job)
    uri = wait_until(lambda: job.status.get("history"), "the status says where the record is")
    assert uri == f"s3://pdfjob/{history(job, run)}job.json"
    delete(job)
    assert objects(storage, job) == set()
    assert storage.keys(history(job, run)) == [
        history(job, run) + name for name in ("errors/c00000-a1.json", "errors/c00000-a2.json", "job.json")
    ]
    for start in (1, 2):
        text = storage.read(f"{history(job, run)}errors/c00000-a{start}.json").decode()
        assert "X-Amz" not in text
        record = ErrorRecord.model_validate_json(text)
        assert (record.start, record.attempt, record.counted, record.outcome.value) == (start, start, True, "Failed")
        assert (record.code, record.job_name) == ("API_ERROR", f"fails-c00000-a{start}")
        assert "the model did not answer" in record.message
        assert record.pod is not None
        assert (record.pod.exit_code, record.pod.exit_reason) == (71, "Error")
        assert record.pod.node
        lines = record.log_tail.splitlines()
        assert lines[:2] == ["line 12", "line 13"]
        assert len(lines) == 50
        assert lines[-1].endswith(f"/{run}-a{start}.json?[redacted] gave 503")
    whole = record_of(storage, job, run)
    assert (whole.phase.value, whole.retries, whole.failed_chunks) == ("Failed", 1, "0")
    assert [(each.start, each.code) for each in whole.chunks[0].history] == [(1, "API_ERROR"), (2, "API_ERROR")]


def test_the_record_of_a_success_tells_every_start_and_stays_with_the_result(
    place: str, storage: Storage, source: dict[str, Any]
) -> None:
    job = submit(place, "good", source, chunking=CHUNKING)
    status = job.succeed()
    run = run_of(job)
    wait_until(lambda: job.status.get("history"), "the record is stored")
    result = job.result(storage)
    delete(job)
    record = record_of(storage, job, run)
    assert (record.phase.value, record.completed, record.uid[:8]) == ("Succeeded", status["completionTime"], run)
    assert record.counts is not None
    assert (record.counts.succeeded, record.counts.total) == (CHUNKS, CHUNKS)
    assert [(chunk.index, chunk.starts, chunk.history[0].outcome.value) for chunk in record.chunks] == [
        (index, 1, "Succeeded") for index in range(CHUNKS)
    ]
    assert record.result is not None
    assert storage.read(record.result.files[0].uri) == result
    assert storage.keys(history(job, run)) == [history(job, run) + "job.json"]


def test_a_job_deleted_in_mid_run_leaves_a_record_of_how_far_it_came(
    place: str, storage: Storage, source: dict[str, Any]
) -> None:
    job = submit(place, "half", source, chunking=CHUNKING, parallelism=1, runner=throttled(1))
    wait_until(lambda: done(job), "a chunk is done")
    run = run_of(job)
    delete(job)
    record = record_of(storage, job, run)
    assert (record.completed, record.result) == (None, None)
    assert record.phase.value == "Running"
    phases = [chunk.phase.value for chunk in record.chunks]
    assert phases[0] == "Succeeded"
    assert phases[-1] == "Pending"
    assert objects(storage, job) == set()


def test_a_second_life_adopts_what_is_finished_and_saved_and_runs_only_the_rest(
    place: str, storage: Storage, source: dict[str, Any]
) -> None:
    undisturbed = submit(place, "whole", source, chunking=CHUNKING)
    spec: dict[str, Any] = {"chunking": CHUNKING, "parallelism": 2, "deletionPolicy": "Retain"}
    job = submit(place, "twice", source, runner=throttled(3), **spec)
    first = run_of(job)

    def have(kind: str) -> set[str]:
        return {key.split("/")[1] for key in objects(storage, job) if key.startswith(f"{kind}/")}

    def has_begun_the_second_half() -> bool:
        """Whether a chunk that began when another was done has just saved pages; the first two may end together."""
        saved = have("checkpoints") - have("results")
        return bool(saved & {"c00002", "c00003"}) and bool(done(job))

    wait_until(has_begun_the_second_half, "a chunk is done, another has saved pages")
    delete(job)
    stored, saved = have("results"), have("checkpoints") - have("results")
    assert stored
    assert saved
    made = job_creations(place)
    job = submit(place, "twice", source, runner=throttled(0.5), **spec)
    wait_until(lambda: job.children("jobs"), "a chunk of the second life runs", interval=0.05)
    begun = {f"c{int(each['metadata']['labels']['pdfjob.dev/chunk']):05d}": each for each in job.children("jobs")}
    assert not stored & set(begun)
    environments = {chunk: environment_of(each) for chunk, each in begun.items()}
    for chunk in saved & set(begun):
        assert f"/{chunk}/{first}-a1.json" in environments[chunk]["PDFJOB_PREVIOUS_CHECKPOINT_URL"]
    job.succeed()
    undisturbed.succeed()
    assert job.result(storage) == undisturbed.result(storage)
    again = job_creations(place) - made
    assert {name for name in again if name.startswith("twice-")} == {
        f"twice-c{index:05d}" for index in range(CHUNKS) if f"c{index:05d}" not in stored
    }
    assert [chunk["status"]["starts"] for chunk in job.chunks()] == [
        0 if f"c{index:05d}" in stored else 1 for index in range(CHUNKS)
    ]
    runs = {item.split("/")[-2] for item in storage.keys(f"pdfjob/history/{place}/twice/") if item.endswith("job.json")}
    wait_until(lambda: job.status.get("history"), "the second life is recorded too")
    assert first in runs


def test_other_content_under_the_same_name_starts_clean(place: str, storage: Storage) -> None:
    spec: dict[str, Any] = {"chunking": CHUNKING, "deletionPolicy": "Retain"}
    job = submit(place, "other", upload(storage, place, "other.pdf", 8), **spec)
    job.succeed()
    first = run_of(job)
    delete(job)
    assert any(first in key for key in objects(storage, job))
    job = submit(place, "other", upload(storage, place, "other.pdf", 12), **spec)
    job.succeed()
    assert [chunk["status"]["starts"] for chunk in job.chunks()] == [1, 1, 1]
    assert not any(first in key for key in objects(storage, job))
    assert {json.loads(line)["page"] for line in job.result(storage).splitlines()} == set(range(1, 13))
    assert history(job, first) + "job.json" in storage.keys(history(job, first))


def test_the_time_after_the_end_goes_by_the_outcome(place: str, storage: Storage, source: dict[str, Any]) -> None:
    fails = {"processor": shell_processor("exit 65"), "retryPolicy": {"maxRetries": 0}}
    ttl = "ttlSecondsAfterFinished"
    at_once = submit(place, "at-once", source, **{ttl: {"succeeded": 0}}, suspend=True)
    runs = {"at-once": run_of(at_once)}  # before it may be gone
    at_once.edit(suspend=False)
    soon = submit(place, "soon", source, **fails, **{ttl: {"failed": SOON_SECONDS}})
    runs["soon"] = run_of(soon)
    kept = submit(place, "kept", source, **fails, **{ttl: {"succeeded": 0}})
    ended = datetime.fromisoformat(soon.wait()["completionTime"])
    wait_until(lambda: is_gone(soon), "the failed one is deleted after its time")
    waited = (datetime.now(ended.tzinfo) - ended).total_seconds()
    assert SOON_SECONDS <= waited < SOON_SECONDS + 30
    wait_until(lambda: is_gone(at_once), "the one that succeeded is deleted at once")
    assert kept.wait()["phase"] == "Failed"
    wait_until(lambda: kept.status.get("history"), "the one that stays is recorded")
    assert not is_gone(kept)
    assert objects(storage, at_once) == {"result.csv", "result.jsonl", "result.txt"}
    assert record_of(storage, at_once, runs["at-once"]).phase.value == "Succeeded"
    assert record_of(storage, soon, runs["soon"]).phase.value == "Failed"
    left = kubectl_json("get", "pdfchunks,jobs", "-n", place, "-l", "pdfjob.dev/job in (at-once,soon)")["items"]
    assert left == []
