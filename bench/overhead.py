"""What the operator costs: a PdfJob of 24 chunks against the same 24 runner Jobs made by a script.

The script keeps 8 Jobs in flight and waits for each Job's condition Complete, as a hand-rolled loop would; its chunk
PDFs are on S3 beforehand. The PdfJob is measured from apply to Finished, so it splits, verifies and merges as well.
Both run in turn, three rounds, on the same cluster with nothing else at work.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import time
import uuid
from collections.abc import Iterator
from datetime import datetime
from typing import Any, Final

from kubernetes import client, config, watch

from bench.report import Figure, report
from pdfjob_api.keys import JobKeys
from pdfjob_api.pdfchunk import PdfChunk
from pdfjob_api.pdfjob import PdfJob
from pdfjob_operator.jobspec import Urls, build_job, build_task
from pdfjob_operator.settings import RunnerSettings, S3Settings
from pdfjob_operator.storage.s3 import ObjectStore
from tests.support.cluster import fresh_namespace, kubeconfig, kubectl
from tests.support.corpora import manual
from tests.support.product import Job as ProductJob
from tests.support.product import Storage, images, install, operator_log, submit, wait_for_operator

ROUNDS: Final = 3
IN_FLIGHT: Final = 8
CHUNKS: Final = 24
GOAL: Final = 1.15
_URL_SECONDS: Final = 3600


def main() -> None:
    """Run the benchmark, print the table, write bench/results/overhead.json."""
    install("maxConcurrentChunks=0")
    wait_for_operator()
    config.load_kube_config(config_file=kubeconfig())
    storage = Storage.connect()
    document = manual("debian-reference-en")
    ours: list[float] = []
    script: list[float] = []
    splits: list[float] = []
    merges: list[float] = []
    with fresh_namespace("bench") as namespace:
        key = storage.upload(namespace, document)
        prepared = _run_pdfjob(namespace, key)  # warms caches; its chunk PDFs serve the script
        template = _Template(namespace, prepared, storage)
        for number in range(1, ROUNDS + 1):
            script.append(template.run())
            began = time.monotonic()
            job = _run_pdfjob(namespace, key)
            ours.append(time.monotonic() - began)
            stages = _stages(job)
            splits.append(stages["split"])
            merges.append(stages["merge"])
            print(f"round {number}: script {script[-1]:.1f} s, PdfJob {ours[-1]:.1f} s", file=sys.stderr)
    install()
    ratio = statistics.median(ours) / statistics.median(script)
    text = f"{CHUNKS} chunks, {IN_FLIGHT} in flight, median of {ROUNDS}"
    holds = report(
        "overhead",
        [
            Figure(
                f"apply to Finished, {text}",
                statistics.median(ours),
                "s",
                baseline=statistics.median(script),
                goal=f"at most {GOAL} of the script",
                holds=ratio <= GOAL,
            ),
            Figure("slowest PdfJob", max(ours), "s", baseline=max(script)),
            Figure("fastest PdfJob", min(ours), "s", baseline=min(script)),
            Figure("of which splitting, beside the first chunks", statistics.median(splits), "s"),
            Figure("of which merging", statistics.median(merges), "s"),
        ],
    )
    sys.exit(0 if holds else 1)


def _run_pdfjob(namespace: str, key: str) -> ProductJob:
    """Apply a PdfJob and wait until it has finished."""
    job = submit(
        namespace,
        f"bench-{uuid.uuid4().hex[:6]}",
        {"s3": {"key": key}},
        chunking={"pagesPerChunk": 11},
        parallelism=IN_FLIGHT,
        processor={"local": {"language": "en"}},
        deletionPolicy="Retain",
    )
    status = job.succeed()
    if status["chunks"]["total"] != CHUNKS:
        raise AssertionError(f"the document makes {status['chunks']['total']} chunks, not {CHUNKS}")
    return job


def _stages(job: ProductJob) -> dict[str, float]:
    """Read from the operator's log how long splitting and merging took, in seconds."""
    began: dict[str, datetime] = {}
    found: dict[str, float] = {}
    for entry in operator_log():
        if entry.get("job") != f"{job.namespace}/{job.name}" or "work" not in entry:
            continue
        moment = datetime.fromisoformat(entry["time"])
        if entry["event"] == "work begins":
            began[entry["work"]] = moment
        elif entry["event"] == "work done":
            found[entry["work"]] = (moment - began[entry["work"]]).total_seconds()
    return found


class _Template:
    """The runner Jobs of a finished PdfJob, to be made again by a script."""

    def __init__(self, namespace: str, job: ProductJob, storage: Storage) -> None:
        self._namespace = namespace
        self._job = PdfJob.model_validate(job.get())
        self._chunks = [PdfChunk.model_validate(chunk) for chunk in job.chunks()]
        self._storage = storage
        endpoint = storage.client.meta.endpoint_url
        os.environ["AWS_ACCESS_KEY_ID"] = storage.access_key
        os.environ["AWS_SECRET_ACCESS_KEY"] = storage.secret_key
        self._store = ObjectStore(S3Settings(endpoint=endpoint, bucket=storage.bucket))
        self._runner = RunnerSettings(image=images()["runner"])

    def run(self) -> float:
        """Make all Jobs, 8 in flight, wait for Complete; returns the seconds."""
        batch = client.BatchV1Api()
        waiting = [self._body(chunk) for chunk in self._chunks]
        names = {body["metadata"]["name"] for body in waiting}
        began = time.monotonic()
        for _ in range(IN_FLIGHT):
            batch.create_namespaced_job(self._namespace, waiting.pop(0))
        for name in self._completions(batch, names):
            names.discard(name)
            if waiting:
                batch.create_namespaced_job(self._namespace, waiting.pop(0))
            if not names:
                break
        seconds = time.monotonic() - began
        kubectl("delete", "jobs", "-n", self._namespace, "-l", "bench=script", "--cascade=background")
        return seconds

    def _completions(self, batch: Any, names: set[str]) -> Iterator[str]:
        stream = watch.Watch().stream(batch.list_namespaced_job, self._namespace, label_selector="bench=script")
        done: set[str] = set()
        for event in stream:
            name = event["object"].metadata.name
            conditions = {item.type: item.status for item in event["object"].status.conditions or []}
            if conditions.get("Failed") == "True":
                raise AssertionError(f"the script's Job {name} failed")
            if name in names and name not in done and conditions.get("Complete") == "True":
                done.add(name)
                yield name

    def _body(self, chunk: PdfChunk) -> dict[str, Any]:
        keys = JobKeys("pdfjob", self._namespace, self._job.metadata.name, uuid.uuid4().hex)
        index = chunk.spec.index
        urls = Urls(
            chunk=self._store.presign_get(keys.chunk(index), _URL_SECONDS),
            checkpoint=self._store.presign_put(keys.checkpoint(index, 1), _URL_SECONDS),
            progress=self._store.presign_put(keys.progress(index, 1), _URL_SECONDS),
            result=self._store.presign_put(keys.chunk_result(index, 1), _URL_SECONDS, if_absent=True),
            previous_checkpoint=None,
        )
        body = build_job(self._job, chunk, build_task(self._job, chunk, 1), urls, self._runner)
        # Nobody but the script shall know of it: no label and no owner of ours.
        labels = {"bench": "script"}
        body["metadata"] = {"name": f"script-{uuid.uuid4().hex[:8]}", "labels": labels}
        body["spec"]["template"]["metadata"]["labels"] = labels
        result: dict[str, Any] = json.loads(json.dumps(body))
        return result


if __name__ == "__main__":
    main()
