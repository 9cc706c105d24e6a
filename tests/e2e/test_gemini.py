"""Language work against the Gemini stub: nothing is paid twice, no page is lost, and errors say what to do."""

from __future__ import annotations

import json
import random
import time
from typing import Any, Final

from gemini_stub import Scenario, ScriptLine
from tests.support import pdfs
from tests.support.cluster import kubectl
from tests.support.gemini import RUNNER, StubKey, StubPod
from tests.support.product import Job, Storage, signal_containers, submit, wait_until

LONG: Final = 200
"""Pages of the document that is disturbed in every way."""
KILLS: Final = 10
MOST_PAID: Final = 1.02
"""Windows paid for each window that there is."""
SECONDS_AFTER_CANCEL: Final = 5.0
MOST_SECONDS_AGAIN: Final = 5 + 5
"""For a document that was done before: 5, and its merge."""


def document(place: str, pages: int, data: bytes | None = None) -> dict[str, Any]:
    name = f"{pages}.pdf" if data is None else f"{pages}-other.pdf"
    return Storage.connect().source(place, name, data or pdfs.text_pdf(pages, lines=4))


def send(place: str, name: str, key: StubKey, pages: int, *, chunk: int, window: int, **spec: Any) -> Job:
    """Submit a document of so many pages; the Secret bears the job's name, so that jobs may have keys of their own."""
    secret = key.secret(place, name)
    gemini = {**key.processor(place)["gemini"], "apiKeySecretRef": {"name": secret}, "windowPages": window}
    gemini |= spec.pop("gemini", {})
    source = spec.pop("source", None) or document(place, pages)
    values = {
        "chunking": {"pagesPerChunk": chunk, "thresholdPages": 0},
        "retryPolicy": {"maxRetries": 3, "backoff": {"initialSeconds": 1, "maxSeconds": 5}},
        "runner": RUNNER,
        "cache": "Ignore",  # what another test has paid for is of no use here
        **spec,
    }
    return submit(place, name, source, processor={"gemini": gemini}, **values)


def pages_of(job: Job, storage: Storage) -> list[int]:
    """Return the pages that have sentences in the result, each once."""
    lines = [json.loads(line) for line in job.result(storage).splitlines()]
    return sorted({line["page"] for line in lines if "page" in line})


def test_a_long_document_comes_through_a_stumbling_service_and_killed_runners_and_nothing_is_paid_twice(
    place: str, product: None, stub: StubPod, storage: Storage
) -> None:
    rates = {"rate_limit": 0.05, "error_500": 0.03, "cut": 0.02}
    key = stub.key(Scenario(latency_seconds=2, rates=rates, seed=7, retry_after_seconds=1))  # until all are killed
    policy = {"maxRetries": 20, "backoff": {"initialSeconds": 1, "maxSeconds": 2}}  # a SIGKILL by hand counts
    limits = {"itemTimeoutSeconds": 20}
    job = send(place, "disturbed", key, LONG, chunk=20, window=2, parallelism=4, limits=limits, retryPolicy=policy)
    chance, killed = random.Random(7), 0
    deadline = time.monotonic() + 240
    while killed < KILLS and time.monotonic() < deadline and job.status.get("phase") not in {"Succeeded", "Failed"}:
        running = job.running_pods()
        if running:
            pod = chance.choice(running)
            if killed % 2:
                signal_containers(pod, "SIGKILL")
            else:
                kubectl("delete", "pod", pod["metadata"]["name"], "-n", place, "--wait=false", check=False)
            killed += 1
        time.sleep(1.5)
    key.set(Scenario(latency_seconds=0.4, rates=rates, seed=7, retry_after_seconds=1))
    status = job.succeed(300)
    assert killed == KILLS, "the job was over before it was disturbed"
    assert pages_of(job, storage) == list(range(1, LONG + 1))
    assert (status["items"], status["result"]["partial"]) == ({"total": LONG, "done": LONG, "failed": 0}, False)
    counts = key.counts
    faults = counts["faults"]
    assert all(faults.get(fault, 0) > 0 for fault in rates), f"not disturbed by the service: {faults}"
    paid, windows = counts["windows_paid"], len(counts["windows"])
    assert windows >= LONG / 2
    assert paid / windows <= MOST_PAID, {window: times for window, times in counts["windows"].items() if times > 1}


