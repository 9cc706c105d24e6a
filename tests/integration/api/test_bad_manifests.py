"""What cannot work is refused by the API server itself, and the message says which field and what is allowed."""

from __future__ import annotations

from typing import Any

import pytest

from tests.integration.api.manifests import ABSENT, creditaccount, pdfchunk, pdfjob, replaced, text
from tests.support.cluster import kubectl

pytestmark = pytest.mark.usefixtures("crds")

Change = dict[str, Any]
GEMINI: Change = {"model": "m", "apiKeySecretRef": {"name": "gemini"}}

_FAILED_CHUNKS = "spec.failurePolicy.maxFailedChunks"
_COUNT_OR_PERCENT = "must be a number of at least 0 or a percentage from 0% to 100%"

BAD_JOBS: list[tuple[str, Change, list[str]]] = [
    (
        "two sources",
        {"source.s3": {"key": "pdfjob/inbox/default/x.pdf"}},
        ["spec.source", "exactly one of source.s3, source.http must be set"],
    ),
    (
        "no source of any kind",
        {"source.http": ABSENT},
        ["spec.source", "exactly one of source.s3, source.http must be set"],
    ),
    ("no source", {"source": ABSENT}, ["spec.source", "Required value"]),
    ("s3 source without key", {"source": {"s3": {"bucket": "books"}}}, ["spec.source.s3.key", "Required value"]),
    (
        "s3 bucket of two letters",
        {"source": {"s3": {"bucket": "ab", "key": "k"}}},
        ["spec.source.s3.bucket", "at least 3 chars"],
    ),
    (
        "s3 key over 1024",
        {"source": {"s3": {"key": "k" * 1025}}},
        ["spec.source.s3.key", "may not be more than 1024"],
    ),
    (
        "url of another scheme",
        {"source.http.url": "ftp://example.com/x.pdf"},
        ["spec.source.http.url", "http:// or https://"],
    ),
    ("url of a file", {"source.http.url": "file:///etc/passwd"}, ["spec.source.http.url", "http:// or https://"]),
    ("url without a host", {"source.http.url": "https:///x.pdf"}, ["spec.source.http.url", "name a host"]),
    ("sha256 too short", {"source.http.sha256": "abc"}, ["spec.source.http.sha256", "^[0-9a-f]{64}$"]),
    ("sha256 in capitals", {"source.http.sha256": "A" * 64}, ["spec.source.http.sha256", "^[0-9a-f]{64}$"]),
    ("unknown repair", {"source.repair": "Guess"}, ["spec.source.repair", '"Strict", "Repair"']),
    ("priority 11", {"priority": 11}, ["spec.priority", "priority must be between 0 and 10"]),
    ("priority -1", {"priority": -1}, ["spec.priority", "priority must be between 0 and 10"]),
    ("priority as text", {"priority": "high"}, ["spec.priority", "must be of type integer"]),
    ("parallelism 0", {"parallelism": 0}, ["spec.parallelism", "greater than or equal to 1"]),
    ("parallelism 10001", {"parallelism": 10001}, ["spec.parallelism", "less than or equal to 10000"]),
    ("half a chunk in flight", {"parallelism": 0.5}, ["spec.parallelism", "must be of type integer"]),
    ("pagesPerChunk 0", {"chunking.pagesPerChunk": 0}, ["spec.chunking.pagesPerChunk", "greater than or equal to 1"]),
    (
        "pagesPerChunk 1001",
        {"chunking.pagesPerChunk": 1001},
        ["spec.chunking.pagesPerChunk", "less than or equal to 1000"],
    ),
    (
        "thresholdPages -1",
        {"chunking.thresholdPages": -1},
        ["spec.chunking.thresholdPages", "greater than or equal to 0"],
    ),
    ("overlapPages 0", {"chunking.overlapPages": 0}, ["spec.chunking.overlapPages", "greater than or equal to 1"]),
    ("overlapPages 6", {"chunking.overlapPages": 6}, ["spec.chunking.overlapPages", "less than or equal to 5"]),
    (
        "both processors",
        {"processor.custom": {"image": "example.com/runner:1"}},
        ["spec.processor", "exactly one of processor.local, processor.gemini, processor.custom must be set"],
    ),
    ("no processor", {"processor": {}}, ["spec.processor", "exactly one of processor.local, processor.gemini"]),
    ("gemini without a key", {"processor": {"gemini": {"model": "m"}}}, ["apiKeySecretRef", "Required value"]),
    (
        "gemini with a gateway of another kind",
        {"processor": {"gemini": {**GEMINI, "baseUrl": "ftp://gateway.example.com"}}},
        ["spec.processor.gemini.baseUrl", "baseUrl must start with http:// or https:// and name a host"],
    ),
    (
        "gemini with a password in the address",
        {"processor": {"gemini": {**GEMINI, "baseUrl": "https://me:secret@gateway.example.com"}}},
        ["spec.processor.gemini.baseUrl", "baseUrl must start with http:// or https:// and name a host"],
    ),
    (
        "gemini told twice how to think",
        {"processor": {"gemini": {**GEMINI, "thinkingConfig": {"thinkingBudget": 0, "thinkingLevel": "Low"}}}},
        ["only one of thinkingConfig.thinkingBudget, thinkingConfig.thinkingLevel may be set"],
    ),
    ("maxFailedItems -1", {"failurePolicy.maxFailedItems": -1}, ["must be a number of at least 0 or a percentage"]),
    ("cache sometimes", {"cache": "Sometimes"}, ["spec.cache", "Unsupported value"]),
    ("processor of another kind", {"processor": {"magic": {}}}, ["spec.processor.magic", "unknown field"]),
    ("language by name", {"processor.local.language": "French"}, ["spec.processor.local.language", "^[a-z]{2,3}$"]),
    (
        "custom processor without image",
        {"processor": {"custom": {"args": ["x"]}}},
        ["spec.processor.custom.image", "Required value"],
    ),
    (
        "runner image beside custom processor",
        {"processor": {"custom": {"image": "example.com/a"}}, "runner": {"image": "example.com/b"}},
        ["spec: ", "runner.image is for the standard runner", "processor.custom.image"],
    ),
    ("negative retries", {"retryPolicy.maxRetries": -1}, ["spec.retryPolicy.maxRetries", "greater than or equal to 0"]),
    ("21 retries", {"retryPolicy.maxRetries": 21}, ["spec.retryPolicy.maxRetries", "less than or equal to 20"]),
    (
        "no wait before a retry",
        {"retryPolicy.backoff.initialSeconds": 0},
        ["spec.retryPolicy.backoff.initialSeconds", "greater than or equal to 1"],
    ),
    (
        "soft limit not below the hard one",
        {"limits.chunkSoftTimeoutSeconds": 1800},
        ["spec.limits", "limits.chunkSoftTimeoutSeconds must be lower than limits.chunkTimeoutSeconds"],
    ),
    ("unknown format", {"output.formats": ["docx"]}, ["spec.output.formats[0]", '"jsonl", "txt", "csv"']),
    ("no format", {"output.formats": []}, ["spec.output.formats", "at least 1 items"]),
    ("one format twice", {"output.formats": ["txt", "txt"]}, ["spec.output.formats[1]", "Duplicate value"]),
    ("unknown deletion policy", {"deletionPolicy": "Forget"}, ["spec.deletionPolicy", '"Delete", "Retain"']),
    (
        "environment of the contract",
        {"runner.env": [{"name": "PDFJOB_TASK", "value": "{}"}]},
        ["spec.runner.env[0]", "must not start with PDFJOB_"],
    ),
    (
        "environment variable from two places",
        {"runner.env": [{"name": "A", "value": "b", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}]},
        ["spec.runner.env[0]", "only one of value, valueFrom"],
    ),
    (
        "environment variable twice",
        {"runner.env": [{"name": "A", "value": "1"}, {"name": "A", "value": "2"}]},
        ["spec.runner.env[1]", "Duplicate value"],
    ),
    ("misspelt field", {"chunking.pagePerChunk": 7}, ["spec.chunking.pagePerChunk", "unknown field"]),
    ("field of a later version", {"webhookRef": {}}, ["spec.webhookRef", "unknown field"]),
    ("credit account without a name", {"creditAccountRef": {}}, ["spec.creditAccountRef.name", "Required value"]),
    (
        "credit account by a name that none can have",
        {"creditAccountRef": {"name": "My Books"}},
        ["spec.creditAccountRef.name", "should match '^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$'"],
    ),
    (
        "credit account with an empty name",
        {"creditAccountRef": {"name": ""}},
        ["spec.creditAccountRef.name", "at least 1 chars"],
    ),
    (
        "no token to reserve",
        {"creditAccountRef": {"name": "books", "estimatedTokens": 0}},
        ["spec.creditAccountRef.estimatedTokens", "greater than or equal to 1"],
    ),
    (
        "tokens to reserve as text",
        {"creditAccountRef": {"name": "books", "estimatedTokens": "many"}},
        ["spec.creditAccountRef.estimatedTokens", "must be of type integer"],
    ),
    ("suspend as text", {"suspend": "yes"}, ["spec.suspend", "must be of type boolean"]),
    ("unknown shutdown", {"shutdown": "Kill"}, ["spec.shutdown", '"Stop", "Cancel"']),
    *(
        (f"{value!r} failed chunks", {"failurePolicy.maxFailedChunks": value}, [_FAILED_CHUNKS, _COUNT_OR_PERCENT])
        for value in (-1, "101%", "ten", "10", "-1%", "1.5%", "%")
    ),
    ("half a failed chunk", {"failurePolicy.maxFailedChunks": 0.5}, [_FAILED_CHUNKS]),
    ("retry without id", {"retryRequest": {"chunks": [2]}}, ["spec.retryRequest.id", "Required value"]),
    ("retry with an empty id", {"retryRequest": {"id": ""}}, ["spec.retryRequest.id", "at least 1 chars"]),
    (
        "one chunk to retry twice",
        {"retryRequest": {"id": "x", "chunks": [2, 2]}},
        ["spec.retryRequest.chunks[1]", "Duplicate value"],
    ),
    (
        "chunk to retry by name",
        {"retryRequest": {"id": "x", "chunks": ["novel-c00002"]}},
        ["spec.retryRequest.chunks[0]", "must be of type integer"],
    ),
    *(
        (
            f"ttl -2 after {outcome}",
            {f"ttlSecondsAfterFinished.{outcome}": -2},
            [f"spec.ttlSecondsAfterFinished.{outcome}", "greater than or equal to -1"],
        )
        for outcome in ("succeeded", "failed", "stopped", "cancelled")
    ),
    ("no time for the job", {"limits.jobTimeoutSeconds": 0}, ["spec.limits.jobTimeoutSeconds", "equal to 1"]),
    ("no time to wait", {"limits.pendingTimeoutSeconds": 0}, ["spec.limits.pendingTimeoutSeconds", "equal to 1"]),
    ("text for an object", {"chunking": "by chapter"}, ["spec.chunking", "must be of type object"]),
    ("list for a text", {"source.http.url": ["a", "b"]}, ["spec.source.http.url", "must be of type string"]),
    (
        "resources that are no quantity map",
        {"runner.resources.limits": ["2Gi"]},
        ["spec.runner.resources.limits", "must be of type object"],
    ),
]

