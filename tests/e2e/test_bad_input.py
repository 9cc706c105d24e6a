"""Documents and S3 sources that cannot be processed: each is refused with its reason and what to do, and that is all.

All are submitted at once; the tests then look at what became of them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final

import pytest

from tests.support import pdfs
from tests.support.cluster import fresh_namespace, kubectl, kubectl_json
from tests.support.outcomes import (
    Event,
    Outcome,
    Vitals,
    assert_refused,
    memory_watched,
    outcomes,
    vitals,
    wait_for_all,
)
from tests.support.product import (
    ARCHIVE,
    SYSTEM,
    Job,
    Storage,
    operator_pods,
    submit,
    wait_for_operator,
    wait_until,
)

MIB: Final = 1024**2
CAP: Final = 1024 * MIB
"""``source.maxBytes`` as it comes."""
GROWTH: Final = 64 * MIB
"""What the operator's resident memory may grow by: caches of imports and allocators, not documents."""
SOURCES: Final[dict[str, tuple[Callable[[str], dict[str, Any]], str, str]]] = {
    "missing key": (lambda own: {"key": f"pdfjob/inbox/{own}/nothing.pdf"}, "SourceNotFound", "upload it"),
    "another namespace's inbox": (
        lambda _: {"key": "pdfjob/inbox/default/secret.pdf"},
        "SourceNotAllowed",
        "Upload the document to",
    ),
    "out of the inbox": (
        lambda own: {"key": f"pdfjob/inbox/{own}/../default/secret.pdf"},
        "SourceNotAllowed",
        "upload it under a plain key",
    ),
    "results of others": (
        lambda _: {"key": "pdfjob/jobs/default/novel/result.txt"},
        "SourceNotAllowed",
        "Upload the document to",
    ),
    "bucket not allowed": (
        lambda own: {"bucket": "somebody-elses", "key": f"pdfjob/inbox/{own}/a.pdf"},
        "SourceNotAllowed",
        "source.allowedBuckets",
    ),
    "over the cap": (lambda own: {"key": f"pdfjob/inbox/{own}/large.pdf"}, "SourceTooLarge", "source.maxBytes"),
}
"""Name to S3 source in a namespace, reason and part of the message."""
REPAIRED: Final[dict[str, tuple[int, str | None]]] = {
    "truncated": (60, None),
    "wrong /Count": (60, None),
    "page tree that loops": (3, "3"),
    "content missing": (5, "5"),
    "content damaged": (5, None),
}
"""Name to pages and the pages that the result lacks, under Repair; of the last one, a page is there in part."""
CUT: Final = "cut at 80 %"


@dataclass
class Place:
    """A namespace with all the bad documents in it."""

    namespace: str
    before: Vitals
    peak: dict[str, int] = field(default_factory=dict)
    found: dict[str, Outcome] = field(default_factory=dict)

    def outcome(self, name: str) -> Outcome:
        return self.found[job_name(name)]


