"""The main job: a real document goes in, its text comes out."""

from __future__ import annotations

import csv
import hashlib
import io
import json

from tests.support.corpora import manual
from tests.support.every_page import assert_every_page
from tests.support.product import Storage, submit


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
