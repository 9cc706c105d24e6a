"""What S3 holds of a start that has ended: its result, verified, or else its newest checkpoint.

Results and checkpoints of earlier lives of the PdfJob that the plan adopts lie under the same keys with their runs.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import replace

import structlog
from pydantic import ValidationError

from pdfjob_api.contract import MAX_RESULT_BYTES, Checkpoint, Progress, check_result
from pdfjob_api.errors import ItemCode
from pdfjob_api.keys import JobKeys
from pdfjob_api.pdfchunk import ChunkResultStatus, PdfChunk

from .observation import EndFacts
from .storage.errors import ObjectNotFound, ObjectTooLarge
from .storage.s3 import ObjectStore

log = structlog.get_logger(__name__)


async def read_end(
    store: ObjectStore, keys: JobKeys, chunk: PdfChunk, start: int, runs: Sequence[str] = ()
) -> EndFacts:
    """Read the result of a start back once and check size, hash and shape; without one count what was saved.

    Parameters
    ----------
    runs
        Earlier lives that the plan adopts, newest first: their checkpoints are saved work too.

    Raises
    ------
    StorageError
        When the storage does not say.
    """
    key = keys.chunk_result(chunk.spec.index, start)
    error = None
    try:
        data = await store.get(key, MAX_RESULT_BYTES)
        result = await asyncio.to_thread(verify, data, chunk, store.uri(key))
        return EndFacts(result=result, result_error=None, items=chunk.spec.page_count)
    except ObjectNotFound:
        error = None
    except (ObjectTooLarge, ValueError) as problem:
        error = f"the result object is not valid: {problem}"[:1024]
    newest = await newest_checkpoint(store, keys, chunk.spec.index, runs=runs, after=chunk.status.fresh_after)
    items = await _saved_items(store, newest) if newest is not None else 0
    return EndFacts(result=None, result_error=error, items=items)


async def read_adopted(
    store: ObjectStore, keys: JobKeys, chunk: PdfChunk, runs: Sequence[str]
) -> ChunkResultStatus | None:
    """Return the newest right result that an earlier life left for a chunk; None when there is none.

    Parameters
    ----------
    runs
        Earlier lives that the plan adopts, newest first.

    Raises
    ------
    StorageError
        When the storage does not say.
    """
    folder = keys.chunk_result(chunk.spec.index, 1).rpartition("/")[0] + "/"
    there = [key async for key in store.list_keys(folder)]
    for run in runs:
        for key in _of_run(keys, run, there, after=-1):  # start 0 is one that it took from the cache itself
            try:
                data = await store.get(key, MAX_RESULT_BYTES)
                return await asyncio.to_thread(verify, data, chunk, store.uri(key))
            except ObjectNotFound:
                continue
            except (ObjectTooLarge, ValueError) as error:
                context = {"job": f"{keys.namespace}/{keys.name}", "chunk": chunk.spec.index, "key": key}
                log.warning("a damaged result of an earlier life is not adopted", **context, error=str(error)[:500])
    return None


async def newest_checkpoint(
    store: ObjectStore, keys: JobKeys, index: int, *, runs: Sequence[str] = (), after: int = 0
) -> str | None:
    """Return the key of the checkpoint to go on from: of the last start that saved one, None when none did.

    Parameters
    ----------
    runs
        Earlier lives that the plan adopts, newest first; they come after this one.
    after
        Only later starts count, and no earlier life when it is not 0: the chunk had succeeded and is done again.
    """
    there = [key async for key in store.list_keys(keys.checkpoints(index))]
    lives = [keys.uid, *(runs if after == 0 else ())]
    newest = (key for run in lives for key in _of_run(keys, run, there, after if run == keys.uid else 0))
    return next(newest, None)


async def read_progress(store: ObjectStore, keys: JobKeys, chunk: PdfChunk, start: int) -> Progress | None:
    """Read a heartbeat; None when there is none yet or it cannot be read."""
    try:
        data = await store.get(keys.progress(chunk.spec.index, start), 4096)
        return Progress.model_validate_json(data)
    except (ObjectNotFound, ObjectTooLarge, ValidationError):
        return None


def _of_run(keys: JobKeys, run: str, there: Iterable[str], after: int) -> list[str]:
    """Return the keys that starts of one life wrote, the last start first."""
    own = replace(keys, uid=run)
    starts = [(number, key) for key in there if (number := own.start_of_checkpoint(key)) is not None]
    return [key for number, key in sorted(starts, reverse=True) if number > after]


def verify(data: bytes, chunk: PdfChunk, uri: str) -> ChunkResultStatus:
    """Parse the result of a chunk, check that it is right, and say what is in it.

    Raises
    ------
    ValueError
    """
    spec = chunk.spec
    result = check_result(json.loads(data), spec.start_page, spec.end_page, spec.context_after)
    return ChunkResultStatus(
        uri=uri,
        sha256=hashlib.sha256(data).hexdigest(),
        bytes=len(data),
        sentences=len(result.records),
        missing_pages=len(result.missing),
        unanswered_pages=sum(missing.code != ItemCode.INVALID_ITEM for missing in result.missing),
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
