"""A job is deleted in every stage, and its name used again at once; its namespace goes; its storage is away."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pytest

from tests.support import pdfs
from tests.support.fault_cluster import ApiError
from tests.support.fault_effects import answer, cut
from tests.support.fault_lab import PAGES, FaultJob, Installation, Lab, open_lab
from tests.support.fault_proxy import Rule
from tests.support.fault_requests import OPERATOR, S3
from tests.support.fault_verdict import (
    Reference,
    ended_well,
    lived_through,
    nothing_left,
    nothing_paid_twice,
    verdict,
)

SLOW: Final = {"env": [{"name": "RUNNER_THROTTLE_SECONDS_PER_PAGE", "value": "1"}]}
OTHER: Final = pdfs.text_pdf(PAGES, lines=5)
"""As many pages, other words."""


@contextmanager
def splitting(lab: Lab) -> Iterator[Callable[[], bool]]:
    with lab.hold_operator("put chunk", 2) as gate:
        yield gate.reached.is_set


@contextmanager
def running(lab: Lab) -> Iterator[Callable[[], bool]]:
    with lab.hold_runner(1) as gate:
        yield gate.reached.is_set


@contextmanager
def merging(lab: Lab) -> Iterator[Callable[[], bool]]:
    with lab.hold_operator("put result", 1) as gate:
        yield gate.reached.is_set


STAGES: Final = {"split": splitting, "run": running, "merge": merging}


def each_stage(text: str, *worst: str) -> pytest.MarkDecorator:
    def marks(stage: str) -> list[pytest.MarkDecorator]:
        return [pytest.mark.fault(text, stage), *([pytest.mark.worst] if stage in worst else [])]

    return pytest.mark.parametrize("stage", [pytest.param(stage, marks=marks(stage)) for stage in STAGES])


def create_at_once(lab: Lab, key: str, first: FaultJob) -> FaultJob:
    """Create the name again as often as it takes: as long as the first one is there, the API server refuses."""

    def created() -> FaultJob | None:
        try:
            return lab.resubmit(first.name, key)
        except ApiError as error:
            if error.status != 409:
                raise
            return None

    found: FaultJob = lab.wait(created, "the name is free again")
    return found


@each_stage("PdfJob deleted, created again at once", "run")
def test_deleted_and_created_again_at_once(stage: str, lab: Lab, reference: Reference) -> None:
    with STAGES[stage](lab) as reached:
        first = lab.submit()
        lab.wait(reached, f"it is in its stage: {stage}")
        first.delete()
        lab.wait(lambda: (first.get() or {"metadata": {}})["metadata"].get("deletionTimestamp"), "it is being deleted")
    second = create_at_once(lab, f"pdfjob/inbox/{lab.api.namespace}/book.pdf", first)
    assert second.uid != first.uid
    lab.wait(second.finished, "the second life has ended")
    ended_well(lab, second, reference)
    assert len(lab.pods.of(second.uid)) == 3, "each chunk of the second life had one pod"
    assert lab.pods.overlaps == []
    nothing_left(lab, first, successor=True)
    second.delete()
    nothing_left(lab, second)
    lived_through(lab)


@each_stage("PdfJob deleted, name used at once for another document", "merge")
def test_name_used_at_once_for_another_document(stage: str, lab: Lab, reference: Reference) -> None:
    with STAGES[stage](lab) as reached:
        first = lab.submit(pages=OTHER)
        lab.wait(reached, f"it is in its stage: {stage}")
        first.delete()
    key = f"pdfjob/inbox/{lab.api.namespace}/right.pdf"
    lab.storage.put(key, pdfs.text_pdf(PAGES))
    second = create_at_once(lab, key, first)
    lab.wait(second.finished, "the second life has ended")
    ended_well(lab, second, reference)
    second.delete()
    nothing_left(lab, second)
    lived_through(lab)


@each_stage("PdfJob deleted while the operator is away")
def test_deleted_while_the_operator_is_away(stage: str, lab: Lab) -> None:
    with STAGES[stage](lab) as reached:
        job = lab.submit()
        lab.wait(reached, f"it is in its stage: {stage}")
        lab.operator.hold_down()
        job.delete()
    lab.operator.let_up()
    nothing_left(lab, job)
    lived_through(lab)


@pytest.mark.worst
@pytest.mark.fault("PdfJob deleted and its finalizer torn off by hand, created again", "run")
def test_finalizer_torn_off(lab: Lab, reference: Reference) -> None:
    """Nobody cleans up after the first life but the second one; a late runner of the first cannot spoil it."""
    with lab.hold_runner(1) as gate:
        first = lab.submit(pages=OTHER)
        lab.wait(gate.reached.is_set, "chunk 1 runs")
        lab.operator.hold_down()
        first.delete()
        lab.api.patch("pdfjobs", first.name, {"metadata": {"finalizers": []}})
        lab.wait(first.is_gone, "it is gone")
        key = f"pdfjob/inbox/{lab.api.namespace}/right.pdf"
        lab.storage.put(key, pdfs.text_pdf(PAGES))
        second = create_at_once(lab, key, first)
        lab.operator.let_up()
    lab.wait(second.finished, "the second life has ended")
    ended_well(lab, second, reference)
    second.delete()
    nothing_left(lab, second)
    nothing_left(lab, first)


@each_stage("namespace deleted", "run")
def test_namespace_deleted(stage: str, lab: Lab) -> None:
    with STAGES[stage](lab) as reached:
        job = lab.submit()
        lab.wait(reached, f"it is in its stage: {stage}")
        lab.api.call("DELETE", f"/api/v1/namespaces/{lab.api.namespace}")
    lab.wait(lambda: namespace_is_gone(lab), "the namespace is gone", 120)
    left = [key for key in lab.storage.keys(job.keys) if not key.startswith(f"{job.keys}result.")]
    assert left == []
    lived_through(lab)


def namespace_is_gone(lab: Lab) -> bool:
    try:
        lab.api.call("GET", f"/api/v1/namespaces/{lab.api.namespace}")
    except ApiError as error:
        if error.status == 404:
            return True
        raise
    return False


@pytest.mark.worst
@pytest.mark.fault("S3 gone, and back after 15 s", "delete")
def test_storage_away_while_a_job_is_deleted(lab: Lab, reference: Reference) -> None:
    job = lab.submit()
    lab.wait(job.finished, "it has ended")
    ended_well(lab, job, reference)
    nothing_paid_twice(lab, job)
    with lab.proxy.rule(Rule(lambda request: request.server == S3, cut(), times=None)) as away:
        job.delete()
        lab.wait(away.struck.is_set, "the operator has met it")
        lab.wait(lambda: any(entry["event"] == "work failed" for entry in lab.operator.entries()), "it gave up once")
        assert not job.is_gone(), "the finalizer stands as long as objects may be left"
    nothing_left(lab, job)
    lived_through(lab)


@pytest.mark.fault("bucket deleted for good", "delete")
def test_bucket_gone_while_a_job_is_deleted(installation: Installation, tmp_path: Path) -> None:
    with open_lab(installation, tmp_path, own_bucket=True) as lab:
        lab.wait(lab.bucket_exists, "the bucket is there")
        job = lab.submit(runner=SLOW)
        lab.wait(lambda: "Running" in job.phases(), "a chunk runs")
        no_bucket = Rule(lambda request: request.point == "create_bucket bucket", cut(), times=None)
        with lab.proxy.rule(no_bucket):
            lab.wait(lab.delete_bucket, "the bucket is gone")
            job.delete()
            lab.wait(job.is_gone, "it goes without its storage", 90)
        events = [item["reason"] for item in lab.api.list("events")]
        assert "CleanupAbandoned" in events, events


@each_stage("S3 refuses the operator's keys for 12 s")
def test_storage_refuses_the_keys_for_a_while(stage: str, lab: Lab, reference: Reference) -> None:
    """What a Secret that was rotated wrongly does, until it is put right."""
    refused = Rule(lambda request: request.server == S3 and request.caller == OPERATOR, answer(403), times=None)
    with STAGES[stage](lab) as reached:
        job = lab.submit()
        lab.wait(reached, f"it is in its stage: {stage}")
        lab.proxy.rules.append(refused)
    lab.pause(12)
    lab.proxy.rules.remove(refused)
    verdict(lab, job, reference)
