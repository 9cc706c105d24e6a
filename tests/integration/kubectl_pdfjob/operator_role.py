"""Plays the operator's part for one PdfJob: the statuses and the PdfChunks that it would write."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from pdfjob_api import names
from tests.support.cluster import kubectl, kubectl_json

from .installation import BUCKET, S3Server, digest


def now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def condition(kind: str, status: str, reason: str, message: str = "") -> dict[str, str]:
    return {"type": kind, "status": status, "reason": reason, "message": message, "lastTransitionTime": now()}


class OperatorRole:
    """Writes what the operator writes, one call for each step of a job."""

    def __init__(self, namespace: str, name: str, chunks: int = 10) -> None:
        self.namespace, self.name, self.total = namespace, name, chunks
        self.uid = str(kubectl_json("get", "pdfjob", name, "-n", namespace)["metadata"]["uid"])

    def status(self, **fields: Any) -> None:
        patch = json.dumps({"status": fields})
        kubectl(
            *("patch", "pdfjob", self.name, "-n", self.namespace),
            *("--subresource=status", "--type=merge", "-p", patch),
        )

    def running(self, succeeded: int, failed: int = 0) -> None:
        counts = {"total": self.total, "pending": self.total - succeeded - failed - 1, "running": 1}
        self.status(
            phase="Running",
            currentStep=f"Processing chunk {succeeded}/{self.total}",
            progressPercent=15 + 60 * succeeded // self.total,
            source={"sha256": "0" * 64, "sizeBytes": 1_234_567, "pages": 500, "fileName": "novel.pdf"},
            chunks={**counts, "retryScheduled": 0, "succeeded": succeeded, "failed": failed, "cancelled": 0},
            summary={"progress": f"{100 * succeeded // self.total}%", "chunks": f"{succeeded}/{self.total}"},
            items={"total": 500, "done": 50 * succeeded, "failed": 0},
            startTime=now(),
            conditions=[
                condition("Accepted", "True", "Accepted", "the operator took the job"),
                condition("Split", "True", "AllChunksStored", "every chunk PDF is stored"),
                condition("Finished", "False", "Active"),
                condition("Succeeded", "Unknown", "Active"),
            ],
        )

    def chunk(self, index: int, phase: str, **fields: Any) -> None:
        owner = {"apiVersion": names.API_VERSION, "kind": "PdfJob", "name": self.name, "uid": self.uid}
        manifest = {
            "apiVersion": names.API_VERSION,
            "kind": "PdfChunk",
            "metadata": {
                "name": names.chunk_name(self.name, index),
                "labels": {names.LABEL_JOB: self.name, names.LABEL_JOB_UID: self.uid},
                "ownerReferences": [{**owner, "controller": True}],
            },
            "spec": {
                "index": index,
                "startPage": 50 * index + 1,
                "endPage": 50 * index + 50,
                "pageCount": 50,
                "hasOverlap": index > 0,
                "storageURI": f"s3://{BUCKET}/pdfjob/jobs/{self.namespace}/{self.name}/chunks/c{index:05d}.pdf",
                "sizeBytes": 1000,
                "sha256": "0" * 64,
            },
        }
        kubectl("create", "-n", self.namespace, "-f", "-", stdin=json.dumps(manifest))
        patch = json.dumps({"status": {"phase": phase, "updatedAt": now(), **fields}})
        kubectl(
            *("patch", "pdfchunk", names.chunk_name(self.name, index), "-n", self.namespace),
            *("--subresource=status", "--type=merge", "-p", patch),
        )

    def succeeded(self, server: S3Server, results: Mapping[str, bytes], sentences: int) -> None:
        """Store the merged result, then set the job to Succeeded."""
        files = []
        for form, data in results.items():
            key = f"pdfjob/jobs/{self.namespace}/{self.name}/result.{form}"
            server.put(key, data)
            uri = f"s3://{BUCKET}/{key}"
            files.append({"format": form, "uri": uri, "bytes": len(data), "sha256": digest(data)})
        counts = {"total": 1, "pending": 0, "running": 0, "retryScheduled": 0, "failed": 0, "cancelled": 0}
        self.status(
            phase="Succeeded",
            currentStep="Completed",
            progressPercent=100,
            chunks={**counts, "succeeded": 1},
            summary={"progress": "100%", "chunks": "1/1"},
            result={"files": files, "partial": False},
            sentences=sentences,
            completionTime=now(),
            conditions=[
                condition("Merged", "True", "ResultStored", "the merged result is stored"),
                condition("Finished", "True", "Completed", "the result is stored"),
                condition("Succeeded", "True", "Completed", "the result is stored"),
            ],
        )

    def refused(self, reason: str, message: str) -> None:
        """Fail the job because of its source."""
        self.status(
            phase="Failed",
            currentStep="Failed: Encrypted",
            lastError={"code": "INVALID_SOURCE", "message": message},
            conditions=[
                condition("Accepted", "True", "Accepted", "the operator took the job"),
                condition("Split", "False", reason, message),
                condition("Finished", "True", "Failed", message),
                condition("Succeeded", "False", "INVALID_SOURCE", message),
            ],
        )
