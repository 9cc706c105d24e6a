"""HTTP sources, from a real web server on loopback. S3 sources are in tests/integration/operator_documents."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
from collections.abc import Sequence
from pathlib import Path

import pytest
from aiohttp import web

from pdfjob_operator.sources import Fetched, SourceError, clean_name
from pdfjob_operator.storage.s3 import ObjectStore
from tests.support import pdfs
from tests.support.fetching import Fetcher, Server, body, settings, status

BODY = pdfs.text_pdf(2)


async def test_a_document_is_fetched_whole(server: Server, fetcher: Fetcher, tmp_path: Path) -> None:
    server.handlers["/books/novel.pdf"] = body(BODY)
    fetched = await fetcher.fetch(server.url("/books/novel.pdf?token=1"))
    assert fetched == Fetched(hashlib.sha256(BODY).hexdigest(), len(BODY), "novel.pdf")
    assert (tmp_path / "source.pdf").read_bytes() == BODY
    assert server.requests[0].headers["Accept-Encoding"] == "identity"


@pytest.mark.parametrize(
    ("code", "reason", "retryable"),
    [
        (400, "SourceNotFound", False),
        (401, "SourceNotFound", False),
        (403, "SourceNotFound", False),
        (404, "SourceNotFound", False),
        (410, "SourceNotFound", False),
        (204, "SourceNotFound", False),
        (304, "SourceNotFound", False),
        (429, "StorageUnreachable", True),
        (500, "StorageUnreachable", True),
        (503, "StorageUnreachable", True),
    ],
)
async def test_answers_that_are_no_document(
    server: Server, fetcher: Fetcher, code: int, reason: str, retryable: bool
) -> None:
    server.handlers["/a.pdf"] = status(code)
    error = await fetcher.failure(server.url("/a.pdf"))
    assert (error.reason.value, error.retryable) == (reason, retryable)
    assert str(code) in str(error)


async def test_no_server_is_tried_again(fetcher: Fetcher) -> None:
    error = await fetcher.failure("http://127.0.0.1:9/a.pdf")
    assert (error.reason.value, error.retryable) == ("StorageUnreachable", True)


async def test_a_name_that_does_not_resolve_is_tried_again(fetcher: Fetcher) -> None:
    async def lookup(host: str) -> Sequence[str]:
        raise OSError("Name or service not known")

    error = await fetcher.failure("http://no.such.example/a.pdf", lookup=lookup)
    assert (error.reason.value, error.retryable) == ("StorageUnreachable", True)


async def test_too_large_by_its_length_is_refused_unread(server: Server, fetcher: Fetcher, tmp_path: Path) -> None:
    sparse = tmp_path.parent / f"{tmp_path.name}-sparse.pdf"
    with sparse.open("wb") as file:
        file.truncate(2 * 1024**3)

    async def handler(request: web.Request) -> web.StreamResponse:
        return web.FileResponse(sparse)

    server.handlers["/huge.pdf"] = handler
    error = await fetcher.failure(server.url("/huge.pdf"))
    sparse.unlink()
    assert (error.reason.value, error.retryable) == ("SourceTooLarge", False)
    assert "has 2147483648 bytes" in str(error)
    assert "1073741824" in str(error)
    assert "source.maxBytes" in str(error)


async def test_too_large_without_a_length_is_refused_at_the_cap(server: Server, fetcher: Fetcher) -> None:
    sent = 0

    async def handler(request: web.Request) -> web.StreamResponse:
        nonlocal sent
        answer = web.StreamResponse()
        answer.enable_chunked_encoding()
        await answer.prepare(request)
        for _ in range(2048):
            await answer.write(bytes(1024**2))
            sent += 1
        return answer

    server.handlers["/endless.pdf"] = handler
    error = await fetcher.failure(server.url("/endless.pdf"), settings(max_bytes=8 * 1024**2))
    assert (error.reason.value, error.retryable) == ("SourceTooLarge", False)
    assert "8388608" in str(error)
    assert sent < 64


async def test_compressed_answers_are_not_unfolded(server: Server, fetcher: Fetcher) -> None:
    bomb = gzip.compress(bytes(64 * 1024**2))
    server.handlers["/a.pdf"] = body(bomb, Content_Encoding="gzip")
    error = await fetcher.failure(server.url("/a.pdf"), settings(max_bytes=1024**2))
    assert (error.reason.value, error.retryable) == ("InvalidFormat", False)


async def test_a_server_that_falls_silent_is_given_up_and_tried_again(server: Server, fetcher: Fetcher) -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        answer = web.StreamResponse(headers={"Content-Length": "1000"})
        await answer.prepare(request)
        await answer.write(b"%PDF-")
        await asyncio.sleep(30)
        return answer

    server.handlers["/slow.pdf"] = handler
    error = await fetcher.failure(server.url("/slow.pdf"), settings(timeout_seconds=0.2))
    assert (error.reason.value, error.retryable) == ("StorageUnreachable", True)


async def test_a_server_that_drips_is_given_up_in_the_end(server: Server, fetcher: Fetcher) -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        answer = web.StreamResponse()
        await answer.prepare(request)
        while True:
            await answer.write(b"x")
            await asyncio.sleep(0.05)

    server.handlers["/drip.pdf"] = handler
    error = await fetcher.failure(server.url("/drip.pdf"), settings(total_timeout_seconds=0.5))
    assert (error.reason.value, error.retryable) == ("StorageUnreachable", True)
    assert "source.totalTimeoutSeconds" in str(error)


async def test_a_transfer_that_breaks_off_is_tried_again(server: Server, fetcher: Fetcher) -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        answer = web.StreamResponse(headers={"Content-Length": "100000"})
        await answer.prepare(request)
        await answer.write(BODY)
        assert request.transport is not None
        request.transport.abort()
        return answer

    server.handlers["/a.pdf"] = handler
    error = await fetcher.failure(server.url("/a.pdf"))
    assert (error.reason.value, error.retryable) == ("StorageUnreachable", True)


async def test_the_checksum_is_compared(server: Server, fetcher: Fetcher, tmp_path: Path) -> None:
    server.handlers["/a.pdf"] = body(BODY)
    good = hashlib.sha256(BODY).hexdigest()
    assert (await fetcher.fetch(server.url("/a.pdf"), sha256=good)).sha256 == good
    (tmp_path / "source.pdf").unlink()
    error = await fetcher.failure(server.url("/a.pdf"), sha256="0" * 64)
    assert (error.reason.value, error.retryable) == ("ChecksumMismatch", False)
    assert good in str(error)


async def test_a_disk_that_cannot_be_written_is_tried_again(server: Server, store: ObjectStore, tmp_path: Path) -> None:
    server.handlers["/a.pdf"] = body(BODY)
    missing = Fetcher(store, tmp_path / "no-such-folder")
    with pytest.raises(SourceError, match="disk") as caught:
        await missing.fetch(server.url("/a.pdf"))
    assert caught.value.retryable


async def test_a_cancelled_transfer_leaves_no_file(server: Server, fetcher: Fetcher, tmp_path: Path) -> None:
    begun = asyncio.Event()

    async def handler(request: web.Request) -> web.StreamResponse:
        answer = web.StreamResponse()
        await answer.prepare(request)
        await answer.write(b"%PDF-" + bytes(2 * 1024**2))
        begun.set()
        await asyncio.sleep(30)
        return answer

    server.handlers["/a.pdf"] = handler
    task = asyncio.create_task(fetcher.fetch(server.url("/a.pdf")))
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("path", "disposition", "name"),
    [
        ("/a%20novel.pdf", None, "a novel.pdf"),
        ("/download", 'attachment; filename="Été.pdf"', "Été.pdf"),
        ("/download", "attachment; filename*=UTF-8''%C3%89t%C3%A9.pdf", "Été.pdf"),
        ("/download", 'attachment; filename="../../etc/passwd"', "passwd"),
        ("/", None, "document.pdf"),
    ],
)
async def test_the_file_name_is_kept(
    server: Server, fetcher: Fetcher, path: str, disposition: str | None, name: str
) -> None:
    headers = {} if disposition is None else {"Content_Disposition": disposition}
    server.handlers["/a novel.pdf"] = server.handlers["/download"] = server.handlers["/"] = body(BODY, **headers)
    assert (await fetcher.fetch(server.url(path))).file_name == name


@pytest.mark.parametrize(
    ("raw", "clean"),
    [
        ("inbox/team-a/novel.pdf", "novel.pdf"),
        ("a\x00b\x1b[31m\nc.pdf", "ab[31mc.pdf"),
        ("invoice\u202efdp.exe", "invoicefdp.exe"),
        ("C:\\docs\\x.pdf", "x.pdf"),
        ("  two   words.pdf ", "two words.pdf"),
        ("x" * 400, "x" * 255),
        ("", "document.pdf"),
    ],
)
def test_names_are_cleaned(raw: str, clean: str) -> None:
    assert clean_name(raw) == clean
