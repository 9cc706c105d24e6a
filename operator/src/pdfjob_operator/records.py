"""What stays on S3 when a PdfJob is gone: the record of the job, and one of each start that failed or was lost."""

from __future__ import annotations

import asyncio
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from datetime import datetime
from itertools import chain
from typing import Final

import structlog

from pdfjob_api.conditions import ChunkPhase
from pdfjob_api.history import ChunkRecord, ErrorRecord, JobRecord, PodState
from pdfjob_api.jobstatus import ChunkCounts
from pdfjob_api.keys import JobKeys
from pdfjob_api.meta import LastError
from pdfjob_api.names import start_name
from pdfjob_api.pdfchunk import PdfChunk, PdfChunkStatus
from pdfjob_api.pdfjob import PdfJob

from .clock import to_wire, utc_now
from .counts import count_cached, sum_tokens
from .credits import delivered
from .observation import Start
from .outcome import telling_pod
from .planning import ChunkRange
from .ranges import numbers_in
from .storage.errors import StorageError
from .storage.kubernetes import Cluster, KubernetesError
from .storage.s3 import ObjectStore
from .views import PodView

_LOG_LINES: Final = 50
_LOG_BYTES: Final = 16 * 1024
_LOG_READ_BYTES: Final = 1024**2
"""The kubelet cuts at the end of what is asked for, and a line has at most 16 KiB in its files."""
_URL_QUERY: Final = re.compile(r"(https?://[^\s?\"'<>]+\?)[^\s\"'<>]+", re.IGNORECASE)
_SIGNATURE: Final = re.compile(r"((?:X-Amz-[\w-]+|Signature|AWSAccessKeyId)(?:=|%3D))[^\s&\"'<>]+", re.IGNORECASE)
"""What makes a presigned URL a credential, wherever it stands."""
_START: Final = re.compile(r"/(?:c(\d+)/\w+|errors/c(\d+))-a(\d+)\.json$")
"""Chunk and start of a chunk result or of an error record."""
_GONE: Final = "there was no PdfChunk of it when this record was written, and no result of it is stored"

log = structlog.get_logger(__name__)


async def store_job_record(
    store: ObjectStore,
    keys: JobKeys,
    job: PdfJob,
    chunks: Iterable[PdfChunk],
    now: datetime,
    planned: Sequence[ChunkRange] = (),
) -> str:
    """Store the record of a job with all of its chunks, in place of an earlier one; return its ``s3://`` URI.

    The chunks are written one by one: 10,000 of them, each with its last ten starts, take about 25 MB for a moment.

    Parameters
    ----------
    planned
        The chunks that the plan has. For one that nobody remembers, the storage says how far it came.

    Raises
    ------
    StorageError
    """
    known = {chunk.spec.index: chunk for chunk in chunks}
    unknown = [pages for pages in planned if pages.index not in known]
    vanished = await _from_storage(store, keys, job, unknown) if unknown else []
    data = await asyncio.to_thread(_encode, job, [known[index] for index in sorted(known)], vanished, now)
    await store.put(keys.history_record, data)
    return store.uri(keys.history_record)


async def store_error_record(
    store: ObjectStore, cluster: Cluster, keys: JobKeys, chunk: PdfChunk, status: PdfChunkStatus, start: Start
) -> None:
    """Store the record of a start that failed or was lost, in place of an earlier one.

    It is for people: trouble with the storage or with the log of the pod goes to the operator's own log and does not
    keep the end of the start from being written to the PdfChunk. Called before that write, it is repeated after a
    crash between the two.

    Parameters
    ----------
    chunk
        The chunk as it was.
    status
        Its status after the end; the last entry of its history is this start.
    start
        The start with its Job and pods, as they were last seen.
    """
    context = {"job": f"{keys.namespace}/{keys.name}", "chunk": chunk.spec.index, "start": start.number}
    pod = telling_pod(start)
    tail = ""
    try:
        if pod is not None:
            tail = await cluster.pod_log(
                keys.namespace, pod.meta.name, tail_lines=_LOG_LINES, limit_bytes=_LOG_READ_BYTES
            )
    except KubernetesError as error:
        log.warning("log of the runner not read", **context, error=str(error))
    record = _error_record(keys, chunk, status, start, pod, tail)
    try:
        data = record.model_dump_json(by_alias=True, exclude_none=True).encode()
        await store.put(keys.error(chunk.spec.index, start.number), data)
    except StorageError as error:
        log.warning("error record not stored", **context, error=str(error))


def redact(text: str) -> str:
    """Take what follows the ``?`` out of every URL, and signatures wherever they stand: they are credentials."""
    return _SIGNATURE.sub(r"\1[redacted]", _URL_QUERY.sub(r"\1[redacted]", text))


