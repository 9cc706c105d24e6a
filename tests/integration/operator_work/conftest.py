"""Background work on a real S3 server, with the document processes that the operator runs."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import structlog

from pdfjob_operator.settings import S3Settings
from pdfjob_operator.storage.s3 import ObjectStore
from tests.support.object_store import S3Server, credentials, server
from tests.support.wire_api import WireApi, wire_api

from .desk import Desk

__all__ = ["credentials", "server"]


@pytest.fixture(scope="session", autouse=True)
def plain_logs() -> Iterator[None]:
    """Keep the log from drawing every frame of a crash with its variables: most of the time would go there."""
    structlog.configure(processors=[structlog.processors.KeyValueRenderer()])
    yield
    structlog.reset_defaults()


@pytest.fixture
async def api() -> AsyncIterator[WireApi]:
    async with wire_api() as running:
        yield running


@pytest.fixture
async def desk(server: S3Server, api: WireApi, tmp_path: Path) -> AsyncIterator[Desk]:
    """Everything one operator process has, on a bucket of its own."""
    settings = S3Settings(endpoint=server.endpoint, bucket=f"b-{tmp_path.name.replace('_', '-')[:50].lower()}")
    store = ObjectStore(settings)
    await store.create_bucket()
    store.close()
    ready = Desk(settings, api, tmp_path / "work", server.folder)
    yield ready
    await ready.close()
