"""Credit accounts: the estimate is reserved before a job starts, and in the end the account is right to the token."""

from __future__ import annotations

import json
import random
import time
from dataclasses import dataclass
from typing import Any, Final

import pytest

from gemini_stub import Scenario, ScriptLine
from tests.support import pdfs
from tests.support.cluster import kubectl, kubectl_json
from tests.support.gemini import MODEL, RUNNER, StubKey, StubPod
from tests.support.product import Job, Storage, kill_operator, run_plugin, submit, wait_until

pytestmark = pytest.mark.alone

JOBS: Final = 50
PAGES: Final = 4
ESTIMATE: Final = 10_000
KILLS: Final = 3


@dataclass(frozen=True)
class Account:
    """A CreditAccount of a test."""

    namespace: str
    name: str

    @property
    def status(self) -> dict[str, Any]:
        """Its status; the sum is right in every state that speaks of its present balance."""
        found = kubectl_json("get", "creditaccount", self.name, "-n", self.namespace)
        status: dict[str, Any] = found.get("status") or {}
        if status.get("observedGeneration") == found["metadata"]["generation"]:
            total = status["available"] + status["reserved"] + status["charged"]
            assert total == found["spec"]["balance"], status
        return status

    def is_at_rest(self) -> bool:
        """Whether no job holds anything."""
        status = self.status
        return "observedGeneration" in status and status["reservations"] == [] and status["openReservations"] == 0


def open_account(place: str, name: str, balance: int) -> Account:
    body = {
        "apiVersion": "pdfjob.dev/v1alpha1",
        "kind": "CreditAccount",
        "metadata": {"name": name, "namespace": place},
        "spec": {"balance": balance},
    }
    kubectl("create", "-f", "-", stdin=json.dumps(body))
    return Account(place, name)


def document(place: str, pages: int = PAGES) -> dict[str, Any]:
    key = f"pdfjob/inbox/{place}/{pages}.pdf"
    Storage.connect().put(key, pdfs.text_pdf(pages, lines=4))
    return {"s3": {"key": key}}


def send(place: str, name: str, key: StubKey, account: str, source: dict[str, Any], **spec: Any) -> Job:
    """Submit a document of which each chunk has two pages and asks once."""
    secret = key.secret(place, name)
    gemini = {"model": MODEL, "apiKeySecretRef": {"name": secret}, "baseUrl": key.stub.pod_url, "windowPages": 2}
    values = {
        "chunking": {"pagesPerChunk": 2, "thresholdPages": 0},
        "retryPolicy": {"maxRetries": 0},
        "runner": RUNNER,
        "cache": "Ignore",
        "creditAccountRef": {"name": account, "estimatedTokens": ESTIMATE},
        **spec,
    }
    return submit(place, name, source, processor={"gemini": gemini}, **values)


def total(tokens: dict[str, int]) -> int:
    return tokens["input"] + tokens["output"] + tokens["thinking"]


def used(job: Job) -> int:
    """Return the tokens of all results that the chunks of a job have ever had."""
    statuses = [chunk["status"] for chunk in job.chunks()]
    return sum(
        status.get("tokensBefore", 0) + (total(status["result"]["tokens"]) if "result" in status else 0)
        for status in statuses
    )


def record(storage: Storage, place: str, name: str) -> dict[str, Any]:
    """Return the history record of a PdfJob that is gone."""
    (key,) = [key for key in storage.keys(f"pdfjob/history/{place}/{name}/") if key.endswith("/job.json")]
    found: dict[str, Any] = json.loads(storage.read(key))
    return found


SCENARIOS: Final = (
    Scenario(latency_seconds=0.3, thinking_tokens=5),
    Scenario(latency_seconds=0.1),
    Scenario(script=(ScriptLine("safety", page=2),)),  # the chunk delivers, the job fails
    Scenario(models=("gemini-other",)),  # nothing is ever delivered
    Scenario(latency_seconds=1),  # cancelled
    Scenario(latency_seconds=1),  # deleted
)
CANCELLED: Final = 4
DELETED: Final = 5


