"""``kubectl pdfjob results --partial``: what has succeeded so far, in page order, chunk by chunk."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final

from pdfjob_api.conditions import ChunkPhase
from pdfjob_api.contract import ChunkResult, check_result
from pdfjob_api.pdfchunk import PdfChunk
from pdfjob_api.pdfjob import PdfJob
from pdfjob_api.rendering import Gap, Piece, new_format, pieces_of, rendered

from .chunks import of_job
from .cluster import Cluster
from .errors import JobFailedError, StorageError
from .formats import byte_size
from .installation import StorageOptions
from .progress import progress_text
from .results import write_file
from .screen import Screen
from .storage import ObjectStore, find_installation, open_store
from .storage_uri import split_uri
from .views import is_finished

__all__ = ["fetch_partial", "gap_code", "parts_of"]

_FORMATS: Final = ("jsonl", "txt", "csv")
_PIECE: Final = 256 * 1024
"""Characters gathered before they are written."""


def fetch_partial(
    cluster: Cluster, job: PdfJob, wanted: str | None, output: Path | None, storage: StorageOptions, screen: Screen
) -> None:
    """Write the results of the chunks that have succeeded, and lines that name the pages of the others.

    One chunk result is in memory at a time. The bytes are those that the merge of the same chunks would write.

    Raises
    ------
    JobFailedError
        When no chunk has succeeded yet.
    StorageError
        When a result cannot be read, or is not what the chunk stored.
    """
    chunks = of_job(cluster.chunks(job.metadata.name), job)
    done = [chunk for chunk in chunks if chunk.status.phase is ChunkPhase.SUCCEEDED and chunk.status.result]
    if not done:
        raise JobFailedError(f'pdfjob "{job.metadata.name}": no chunk has succeeded yet ({job.status.phase})')
    suffix = output.suffix.lower().removeprefix(".") if output else ""
    form = new_format(wanted or (suffix if suffix in _FORMATS else "jsonl"))
    with open_store(cluster, find_installation(cluster, storage)) as store:
        data = _gathered(rendered(_pieces(store, parts_of(job, chunks)), form))
        if output is None or str(output) == "-":
            for piece in data:
                sys.stdout.buffer.write(piece)
            sys.stdout.buffer.flush()
        else:
            write_file(data, output)
            screen.note(f"{output}: {byte_size(output.stat().st_size)}")
    screen.note(f"note: {progress_text(job)}")


def parts_of(job: PdfJob, chunks: Sequence[PdfChunk]) -> Iterator[PdfChunk | Gap]:
    """Yield, in page order and without holes, the chunks that have a result and the pages of those that have none."""
    page = 1
    for chunk in chunks:
        if chunk.spec.start_page > page:
            yield Gap(page, chunk.spec.start_page - 1, _undone(job))
        if chunk.status.phase is ChunkPhase.SUCCEEDED and chunk.status.result:
            yield chunk
        else:
            yield Gap(chunk.spec.start_page, chunk.spec.end_page, gap_code(job, chunk))
        page = chunk.spec.end_page + 1
    pages = job.status.source.pages if job.status.source else None
    if pages and page <= pages:
        # Chunks are made while the document is being cut; the rest is not there yet.
        yield Gap(page, pages, _undone(job))


def gap_code(job: PdfJob, chunk: PdfChunk) -> str:
    """Return why a chunk has no result: its error code when it failed for good, else ``not done yet``."""
    if chunk.status.phase is ChunkPhase.FAILED and chunk.status.last_error:
        return chunk.status.last_error.code
    return _undone(job)


def _undone(job: PdfJob) -> str:
    return "not done" if is_finished(job) else "not done yet"


def _pieces(store: ObjectStore, parts: Iterable[PdfChunk | Gap]) -> Iterator[Piece]:
    for part in parts:
        if isinstance(part, Gap):
            yield part
        else:
            yield from pieces_of(_read(store, part))


def _read(store: ObjectStore, chunk: PdfChunk) -> ChunkResult:
    result = chunk.status.result
    if result is None:
        raise AssertionError(f"{chunk.metadata.name} has no result")
    data = b"".join(store.read(*split_uri(result.uri)))
    if len(data) != result.bytes or hashlib.sha256(data).hexdigest() != result.sha256:
        raise StorageError(f"{result.uri} is not what chunk {chunk.spec.index} stored; do not use it")
    spec = chunk.spec
    try:
        return check_result(json.loads(data), spec.start_page, spec.end_page, spec.context_after)
    except ValueError as error:
        raise StorageError(f"{result.uri} is no chunk result: {error}") from error


def _gathered(texts: Iterable[str]) -> Iterator[bytes]:
    """Join small texts; JSON can name half a surrogate pair, UTF-8 cannot."""
    waiting: list[str] = []
    size = 0
    for text in texts:
        waiting.append(text)
        size += len(text)
        if size >= _PIECE:
            yield "".join(waiting).encode(errors="replace")
            waiting, size = [], 0
    yield "".join(waiting).encode(errors="replace")
