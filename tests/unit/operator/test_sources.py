"""HTTP sources, from a real web server on loopback. S3 sources are in tests/integration/operator_documents."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from ipaddress import ip_network
from pathlib import Path

import pytest
from aiohttp import web

from pdfjob_api.pdfjob import HttpSource, Source
from pdfjob_operator.addresses import Lookup, system_lookup
from pdfjob_operator.settings import RunnerSettings, S3Settings, Settings, SourceSettings
from pdfjob_operator.sources import Fetched, SourceError, clean_name, fetch_source
from pdfjob_operator.storage.s3 import ObjectStore
from tests.support import pdfs

BODY = pdfs.text_pdf(2)
LOOPBACK = ip_network("127.0.0.0/8")


@dataclass
class Server:
    """A web server whose answers a test writes itself."""

    port: int = 0
    handlers: dict[str, Callable[[web.Request], Awaitable[web.StreamResponse]]] = field(default_factory=dict)
    requests: list[web.Request] = field(default_factory=list)

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.port}{path}"

    async def answer(self, request: web.Request) -> web.StreamResponse:
        self.requests.append(request)
        handler = self.handlers.get(request.path)
        return await handler(request) if handler is not None else web.Response(status=404)


@pytest.fixture(scope="module")
def store() -> Iterator[ObjectStore]:
    """A store that is never asked: nothing here talks to S3, nor to the network for credentials."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ACCESS_KEY_ID", "nobody")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "nothing")
        store = ObjectStore(settings().s3)
    yield store
    store.close()


@dataclass
class Fetcher:
    """Fetches http sources to ``source.pdf`` in a folder of its own."""

    store: ObjectStore
    folder: Path

    async def fetch(
        self,
        url: str,
        config: Settings | None = None,
        *,
        sha256: str | None = None,
        lookup: Lookup = system_lookup,
    ) -> Fetched:
        return await fetch_source(
            Source(http=HttpSource(url=url, sha256=sha256)),
            "team-a",
            self.folder / "source.pdf",
            settings=config or settings(),
            store=self.store,
            lookup=lookup,
        )

    async def failure(
        self,
        url: str,
        config: Settings | None = None,
        *,
        sha256: str | None = None,
        lookup: Lookup = system_lookup,
    ) -> SourceError:
        """Fetch what cannot be fetched, and make sure that nothing is left on disk."""
        with pytest.raises(SourceError) as caught:
            await self.fetch(url, config, sha256=sha256, lookup=lookup)
        assert list(self.folder.iterdir()) == []
        return caught.value


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


def settings(**source: object) -> Settings:
    return Settings(
        s3=S3Settings(endpoint="http://127.0.0.1:9", bucket="pdfjob"),
        runner=RunnerSettings(image="runner"),
        source=SourceSettings.model_validate({"allowed_cidrs": [LOOPBACK], **source}),
    )


def body(data: bytes, **headers: str) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    async def handler(request: web.Request) -> web.StreamResponse:
        return web.Response(body=data, headers={key.replace("_", "-"): value for key, value in headers.items()})

    return handler


def status(code: int) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    async def handler(request: web.Request) -> web.StreamResponse:
        return web.Response(status=code, body=b"x" * 1000)

    return handler


def redirect(location: str, code: int = 302) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    async def handler(request: web.Request) -> web.StreamResponse:
        return web.Response(status=code, headers={"Location": location})

    return handler


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


@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
async def test_redirects_are_followed(server: Server, fetcher: Fetcher, code: int) -> None:
    server.handlers["/a"] = redirect("b/../c.pdf", code)
    server.handlers["/c.pdf"] = body(BODY)
    assert (await fetcher.fetch(server.url("/a"))).size_bytes == len(BODY)


async def test_five_redirects_and_no_more(server: Server, fetcher: Fetcher, tmp_path: Path) -> None:
    for number in range(6):
        server.handlers[f"/{number}"] = redirect(f"/{number + 1}")
    server.handlers["/6"] = body(BODY)
    await fetcher.fetch(server.url("/1"))
    (tmp_path / "source.pdf").unlink()
    error = await fetcher.failure(server.url("/0"))
    assert (error.reason.value, error.retryable) == ("SourceNotFound", False)


async def test_a_redirect_loop_ends(server: Server, fetcher: Fetcher) -> None:
    server.handlers["/loop"] = redirect("/loop")
    error = await fetcher.failure(server.url("/loop"))
    assert (error.reason.value, error.retryable) == ("SourceNotFound", False)
    assert len(server.requests) == 6


