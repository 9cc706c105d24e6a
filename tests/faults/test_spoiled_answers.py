"""The API server or the object store answers badly for a while, in every stage of a job."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import pytest

from tests.support.fault_effects import answer, cut, lose_answer, slow, stall
from tests.support.fault_lab import FaultJob, Lab
from tests.support.fault_proxy import Effect, Rule
from tests.support.fault_requests import API, OPERATOR, S3, Request
from tests.support.fault_verdict import Reference, ended_well, lived_through, nothing_left, nothing_paid_twice

API_FAULTS: Final[dict[str, tuple[Effect, int]]] = {
    "409": (answer(409), 4),
    "429": (answer(429, retry_after=1), 4),
    "500": (answer(500), 4),
    "503": (answer(503), 4),
    "connection cut": (cut(), 4),
    "answer lost": (lose_answer(), 3),
    "timeout": (stall(32), 1),
    "slow": (slow(2), 8),
}
"""What happens to how many requests; a call is given up after 30 s."""
S3_FAULTS: Final[dict[str, tuple[Effect, int]]] = {
    "409": (answer(409), 2),
    "429": (answer(429, retry_after=1), 2),
    "500": (answer(500), 4),
    "503": (answer(503), 4),
    "403": (answer(403), 1),
    "connection cut": (cut(), 4),
    "answer lost": (lose_answer(), 3),
    "timeout": (stall(62), 1),
    "slow": (slow(2), 6),
}
"""boto3 makes three attempts; a read is given up after 60 s."""
MOMENTS: Final = {
    "split": {API: ("put plan", 1), S3: ("create pdfchunks", 1)},
    "run": {API: ("create jobs", 1), S3: ("create jobs", 1)},
    "merge": {API: ("put result", 1), S3: ("put result", 1)},
}
"""The write of each stage after which the server begins to answer badly; the next requests are the stage's own."""
WORST: Final = {
    ("api", "run", "answer lost"),
    ("s3", "merge", "500"),
    ("api", "delete", "500"),
    ("s3", "split", "answer lost"),
}


def runs() -> Iterator[object]:
    for server, faults in ((API, API_FAULTS), (S3, S3_FAULTS)):
        for stage in ("split", "run", "merge", "delete"):
            for name in faults:
                marks = [pytest.mark.fault(f"{'API server' if server == API else 'S3'}: {name}", stage)]
                marks += [pytest.mark.worst] if (server, stage, name) in WORST else []
                yield pytest.param(server, stage, name, id=f"{server}-{stage}-{name.replace(' ', '-')}", marks=marks)


@pytest.mark.parametrize(("server", "stage", "fault"), list(runs()))
def test_server_answers_badly(server: str, stage: str, fault: str, lab: Lab, reference: Reference) -> None:
    effect, times = (API_FAULTS if server == API else S3_FAULTS)[fault]
    rule = Rule(lambda request: spoils(request, server), effect, times=times)
    if stage == "delete":
        job = lab.submit()
        lab.wait(job.finished, "it has ended")
        examine(lab, job, reference)
        with lab.proxy.rule(rule):
            job.delete()
            nothing_left(lab, job, timeout=150)
    else:
        point, number = MOMENTS[stage][server]
        with during(lab, point, number, rule):
            job = lab.submit()
            lab.wait(job.finished, "it has ended", timeout=200)
        examine(lab, job, reference)
        job.delete()
        nothing_left(lab, job)
    assert rule.hits > 0, "no request was spoiled"
    lived_through(lab)


def spoils(request: Request, server: str) -> bool:
    """Whether a request is one of those: not the watches, which have tests of their own, nor the runners' requests."""
    return request.server == server and request.caller == OPERATOR and request.verb != "watch"


@contextmanager
def during(lab: Lab, point: str, number: int, rule: Rule) -> Iterator[None]:
    """Let a rule hold from a write of the operator on."""
    holds = [False]
    match = rule.match
    rule.match = lambda request: holds[0] and match(request)
    with lab.proxy.rule(rule), lab.at(point, number, lambda: holds.__setitem__(0, True)):
        yield


def examine(lab: Lab, job: FaultJob, reference: Reference) -> None:
    ended_well(lab, job, reference)
    nothing_paid_twice(lab, job)
