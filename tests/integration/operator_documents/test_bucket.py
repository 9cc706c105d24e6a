"""The bucket of the embedded storage comes, and comes back."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from pdfjob_operator.bucket import keep_bucket
from pdfjob_operator.settings import S3Settings
from pdfjob_operator.storage.errors import BucketNotFound
from pdfjob_operator.storage.s3 import ObjectStore
from tests.support.object_store import S3Server


async def appears(store: ObjectStore) -> None:
    async with asyncio.timeout(10):
        while True:
            with suppress(BucketNotFound):
                return await store.check()
            await asyncio.sleep(0.01)


async def test_a_bucket_that_the_storage_lost_is_created_again(server: S3Server, s3_settings: S3Settings) -> None:
    store = ObjectStore(s3_settings)
    keeping = asyncio.create_task(keep_bucket(store, keep_seconds=0.05, retry_seconds=0.05))
    try:
        await appears(store)
        await store.put("inbox/book.pdf", b"%PDF-")
        (server.folder / s3_settings.bucket).rename(server.folder.with_name("lost"))
        await appears(store)
        assert [key async for key in store.list_keys("")] == []
    finally:
        keeping.cancel()
        store.close()
