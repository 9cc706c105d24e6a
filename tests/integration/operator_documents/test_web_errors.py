"""Web servers that misbehave on the wire: what is told of them holds nothing secret of the address."""

from __future__ import annotations

import asyncio
import socket
import traceback
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from pdfjob_api.conditions import Reason
from pdfjob_api.pdfjob import HttpSource, Source
from pdfjob_operator.settings import RunnerSettings, S3Settings, Settings, SourceSettings
from pdfjob_operator.sources import SourceError, fetch_source
from pdfjob_operator.storage.s3 import ObjectStore

SECRET = "X-Amz-Signature=5ec4e7"


async def refusal(url: str, folder: Path) -> SourceError:
    settings = Settings(
        s3=S3Settings(bucket="documents", endpoint="http://127.0.0.1:9"),
        runner=RunnerSettings(image="runner"),
        source=SourceSettings.model_validate({"allowedCidrs": ["127.0.0.0/8"], "timeoutSeconds": 0.5}),
    )
    store = ObjectStore(settings.s3)
    source = Source(http=HttpSource(url=url))
    try:
        with pytest.raises(SourceError) as caught:
            await fetch_source(source, "team-a", folder / "source.pdf", settings=settings, store=store)
    finally:
        store.close()
    return caught.value


@asynccontextmanager
async def answering(answer: bytes) -> AsyncIterator[int]:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


def assert_keeps_the_secret(error: SourceError) -> None:
    # The log writes the whole chain of causes.
    told = "".join(traceback.format_exception(error))
    assert "cannot be read" in str(error)
    assert SECRET not in told
    assert "hidden" not in told


async def test_an_answer_that_is_no_http_does_not_repeat_the_signature(tmp_path: Path) -> None:
    async with answering(b"HTTP/1.1 what\r\n\r\n") as port:
        error = await refusal(f"http://user:hidden@127.0.0.1:{port}/novel.pdf?{SECRET}", tmp_path)
    assert error.retryable
    assert_keeps_the_secret(error)


async def test_a_server_that_takes_no_connection_does_not_make_the_signature_known(tmp_path: Path) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        address = listener.getsockname()
        waiting = [socket.socket() for _ in range(3)]  # the queue is full: a further one hears nothing
        try:
            for each in waiting:
                each.setblocking(False)
                each.connect_ex(address)
            error = await refusal(f"http://user:hidden@127.0.0.1:{address[1]}/novel.pdf?{SECRET}", tmp_path)
        finally:
            for each in waiting:
                each.close()
    assert error.retryable
    assert_keeps_the_secret(error)


async def test_a_host_that_no_name_can_be_is_no_defect_of_the_operator(tmp_path: Path) -> None:
    error = await refusal("http://a..b/novel.pdf", tmp_path)
    assert (error.reason, error.retryable) == (Reason.SOURCE_NOT_FOUND, False)
