"""Killed after each write: the operator dies when the server has done what was asked, before it can hear of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

from tests.support import pdfs
from tests.support.fault_effects import answer, strike_after
from tests.support.fault_lab import PAGES, Installation, Lab, open_lab
from tests.support.fault_points import CLUSTER_VERBS, STORE_VERBS, write_points, writing_methods
from tests.support.fault_proxy import Rule, matches
from tests.support.fault_verdict import (
    Reference,
    ended_well,
    lived_through,
    nothing_left,
    nothing_paid_twice,
    verdict,
)
from tests.support.gemini import stub_pod

Story = Callable[[Lab, Reference], None]
BALANCE: Final = 100_000
QUICK: Final = {"backoff": {"initialSeconds": 1, "maxSeconds": 2}}


def whole_life(lab: Lab, reference: Reference) -> None:
    """A job is split, run, merged and deleted."""
    verdict(lab, lab.submit(), reference)


def chunk_fails_once(lab: Lab, reference: Reference) -> None:
    """The first start of a chunk fails, the second does well."""
    refuse = Rule(matches("get chunk", caller="runner", name="c00001"), answer(404))
    with lab.proxy.rule(refuse):
        verdict(lab, lab.submit(retryPolicy=QUICK), reference, starts={1: 2})


def cancelled(lab: Lab, reference: Reference) -> None:
    """A job is cancelled while its pods run: they are killed."""
    with lab.hold_runner():
        job = lab.submit()
        lab.wait(job.all_running, "every chunk runs")
        lab.api.patch("pdfjobs", job.name, {"spec": {"shutdown": "Cancel"}})
        lab.wait(job.finished, "it has ended")
        assert job.status["phase"] == "Cancelled", lab.describe()
    job.delete()
    nothing_left(lab, job)
    lived_through(lab)


def expires(lab: Lab, reference: Reference) -> None:
    """A job goes by itself when its time is over."""
    job = lab.submit(ttlSecondsAfterFinished={"succeeded": 3600})
    lab.wait(job.finished, "it has ended")
    ended_well(lab, job, reference)
    nothing_paid_twice(lab, job)
    lab.api.patch("pdfjobs", job.name, {"spec": {"ttlSecondsAfterFinished": {"succeeded": 1}}})
    nothing_left(lab, job)
    lived_through(lab)


def second_life(lab: Lab, reference: Reference) -> None:
    """A job is deleted with Retain and created again: what is finished is taken over."""
    first = lab.submit(deletionPolicy="Retain")
    lab.wait(first.finished, "the first life has ended")
    first.delete()
    lab.wait(first.is_gone, "the first life is gone")
    second = lab.submit(deletionPolicy="Delete")
    lab.wait(second.finished, "the second life has ended")
    ended_well(lab, second, reference)
    assert not lab.pods.of(second.uid), "a finished chunk was paid again"
    second.delete()
    nothing_left(lab, second)
    lived_through(lab)


def other_document(lab: Lab, reference: Reference) -> None:
    """The same name again for another document, after Retain: what is there is removed first."""
    first = lab.submit(pages=pdfs.text_pdf(PAGES, lines=5), deletionPolicy="Retain")
    lab.wait(first.finished, "the first life has ended")
    first.delete()
    lab.wait(first.is_gone, "the first life is gone")
    verdict(lab, lab.submit(), reference)


def damaged_life(lab: Lab, reference: Reference) -> None:
    """A retained life lacks a chunk PDF when the name is used again: its manifest goes first."""
    first = lab.submit(deletionPolicy="Retain")
    lab.wait(first.finished, "the first life has ended")
    first.delete()
    lab.wait(first.is_gone, "the first life is gone")
    lab.storage.client.delete_object(Bucket=lab.bucket, Key=f"{first.keys}chunks/c00001.pdf")
    second = lab.submit()
    lab.wait(second.finished, "the second life has ended")
    ended_well(lab, second, reference)
    second.delete()
    nothing_left(lab, second)
    lived_through(lab)


def paid_once(lab: Lab, reference: Reference) -> None:
    """Language work is done once; the same document again takes its results from the cache and starts no pod.

    A model answers otherwise than the local text: the reference does not hold for it.
    """
    with stub_pod() as stub:
        key = stub.key()
        processor = key.processor(lab.api.namespace)
        first = lab.submit(processor=processor)
        lab.wait(first.finished, "the first job has ended")
        asked = key.counts["requests"]
        assert asked == first.status["chunks"]["total"]
        first.delete()
        nothing_left(lab, first)
        second = lab.submit(processor=processor)
        lab.wait(second.finished, "the second job has ended")
        assert second.status["phase"] == "Succeeded", lab.describe()
        assert second.status["chunks"]["cached"] == second.status["chunks"]["total"]
        assert key.counts["requests"] == asked, "what was paid for was paid for again"
        assert not lab.pods.of(second.uid)
    second.delete()
    nothing_left(lab, second)
    lived_through(lab)


def charged_once(lab: Lab, reference: Reference) -> None:
    """A job that a credit account pays for: what it used is charged once, and the rest goes back once."""
    account = {"apiVersion": "pdfjob.dev/v1alpha1", "kind": "CreditAccount", "metadata": {"name": "team"}}
    lab.api.create("creditaccounts", {**account, "spec": {"balance": BALANCE}})
    with stub_pod() as stub:
        key = stub.key()
        ref = {"name": "team", "estimatedTokens": BALANCE - 1}
        job = lab.submit(processor=key.processor(lab.api.namespace), creditAccountRef=ref, cache="Ignore")
        lab.wait(job.finished, "it has ended")
        assert job.status["phase"] == "Succeeded", lab.describe()
        tokens = key.counts["tokens"]
    used = tokens["input"] + tokens["output"] + tokens["thinking"]

    def settled() -> bool:
        status = (lab.api.find("creditaccounts", "team") or {})["status"]
        return status["settledReservations"] == 1 and not status["reservations"]

    lab.wait(settled, "it is settled", 60)
    status = (lab.api.find("creditaccounts", "team") or {})["status"]
    assert (status["charged"], status["available"], status["reserved"]) == (used, BALANCE - used, 0), lab.describe()
    told = job.status["credits"]
    assert (told["charged"], told["refunded"]) == (used, BALANCE - 1 - used)
    assert job.condition("CreditsSettled")["status"] == "True"
    job.delete()
    nothing_left(lab, job)
    lived_through(lab)


def own_bucket(lab: Lab, reference: Reference) -> None:
    """The bucket of the embedded storage does not exist yet."""
    lab.wait(lab.bucket_exists, "the bucket is there")
    verdict(lab, lab.submit(), reference)


@dataclass(frozen=True)
class Case:
    """Where a write point is reached, and at which of its occurrences the operator dies."""

    story: Story = whole_life
    occurrences: tuple[int, ...] = (1,)
    stage: str = "run"


CASES: Final = {
    "create events": Case(occurrences=(1, 3)),
    "create jobs": Case(occurrences=(1, 3)),
    "create pdfchunks": Case(occurrences=(1, 3), stage="split"),
    "create_bucket bucket": Case(own_bucket, stage="start"),
    "delete jobs": Case(occurrences=(1, 3)),
    "delete manifest": Case(damaged_life, stage="split"),
    "delete pdfjobs": Case(expires, stage="delete"),
    "delete plan": Case(other_document, stage="split"),
    "delete pods": Case(cancelled, stage="end", occurrences=(1, 2)),
    "delete root": Case(stage="delete"),
    "deletecollection pdfchunks": Case(stage="delete"),
    "patch creditaccounts/status": Case(charged_once, occurrences=(1, 2, 3, 4, 5)),
    "patch pdfchunks/status": Case(occurrences=(1, 3, 5)),
    "patch pdfjobs": Case(occurrences=(1, 2), stage="ends"),
    "patch pdfjobs/status": Case(occurrences=(1, 2, 3, 4)),
    "put cached": Case(paid_once, occurrences=(1, 3)),
    "put chunk": Case(occurrences=(1, 3), stage="split"),
    "put chunk_result": Case(paid_once, occurrences=(1, 3)),
    "put error": Case(chunk_fails_once),
    "put history_record": Case(stage="end"),
    "put manifest": Case(stage="split"),
    "put plan": Case(second_life, occurrences=(1, 2), stage="split"),
    "put result": Case(occurrences=(1, 2, 3), stage="merge"),
}
"""A point that is not here is tried in the whole life of a job, so that a new one is tested before anybody writes it
down; it fails when it is not reached there."""
LATER_AND_WORST: Final = {
    ("patch creditaccounts/status", 5),
    ("create pdfchunks", 3),
    ("patch pdfchunks/status", 3),
    ("put result", 2),
}


POINTS: Final = frozenset(write_points())


def runs() -> Iterator[object]:
    for point in sorted(POINTS):
        case = CASES.get(point, Case())
        for occurrence in case.occurrences:
            marks = [pytest.mark.fault(f"operator killed after: {point} ({occurrence})", case.stage)]
            marks += [pytest.mark.worst] if occurrence == 1 or (point, occurrence) in LATER_AND_WORST else []
            name = f"{point.replace(' ', '-').replace('/', '-')}-{occurrence}"
            yield pytest.param(point, occurrence, id=name, marks=marks)


def test_every_writing_method_of_the_clients_is_known() -> None:
    assert writing_methods("storage/kubernetes.py", "_call", frozenset({"GET"})) == CLUSTER_VERBS
    assert writing_methods("storage/s3.py", "run", frozenset({"get", "head", "list", "head_bucket"})) == STORE_VERBS


def test_no_case_is_left_of_a_write_that_is_no_longer_made() -> None:
    assert set(CASES) <= POINTS


@pytest.mark.parametrize(("point", "occurrence"), list(runs()))
def test_operator_killed_after_a_write(
    point: str, occurrence: int, installation: Installation, reference: Reference, tmp_path: Path
) -> None:
    case = CASES.get(point, Case())
    bucket = point == "create_bucket bucket"
    with open_lab(installation, tmp_path, held_down=True, own_bucket=bucket) as lab:
        rule = Rule(matches(point), strike_after(lab.operator.kill), first=occurrence)
        with lab.proxy.rule(rule):
            lab.operator.let_up()
            case.story(lab, reference)
        assert rule.hits == 1, f"{point} ({occurrence}) was not reached: give it a story in CASES"
        lab.wait(lambda: lab.operator.exits.count(-9) >= 1, "the operator is seen to be dead", 10)
        unknown = {request.point for request in lab.proxy.writes() if request.caller == "operator"} - set(
            write_points()
        )
        assert unknown == set(), "writes on the wire that were not found in the code"