@pytest.mark.parametrize(
    "location", ["file:///etc/passwd", "ftp://127.0.0.1/a.pdf", "gopher://x", "", "http://", "http://[x"]
)
async def test_redirects_lead_to_http_only(server: Server, fetcher: Fetcher, location: str) -> None:
    server.handlers["/a.pdf"] = redirect(location)
    error = await fetcher.failure(server.url("/a.pdf"))
    assert (error.reason.value, error.retryable) == ("SourceNotFound", False)


async def test_credentials_stay_with_the_first_address(server: Server, fetcher: Fetcher) -> None:
    server.handlers["/a.pdf"] = redirect(server.url("/b.pdf").replace("://", "://evil:trick@"))
    server.handlers["/b.pdf"] = redirect("/c.pdf")
    server.handlers["/c.pdf"] = status(404)
    error = await fetcher.failure(server.url("/a.pdf?signature=s3cret").replace("://", "://me:pass@"))
    assert [request.headers.get("Authorization") for request in server.requests] == ["Basic bWU6cGFzcw==", None, None]
    assert not any(word in str(error) for word in ("pass", "s3cret", "trick"))


async def test_cookies_and_proxies_are_not_used(
    server: Server, fetcher: Fetcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")

    async def with_cookie(request: web.Request) -> web.StreamResponse:
        return web.Response(status=302, headers={"Location": "/b.pdf", "Set-Cookie": "a=b"})

    server.handlers["/a.pdf"] = with_cookie
    server.handlers["/b.pdf"] = body(BODY)
    await fetcher.fetch(server.url("/a.pdf"))
    assert "Cookie" not in server.requests[1].headers


@pytest.mark.parametrize("host", ["2130706433", "127.1", "0177.0.0.1"])
async def test_addresses_in_odd_spellings_are_no_urls(server: Server, fetcher: Fetcher, host: str) -> None:
    server.handlers["/a.pdf"] = body(BODY)
    error = await fetcher.failure(f"http://{host}:{server.port}/a.pdf")
    assert (error.reason.value, error.retryable) == ("SourceNotFound", False)
    assert server.requests == []


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]", "[::ffff:127.0.0.1]", "0x7f000001", "0.0.0.0"])
async def test_private_addresses_are_refused(server: Server, fetcher: Fetcher, host: str) -> None:
    server.handlers["/a.pdf"] = body(BODY)
    error = await fetcher.failure(f"http://{host}:{server.port}/a.pdf", settings(allowed_cidrs=[]))
    assert (error.reason.value, error.retryable) == ("SourceNotAllowed", False)
    assert "source.allowedCidrs" in str(error)
    assert server.requests == []


async def test_a_redirect_to_a_private_address_is_refused(server: Server, fetcher: Fetcher) -> None:
    server.handlers["/a.pdf"] = redirect("http://10.255.255.1/latest/meta-data")
    error = await fetcher.failure(server.url("/a.pdf"))
    assert (error.reason.value, error.retryable) == ("SourceNotAllowed", False)


async def test_a_name_is_resolved_once_and_that_address_is_used(server: Server, fetcher: Fetcher) -> None:
    """A name that changes its address after the check (DNS rebinding) gains nothing."""
    asked: list[str] = []

    async def lookup(host: str) -> Sequence[str]:
        asked.append(host)
        return ["127.0.0.1"] if len(asked) == 1 else ["10.0.0.1"]

    server.handlers["/a.pdf"] = body(BODY)
    await fetcher.fetch(f"http://rebind.example:{server.port}/a.pdf", lookup=lookup)
    assert asked == ["rebind.example"]
    assert server.requests[0].headers["Host"] == f"rebind.example:{server.port}"


async def test_a_name_is_checked_again_on_each_redirect(server: Server, fetcher: Fetcher) -> None:
    answers = [["127.0.0.1"], ["10.0.0.1"]]

    async def lookup(host: str) -> Sequence[str]:
        return answers.pop(0)

    server.handlers["/a.pdf"] = redirect("/b.pdf")
    error = await fetcher.failure(f"http://rebind.example:{server.port}/a.pdf", lookup=lookup)
    assert error.reason.value == "SourceNotAllowed"
    assert len(server.requests) == 1


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