async def _from_storage(
    store: ObjectStore, keys: JobKeys, job: PdfJob, chunks: Iterable[ChunkRange]
) -> list[ChunkRecord]:
    """Say of chunks whose PdfChunks nobody remembers what their results and error records tell."""
    succeeded, starts = set(), defaultdict[int, int](int)
    for folder in (f"{keys.root}results/", f"{keys.history}errors/"):
        async for key in store.list_keys(folder):
            match = _START.search(key)
            if match is not None:
                index = int(match.group(1) or match.group(2))
                starts[index] = max(starts[index], int(match.group(3)))
                succeeded |= {index} if match.group(1) else set()
    failed = numbers_in(job.status.failed_chunks or "")
    records = []
    for pages in chunks:
        phase = ChunkPhase.FAILED if pages.index in failed else ChunkPhase.CANCELLED
        phase = ChunkPhase.SUCCEEDED if pages.index in succeeded else phase
        record = ChunkRecord(
            index=pages.index,
            start_page=pages.start_page,
            end_page=pages.end_page,
            phase=phase,
            attempts=starts[pages.index],
            starts=starts[pages.index],
            last_error=LastError(code="CANCELLED", message=_GONE) if phase is ChunkPhase.CANCELLED else None,
        )
        records.append(record)
    return records


def _counts(chunks: Sequence[PdfChunk], vanished: Iterable[ChunkRecord]) -> ChunkCounts:
    phases = Counter([chunk.status.phase for chunk in chunks])
    phases.update(record.phase for record in vanished)
    return ChunkCounts(
        total=phases.total(),
        pending=phases[ChunkPhase.PENDING],
        running=phases[ChunkPhase.RUNNING],
        retry_scheduled=phases[ChunkPhase.RETRY_SCHEDULED],
        succeeded=phases[ChunkPhase.SUCCEEDED],
        cached=count_cached(chunk.status for chunk in chunks),
        failed=phases[ChunkPhase.FAILED],
        cancelled=phases[ChunkPhase.CANCELLED],
    )


def _encode(job: PdfJob, chunks: list[PdfChunk], vanished: Sequence[ChunkRecord], now: datetime) -> bytes:
    meta, status = job.metadata, job.status
    counts, tokens = status.chunks, status.tokens
    if status.completion_time is None and len(chunks) + len(vanished) > 0:  # its PdfChunks may have gone one by one
        counts = _counts(chunks, vanished)
        tokens = sum_tokens(chunk.status.result for chunk in chunks if chunk.status.result is not None)
    head = JobRecord(
        namespace=meta.namespace,
        name=meta.name,
        uid=meta.uid,
        created=meta.creation_timestamp,
        started=status.start_time,
        completed=status.completion_time,
        recorded=to_wire(now),
        processing_seconds=status.processing_seconds,
        phase=status.phase,
        conditions=status.conditions,
        source=status.source,
        counts=counts,
        failed_chunks=status.failed_chunks,
        retries=status.retries,
        sentences=status.sentences,
        tokens=tokens,
        charged=delivered(chunks) if job.spec.credit_account_ref is not None else None,
        result=status.result,
        last_error=status.last_error,
        last_retry=status.last_retry,
        shutdown=status.shutdown,
    )
    text = bytearray(head.model_dump_json(by_alias=True, exclude_none=True, exclude={"chunks"}).encode()[:-1])
    text += b',"chunks":['
    records = chain((_chunk_record(chunk) for chunk in chunks), vanished)
    for number, record in enumerate(records):
        text += b"," if number else b""
        text += record.model_dump_json(by_alias=True, exclude_none=True).encode()
    text += b"]}"
    return bytes(text)


def _chunk_record(chunk: PdfChunk) -> ChunkRecord:
    spec, status = chunk.spec, chunk.status
    return ChunkRecord(
        index=spec.index,
        start_page=spec.start_page,
        end_page=spec.end_page,
        phase=status.phase,
        attempts=status.attempts,
        starts=status.starts,
        last_error=status.last_error,
        history=status.history,
    )


def _error_record(
    keys: JobKeys, chunk: PdfChunk, status: PdfChunkStatus, start: Start, pod: PodView | None, log_text: str
) -> ErrorRecord:
    end = status.history[-1]
    return ErrorRecord(
        namespace=keys.namespace,
        job=keys.name,
        uid=keys.uid,
        chunk=chunk.spec.index,
        start_page=chunk.spec.start_page,
        end_page=chunk.spec.end_page,
        start=start.number,
        attempt=end.attempt,
        counted=end.counted,
        outcome=end.outcome,
        code=end.code,
        message=redact(status.last_error.message if status.last_error else ""),
        time=end.finished_at or to_wire(utc_now()),
        job_name=start.job.meta.name if start.job else start_name(keys.name, chunk.spec.index, start.number),
        job_failed=redact(start.job.failed_message if start.job else ""),
        pod=_pod_state(pod) if pod is not None else None,
        log_tail=_tail(log_text),
    )


def _pod_state(pod: PodView) -> PodState:
    began = pod.running_since or pod.exit_started
    return PodState(
        name=pod.meta.name,
        node=pod.node,
        phase=pod.phase,
        reason=pod.reason or pod.waiting_reason or "",
        message=redact(pod.message or pod.waiting_message or pod.unschedulable or ""),
        exit_code=pod.exit_code,
        exit_reason=pod.exit_reason,
        started=to_wire(began) if began else None,
    )


def _tail(text: str) -> str:
    """Return the last lines, without credentials: at most 50 lines and 16 KiB."""
    data = redact("\n".join(text.splitlines()[-_LOG_LINES:])).encode()
    return data[-_LOG_BYTES:].decode(errors="ignore")