def job_name(name: str) -> str:
    """Make a name of a PdfJob from the name of a case."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


@pytest.fixture(scope="module")
def place(installed: None) -> Iterator[Place]:
    wait_for_operator()
    storage = Storage.connect()
    with fresh_namespace() as namespace:
        place = Place(namespace, vitals())
        with memory_watched(place.peak):
            _submit_all(storage, namespace)
            wait_for_all(namespace, 400)
        place.found = outcomes(namespace)
        yield place
    storage.client.delete_object(Bucket=storage.bucket, Key=_store_large(storage, namespace, store=False))


def _submit_all(storage: Storage, namespace: str) -> None:
    documents = {name: make() for name, (make, _, _) in pdfs.REFUSED.items()}
    documents |= {name: make() for name, (make, _) in pdfs.ACCEPTED.items()}
    for name, data in documents.items():
        storage.put(f"pdfjob/inbox/{namespace}/{job_name(name)}.pdf", data)
        submit(namespace, job_name(name), {"s3": {"key": f"pdfjob/inbox/{namespace}/{job_name(name)}.pdf"}})
    for name in (*REPAIRED, CUT):
        key = f"pdfjob/inbox/{namespace}/{job_name(name)}.pdf"
        formats = {"formats": ["jsonl", "txt"]}
        submit(namespace, f"repaired-{job_name(name)}", {"s3": {"key": key}, "repair": "Repair"}, output=formats)
    _store_large(storage, namespace)
    for name, (make_source, _, _) in SOURCES.items():
        submit(namespace, job_name(name), {"s3": make_source(namespace)})


def _store_large(storage: Storage, namespace: str, *, store: bool = True) -> str:
    """Store an object of a little more bytes than the cap, put together on the server from one part."""
    key, part_key = f"pdfjob/inbox/{namespace}/large.pdf", f"pdfjob/inbox/{namespace}/part"
    if not store:
        return key
    client, bucket = storage.client, storage.bucket
    client.put_object(Bucket=bucket, Key=part_key, Body=b"%PDF-1.7\n" + bytes(128 * MIB))
    upload = client.create_multipart_upload(Bucket=bucket, Key=key)["UploadId"]
    parts = []
    for number in range(1, CAP // (128 * MIB) + 1):
        copied = client.upload_part_copy(
            Bucket=bucket,
            Key=key,
            UploadId=upload,
            PartNumber=number,
            CopySource={"Bucket": bucket, "Key": part_key},
        )
        parts.append({"PartNumber": number, "ETag": copied["CopyPartResult"]["ETag"]})
    client.complete_multipart_upload(Bucket=bucket, Key=key, UploadId=upload, MultipartUpload={"Parts": parts})
    client.delete_object(Bucket=bucket, Key=part_key)
    return key


@pytest.mark.parametrize("name", pdfs.REFUSED)
def test_a_bad_document_is_refused_with_its_reason_and_what_to_do(place: Place, name: str) -> None:
    _, reason, told = pdfs.REFUSED[name]
    assert_refused(place.outcome(name), reason, told)


@pytest.mark.parametrize("name", SOURCES)
def test_a_source_that_may_not_or_cannot_be_read_is_refused(place: Place, name: str) -> None:
    _, reason, told = SOURCES[name]
    assert_refused(place.outcome(name), reason, told)


def test_nothing_of_a_refused_document_is_left_on_the_storage(place: Place) -> None:
    storage = Storage.connect()
    kept = {key.split("/")[3] for key in storage.keys(f"pdfjob/jobs/{place.namespace}/")}
    assert kept == {*(f"repaired-{job_name(name)}" for name in (*REPAIRED, CUT)), *map(job_name, pdfs.ACCEPTED)}


@pytest.mark.parametrize("name", pdfs.ACCEPTED)
def test_an_odd_document_that_lost_nothing_is_processed_under_strict(place: Place, name: str) -> None:
    outcome, pages = place.outcome(name), pdfs.ACCEPTED[name][1]
    assert outcome.status["phase"] == "Succeeded", outcome.status
    assert outcome.status["source"]["pages"] == pages
    assert outcome.status["items"] == {"total": pages, "done": pages, "failed": 0}
    assert outcome.condition("Repaired") == {}


@pytest.mark.parametrize("name", REPAIRED)
def test_repair_takes_what_can_be_read_and_says_what_was_wrong(place: Place, name: str) -> None:
    outcome, (pages, missing) = place.outcome(f"repaired {name}"), REPAIRED[name]
    assert outcome.status["phase"] == "Succeeded", outcome.status
    assert outcome.status["source"]["pages"] == pages
    assert outcome.status["result"].get("missingPages") == missing
    repaired = outcome.condition("Repaired")
    assert (repaired["status"], repaired["reason"]) == ("True", "PagesLost")
    assert repaired["message"].startswith("the document was damaged")
    assert Event("Warning", "PagesLost", repaired["message"]) in outcome.events
    assert ("can be read on page" in repaired["message"]) == (missing is not None or name == "content damaged")


def test_repair_takes_what_is_left_of_a_cut_document_and_tells_what_is_lost(place: Place) -> None:
    outcome, storage = place.outcome(f"repaired {CUT}"), Storage.connect()
    job = Job(place.namespace, outcome.job["metadata"]["name"])
    repaired, status = outcome.condition("Repaired"), outcome.status
    assert (repaired["status"], repaired["reason"]) == ("True", "PagesLost")
    assert "its end is missing" in repaired["message"]
    assert any(event.type == "Warning" and event.reason == "PagesLost" for event in outcome.events)
    assert status["phase"] == "Succeeded", status
    lines = [json.loads(line) for line in job.result(storage).splitlines()]
    kept = {page for line in lines if "n" in line for page in range(line["page"], line["endPage"] + 1)}
    first = max(kept) + 1
    assert kept == set(range(1, first))
    assert 40 < first <= 60
    assert status["source"]["pages"] == 60
    assert lines[-1] == {"missing": [first, 60], "code": "INVALID_ITEM"}
    assert status["result"]["missingPages"] == f"{first}-60"
    assert f"page {first}-60" in repaired["message"]
    assert (outcome.condition("Succeeded")["status"], outcome.condition("Succeeded")["reason"]) == (
        "True",
        "PartialResult",
    )
    assert status["items"] == {"total": 60, "done": first - 1, "failed": 61 - first}
    text = job.result(storage, "txt").decode()
    assert f"[pages {first}-60 missing: INVALID_ITEM]" in text
    for page in sorted(kept):
        assert pdfs.page_text(page) in text


def test_the_operator_neither_crashed_nor_grew(place: Place) -> None:
    after = vitals()
    assert (after.pod, after.restarts) == (place.before.pod, place.before.restarts)
    print(f"operator: {place.before.resident_bytes / MIB:.0f} MiB, {place.peak['bytes'] / MIB:.0f} at most")
    assert place.peak["bytes"] - place.before.resident_bytes < GROWTH


def test_a_missing_bucket_is_waited_for_and_the_job_goes_on_when_it_is_made(namespace: str, storage: Storage) -> None:
    _remove_archive(storage)
    job = submit(namespace, "archive", {"s3": {"bucket": ARCHIVE, "key": "novel.pdf"}})
    try:
        split = wait_until(lambda: _split_by(job, "BucketNotFound"), "the job waits for its bucket")
        assert split["status"] == "Unknown"
        assert f"s3://{ARCHIVE}: the bucket does not exist; create it or correct its name" in split["message"]
        assert job.status["currentStep"] == "Waiting: BucketNotFound"
        job.wait_for_event("Warning", "BucketNotFound")
        assert job.condition("Finished")["status"] == "False"
        storage.client.create_bucket(Bucket=ARCHIVE)
        storage.client.put_object(Bucket=ARCHIVE, Key="novel.pdf", Body=pdfs.text_pdf(3))
        assert job.succeed()["source"]["fileName"] == "novel.pdf"
    finally:
        _remove_archive(storage)


@pytest.mark.alone
def test_wrong_credentials_are_waited_out_and_the_job_goes_on_when_they_are_right(
    namespace: str, storage: Storage
) -> None:
    """The embedded server keeps the credentials that it started with; the operator starts with others."""
    key = f"pdfjob/inbox/{namespace}/a.pdf"
    storage.put(key, pdfs.text_pdf(2))
    right = kubectl_json("get", "secret", "pdfjob-s3", "-n", SYSTEM)["data"]["secretKey"]
    _start_operator_with("bm90IHRoZSBrZXk=")
    try:
        job = submit(namespace, "patient", {"s3": {"key": key}})
        split = wait_until(lambda: _split_by(job, "StorageAccessDenied"), "the job waits for credentials", 90)
        assert split["status"] == "Unknown"
        assert "correct them, or their rights on the bucket" in split["message"]
        assert job.status["currentStep"] == "Waiting: StorageAccessDenied"
        job.wait_for_event("StorageAccessDenied")
    finally:
        _start_operator_with(right)
        wait_for_operator()
    job.succeed()


def _split_by(job: Job, reason: str) -> dict[str, Any]:
    condition = job.condition("Split")
    return condition if condition.get("reason") == reason else {}


def _remove_archive(storage: Storage) -> None:
    names = [each["Name"] for each in storage.client.list_buckets()["Buckets"]]
    if ARCHIVE in names:
        for item in storage.client.list_objects_v2(Bucket=ARCHIVE).get("Contents", []):
            storage.client.delete_object(Bucket=ARCHIVE, Key=item["Key"])
        storage.client.delete_bucket(Bucket=ARCHIVE)


def _start_operator_with(secret_key: str) -> None:
    """Put a key (in base64) into the Secret and let the operator start with it."""
    patch = json.dumps({"data": {"secretKey": secret_key}})
    kubectl("patch", "secret", "pdfjob-s3", "-n", SYSTEM, "-p", patch)
    for pod in operator_pods():
        kubectl("delete", "pod", pod["metadata"]["name"], "-n", SYSTEM, "--grace-period=1")