BAD_CHUNKS: list[tuple[str, str, Change, list[str]]] = [
    ("name of another number", "novel-c00003", {}, ["metadata.name", "spec.index in five digits"]),
    ("name without a number", "novel", {}, ["metadata.name", "spec.index in five digits"]),
    ("priority 11", "novel-c00002", {"priority": 11}, ["spec.priority", "priority must be between 0 and 10"]),
    ("pages backwards", "novel-c00002", {"endPage": 100}, ["spec", "endPage must not be before startPage"]),
    ("page 0", "novel-c00002", {"startPage": 0}, ["spec.startPage", "greater than or equal to 1"]),
    ("negative number", "novel-c00002", {"index": -1}, ["spec.index", "greater than or equal to 0"]),
    ("retry without id", "novel-c00002", {"retryRequest": {"force": True}}, ["spec.retryRequest.id", "Required"]),
    ("no file", "novel-c00002", {"storageURI": ABSENT}, ["spec.storageURI", "Required value"]),
]


BAD_ACCOUNTS: list[tuple[str, str, Change, list[str]]] = [
    ("negative balance", "books", {"balance": -1}, ["spec.balance", "greater than or equal to 0"]),
    ("no balance", "books", {"balance": ABSENT}, ["spec.balance", "Required value"]),
    ("balance beyond all bounds", "books", {"balance": 10**15 + 1}, ["spec.balance", "less than or equal to"]),
    ("half a token", "books", {"balance": 0.5}, ["spec.balance", "must be of type integer"]),
    ("balance as text", "books", {"balance": "1M"}, ["spec.balance", "must be of type integer"]),
    ("misspelt field", "books", {"tokens": 1}, ["spec.tokens", "unknown field"]),
    ("name with a blank and capitals", "My Books", {}, ["metadata.name", "lowercase RFC 1123"]),
]