def test_tokens_are_told_to_the_token_and_the_key_is_nowhere_but_in_its_secret(
    place: str, product: None, stub: StubPod, storage: Storage
) -> None:
    cut = ScriptLine("not_json", page=4, times=1)
    key = stub.key(Scenario(thinking_tokens=7, cached_share=0.25, script=(cut,), latency_seconds=0.2))
    job = send(place, "tokens", key, 12, chunk=6, window=3)
    wait_until(lambda: job.children("pods"), "a runner is there", interval=0.2)
    pods = json.dumps([job.children("pods"), job.children("jobs"), job.chunks(), job.get()])
    assert key.value not in pods
    status = job.succeed()
    counts = key.counts
    assert counts["requests"] == 5, "four windows, one of them asked again"
    assert status["tokens"] == counts["tokens"]
    of_chunks = [chunk["status"]["result"]["tokens"] for chunk in job.chunks()]
    assert {kind: sum(each[kind] for each in of_chunks) for kind in of_chunks[0]} == counts["tokens"]
    assert status["estimatedTokens"] > 0
    assert pages_of(job, storage) == list(range(1, 13))
    assert counts["in_flight_most"] <= 2


def test_a_scan_goes_through_in_mode_pdf(place: str, product: None, stub: StubPod, storage: Storage) -> None:
    key = stub.key()
    source = document(place, 5, pdfs.image_pdf(5, 200))
    job = send(
        place, "scan", key, 5, chunk=3, window=2, source=source, gemini={"mode": "Pdf", "mediaResolution": "Low"}
    )
    job.succeed()
    assert pages_of(job, storage) == [1, 2, 3, 4, 5]
    sent = key.counts["recent"]
    assert {entry["mode"] for entry in sent} == {"Pdf"}
    assert sorted(page for entry in sent for page in entry["pages"]) == [1, 2, 3, 4, 5]


def test_a_key_that_is_missing_or_refused_costs_one_pod_at_a_time_and_the_job_goes_on_when_it_is_good(
    place: str, product: None, stub: StubPod
) -> None:
    key = stub.key()
    policy = {"backoff": {"initialSeconds": 5, "maxSeconds": 5}}  # time to look before it is tried once more
    job = send(place, "locked", key, 8, chunk=2, window=2, parallelism=4, retryPolicy=policy, suspend=True)
    kubectl("delete", "secret", "locked", "-n", place)
    job.edit(suspend=False)
    message = job.wait_for_condition("Degraded", "True", "AUTH_ERROR")
    assert "locked" in message
    assert "kubectl create secret generic locked" in message
    assert sum(chunk["status"].get("starts", 0) for chunk in job.chunks()) <= 2
    assert key.counts["requests"] == 0
    key.revoke()
    key.secret(place, "locked")
    wait_until(lambda: "not valid" in job.condition("Degraded").get("message", ""), "the service refuses the key")
    assert [chunk["status"]["attempts"] for chunk in job.chunks() if chunk["status"]["phase"] != "Running"].count(
        0
    ) >= 3
    stub.key().secret(place, "locked")
    job.retry("good")
    job.succeed()
    assert job.condition("Degraded")["status"] == "False"


def test_pages_that_the_service_refuses_are_named_and_count_against_the_policy(
    place: str, product: None, stub: StubPod, storage: Storage
) -> None:
    refused = (ScriptLine("recitation", page=3), ScriptLine("safety", page=6))
    key = stub.key(Scenario(script=refused))
    job = send(place, "refused", key, 8, chunk=4, window=4)
    status = job.wait()
    assert status["phase"] == "Failed"
    assert (status["items"]["done"], status["items"]["failed"]) == (6, 2)
    assert job.condition("Merged")["reason"] == "PagesFailed"
    assert job.phases() == ["Succeeded", "Succeeded"], "the pages count, not the chunks"
    assert "kubectl pdfjob retry refused --chunk 0 --chunk 1 --force" in status["lastError"]["message"]
    asked = key.counts["requests"]
    job.edit(failurePolicy={"maxFailedItems": "25%"})
    job.retry("merge")
    status = job.succeed()
    assert key.counts["requests"] == asked, "what was paid for is merged"
    assert (status["result"]["partial"], status["result"]["missingPages"]) == (True, "3,6")
    gaps = [json.loads(line) for line in job.result(storage).splitlines() if b"missing" in line]
    assert gaps == [{"missing": [3, 3], "code": "RECITATION"}, {"missing": [6, 6], "code": "BLOCKED"}]


