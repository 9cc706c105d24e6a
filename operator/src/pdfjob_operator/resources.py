"""PdfChunks and Events as they are sent to the API server."""

from __future__ import annotations

import secrets
from datetime import datetime
from time import time_ns
from typing import Any

from pdfjob_api.names import (
    API_VERSION,
    FIELD_MANAGER,
    LABEL_CHUNK,
    LABEL_JOB,
    LABEL_JOB_UID,
    LABEL_MANAGED_BY,
    MANAGED_BY,
    PDFCHUNK_KIND,
    PDFJOB_KIND,
    chunk_name,
)
from pdfjob_api.pdfchunk import PdfChunkSpec
from pdfjob_api.pdfjob import PdfJob

from .clock import to_wire
from .plan import StoredChunk
from .planning import ChunkRange

_MAX_EVENT_MESSAGE = 1000


def build_chunk(job: PdfJob, pages: ChunkRange, stored: StoredChunk, uri: str) -> dict[str, Any]:
    """Build the PdfChunk of a stored chunk PDF."""
    spec = PdfChunkSpec(
        index=pages.index,
        start_page=pages.start_page,
        end_page=pages.end_page,
        page_count=pages.page_count,
        context_before=pages.context_before,
        context_after=pages.context_after,
        has_overlap=pages.context_before > 0,
        storage_uri=uri,
        size_bytes=stored.size_bytes,
        sha256=stored.sha256,
    )
    meta = job.metadata
    return {
        "apiVersion": API_VERSION,
        "kind": PDFCHUNK_KIND,
        "metadata": {
            "name": chunk_name(meta.name, pages.index),
            "namespace": meta.namespace,
            "labels": {
                LABEL_MANAGED_BY: MANAGED_BY,
                LABEL_JOB: meta.name,
                LABEL_JOB_UID: meta.uid,
                LABEL_CHUNK: str(pages.index),
            },
            "ownerReferences": [
                {
                    "apiVersion": API_VERSION,
                    "kind": PDFJOB_KIND,
                    "name": meta.name,
                    "uid": meta.uid,
                    "controller": True,
                    "blockOwnerDeletion": True,
                }
            ],
        },
        "spec": spec.wire(),
    }


def build_event(job: PdfJob, kind: str, reason: str, message: str, now: datetime) -> dict[str, Any]:
    """Build an Event on the PdfJob; ``kind`` is Normal or Warning."""
    meta = job.metadata
    time = to_wire(now)
    return {
        "apiVersion": "v1",
        "kind": "Event",
        # kubectl sorts Events by time, which has whole seconds; those of one second stay in the order of their names.
        "metadata": {"name": f"{meta.name}.{time_ns():016x}{secrets.token_hex(2)}", "namespace": meta.namespace},
        "involvedObject": {
            "apiVersion": API_VERSION,
            "kind": PDFJOB_KIND,
            "name": meta.name,
            "namespace": meta.namespace,
            "uid": meta.uid,
            "resourceVersion": meta.resource_version,
        },
        "type": kind,
        "reason": str(reason),
        "message": message[:_MAX_EVENT_MESSAGE],
        "source": {"component": FIELD_MANAGER},
        "reportingComponent": FIELD_MANAGER,
        "firstTimestamp": time,
        "lastTimestamp": time,
        "count": 1,
    }