def refusal(room: str, manifest: dict[str, Any]) -> str:
    done = kubectl("-n", room, "create", "--dry-run=server", "-f", "-", stdin=text(manifest), check=False)
    assert done.returncode != 0, f"accepted: {done.stdout}"
    return done.stderr


@pytest.mark.parametrize(("changes", "words"), [case[1:] for case in BAD_JOBS], ids=[case[0] for case in BAD_JOBS])
def test_bad_pdfjob_is_refused_and_told_why(room: str, changes: Change, words: list[str]) -> None:
    message = refusal(room, pdfjob(changes))
    for word in words:
        assert word in message


@pytest.mark.parametrize(
    ("name", "changes", "words"), [case[1:] for case in BAD_CHUNKS], ids=[case[0] for case in BAD_CHUNKS]
)
def test_bad_pdfchunk_is_refused_and_told_why(room: str, name: str, changes: Change, words: list[str]) -> None:
    message = refusal(room, pdfchunk(changes, name=name))
    for word in words:
        assert word in message


@pytest.mark.parametrize(
    ("name", "changes", "words"), [case[1:] for case in BAD_ACCOUNTS], ids=[case[0] for case in BAD_ACCOUNTS]
)
def test_bad_creditaccount_is_refused_and_told_why(room: str, name: str, changes: Change, words: list[str]) -> None:
    message = refusal(room, creditaccount(changes, name=name))
    for word in words:
        assert word in message