def test_fifty_jobs_with_failures_cancels_deletions_and_operator_kills_settle_to_the_token(
    place: str, product: None, stub: StubPod, storage: Storage
) -> None:
    """A third of them fits into the account at a time; the others wait for what those give back."""
    balance = 20 * ESTIMATE
    account, source = open_account(place, "team", balance), document(place)
    keys = [stub.key(SCENARIOS[number % len(SCENARIOS)]) for number in range(JOBS)]
    jobs = [send(place, f"job-{n:02d}", key, "team", source, parallelism=2) for n, key in enumerate(keys)]
    chance = random.Random(11)
    doomed = [n for n in range(JOBS) if n % len(SCENARIOS) in {CANCELLED, DELETED}]
    chance.shuffle(doomed)
    kills = sorted(chance.sample(range(2, len(doomed)), KILLS))
    for turn, number in enumerate(doomed):
        if turn in kills:
            kill_operator()
        time.sleep(chance.uniform(0, 4))  # they shall be met at any stage: there is nothing to wait for
        if number % len(SCENARIOS) == CANCELLED:
            jobs[number].edit(shutdown="Cancel")
        else:
            kubectl("delete", "pdfjob", jobs[number].name, "-n", place, "--wait=false")
        account.status  # noqa: B018 the sum is asserted at each look
    gone = [job for number, job in enumerate(jobs) if number % len(SCENARIOS) == DELETED]
    left = [job for job in jobs if job not in gone]
    for job in left:
        job.wait(600)
    for job in gone:
        kubectl("wait", "--for=delete", f"pdfjob/{job.name}", "-n", place, "--timeout=120s", timeout=130)
    waited = kubectl_json("get", "events", "-n", place, "--field-selector", "reason=InsufficientCredits")["items"]
    assert waited, "no job ever waited: the account was not short"
    jobs[0].retry("again", chunks=[1], force=True)
    jobs[0].wait_for(phase="Succeeded", timeout=120)
    wait_until(account.is_at_rest, "every reservation is settled", 60)

    of_left = {job.name: used(job) for job in left}
    of_gone = {job.name: record(storage, place, job.name)["charged"] for job in gone}
    status = account.status
    assert status["charged"] == sum(of_left.values()) + sum(of_gone.values()), (status, of_left, of_gone)
    assert (status["available"], status["reserved"]) == (balance - status["charged"], 0)
    for number, job in enumerate(jobs):
        if job in gone:
            continue
        told = job.status.get("credits") or {"charged": 0, "chargedEarlier": 0, "reserved": 0, "refunded": 0}
        assert told["charged"] + told["chargedEarlier"] == of_left[job.name], job.name
        assert told["refunded"] == max(told["reserved"] - told["charged"], 0), job.name
        assert job.condition("CreditsSettled")["status"] == "True", job.name
        kind, answered = number % len(SCENARIOS), total(keys[number].counts["tokens"])
        assert (job.status["phase"], of_left[job.name]) == {
            0: ("Succeeded", answered),
            1: ("Succeeded", answered),
            2: ("Failed", answered),
            3: ("Failed", 0),
            CANCELLED: (job.status["phase"], of_left[job.name]),
        }[kind], f"{job.name}: {job.status}"
        assert of_left[job.name] <= answered
    assert jobs[0].status["credits"]["run"] == 2


def test_a_job_waits_for_its_account_and_for_tokens_and_goes_on_when_they_are_there(
    place: str, product: None, stub: StubPod
) -> None:
    key = stub.key()
    job = send(place, "poor", key, "late", document(place))
    message = job.wait_for_condition("CreditsReserved", "False", "CreditAccountNotFound")
    assert "late" in message
    assert job.status["currentStep"] == "Waiting: CreditAccountNotFound"
    account = open_account(place, "late", ESTIMATE - 1)
    message = job.wait_for_condition("CreditsReserved", "False", "InsufficientCredits")
    assert f"kubectl pdfjob credits late -n {place} --add 1" in message
    assert key.counts["requests"] == 0
    assert job.children("jobs") == []
    done = run_plugin("credits", "late", "-n", place, "--add", "1")
    assert done.returncode == 0, done.stderr
    assert job.succeed()["credits"]["reserved"] == ESTIMATE
    job.wait_for_condition("CreditsSettled", "True", "TokensRefunded")
    wait_until(account.is_at_rest, "it is settled", 60)
    assert account.status["charged"] == used(job) == total(key.counts["tokens"])
    shown = run_plugin("credits", "late", "-n", place)
    assert f"Charged:    {used(job):,}" in shown.stdout


def test_what_is_in_the_cache_costs_nothing_and_needs_no_tokens(place: str, product: None, stub: StubPod) -> None:
    key, source = stub.key(), document(place, 6)
    account = open_account(place, "thrifty", ESTIMATE)
    send(place, "paid", key, "thrifty", source, cache="Use").succeed()
    wait_until(account.is_at_rest, "it is settled", 60)
    charged = account.status["charged"]
    again = send(place, "free", key, "thrifty", source, cache="Use")
    assert again.succeed()["chunks"]["cached"] == 3
    assert account.status["charged"] == charged == total(key.counts["tokens"])
    assert "credits" not in again.status
    assert again.condition("CreditsSettled")["message"] == "nothing was reserved"
