"""Results of chunks that are kept on S3 for other jobs: stored, found again, and removed by age.

An entry is a copy of the result object with its SHA-256 as metadata. It belongs to no job: deleting one leaves it.
"""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Final

import structlog

from pdfjob_api.contract import MAX_RESULT_BYTES
from pdfjob_api.keys import JobKeys, cache_prefix
from pdfjob_api.pdfchunk import ChunkResultStatus, PdfChunk

from .clock import utc_now
from .ends import verify
from .storage.errors import ObjectNotFound, ObjectTooLarge, StorageError
from .storage.s3 import ObjectStore

_DIGEST: Final = "sha256"
"""Metadata of an entry."""
_KEEP_TIMEOUT_SECONDS: Final = 30.0
FROM_CACHE: Final = 0
"""Start under whose number a job has a result that it took: no Job ever bears it."""
FIRST_SWEEP_SECONDS: Final = 300.0
SWEEP_SECONDS: Final = 6 * 3600.0

log = structlog.get_logger(__name__)


async def keep_result(store: ObjectStore, keys: JobKeys, name: str, result: ChunkResultStatus) -> None:
    """Copy a verified result into the cache, in place of an older one; trouble is told in the log and passes."""
    own = result.uri.removeprefix(store.uri(""))
    try:
        async with asyncio.timeout(_KEEP_TIMEOUT_SECONDS):
            await store.copy(own, keys.cached(name), metadata={_DIGEST: result.sha256})
    except (StorageError, TimeoutError) as error:
        log.warning("result not kept in the cache", **_context(keys), key=keys.cached(name), error=str(error))


async def take_kept(store: ObjectStore, keys: JobKeys, chunk: PdfChunk, name: str) -> ChunkResultStatus | None:
    """Return a chunk's result from the cache, stored as the job's own; None when there is no right one.

    What was verified is stored, not whatever lies under the key by then.

    Raises
    ------
    StorageError
        When the storage does not say.
    """
    key = keys.cached(name)
    own = keys.chunk_result(chunk.spec.index, FROM_CACHE)
    try:
        data, metadata = await store.get_marked(key, MAX_RESULT_BYTES)
        found = await asyncio.to_thread(verify, data, chunk, store.uri(own))
    except ObjectNotFound:
        return None
    except (ObjectTooLarge, ValueError) as error:
        log.warning("a damaged result in the cache is ignored", **_context(keys), key=key, error=str(error)[:500])
        return None
    if metadata.get(_DIGEST) != found.sha256:
        log.warning("a result in the cache has changed and is ignored", **_context(keys), key=key)
        return None
    await store.put(own, data)
    return found


async def sweep(store: ObjectStore, max_age_days: int) -> int:
    """Remove what has been in the cache for longer than it may; return how many results.

    Raises
    ------
    StorageError
    """
    before = utc_now() - timedelta(days=max_age_days)
    return await store.delete_older(cache_prefix(store.prefix), before)


async def sweep_for_ever(store: ObjectStore, max_age_days: int, *, first_seconds: float = FIRST_SWEEP_SECONDS) -> None:
    """Sweep now and then; never returns."""
    await asyncio.sleep(first_seconds)
    while True:
        try:
            removed = await sweep(store, max_age_days)
            log.info("cache swept", removed=removed, max_age_days=max_age_days)
        except StorageError as error:
            log.warning("cache not swept", error=str(error))
        except Exception:
            log.exception("sweep of the cache met a defect")  # without any, the cache would grow for ever
        await asyncio.sleep(SWEEP_SECONDS)


def _context(keys: JobKeys) -> dict[str, str]:
    return {"job": f"{keys.namespace}/{keys.name}"}