def test_priority_is_refused_in_exactly_these_words_and_once(room: str) -> None:
    message = refusal(room, pdfjob({"priority": 11}))
    assert message.strip().endswith("spec.priority: Invalid value: 11: priority must be between 0 and 10")


def test_name_too_long_for_child_jobs_is_refused(room: str) -> None:
    assert "metadata.name must have at most 50 characters" in refusal(room, pdfjob(name="n" * 51))
    kubectl("-n", room, "create", "--dry-run=server", "-f", "-", stdin=text(pdfjob(name="n" * 50)))


IMMUTABLE: list[tuple[str, Change, str]] = [
    ("another url", {"source.http.url": "https://example.com/other.pdf"}, "spec.source is immutable"),
    ("sha256 taken out", {"source.http.sha256": ABSENT}, "spec.source is immutable"),
    ("s3 instead of http", {"source": {"s3": {"key": "k"}}}, "spec.source is immutable"),
    ("repair instead of strict", {"source.repair": "Repair"}, "spec.source is immutable"),
    ("another size", {"chunking.pagesPerChunk": 30}, "spec.chunking is immutable"),
    ("size taken out", {"chunking.pagesPerChunk": ABSENT}, "spec.chunking is immutable"),
    ("chunking taken out", {"chunking": ABSENT}, "spec.chunking is immutable"),
    ("another threshold", {"chunking.thresholdPages": 7}, "spec.chunking is immutable"),
    ("another overlap", {"chunking.overlapPages": 2}, "spec.chunking is immutable"),
    ("another language", {"processor.local.language": "fr"}, "spec.processor is immutable"),
    ("language taken out", {"processor.local.language": ABSENT}, "spec.processor is immutable"),
    ("processor taken out", {"processor": ABSENT}, "spec.processor is immutable"),
    ("another processor", {"processor": {"custom": {"image": "example.com/a"}}}, "spec.processor is immutable"),
    ("credit account named later", {"creditAccountRef": {"name": "books"}}, "spec.creditAccountRef.name is immutable"),
]


