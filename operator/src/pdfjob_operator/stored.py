"""Plan and manifest as they lie on S3, of this life of a PdfJob or of an earlier one."""

from __future__ import annotations

from typing import Final

import structlog
from pydantic import ValidationError

from pdfjob_api.keys import JobKeys

from .plan import Manifest, Plan, StoredChunk
from .storage.errors import ObjectNotFound
from .storage.s3 import ObjectStore

_MAX_BYTES: Final = 64 * 1024**2

log = structlog.get_logger(__name__)


async def read_plan(store: ObjectStore, keys: JobKeys) -> Plan | None:
    """Return the plan, of whatever life; None when there is none, or a damaged one that is made again."""
    try:
        return Plan.model_validate_json(await store.get(keys.plan, _MAX_BYTES))
    except ObjectNotFound:
        return None
    except ValidationError as error:
        _damaged(keys, keys.plan, error)
        return None


async def read_manifest(store: ObjectStore, keys: JobKeys) -> Manifest | None:
    """Return the manifest, of whatever life; None when there is none, or a damaged one that is made again."""
    try:
        return Manifest.model_validate_json(await store.get(keys.manifest, _MAX_BYTES))
    except ObjectNotFound:
        return None
    except ValidationError as error:
        _damaged(keys, keys.manifest, error)
        return None


async def intact_chunks(store: ObjectStore, keys: JobKeys, manifest: Manifest) -> list[StoredChunk]:
    """Return the chunk PDFs of a manifest that are there with the right size; the runners check the hash."""
    folder = keys.chunk(0).rpartition("/")[0] + "/"
    sizes = {key: size async for key, size in store.list_sizes(folder)}
    return [chunk for chunk in manifest.chunks if sizes.get(keys.chunk(chunk.index)) == chunk.size_bytes]


async def start_clean(store: ObjectStore, keys: JobKeys) -> int:
    """Remove what an earlier life left, but for its merged result; the history is elsewhere. Return how many objects.

    The plan goes last: as long as it is there, this is done again after a crash.
    """
    removed = await store.delete_prefix(keys.root, keep=lambda key: keys.is_merged_result(key) or key == keys.plan)
    await store.delete(keys.plan)
    return removed + 1


def _damaged(keys: JobKeys, key: str, error: ValidationError) -> None:
    log.warning("a damaged object is made again", job=f"{keys.namespace}/{keys.name}", key=key, error=str(error)[:500])
