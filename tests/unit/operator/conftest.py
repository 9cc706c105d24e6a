"""Fixtures of the operator's unit tests."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from aiohttp import web

from pdfjob_operator.documents import Documents
from pdfjob_operator.settings import DocumentSettings
from pdfjob_operator.storage.s3 import ObjectStore
from tests.support.fetching import Fetcher, Server, settings


@pytest.fixture
def documents() -> Documents:
    return Documents(DocumentSettings())


@pytest.fixture(scope="module")
def store() -> Iterator[ObjectStore]:
    """A store that is never asked: nothing here talks to S3, nor to the network for credentials."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ACCESS_KEY_ID", "nobody")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "nothing")
        store = ObjectStore(settings().s3)
    yield store
    store.close()


@pytest.fixture
def fetcher(store: ObjectStore, tmp_path: Path) -> Fetcher:
    return Fetcher(store, tmp_path)


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    server = Server()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", server.answer)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    server.port = runner.addresses[0][1]
    yield server
    await runner.cleanup()