@pytest.mark.parametrize(("changes", "words"), [case[1:] for case in IMMUTABLE], ids=[case[0] for case in IMMUTABLE])
def test_edit_of_what_the_chunks_were_made_from_is_refused(job: str, changes: Change, words: str) -> None:
    assert words in replacement_refusal(job, pdfjob(changes))


@pytest.mark.parametrize("change", [{"config": {"depth": 2}}, {"config": ABSENT}, {"args": ["b"]}, {"args": ABSENT}])
def test_edit_of_a_custom_processor_is_refused(namespace: str, change: Change) -> None:
    custom = {"image": "example.com/a", "args": ["a"], "config": {"depth": 1, "deep": {"list": [1]}}}
    kubectl("-n", namespace, "create", "-f", "-", stdin=text(pdfjob({"processor": {"custom": custom}})))
    edited = {key: value for key, value in (custom | change).items() if value is not ABSENT}
    assert "spec.processor is immutable" in replacement_refusal(namespace, pdfjob({"processor": {"custom": edited}}))


def test_who_pays_is_settled_at_creation_and_how_much_is_reserved_is_not(namespace: str) -> None:
    def paid_by(name: str, **more: int) -> dict[str, Any]:
        return pdfjob({"creditAccountRef": {"name": name, **more}})

    kubectl("-n", namespace, "create", "-f", "-", stdin=text(paid_by("books")))
    words = "spec.creditAccountRef.name is immutable"
    assert words in replacement_refusal(namespace, paid_by("others"))
    assert words in replacement_refusal(namespace, pdfjob())
    done = replaced(namespace, paid_by("books", estimatedTokens=5000))
    assert done.returncode == 0, done.stderr


def test_edit_of_the_plan_of_a_chunk_is_refused(namespace: str) -> None:
    kubectl("-n", namespace, "create", "-f", "-", stdin=text(pdfchunk()))
    for field, value in {"startPage": 100, "sha256": "1" * 64, "contextAfter": ABSENT, "index": 3}.items():
        assert "is immutable" in replacement_refusal(namespace, pdfchunk({field: value}))
    assert replaced(namespace, pdfchunk({"priority": 9, "maxRetries": 0})).returncode == 0


SHUTDOWN = "spec.shutdown is for good: only Stop may still become Cancel"


def test_shutdown_is_for_good_but_for_stop_that_becomes_cancel(namespace: str) -> None:
    def patched(value: str) -> str:
        patch = ("--type=merge", "-p", f'{{"spec":{{"shutdown":{value}}}}}')
        return kubectl("-n", namespace, "patch", "pdfjob", "novel", *patch, check=False).stderr

    kubectl("-n", namespace, "create", "-f", "-", stdin=text(pdfjob({"shutdown": "Stop"})))
    assert SHUTDOWN in patched("null")
    assert SHUTDOWN in replacement_refusal(namespace, pdfjob())
    assert patched('"Stop"') == ""
    assert patched('"Cancel"') == ""
    assert SHUTDOWN in patched('"Stop"')
    assert SHUTDOWN in patched("null")
    assert SHUTDOWN in replacement_refusal(namespace, pdfjob())


def replacement_refusal(namespace: str, manifest: dict[str, Any]) -> str:
    done = replaced(namespace, manifest)
    assert done.returncode != 0, f"accepted: {done.stdout}"
    return done.stderr
