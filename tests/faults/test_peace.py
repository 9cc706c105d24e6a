from __future__ import annotations

from tests.support.fault_lab import Lab
from tests.support.fault_verdict import Reference, verdict


def test_an_undisturbed_job(lab: Lab, reference: Reference) -> None:
    job = lab.submit()
    verdict(lab, job, reference)
    for seen in lab.proxy.seen:
        print(seen.request.caller, seen.request.point, seen.request.name, seen.status)
