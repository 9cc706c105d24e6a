"""A real S3 server, shared by the tests of this folder; each test has a bucket of its own."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator

import pytest

from pdfjob_operator.settings import S3Settings
from pdfjob_operator.storage.s3 import ObjectStore
from tests.support.object_store import S3Server, credentials, server

__all__ = ["credentials", "server"]


@pytest.fixture
def s3_settings(server: S3Server) -> S3Settings:
    return S3Settings(endpoint=server.endpoint, bucket=f"b-{uuid.uuid4().hex[:12]}")


@pytest.fixture
async def store(s3_settings: S3Settings) -> AsyncIterator[ObjectStore]:
    store = ObjectStore(s3_settings)
    await store.create_bucket()
    yield store
    store.close()
