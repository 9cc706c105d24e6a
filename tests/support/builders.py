"""PdfJobs, PdfChunks, Jobs and pods for tests, with what a test does not care about filled in."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from pdfjob_api.conditions import ChunkPhase, Reason
from pdfjob_api.gemini import GeminiProcessor, SecretKeyReference
from pdfjob_api.jobstatus import PdfJobStatus, SourceStatus
from pdfjob_api.meta import JobMeta, LastError, ObjectMeta
from pdfjob_api.names import (
    FINALIZER,
    LABEL_CHUNK,
    LABEL_JOB,
    LABEL_JOB_UID,
    LABEL_MANAGED_BY,
    LABEL_START,
    MANAGED_BY,
    RUNNER_CONTAINER,
    chunk_name,
    start_name,
)
from pdfjob_api.pdfchunk import ChunkResultStatus, PdfChunk, PdfChunkSpec, PdfChunkStatus
from pdfjob_api.pdfjob import Chunking, PdfJob, PdfJobSpec, S3Source, Source
from pdfjob_api.processing import Processor
from pdfjob_operator.clock import to_wire
from pdfjob_operator.observation import Facts, Observation, Start
from pdfjob_operator.plan import Manifest, Plan, StoredChunk, settings_hash

NOW: Final = datetime(2026, 11, 22, 5, 0, 0, tzinfo=UTC)
JOB_UID: Final = "0f1e2d3c-job"


def at(seconds: float) -> str:
    """Return the time so many seconds after NOW, as it is written."""
    return to_wire(NOW + timedelta(seconds=seconds))


def pdf_job(status: PdfJobStatus | None = None, *, deleted: bool = False, **spec: Any) -> PdfJob:
    """Build a PdfJob of two-page chunks."""
    wanted = {
        "source": Source(s3=S3Source(key="pdfjob/inbox/books/novel.pdf")),
        "chunking": Chunking(pages_per_chunk=2, threshold_pages=0),
        **spec,
    }
    return PdfJob(
        metadata=JobMeta(
            name="novel",
            namespace="books",
            uid=JOB_UID,
            resource_version="7",
            generation=1,
            creation_timestamp=at(-60),
            deletion_timestamp=at(0) if deleted else None,
            finalizers=[FINALIZER],
        ),
        spec=PdfJobSpec(**wanted),
        status=status or PdfJobStatus(),
    )


def gemini_job(gemini: Mapping[str, Any] | None = None, **spec: Any) -> PdfJob:
    """Build a PdfJob that asks Gemini; ``gemini`` are settings of the processor."""
    settings = {"model": "gemini-3.5-flash", "api_key_secret_ref": SecretKeyReference(name="gemini"), **(gemini or {})}
    return pdf_job(processor=Processor(gemini=GeminiProcessor(**settings)), **spec)


def pdf_chunk(index: int = 0, *, pages: int = 2, spec: Mapping[str, Any] | None = None, **status: Any) -> PdfChunk:
    """Build a PdfChunk."""
    return PdfChunk(
        metadata=ObjectMeta(
            name=chunk_name("novel", index), namespace="books", uid=f"chunk-{index}", resource_version="5", generation=1
        ),
        spec=PdfChunkSpec(
            **{
                "index": index,
                "start_page": index * pages + 1,
                "end_page": (index + 1) * pages,
                "page_count": pages,
                "has_overlap": index > 0,
                "storage_uri": f"s3://pdfjob/c{index}.pdf",
                "size_bytes": 1000,
                "sha256": "c" * 64,
                **(spec or {}),
            }
        ),
        status=PdfChunkStatus(**status),
    )


def succeeded(index: int, **result: Any) -> PdfChunk:
    """Build a PdfChunk that has its result."""
    values = {"uri": f"s3://pdfjob/r{index}", "sha256": "d" * 64, "bytes": 10, "sentences": 3, **result}
    return pdf_chunk(
        index, phase=ChunkPhase.SUCCEEDED, attempts=1, starts=1, result=ChunkResultStatus(**values), job_name="j"
    )


def failed(index: int, code: str = "PROCESSING_ERROR", message: str = "it broke") -> PdfChunk:
    """Build a PdfChunk that failed for good."""
    error = LastError(code=code, message=message)
    return pdf_chunk(index, phase=ChunkPhase.FAILED, attempts=4, starts=4, last_error=error)


def plan_of(job: PdfJob, pages: int, **values: Any) -> Plan:
    """Build the plan of a document of so many pages."""
    return Plan(
        run=JOB_UID[:8],
        source=SourceStatus(sha256="a" * 64, size_bytes=5000, pages=pages, file_name="novel.pdf"),
        settings_sha256=settings_hash(job.spec),
        pages_per_chunk=job.spec.chunking.pages_per_chunk,
        threshold_pages=job.spec.chunking.threshold_pages,
        overlap_pages=job.spec.chunking.overlap_pages,
        **values,
    )


def manifest_of(chunks: int) -> Manifest:
    """Build the manifest of so many chunks."""
    return Manifest(run=JOB_UID[:8], chunks=[StoredChunk(index=i, size_bytes=1, sha256="c") for i in range(chunks)])


def split_facts(job: PdfJob, pages: int, chunks: int, **facts: Any) -> Facts:
    """Build the facts of a document that has been split."""
    known = {"plan": plan_of(job, pages), "manifest": manifest_of(chunks), "stored": chunks, "step": Reason.SPLITTING}
    return Facts(**{**known, **facts})


def observation(
    job: PdfJob,
    chunks: list[PdfChunk],
    facts: Facts,
    starts: Mapping[int, tuple[Start, ...]] | None = None,
    **known: Any,
) -> Observation:
    """Put an observation together."""
    return Observation(job, {chunk.spec.index: chunk for chunk in chunks}, starts or {}, facts, **known)


def child_meta(name: str, uid: str, chunk: int, start: int, version: int = 10) -> dict[str, Any]:
    """Build the metadata of a child Job or pod."""
    return {
        "name": name,
        "namespace": "books",
        "uid": uid,
        "resourceVersion": str(version),
        "creationTimestamp": at(-30),
        "labels": {
            LABEL_MANAGED_BY: MANAGED_BY,
            LABEL_JOB: "novel",
            LABEL_JOB_UID: JOB_UID,
            LABEL_CHUNK: str(chunk),
            LABEL_START: str(start),
        },
    }


def raw_job(
    *conditions: Mapping[str, str], chunk: int = 0, start: int = 1, uid: str | None = None, version: int = 10
) -> dict[str, Any]:
    """Build a child Job as the API server gives it; conditions are True."""
    name = start_name("novel", chunk, start)
    status = {"conditions": [{"status": "True", **condition} for condition in conditions]}
    return {"metadata": child_meta(name, uid or f"job-{chunk}-{start}", chunk, start, version), "status": status}


def raw_pod(
    state: Mapping[str, Any] | None = None,
    *,
    chunk: int = 0,
    start: int = 1,
    uid: str | None = None,
    version: int = 10,
    deleted: float | None = None,
    **status: Any,
) -> dict[str, Any]:
    """Build a runner pod as the API server gives it; ``deleted`` is its deletionTimestamp, in seconds after NOW."""
    meta = child_meta(f"{start_name('novel', chunk, start)}-x", uid or f"pod-{chunk}-{start}", chunk, start, version)
    if deleted is not None:
        meta["deletionTimestamp"] = at(deleted)
    containers = [{"name": RUNNER_CONTAINER, "state": state}] if state else []
    return {
        "metadata": meta,
        "spec": {"nodeName": "node-1"},
        "status": {"phase": "Pending", "containerStatuses": containers, **status},
    }


def running(since: float = -10) -> dict[str, Any]:
    """Return the state of a container that runs."""
    return {"running": {"startedAt": at(since)}}


def terminated(code: int, reason: str = "Error", message: str = "") -> dict[str, Any]:
    """Return the state of a container that has ended."""
    return {"terminated": {"exitCode": code, "reason": reason, "message": message, "startedAt": at(-10)}}


def waiting(reason: str, message: str = "") -> dict[str, Any]:
    """Return the state of a container that cannot start."""
    return {"waiting": {"reason": reason, "message": message}}
