"""What S3 holds of a start that has ended: its result, verified, or else its newest checkpoint."""

from __future__ import annotations

import asyncio
import hashlib
import json

from pydantic import ValidationError

from pdfjob_api.contract import MAX_RESULT_BYTES, Checkpoint, Progress, check_result
from pdfjob_api.keys import JobKeys
from pdfjob_api.pdfchunk import ChunkResultStatus, PdfChunk

from .observation import EndFacts
from .storage.errors import ObjectNotFound, ObjectTooLarge
from .storage.s3 import ObjectStore


async def read_end(store: ObjectStore, keys: JobKeys, chunk: PdfChunk, start: int) -> EndFacts:
    """Read the result of a start back once and check size, hash and shape; without one count what was saved.

    Raises
    ------
    StorageError
        When the storage does not say.
    """
    key = keys.chunk_result(chunk.spec.index, start)
    error = None
    try:
        data = await store.get(key, MAX_RESULT_BYTES)
        result = await asyncio.to_thread(_verify, data, chunk, store.uri(key))
        return EndFacts(result=result, result_error=None, items=chunk.spec.page_count)
    except ObjectNotFound:
        error = None
    except (ObjectTooLarge, ValueError) as problem:
        error = f"the result object is not valid: {problem}"[:1024]
    newest = await newest_checkpoint(store, keys, chunk.spec.index)
    items = await _saved_items(store, keys.checkpoint(chunk.spec.index, newest)) if newest is not None else 0
    return EndFacts(result=None, result_error=error, items=items)


async def newest_checkpoint(store: ObjectStore, keys: JobKeys, index: int) -> int | None:
    """Return the number of the last start of this run that saved a checkpoint, None when none did."""
    starts = [keys.start_of_checkpoint(key) async for key in store.list_keys(keys.checkpoints(index))]
    return max((start for start in starts if start is not None), default=None)


async def read_progress(store: ObjectStore, keys: JobKeys, chunk: PdfChunk, start: int) -> Progress | None:
    """Read a heartbeat; None when there is none yet or it cannot be read."""
    try:
        data = await store.get(keys.progress(chunk.spec.index, start), 4096)
        return Progress.model_validate_json(data)
    except (ObjectNotFound, ObjectTooLarge, ValidationError):
        return None


def _verify(data: bytes, chunk: PdfChunk, uri: str) -> ChunkResultStatus:
    spec = chunk.spec
    result = check_result(json.loads(data), spec.start_page, spec.end_page, spec.context_after)
    return ChunkResultStatus(
        uri=uri,
        sha256=hashlib.sha256(data).hexdigest(),
        bytes=len(data),
        sentences=len(result.records),
        missing_pages=len(result.missing),
        tokens=result.tokens,
    )


async def _saved_items(store: ObjectStore, key: str) -> int:
    """Count the items of a checkpoint; a damaged one holds none."""
    try:
        data = await store.get(key, MAX_RESULT_BYTES)
        checkpoint = await asyncio.to_thread(Checkpoint.model_validate_json, data)
        return len(checkpoint.done)
    except (ObjectNotFound, ObjectTooLarge, ValidationError):
        return 0
