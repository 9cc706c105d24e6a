"""The main job: a real document goes in, its text comes out."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import time

import pypdf

from tests.support import pdfs
from tests.support.corpora import manual
from tests.support.every_page import assert_every_page
from tests.support.product import Storage, submit, wait_until


def test_a_real_manual_becomes_text_with_every_page(namespace: str, storage: Storage) -> None:
    key = storage.upload(namespace, manual("debian-reference-fr"))
    job = submit(namespace, "manual", {"s3": {"key": key}}, parallelism=4)
    status = job.succeed()
    assert status["chunks"] == {
        "total": 6,
        "succeeded": 6,
        "pending": 0,
        "running": 0,
        "retryScheduled": 0,
        "failed": 0,
        "cancelled": 0,
        "cached": 0,
    }
    assert status["progressPercent"] == 100
    assert status["summary"] == {"progress": "100%", "chunks": "6/6"}
    assert status["items"] == {"total": 265, "done": 265, "failed": 0}
    assert status["source"]["pages"] == 265
    lines = [json.loads(line) for line in job.result(storage).splitlines()]
    assert [line["n"] for line in lines] == list(range(len(lines)))
    assert list(lines[0]) == ["n", "page", "endPage", "text"]
    assert_every_page(job.result(storage), manual("debian-reference-fr"))
    assert len(lines) == status["sentences"]


def test_all_formats_hold_the_same_sentences_and_have_the_hashes_that_the_status_names(
    namespace: str, storage: Storage
) -> None:
    key = storage.upload(namespace, manual("debian-policy"))
    job = submit(namespace, "formats", {"s3": {"key": key}}, processor={"local": {"language": "en"}})
    status = job.succeed()
    for item in status["result"]["files"]:
        data = storage.read(item["uri"])
        assert (len(data), hashlib.sha256(data).hexdigest()) == (item["bytes"], item["sha256"])
    sentences = [json.loads(line)["text"] for line in job.result(storage).splitlines()]
    rows = list(csv.reader(io.StringIO(job.result(storage, "csv").decode(), newline="")))
    assert rows[0] == ["n", "page", "end_page", "text"]
    assert [row[3] for row in rows[1:]] == sentences
    text = job.result(storage, "txt").decode().splitlines()
    assert [line for line in text if line] == sentences


def test_every_chunk_can_be_found_again_from_what_is_stored(namespace: str, storage: Storage) -> None:
    key = f"pdfjob/inbox/{namespace}/novel.pdf"
    storage.put(key, pdfs.text_pdf(23))
    chunking = {"pagesPerChunk": 10, "thresholdPages": 0, "overlapPages": 2}
    job = submit(namespace, "novel", {"s3": {"key": key}}, chunking=chunking)
    job.succeed()
    root = f"pdfjob/jobs/{namespace}/novel"
    plan, manifest = (json.loads(storage.read(f"{root}/{name}.json")) for name in ("plan", "manifest"))
    assert (plan["source"]["pages"], plan["pagesPerChunk"], plan["overlapPages"]) == (23, 10, 2)
    specs = [chunk["spec"] for chunk in job.chunks()]
    assert [(spec["index"], spec["startPage"], spec["endPage"], spec["hasOverlap"]) for spec in specs] == [
        (0, 1, 10, False),
        (1, 11, 20, True),
        (2, 21, 23, True),
    ]
    for spec, stored, first, last in zip(specs, manifest["chunks"], (1, 9, 19), (12, 22, 23), strict=True):
        data = storage.read(spec["storageURI"])
        found = {"index": spec["index"], "sizeBytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
        assert found == stored == {name: spec[name] for name in found}
        starts = [page.extract_text().splitlines()[0] for page in pypdf.PdfReader(io.BytesIO(data)).pages]
        assert starts == [pdfs.page_text(number) for number in range(first, last + 1)]
    assert {item["format"]: item["uri"] for item in job.status["result"]["files"]} == {
        suffix: f"s3://{storage.bucket}/{root}/result.{suffix}" for suffix in ("jsonl", "txt", "csv")
    }


def test_a_job_is_accepted_at_once_and_says_that_it_goes_on_by_itself(namespace: str, storage: Storage) -> None:
    key = storage.upload(namespace, manual("debian-policy"))
    began = time.monotonic()
    job = submit(namespace, "policy", {"s3": {"key": key}})
    assert time.monotonic() - began < 5
    wait_until(lambda: job.condition("Accepted").get("status") == "True", "the job is accepted", 10)
    status = job.succeed()
    assert status["sentences"] > 3000
    assert "Large file detected. Processing asynchronously. Check job status for progress." in job.events()
    assert job.chunks()[0]["status"]["attempts"] == 1
