"""The proof that a PdfJob cost no work twice."""

from __future__ import annotations

from tests.support.audit import job_creations
from tests.support.product import Job


def assert_nothing_done_twice(job: Job) -> None:
    """Every chunk had one start and one Job, however often the operator began anew."""
    chunks = job.chunks()
    assert [(chunk["status"]["starts"], chunk["status"]["attempts"]) for chunk in chunks] == [(1, 1)] * len(chunks)
    assert [len(chunk["status"]["history"]) for chunk in chunks] == [1] * len(chunks)
    made = job_creations(job.namespace)
    assert {name: made[name] for name in (chunk["metadata"]["name"] for chunk in chunks)} == {
        chunk["metadata"]["name"]: 1 for chunk in chunks
    }