def test_a_pause_lets_the_request_in_hand_come_back_and_a_cancel_does_not(
    place: str, product: None, stub: StubPod, storage: Storage
) -> None:
    key = stub.key(Scenario(latency_seconds=2))
    job = send(place, "paused", key, 24, chunk=12, window=1, parallelism=2)
    wait_until(lambda: key.counts["windows_paid"] >= 2, "windows are paid", 60, interval=0.1)
    job.edit(suspend=True)
    job.wait_for_condition("Suspended", "True", "Suspended")
    still = key.counts
    time.sleep(3)
    assert key.counts["requests"] == still["requests"], "a paused job asks for nothing"
    job.edit(suspend=False)
    wait_until(lambda: key.counts["windows_paid"] >= still["windows_paid"] + 2, "it goes on", 60, interval=0.1)
    counts = key.counts
    assert set(counts["windows"].values()) == {1}, "nothing is asked for twice"
    job.edit(shutdown="Cancel")
    time.sleep(SECONDS_AFTER_CANCEL)
    after = key.counts
    assert after["in_flight"] == 0
    time.sleep(3)
    assert key.counts["requests"] == after["requests"]
    assert job.wait()["phase"] == "Cancelled"


def test_a_daily_quota_is_waited_for_and_a_model_that_is_not_there_is_named(
    place: str, product: None, stub: StubPod
) -> None:
    spent = stub.key(Scenario(script=(ScriptLine("daily_quota"),)))
    daily = send(place, "daily", spent, 2, chunk=2, window=2)
    unknown = stub.key(Scenario(models=("gemini-other",)))
    wrong = send(place, "wrong", unknown, 8, chunk=2, window=2)
    status = wrong.wait()
    assert status["phase"] == "Failed"
    assert "gemini-test" in status["lastError"]["message"]
    assert unknown.counts["requests"] == 1

    def refused() -> dict[str, Any] | None:
        chunk: dict[str, Any] = daily.chunks()[0]["status"] if daily.chunks() else {}
        return chunk if chunk.get("phase") == "RetryScheduled" else None

    chunk = wait_until(refused, "the quota is spent", 60)
    assert chunk["lastError"]["code"] == "RATE_LIMIT"
    assert "daily quota" in chunk["lastError"]["message"]
    assert chunk["attempts"] == 0
    spent.set(Scenario())
    daily.retry("tomorrow")
    daily.succeed()


def test_the_same_document_again_asks_for_nothing_and_is_done_at_once(
    place: str, product: None, stub: StubPod, storage: Storage
) -> None:
    key = stub.key(Scenario(latency_seconds=0.1))
    source = document(place, 40, pdfs.text_pdf(40, lines=3))
    settings: dict[str, Any] = {"chunk": 5, "window": 5, "source": source, "cache": "Use"}
    first = send(place, "paid", key, 40, **settings)
    paid = first.succeed()
    requests = key.counts["requests"]
    assert (requests, paid["chunks"]["cached"]) == (8, 0)

    again = send(place, "again", key, 40, **settings)
    status = again.succeed()
    assert key.counts["requests"] == requests, "nothing is asked for"
    assert (status["chunks"]["cached"], status["chunks"]["total"]) == (8, 8)
    assert "tokens" not in status
    assert all(chunk["status"].get("starts", 0) == 0 for chunk in again.chunks())
    assert again.children("jobs") == []
    assert again.result(storage) == first.result(storage)
    assert status["processingSeconds"] <= MOST_SECONDS_AGAIN
    again.wait_for_event("8 of 8 chunks were taken from the cache")

    kubectl("delete", "pdfjob", "paid", "-n", place)
    send(place, "ignoring", key, 40, **{**settings, "cache": "Ignore"}).succeed()
    assert key.counts["requests"] == 2 * requests
    other = stub.key(Scenario(models=("gemini-other",)))
    send(place, "other", other, 40, gemini={"model": "gemini-other"}, **settings).succeed()
    assert other.counts["requests"] == requests, "another model answers something else"
    assert send(place, "late", key, 40, **settings).succeed()["chunks"]["cached"] == 8, "the cache outlives the job"
    again.retry("better", chunks=[3], force=True)
    wait_until(lambda: key.counts["requests"] == 2 * requests + 1, "a forced retry asks again", 60)
    assert again.succeed()["chunks"]["cached"] == 7
