"""Where an http source may lead: redirects, addresses, and what is told to whom on the way."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from aiohttp import web

from tests.support import pdfs
from tests.support.fetching import Fetcher, Server, body, redirect, settings, status

BODY = pdfs.text_pdf(2)


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
