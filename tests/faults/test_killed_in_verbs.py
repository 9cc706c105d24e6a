"""Killed while it does what a user asked for: pause, resume, stop, cancel, retry; after each kind of write of these."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.support.fault_effects import answer, strike_after
from tests.support.fault_lab import FaultJob, Installation, Lab, open_lab
from tests.support.fault_proxy import Rule, matches
from tests.support.fault_requests import RUNNER
from tests.support.fault_verdict import Reference, ended_badly, lived_through, nothing_left, verdict

SLOW: Final = {"env": [{"name": "RUNNER_THROTTLE_SECONDS_PER_PAGE", "value": "6"}]}
ONCE_MORE: Final = {"maxRetries": 1, "backoff": {"initialSeconds": 1, "maxSeconds": 1}}
TWICE: Final = {0: 2, 1: 2, 2: 2}
Arm = Callable[[], None]
"""Called just before the user's edit: writes are counted from there."""


def begun(lab: Lab) -> FaultJob:
    job = lab.submit(runner=SLOW)
    lab.wait(lambda: job.phases().count("Running") >= 2, "chunks run")
    return job


def edit(lab: Lab, job: FaultJob, **spec: object) -> None:
    lab.api.patch("pdfjobs", job.name, {"spec": spec})


def is_paused(job: FaultJob) -> bool:
    condition = job.condition("Suspended")
    return (condition.get("status"), condition.get("reason")) == ("True", "Suspended")


def running_pods(job: FaultJob) -> list[str]:
    """Return the pods with a container that runs; the phase of a pod that is being deleted lags behind that."""
    return [
        pod["metadata"]["name"]
        for pod in job.children("pods")
        if any("running" in item["state"] for item in pod["status"].get("containerStatuses", []))
    ]


def suspend(lab: Lab, reference: Reference, arm: Arm) -> None:
    job = begun(lab)
    arm()
    edit(lab, job, suspend=True)
    lab.wait(lambda: is_paused(job), "it is paused")
    assert running_pods(job) == [], f"it says that it is paused and pods live\n{lab.describe()}"
    edit(lab, job, suspend=False)
    verdict(lab, job, reference, starts=TWICE)


def resume(lab: Lab, reference: Reference, arm: Arm) -> None:
    job = begun(lab)
    edit(lab, job, suspend=True)
    lab.wait(lambda: is_paused(job), "it is paused")
    arm()
    edit(lab, job, suspend=False)
    verdict(lab, job, reference, starts=TWICE)


def stop(lab: Lab, reference: Reference, arm: Arm) -> None:
    shut_down(lab, arm, "Stop", "Stopped")


def cancel(lab: Lab, reference: Reference, arm: Arm) -> None:
    shut_down(lab, arm, "Cancel", "Cancelled")


def shut_down(lab: Lab, arm: Arm, verb: str, phase: str) -> None:
    job = begun(lab)
    arm()
    edit(lab, job, shutdown=verb)
    lab.wait(job.finished, "it has ended")
    status = job.status
    assert status["phase"] == phase, lab.describe()
    assert status.get("lastError") is None
    assert {chunk["status"]["phase"] for chunk in job.chunks()} <= {"Cancelled", "Succeeded"}
    lab.wait(lambda: not job.children("jobs") and not job.children("pods"), "nothing runs", 60)
    lab.wait(lambda: job.status.get("history"), "its history is recorded")
    job.delete()
    nothing_left(lab, job)
    lived_through(lab)


def retry(lab: Lab, reference: Reference, arm: Arm) -> None:
    with lab.proxy.rule(Rule(matches("get chunk", caller=RUNNER, name="c00001"), answer(404), times=2)):
        job = lab.submit(retryPolicy=ONCE_MORE)
        lab.wait(job.finished, "it has failed")
        ended_badly(lab, job, job_code="CHUNK_PROCESSING_ERROR", chunk_code="STORAGE_ERROR", chunk=1)
    lab.wait(lambda: job.status.get("history"), "its history is recorded")
    arm()
    edit(lab, job, retryRequest={"id": "again", "force": True})
    lab.wait(lambda: job.status.get("lastRetry", {}).get("id") == "again", "the request is answered")
    lab.wait(lambda: job.status["phase"] == "Succeeded", "it has succeeded")
    verdict(lab, job, reference, starts={1: 3})


def retry_of_a_finished_chunk(lab: Lab, reference: Reference, arm: Arm) -> None:
    job = lab.submit()
    lab.wait(lambda: job.status.get("history"), "it has succeeded and its history is recorded")
    arm()
    edit(lab, job, retryRequest={"id": "chunk 2 again", "chunks": [2], "force": True})
    lab.wait(lambda: job.status.get("lastRetry", {}).get("id") == "chunk 2 again", "the request is answered")
    lab.wait(lambda: job.chunks()[2]["status"]["starts"] == 2 and job.finished(), "it was done again")
    verdict(lab, job, reference, starts={2: 2}, finished={2: 2})


Story = Callable[[Lab, Reference, Arm], None]
STORIES: Final[dict[Story, tuple[tuple[str, int], ...]]] = {
    suspend: (
        ("patch pdfchunks/status", 1),
        ("patch pdfchunks/status", 3),
        ("patch pdfjobs/status", 1),
        ("patch pdfjobs/status", 2),
        ("delete jobs", 1),
    ),
    resume: (("patch pdfjobs/status", 1), ("create jobs", 1), ("create jobs", 2)),
    stop: (("patch pdfchunks/status", 1), ("patch pdfjobs/status", 1), ("delete jobs", 1), ("put history_record", 1)),
    cancel: (("patch pdfchunks/status", 1), ("patch pdfjobs/status", 1), ("delete pods", 1), ("delete jobs", 1)),
    retry: (
        ("patch pdfjobs/status", 1),
        ("patch pdfjobs/status", 2),
        ("patch pdfchunks/status", 1),
        ("create jobs", 1),
        ("put result", 1),
    ),
    retry_of_a_finished_chunk: (("patch pdfjobs/status", 1), ("patch pdfchunks/status", 1), ("create jobs", 1)),
}
WORST: Final = {(suspend, "delete jobs", 1), (cancel, "delete pods", 1), (retry, "patch pdfchunks/status", 1)}


def runs() -> Iterator[object]:
    for story, points in STORIES.items():
        verb = story.__name__.replace("_", " ")
        for point, occurrence in points:
            marks = [pytest.mark.fault(f"operator killed after: {point} ({occurrence})", verb[:10].strip())]
            marks += [pytest.mark.worst] if (story, point, occurrence) in WORST else []
            name = f"{story.__name__}-{point.replace(' ', '-').replace('/', '-')}-{occurrence}"
            yield pytest.param(story, point, occurrence, id=name, marks=marks)


@pytest.mark.parametrize(("story", "point", "occurrence"), list(runs()))
def test_operator_killed_in_a_verb(
    story: Story, point: str, occurrence: int, installation: Installation, reference: Reference, tmp_path: Path
) -> None:
    armed = [False]
    wanted = matches(point)
    with open_lab(installation, tmp_path) as lab:
        rule = Rule(lambda request: armed[0] and wanted(request), strike_after(lab.operator.kill), first=occurrence)
        with lab.proxy.rule(rule):
            story(lab, reference, lambda: armed.__setitem__(0, True))
        assert rule.hits == 1, f"{point} ({occurrence}) was not reached"
        lab.wait(lambda: lab.operator.exits, "the operator is seen to be dead", 10)
        assert lab.operator.exits.count(-9) == 1
