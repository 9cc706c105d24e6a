"""What the PdfJobs of a namespace came to, read in one go; and how the operator bore it."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

from tests.support.cluster import kubectl, kubectl_json
from tests.support.product import SYSTEM, operator_pods, wait_until

_SAMPLE_SECONDS: Final = 2.0


@dataclass(frozen=True)
class Event:
    """An Event of a PdfJob."""

    type: str
    reason: str
    message: str


@dataclass
class Outcome:
    """A PdfJob and what belongs to it."""

    job: dict[str, Any]
    events: list[Event] = field(default_factory=list)
    chunks: list[dict[str, Any]] = field(default_factory=list)
    children: list[dict[str, Any]] = field(default_factory=list)
    """Its child Jobs and pods."""

    @property
    def status(self) -> dict[str, Any]:
        """The PdfJob's status."""
        status: dict[str, Any] = self.job.get("status") or {}
        return status

    def condition(self, kind: str) -> dict[str, Any]:
        """Return one condition; empty when it is not there."""
        return next((item for item in self.status.get("conditions", []) if item["type"] == kind), {})


def outcomes(namespace: str) -> dict[str, Outcome]:
    """Return every PdfJob of a namespace by name, once the Events that tell of the ends are written."""
    found: dict[str, Outcome] = {}

    def told() -> bool:
        found.update(_outcomes(namespace))
        return all(_is_told(outcome) for outcome in found.values())

    wait_until(told, "each end is told by an Event", 30)
    return found


def _is_told(outcome: Outcome) -> bool:
    """Whether the Event of the end, which comes last and after the status, is there, should the PdfJob have ended."""
    finished = outcome.condition("Finished")
    return finished.get("status") != "True" or any(event.reason == finished["reason"] for event in outcome.events)


def _outcomes(namespace: str) -> dict[str, Outcome]:
    items = kubectl_json("get", "pdfjobs,pdfchunks,jobs,pods,events", "-n", namespace)["items"]
    found = {item["metadata"]["name"]: Outcome(item) for item in items if item["kind"] == "PdfJob"}
    for item in items:
        owner = item["metadata"].get("labels", {}).get("pdfjob.dev/job")
        if item["kind"] == "Event" and item["involvedObject"]["name"] in found:
            event = Event(item["type"], item["reason"], item["message"])
            found[item["involvedObject"]["name"]].events.append(event)
        elif item["kind"] == "PdfChunk" and owner in found:
            found[owner].chunks.append(item)
        elif item["kind"] in {"Job", "Pod"} and owner in found:
            found[owner].children.append(item)
    return found


def wait_for_all(namespace: str, timeout: float) -> None:
    """Wait until every PdfJob of a namespace has ended, well or badly."""
    words = ("wait", "--for=condition=Finished", "pdfjob", "--all", "-n", namespace)
    kubectl(*words, f"--timeout={timeout:.0f}s", timeout=timeout + 10)


def assert_refused(outcome: Outcome, reason: str, told: str) -> None:
    """Make sure that a source was refused for good, for this reason, in all the places where a user looks."""
    split, status = outcome.condition("Split"), outcome.status
    assert (split["status"], split["reason"]) == ("False", reason), split
    assert told in split["message"]
    assert status["phase"] == "Failed"
    assert status["lastError"] == {"code": "INVALID_SOURCE", "message": split["message"]}
    ends = {kind: outcome.condition(kind) for kind in ("Finished", "Succeeded")}
    assert (ends["Finished"]["status"], ends["Finished"]["reason"]) == ("True", "Failed")
    assert (ends["Succeeded"]["status"], ends["Succeeded"]["reason"]) == ("False", "INVALID_SOURCE")
    assert Event("Warning", reason, split["message"]) in outcome.events
    assert "completionTime" in status
    assert "chunks" not in status
    assert (outcome.chunks, outcome.children) == ([], [])


@dataclass(frozen=True)
class Vitals:
    """The operator's process at one moment."""

    pod: str
    """UID of its pod."""
    restarts: int
    resident_bytes: int


def vitals() -> Vitals:
    """Look at the operator: which process it is, and its resident memory as its own /metrics tells."""
    (pod,) = operator_pods()
    name = pod["metadata"]["name"]
    restarts = pod["status"]["containerStatuses"][0]["restartCount"]
    metrics = kubectl("get", "--raw", f"/api/v1/namespaces/{SYSTEM}/pods/{name}:8080/proxy/metrics").stdout
    found = re.search(r"^process_resident_memory_bytes (\S+)", metrics, re.MULTILINE)
    assert found is not None, "the operator's /metrics do not tell its memory"
    return Vitals(pod["metadata"]["uid"], restarts, int(float(found[1])))


@contextmanager
def memory_watched(peak: dict[str, int]) -> Iterator[None]:
    """Sample the operator's memory while something happens; ``peak["bytes"]`` is the most that was seen."""
    ended = threading.Event()

    def sample() -> None:
        while not ended.wait(_SAMPLE_SECONDS):
            peak["bytes"] = max(peak.get("bytes", 0), vitals().resident_bytes)

    thread = threading.Thread(target=sample, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        peak["bytes"] = max(peak.get("bytes", 0), vitals().resident_bytes)
