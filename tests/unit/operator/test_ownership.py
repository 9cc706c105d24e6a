"""What the cache takes for a part of a PdfJob."""

from __future__ import annotations

from typing import Any

from pdfjob_operator.cache import Cache

JOB: dict[str, Any] = {
    "metadata": {"name": "novel", "namespace": "team-a", "uid": "job", "resourceVersion": "1"},
    "spec": {"source": {"s3": {"key": "novel.pdf"}}},
}


def chunk(version: int, *, namespace: str = "team-a", uid: str = "chunk", labels: dict[str, str]) -> dict[str, Any]:
    owner = {"apiVersion": "pdfjob.dev/v1alpha1", "kind": "PdfJob", "name": "novel", "uid": "job", "controller": True}
    return {
        "metadata": {
            "name": "novel-c00000",
            "namespace": namespace,
            "uid": uid,
            "resourceVersion": str(version),
            "labels": labels,
            "ownerReferences": [owner],
        },
        "spec": {
            "index": 0,
            "startPage": 1,
            "endPage": 1,
            "pageCount": 1,
            "hasOverlap": False,
            "storageURI": "s3://documents/c00000.pdf",
            "sizeBytes": 1,
            "sha256": "0",
        },
    }


def test_a_chunk_whose_labels_were_edited_still_belongs_to_its_job() -> None:
    cache = Cache()
    cache.apply("pdfjobs", JOB)
    cache.apply("pdfchunks", chunk(2, labels={"pdfjob.dev/job-uid": "job"}))
    assert cache.apply("pdfchunks", chunk(3, labels={})) == "job"
    assert cache.chunks("job")[0].metadata.resource_version == "3"


def test_nothing_of_another_namespace_is_part_of_a_job() -> None:
    cache = Cache()
    cache.apply("pdfjobs", JOB)
    foreign = chunk(4, namespace="team-b", uid="foreign", labels={"pdfjob.dev/job-uid": "job"})
    assert cache.apply("pdfchunks", foreign) is None
    assert cache.chunks("job") == {}
