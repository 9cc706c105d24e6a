"""Watches break, lag behind, and things vanish while nobody looks."""

from __future__ import annotations

import threading
from typing import Final

import pytest

from tests.support.fault_lab import FaultJob, Lab
from tests.support.fault_requests import RUNNER
from tests.support.fault_verdict import Reference, lived_through, nothing_left, verdict

SLOW: Final = {"env": [{"name": "RUNNER_THROTTLE_SECONDS_PER_PAGE", "value": "5"}]}
"""For a runner that is still at work when the test, the operator and the kubelet have all had their time."""


def break_watches(lab: Lab) -> None:
    """Break all watches and let none begin."""
    lab.proxy.watches_refused = True
    assert lab.proxy.drop_watches() >= 4, "pods, Jobs, PdfChunks and PdfJobs are watched"


def let_watches_begin(lab: Lab) -> None:
    lab.proxy.watches_refused = False


def wait_at_work(lab: Lab, job: FaultJob, chunk: int) -> None:
    form = f"{job.keys}progress/c{chunk:05d}/"
    lab.wait(
        lambda: any(one.request.caller == RUNNER and one.request.name.startswith(form) for one in list(lab.proxy.seen)),
        f"chunk {chunk} is worked on",
    )
    lab.wait(lambda: job.phases()[chunk] == "Running", "the operator knows")


@pytest.mark.worst
@pytest.mark.fault("watches broken, Job and pod deleted in the gap", "run")
def test_job_and_pod_deleted_in_the_gap(lab: Lab, reference: Reference) -> None:
    job = lab.submit(runner=SLOW)
    wait_at_work(lab, job, 1)
    break_watches(lab)
    (pod,) = job.children("pods", 1)
    lab.api.delete("jobs", "book-c00001-a1")
    lab.api.delete("pods", pod["metadata"]["name"], gracePeriodSeconds=0)
    lab.wait(lambda: not job.children("pods", 1) and not job.children("jobs", 1), "both are gone")
    let_watches_begin(lab)
    verdict(lab, job, reference, starts={1: 2})


@pytest.mark.fault("watches broken, pod deleted in the gap", "run")
def test_pod_deleted_in_the_gap(lab: Lab, reference: Reference) -> None:
    job = lab.submit(runner=SLOW)
    wait_at_work(lab, job, 1)
    break_watches(lab)
    (pod,) = job.children("pods", 1)
    lab.api.delete("pods", pod["metadata"]["name"], gracePeriodSeconds=0)
    lab.wait(lambda: not job.children("pods", 1), "it is gone")
    let_watches_begin(lab)
    verdict(lab, job, reference, starts={1: 2})


@pytest.mark.fault("watches broken, PdfChunk deleted in the gap", "run")
def test_pdfchunk_deleted_in_the_gap(lab: Lab, reference: Reference) -> None:
    job = lab.submit(runner=SLOW)
    wait_at_work(lab, job, 1)
    break_watches(lab)
    lab.api.delete("pdfchunks", "book-c00001")
    lab.wait(lambda: lab.api.find("pdfchunks", "book-c00001") is None, "it is gone")
    let_watches_begin(lab)
    verdict(lab, job, reference, starts={1: 2})


@pytest.mark.worst
@pytest.mark.fault("watches broken, PdfJob deleted in the gap", "run")
def test_pdfjob_deleted_in_the_gap(lab: Lab) -> None:
    job = lab.submit(runner=SLOW)
    wait_at_work(lab, job, 1)
    break_watches(lab)
    job.delete()
    lab.pause(2)
    let_watches_begin(lab)
    nothing_left(lab, job)
    lived_through(lab)


@pytest.mark.fault("watches broken, PdfJob deleted with its finalizer torn off in the gap", "run")
def test_pdfjob_torn_off_in_the_gap(lab: Lab, reference: Reference) -> None:
    lost = lab.submit("lost", runner=SLOW)
    wait_at_work(lab, lost, 1)
    break_watches(lab)
    lost.delete()
    lab.api.patch("pdfjobs", lost.name, {"metadata": {"finalizers": []}})
    lab.wait(lost.is_gone, "it is gone")
    let_watches_begin(lab)
    lab.wait(lambda: not lost.children("jobs") and not lost.children("pods"), "its Jobs and pods are gone", 60)
    verdict(lab, lab.submit(), reference)


@pytest.mark.fault("everything ends while watches are broken", "run")
def test_chunks_end_in_the_gap(lab: Lab, reference: Reference) -> None:
    with lab.hold_runner():
        job = lab.submit()
        lab.wait(job.all_running, "the operator knows that every chunk runs")
        break_watches(lab)
    lab.wait(lambda: all(lab.pods.succeeded(job.uid, chunk) for chunk in range(3)), "every runner has ended")
    let_watches_begin(lab)
    verdict(lab, job, reference)


@pytest.mark.worst
@pytest.mark.fault("watches broken every second", "all")
def test_watches_break_all_the_time(lab: Lab, reference: Reference) -> None:
    over = threading.Event()

    def strike() -> None:
        while not over.wait(1.0):
            lab.proxy.drop_watches()

    striker = threading.Thread(target=strike, daemon=True)
    striker.start()
    try:
        verdict(lab, lab.submit(), reference)
    finally:
        over.set()
        striker.join()


@pytest.mark.worst
@pytest.mark.fault("watches 3 s behind", "all")
def test_watches_lag_behind(lab: Lab, reference: Reference) -> None:
    """What the operator has done itself it must know without being told."""
    lab.proxy.watch_delay = 3.0
    verdict(lab, lab.submit(), reference)


@pytest.mark.fault("watches 3 s behind, Job deleted", "run")
def test_job_deleted_while_watches_lag_behind(lab: Lab, reference: Reference) -> None:
    lab.proxy.watch_delay = 3.0
    job = lab.submit(runner=SLOW)
    wait_at_work(lab, job, 1)
    lab.api.delete("jobs", "book-c00001-a1")
    verdict(lab, job, reference, starts={1: 2})
