"""Two operators: one works, the other takes over, and never do both write."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final

import pytest

from tests.support import pdfs
from tests.support.audit import Write, operator_writes, writes_of_pod
from tests.support.cluster import fresh_namespace, kubectl, kubectl_json
from tests.support.once import assert_nothing_done_twice
from tests.support.product import (
    SYSTEM,
    Job,
    Storage,
    install,
    kill_containers,
    leader,
    operator_pods,
    signal_containers,
    submit,
    throttled,
    wait_for_operator,
    wait_until,
)

pytestmark = pytest.mark.alone

CHUNKS: Final = 24
HAND_OVER_SECONDS: Final = 3
LEASE_SECONDS: Final = 10


@pytest.fixture(scope="module")
def place(installed: None) -> Iterator[str]:
    """A namespace, while the product has two operators."""
    install("operator.replicas=2")
    try:
        with fresh_namespace() as name:
            key = f"pdfjob/inbox/{name}/book.pdf"
            Storage.connect().put(key, pdfs.text_pdf(2 * CHUNKS))
            yield name
    finally:
        install()


@pytest.fixture
def job(place: str, request: pytest.FixtureRequest) -> Job:
    """A job in the middle of its chunks, which end one after the other: there is always something to write."""
    wait_for_operator()
    wait_until(lambda: len(operator_pods()) == 2, "two operators")
    name = request.node.name.removeprefix("test_").replace("_", "-")[:40].strip("-")
    source = {"s3": {"key": f"pdfjob/inbox/{place}/book.pdf"}}
    chunking = {"pagesPerChunk": 2, "thresholdPages": 0}
    made = submit(place, name, source, chunking=chunking, parallelism=4, runner=throttled(0.6))
    wait_until(lambda: count(made, "Succeeded") >= 2, "some chunks are done")
    return made


def count(job: Job, phase: str) -> int:
    return sum(chunk.get("status", {}).get("phase") == phase for chunk in job.chunks())


def pods() -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the pod of the leader and the one of the standby."""
    name = leader()
    first, second = operator_pods()
    return (first, second) if first["metadata"]["name"] == name else (second, first)


def name_of(pod: dict[str, Any]) -> str:
    name: str = pod["metadata"]["name"]
    return name


def ask(pod: dict[str, Any], path: str) -> str:
    return kubectl("get", "--raw", f"/api/v1/namespaces/{SYSTEM}/pods/{name_of(pod)}:8080/proxy{path}").stdout


def first_write(job: Job, by: str) -> Write | None:
    """Return the first write of a pod in the namespace of a job."""
    return next((write for write in operator_writes(job.namespace) if write.pod == by), None)


def assert_under_way(job: Job) -> None:
    """Assert that there is work left; to be asked at once, while whoever leads goes on with it."""
    assert count(job, "Succeeded") < CHUNKS, "the hand-over came after the last chunk"


def end_well(job: Job) -> None:
    job.succeed()
    assert_nothing_done_twice(job)


def test_a_container_that_is_restarted_takes_its_own_lease_back_at_once(product: None) -> None:
    (pod,) = operator_pods()
    before = kubectl_json("get", "lease", "pdfjob", "-n", SYSTEM)["spec"]
    kill_containers(pod)

    def told() -> dict[str, datetime] | None:
        # First whether it was restarted: a log read before that is the earlier container's.
        if operator_pods()[0]["status"]["containerStatuses"][0]["restartCount"] == restarts:
            return None
        log = kubectl("logs", name_of(pod), "-n", SYSTEM, check=False).stdout
        found = {entry["event"]: datetime.fromisoformat(entry["time"]) for entry in entries(log)}
        return found if "operator ready" in found else None

    restarts = pod["status"]["containerStatuses"][0]["restartCount"]
    times = wait_until(told, "it works again")
    assert (times["leading"] - times["waiting for the lease"]).total_seconds() < HAND_OVER_SECONDS
    after = kubectl_json("get", "lease", "pdfjob", "-n", SYSTEM)["spec"]
    assert [after[key] for key in ("holderIdentity", "leaseTransitions", "acquireTime")] == [
        before[key] for key in ("holderIdentity", "leaseTransitions", "acquireTime")
    ]


def entries(log: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in log.splitlines() if line.startswith("{")]


def test_the_standby_is_ready_and_says_so_and_writes_nothing(job: Job) -> None:
    works, waits = pods()
    assert_under_way(job)
    assert ask(works, "/readyz") == "ready: leading"
    assert ask(waits, "/readyz") == "ready: standby"
    assert ask(waits, "/livez").startswith("oldest unreconciled key: 0 s")
    assert "\npdfjob_is_leader 1.0" in ask(works, "/metrics")
    assert "\npdfjob_is_leader 0.0" in ask(waits, "/metrics")
    end_well(job)
    assert leader() == name_of(works)
    # When it began, both may have reached for the lease.
    assert [write for write in writes_of_pod(name_of(waits)) if (write.resource, write.code) != ("leases", 409)] == []
    leases = {write.name for write in writes_of_pod(name_of(works)) if write.resource == "leases"}
    assert leases == {"pdfjob"}


def test_sigterm_hands_over_at_once(job: Job) -> None:
    works, waits = pods()
    kubectl("delete", "pod", name_of(works), "-n", SYSTEM, "--wait=false")
    works_now = wait_until(partial(first_write, job, name_of(waits)), "the standby works", 30).asked
    assert_under_way(job)
    *_, released = writes_of_pod(name_of(works))
    assert released.resource == "leases", "the old one ended what it had in hand, and then released the lease"
    later = (write for write in writes_of_pod(name_of(waits)) if write.time > released.time)
    taken = next(write for write in later if write.code == 200)
    assert taken.resource == "leases"
    assert (taken.asked - released.asked).total_seconds() < HAND_OVER_SECONDS
    assert released.time < works_now, "the old one had ended before the new one began"
    assert (works_now - released.asked).total_seconds() < LEASE_SECONDS, "nobody waited for the lease to expire"
    end_well(job)


def test_a_leader_that_is_gone_without_a_word_is_followed_within_20_seconds(job: Job) -> None:
    works, waits = pods()
    killed = datetime.now(UTC)
    kill_containers(works)
    kubectl("delete", "pod", name_of(works), "-n", SYSTEM, "--grace-period=0", "--force", "--wait=false")
    taken = wait_until(partial(first_write, job, name_of(waits)), "the standby works", 30).asked
    assert_under_way(job)
    assert (taken - killed).total_seconds() < 20
    end_well(job)


def test_a_leader_that_stood_still_writes_nothing_when_it_goes_on_and_ends(job: Job) -> None:
    works, waits = pods()
    restarts = works["status"]["containerStatuses"][0]["restartCount"]
    signal_containers(works, "SIGSTOP")
    stopped = datetime.now(UTC)
    try:
        taken = wait_until(partial(first_write, job, name_of(waits)), "the standby works", 30).asked
        assert_under_way(job)
        assert (taken - stopped).total_seconds() < 20
    finally:
        signal_containers(works, "SIGCONT")

    def ended() -> Any:
        now = kubectl_json("get", "pod", name_of(works), "-n", SYSTEM)["status"]["containerStatuses"][0]
        return now["restartCount"] > restarts and now["lastState"]["terminated"]

    assert wait_until(ended, "the old leader ends")["exitCode"] == 1
    wait_for_operator()
    end_well(job)
    assert [write for write in writes_of_pod(name_of(works)) if write.asked > stopped] == []
    assert leader() == name_of(waits)
