"""Jobs, chunks and pods as they come from the API server, with only what a test cares about."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from pdfjob_api.pdfchunk import PdfChunk
from pdfjob_api.pdfjob import PdfJob

NOW = datetime(2026, 11, 22, 12, 0, 0, tzinfo=UTC)


def ago(seconds: float) -> str:
    """Return a time before `NOW` as it is on the wire."""
    return (NOW - timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%SZ")


def condition(kind: str, status: str, reason: str = "Reason", message: str = "") -> dict[str, str]:
    return {"type": kind, "status": status, "reason": reason, "message": message, "lastTransitionTime": ago(60)}


def make_job(name: str = "novel", created: float = 300, spec: dict[str, Any] | None = None, **status: Any) -> PdfJob:
    source = {"s3": {"key": "pdfjob/inbox/lib/novel.pdf"}}
    metadata = {"name": name, "namespace": "lib", "uid": "uid-1", "creationTimestamp": ago(created)}
    return PdfJob.model_validate({"metadata": metadata, "spec": {"source": source, **(spec or {})}, "status": status})


def running_job(succeeded: int = 5, total: int = 10, **status: Any) -> PdfJob:
    return make_job(
        phase="Running",
        currentStep=f"Processing chunk {succeeded}/{total}",
        progressPercent=15 + 60 * succeeded // total,
        chunks={"total": total, "succeeded": succeeded, "pending": total - succeeded},
        summary={"progress": f"{100 * succeeded // total}%", "chunks": f"{succeeded}/{total}"},
        conditions=[condition("Accepted", "True"), condition("Finished", "False"), condition("Succeeded", "Unknown")],
        **status,
    )


def finished_job(files: list[dict[str, Any]] | None = None, **status: Any) -> PdfJob:
    return make_job(
        phase="Succeeded",
        result={"files": files or []},
        conditions=[condition("Finished", "True", "Completed"), condition("Succeeded", "True", "Completed")],
        **status,
    )


def failed_job(code: str, broken: dict[str, str], message: str) -> PdfJob:
    return make_job(
        phase="Failed",
        lastError={"code": code, "message": message},
        conditions=[
            broken,
            condition("Finished", "True", "Failed", message),
            condition("Succeeded", "False", code, message),
        ],
    )


def make_chunk(index: int, phase: str = "Pending", **status: Any) -> PdfChunk:
    spec = {
        "index": index,
        "startPage": 50 * index + 1,
        "endPage": 50 * index + 50,
        "pageCount": 50,
        "hasOverlap": index > 0,
        "storageURI": "s3://documents/c.pdf",
        "sizeBytes": 1,
        "sha256": "0" * 64,
    }
    metadata = {"name": f"novel-c{index:05d}", "creationTimestamp": ago(250)}
    return PdfChunk.model_validate({"metadata": metadata, "spec": spec, "status": {"phase": phase, **status}})


def make_pod(chunk: int = 0, uid: str = "uid-1", **status: Any) -> dict[str, Any]:
    labels = {"pdfjob.dev/job": "novel", "pdfjob.dev/job-uid": uid, "pdfjob.dev/start": "1"}
    return {
        "metadata": {
            "name": f"novel-c{chunk:05d}-a1-x7k2p",
            "labels": {**labels, "pdfjob.dev/chunk": str(chunk)},
            "creationTimestamp": ago(30),
        },
        "spec": {"nodeName": "node-1"},
        "status": {"phase": "Pending", **status},
    }
