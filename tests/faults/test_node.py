"""The node's kubelet stops and starts again. The cluster is everybody's: this runs when no other test does."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import pytest

from devcluster.paths import Paths
from devcluster.processes import ProcessTable
from tests.support.cluster import REPOSITORY
from tests.support.fault_lab import FaultJob, Lab
from tests.support.fault_verdict import Reference, lived_through, nothing_left, verdict

SLOW: Final = {"env": [{"name": "RUNNER_THROTTLE_SECONDS_PER_PAGE", "value": "1.5"}]}


@contextmanager
def kubelet_stopped() -> Iterator[None]:
    """End devcluster's kubelet, by the record of its process, and have devcluster start it again."""
    assert ProcessTable(Paths.from_environment()).stop("kubelet"), "it ran"
    try:
        yield
    finally:
        subprocess.run([sys.executable, "-m", "devcluster", "up"], cwd=REPOSITORY, check=True, capture_output=True)


@contextmanager
def kubelet_stopped_under(lab: Lab) -> Iterator[FaultJob]:
    """Stop the kubelet when every chunk of a job runs; the runners then work where nobody sees them end."""
    with lab.hold_runner() as gate:
        job = lab.submit(runner=SLOW)
        lab.wait(job.all_running, "every chunk runs")
        with kubelet_stopped():
            gate.released.set()
            yield job


@pytest.mark.alone
@pytest.mark.fault("kubelet stopped for 10 s and started", "run")
def test_kubelet_stopped_while_chunks_run(lab: Lab, reference: Reference) -> None:
    with kubelet_stopped_under(lab) as job:
        lab.pause(10)
    verdict(lab, job, reference)


@pytest.mark.alone
@pytest.mark.fault("kubelet stopped, PdfJob deleted meanwhile", "delete")
def test_job_deleted_while_the_kubelet_is_away(lab: Lab) -> None:
    with kubelet_stopped_under(lab) as job:
        job.delete()
        lab.pause(5)
        assert not job.is_gone(), "pods stand that nobody has seen to end"
    nothing_left(lab, job)
    lived_through(lab)


@pytest.mark.alone
@pytest.mark.fault("kubelet stopped, operator killed", "run")
def test_operator_killed_while_the_kubelet_is_away(lab: Lab, reference: Reference) -> None:
    with kubelet_stopped_under(lab) as job:
        lab.operator.kill()
        lab.pause(5)
    verdict(lab, job, reference)
