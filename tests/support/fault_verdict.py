"""What has to hold after every fault."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from tests.support.fault_lab import CHUNKS, FaultJob, Lab
from tests.support.fault_requests import API

Reference = Mapping[str, bytes]
"""The merged result of an undisturbed run, by format."""
_KILLED: Final = -9
_NONE: Final[Mapping[int, int]] = MappingProxyType({})


def verdict(
    lab: Lab,
    job: FaultJob,
    reference: Reference,
    *,
    starts: Mapping[int, int] | None = None,
    finished: Mapping[int, int] | None = None,
    timeout: float = 240,
) -> None:
    """Wait for a good end and look at everything; then delete the job, and look at what is left.

    Parameters
    ----------
    starts
        Starts by index of the chunk at most, where the fault may cost more than one: a runner that is told to end may
        have finished by then.
    finished
        How often a runner did the whole of a chunk, where the fault took away what one had done; else once.
    timeout
        Seconds for the end to come.
    """
    lab.wait(job.finished, f"{job.name} has ended", timeout)
    ended_well(lab, job, reference)
    nothing_paid_twice(lab, job, starts or {}, finished or {})
    job.delete()
    nothing_left(lab, job)
    lived_through(lab)


def ended_well(lab: Lab, job: FaultJob, reference: Reference) -> None:
    """The phase is right, the counts sum, and the bytes of the result are those of an undisturbed run."""
    status = job.status
    assert status["phase"] == "Succeeded", f"{json.dumps(status, indent=1)}\n{lab.describe()}"
    counts = dict(status["chunks"])
    assert counts.pop("total") == CHUNKS == counts["succeeded"] == sum(counts.values()), counts
    files = {item["format"]: item for item in status["result"]["files"]}
    assert set(files) == set(reference)
    for fmt, item in files.items():
        data = lab.storage.read(item["uri"])
        assert data == reference[fmt], f"result.{fmt} is not what an undisturbed run makes"
        assert (hashlib.sha256(data).hexdigest(), len(data)) == (item["sha256"], item["bytes"])


def nothing_paid_twice(
    lab: Lab, job: FaultJob, starts: Mapping[int, int] = _NONE, finished: Mapping[int, int] = _NONE
) -> None:
    """Each chunk had no more starts than the fault explains, one at a time, and was finished once."""
    expected = {f"{job.name}-c{index:05d}": starts.get(index, 1) for index in range(CHUNKS)}
    uids = {chunk["metadata"]["name"]: chunk for chunk in job.chunks()}
    counted = {name: uids[name]["status"]["starts"] for name in expected}
    assert all(1 <= counted[name] <= number for name, number in expected.items()), f"{counted}\n{lab.describe()}"
    made = Counter(
        request.name.rsplit("-a", 1)[0]
        for request in lab.proxy.writes(job.since)
        if request.server == API and request.point == "create jobs" and request.name.startswith(f"{job.name}-c")
    )
    assert all(made[name] <= number for name, number in expected.items()), f"Jobs made: {made}"
    lab.wait(
        lambda: all(len(lab.pods.succeeded(job.uid, index)) >= finished.get(index, 1) for index in range(CHUNKS)),
        "our own watch has seen the runners finish: the operator's may be ahead of it",
        30,
    )
    for index in range(CHUNKS):
        succeeded = lab.pods.succeeded(job.uid, index)
        assert len(succeeded) == finished.get(index, 1), (
            f"chunk {index} was finished {len(succeeded)} times: {succeeded}"
        )
        own = [life for life in lab.pods.lives.values() if (life.job, life.chunk) == (job.uid, index)]
        assert max(life.start for life in own) == succeeded[-1].start, f"chunk {index} was started after it was done"
    assert lab.pods.overlaps == []


def ended_badly(lab: Lab, job: FaultJob, *, job_code: str, chunk_code: str | None = None, chunk: int = 0) -> None:
    """The job failed, and says of what."""
    status = job.status
    assert status["phase"] == "Failed", f"{json.dumps(status, indent=1)}\n{lab.describe()}"
    assert job.condition("Succeeded")["reason"] == job_code, status
    if chunk_code is not None:
        own = job.chunks()[chunk]["status"]
        assert (own["phase"], own["lastError"]["code"]) == ("Failed", chunk_code), own


def nothing_left(lab: Lab, job: FaultJob, timeout: float = 180, *, successor: bool = False) -> None:
    """The resource goes, and with it all it had, but for the merged result and its history.

    Parameters
    ----------
    successor
        Whether another PdfJob of the same name exists, whose objects are in the same place.
    """
    lab.wait(job.is_gone, f"{job.name} is gone", timeout)
    lab.wait(lambda: not job.children("jobs") and not job.children("pods"), "its Jobs and pods are gone", 40)
    lab.wait(lambda: not job.chunks(), "its PdfChunks are gone", 20)
    if not successor:
        left = [key for key in lab.storage.keys(job.keys) if not key.startswith(f"{job.keys}result.")]
        assert left == [], left


def lived_through(lab: Lab, exits: frozenset[int] = frozenset({_KILLED})) -> None:
    """The operator ended only where a test killed it."""
    assert set(lab.operator.exits) <= exits, f"{lab.operator.exits}\n{lab.operator.tail()}"
    defects = [entry for entry in lab.operator.entries() if entry["event"].endswith("met a defect")]
    assert defects == [], defects
