"""The bucket of the embedded storage: the only one that the operator ever creates."""

from __future__ import annotations

import asyncio
from typing import Final

import structlog

from .storage.errors import StorageError
from .storage.s3 import ObjectStore

_KEEP_SECONDS: Final = 30.0
_RETRY_SECONDS: Final = 5.0

log = structlog.get_logger(__name__)


async def keep_bucket(
    store: ObjectStore, *, keep_seconds: float = _KEEP_SECONDS, retry_seconds: float = _RETRY_SECONDS
) -> None:
    """Create the bucket as soon as the storage is up, and again when it has lost it; never returns.

    Storage on an emptyDir comes back empty when its pod is replaced. Without its bucket no upload would be taken until
    the operator is started anew.
    """
    while True:
        try:
            await store.create_bucket()
        except StorageError as error:
            log.warning("bucket not created yet", bucket=store.bucket, error=str(error))
            await asyncio.sleep(retry_seconds)
        else:
            await asyncio.sleep(keep_seconds)
