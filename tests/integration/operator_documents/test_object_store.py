"""The S3 module against a real server, and against answers that a real one gives only in trouble."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from pdfjob_operator.settings import S3Settings
from pdfjob_operator.storage.errors import (
    BucketNotFound,
    ObjectNotFound,
    ObjectTooLarge,
    PreconditionFailed,
    StorageAccessDenied,
    StorageError,
    StorageUnreachable,
)
from pdfjob_operator.storage.s3 import ObjectStore
from tests.support.object_store import S3Server


async def keys(store: ObjectStore, prefix: str = "") -> list[str]:
    return [key async for key in store.list_keys(prefix)]


async def test_put_head_get(store: ObjectStore) -> None:
    await store.check()
    await store.put("a/b.json", b'{"x":1}', metadata={"run": "1a2b", "inputs": "ff"})
    info = await store.head("a/b.json")
    assert info is not None
    assert (info.size, dict(info.metadata)) == (7, {"run": "1a2b", "inputs": "ff"})
    assert info.etag == hashlib.md5(b'{"x":1}', usedforsecurity=False).hexdigest()
    assert await store.get("a/b.json", 7) == b'{"x":1}'
    assert store.uri("a/b.json") == f"s3://{store.bucket}/a/b.json"


async def test_what_is_not_there(store: ObjectStore, tmp_path: Path) -> None:
    assert await store.head("none") is None
    with pytest.raises(ObjectNotFound, match=f"GET s3://{store.bucket}/none"):
        await store.get("none", 10)
    with pytest.raises(ObjectNotFound):
        await store.download("none", tmp_path / "x", max_bytes=10)
    assert list(tmp_path.iterdir()) == []


async def test_a_cap_is_kept(store: ObjectStore, tmp_path: Path) -> None:
    await store.put("large", bytes(1000))
    with pytest.raises(ObjectTooLarge, match="1000 bytes"):
        await store.get("large", 999)
    with pytest.raises(ObjectTooLarge):
        await store.download("large", tmp_path / "x", max_bytes=999)
    assert list(tmp_path.iterdir()) == []


async def test_if_absent_stores_once(store: ObjectStore) -> None:
    await store.put("plan.json", b"1", if_absent=True)
    with pytest.raises(PreconditionFailed):
        await store.put("plan.json", b"2", if_absent=True)
    assert await store.get("plan.json", 10) == b"1"
    await store.put("plan.json", b"3")
    assert await store.get("plan.json", 10) == b"3"


async def test_large_files_go_up_in_parts_and_come_down_whole(store: ObjectStore, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(os.urandom(1024**2) * 70)
    await store.upload(source, "large.pdf", content_type="application/pdf", metadata={"run": "x"})
    info = await store.head("large.pdf")
    assert info is not None
    assert (info.size, dict(info.metadata)) == (70 * 1024**2, {"run": "x"})
    assert info.etag.endswith("-5")  # parts of 16 MiB
    digest = await store.download("large.pdf", tmp_path / "copy", max_bytes=info.size)
    data = source.read_bytes()
    assert (tmp_path / "copy").read_bytes() == data
    assert digest == hashlib.sha256(data).hexdigest()


async def test_a_download_that_is_cancelled_leaves_no_file(
    store: ObjectStore, server: S3Server, tmp_path: Path
) -> None:
    await store.put("huge", b"")
    with (server.folder / store.bucket / "huge").open("r+b") as file:
        file.truncate(2 * 1024**3)
    task = asyncio.create_task(store.download("huge", tmp_path / "copy", max_bytes=2 * 1024**3))
    while not (tmp_path / "copy").exists():  # noqa: ASYNC110 - written by a thread
        await asyncio.sleep(0.001)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    async with asyncio.timeout(10):
        while list(tmp_path.iterdir()):  # noqa: ASYNC110 - removed by a thread
            await asyncio.sleep(0.01)


async def test_listing_and_deleting_in_batches(store: ObjectStore) -> None:
    await asyncio.gather(*(store.put(f"jobs/x/{number:04d}", b"") for number in range(1030)))
    await store.put("jobs/xy", b"")
    assert await keys(store, "jobs/x/") == [f"jobs/x/{number:04d}" for number in range(1030)]
    deleted = await store.delete_prefix("jobs/x/", keep=lambda key: key.endswith("7"))
    assert deleted == 1030 - 103
    assert await keys(store, "jobs/") == [f"jobs/x/{number:04d}" for number in range(7, 1030, 10)] + ["jobs/xy"]
    assert await store.delete_prefix("nothing/", keep=lambda _: False) == 0


async def test_presigned_urls_carry_what_they_allow(store: ObjectStore) -> None:
    url = store.presign_put("results/r.json", 60, if_absent=True)
    read = store.presign_get("results/r.json", 60)
    once = {"If-None-Match": "*"}
    async with aiohttp.ClientSession() as session:
        answers = []
        for headers in ({}, once, once):
            async with session.put(url, data=b"{}", headers=headers) as answer:
                answers.append(answer.status)
        async with session.get(read) as answer:
            stored = await answer.read()
        async with session.put(read, data=b"{}") as answer:
            refused = answer.status
        async with session.put(store.presign_put("progress.json", 60), data=b"1") as answer:
            plain = answer.status
    assert (answers, stored, refused, plain) == ([403, 200, 412], b"{}", 403, 200)


async def test_presigned_urls_name_the_endpoint_of_the_pods(s3_settings: S3Settings) -> None:
    store = ObjectStore(s3_settings.model_copy(update={"pod_endpoint": "http://s3.pdfjob.svc:7070"}))
    url = store.presign_get("a", 60)
    store.close()
    assert url.startswith(f"http://s3.pdfjob.svc:7070/{s3_settings.bucket}/a?")
    assert "X-Amz-Expires=60" in url


async def test_a_bucket_that_is_missing(s3_settings: S3Settings, tmp_path: Path) -> None:
    store = ObjectStore(s3_settings)
    requests: list[Callable[[], Awaitable[object]]] = [
        store.check,
        lambda: store.head("a"),
        lambda: store.get("a", 1),
        lambda: store.put("a", b""),
        lambda: store.download("a", tmp_path / "a", max_bytes=1),
        lambda: keys(store),
        lambda: store.delete_prefix("a", keep=lambda _: False),
    ]
    for request in requests:
        with pytest.raises(BucketNotFound, match="create it or correct its name") as caught:
            await request()
        assert caught.value.retryable
    store.close()


async def test_creating_the_bucket_twice_is_fine(store: ObjectStore) -> None:
    await store.create_bucket()
    await store.check()


@pytest.mark.parametrize(("name", "value"), [("AWS_SECRET_ACCESS_KEY", "wrong"), ("AWS_ACCESS_KEY_ID", "nobody")])
async def test_wrong_credentials(
    store: ObjectStore, s3_settings: S3Settings, monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    await store.put("a", b"")
    monkeypatch.setenv(name, value)
    denied = ObjectStore(s3_settings)
    requests: list[Callable[[], Awaitable[object]]] = [
        denied.check,
        lambda: denied.head("a"),
        lambda: denied.get("a", 1),
        lambda: denied.put("a", b""),
        lambda: keys(denied),
    ]
    for request in requests:
        with pytest.raises(StorageAccessDenied, match="correct them, or their rights") as caught:
            await request()
        assert caught.value.retryable
    denied.close()


async def test_a_server_that_is_away(s3_settings: S3Settings) -> None:
    store = ObjectStore(s3_settings.model_copy(update={"endpoint": "http://127.0.0.1:9"}))
    with pytest.raises(StorageUnreachable, match=r"http://127\.0\.0\.1:9 does not answer") as caught:
        await store.check()
    assert caught.value.retryable
    store.close()


async def test_the_event_loop_is_never_blocked(store: ObjectStore, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(bytes(100 * 1024**2))
    longest = 0.0

    async def heartbeat() -> None:
        nonlocal longest
        loop = asyncio.get_running_loop()
        while True:
            begin = loop.time()
            await asyncio.sleep(0.01)
            longest = max(longest, loop.time() - begin - 0.01)

    beat = asyncio.create_task(heartbeat())
    await asyncio.gather(
        store.upload(source, "a", content_type="application/pdf"),
        *(store.put(f"b{number}", b"x" * 1000) for number in range(50)),
    )
    await store.download("a", tmp_path / "copy", max_bytes=1024**3)
    beat.cancel()
    assert longest < 5  # of a liveness window of 30 s, on a busy machine


async def test_durations_are_observed(s3_settings: S3Settings) -> None:
    seen: list[str] = []
    store = ObjectStore(s3_settings, observe=lambda operation, seconds: seen.append(operation if seconds > 0 else ""))
    await store.create_bucket()
    await store.put("a", b"")
    with pytest.raises(ObjectNotFound):
        await store.get("b", 1)
    store.close()
    assert seen == ["create_bucket", "put", "get"]


@asynccontextmanager
async def answering(handler: Callable[[web.Request], Awaitable[web.StreamResponse]]) -> AsyncIterator[ObjectStore]:
    """Yield a store whose server gives the answers of a handler."""
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handler)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    store = ObjectStore(S3Settings(endpoint=f"http://127.0.0.1:{runner.addresses[0][1]}", bucket="bucket"))
    try:
        yield store
    finally:
        store.close()
        await runner.cleanup()


@pytest.mark.parametrize("status", [429, 500, 503])
async def test_a_server_in_trouble(status: int) -> None:
    requests = 0

    async def handler(request: web.Request) -> web.StreamResponse:
        nonlocal requests
        requests += 1
        return web.Response(status=status, text="<Error><Code>SlowDown</Code><Message>later</Message></Error>")

    async with answering(handler) as store:
        with pytest.raises(StorageUnreachable, match="is in trouble"):
            await store.get("a", 10)
    assert requests == 3  # bounded retries of boto3's own


async def test_an_answer_that_breaks_off(tmp_path: Path) -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        answer = web.StreamResponse(headers={"Content-Length": "1000000"})
        await answer.prepare(request)
        await answer.write(b"half")
        assert request.transport is not None
        request.transport.abort()
        return answer

    async with answering(handler) as store:
        with pytest.raises(StorageUnreachable):
            await store.download("a", tmp_path / "a", max_bytes=10**9)
    assert list(tmp_path.iterdir()) == []


async def test_single_keys_that_are_refused_are_noticed() -> None:
    """DeleteObjects answers 200 although keys could not be deleted."""

    async def handler(request: web.Request) -> web.StreamResponse:
        if request.method == "GET":
            found = "".join(f"<Contents><Key>jobs/{name}</Key><Size>1</Size></Contents>" for name in "ab")
            text = f"<ListBucketResult><IsTruncated>false</IsTruncated>{found}</ListBucketResult>"
        else:
            error = "<Error><Key>jobs/b</Key><Code>AccessDenied</Code><Message>no</Message></Error>"
            text = f"<DeleteResult>{error}</DeleteResult>"
        return web.Response(text=text, content_type="application/xml")

    async with answering(handler) as store:
        with pytest.raises(StorageAccessDenied, match=r"DELETE s3://bucket/jobs/b \(1 of 2 objects\)"):
            await store.delete_prefix("jobs/", keep=lambda _: False)


async def test_other_refusals_are_final() -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        return web.Response(status=400, text="<Error><Code>InvalidRequest</Code><Message>no</Message></Error>")

    async with answering(handler) as store:
        with pytest.raises(StorageError, match="InvalidRequest: no") as caught:
            await store.get("a", 10)
    assert not caught.value.retryable


@pytest.mark.parametrize(
    ("bucket", "start"),
    [
        ("books", "https://books.s3.eu-west-3.amazonaws.com/a?"),
        ("my.books", "https://s3.eu-west-3.amazonaws.com/my.books/a?"),
    ],
)
async def test_presigned_urls_on_aws_name_the_endpoint_of_the_region(bucket: str, start: str) -> None:
    store = ObjectStore(S3Settings(bucket=bucket, region="eu-west-3"))
    url = store.presign_get("a", 60)
    store.close()
    assert url.startswith(start)
