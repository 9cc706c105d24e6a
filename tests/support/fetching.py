"""Fetching of http sources in tests: a web server on loopback that answers as a test says, and who asks it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from ipaddress import ip_network
from pathlib import Path

import pytest
from aiohttp import web

from pdfjob_api.pdfjob import HttpSource, Source
from pdfjob_operator.addresses import Lookup, system_lookup
from pdfjob_operator.settings import RunnerSettings, S3Settings, Settings, SourceSettings
from pdfjob_operator.sources import Fetched, SourceError, fetch_source
from pdfjob_operator.storage.s3 import ObjectStore

LOOPBACK = ip_network("127.0.0.0/8")


@dataclass
class Server:
    """A web server whose answers a test writes itself."""

    port: int = 0
    handlers: dict[str, Callable[[web.Request], Awaitable[web.StreamResponse]]] = field(default_factory=dict)
    requests: list[web.Request] = field(default_factory=list)

    def url(self, path: str) -> str:
        """Return the address of a path."""
        return f"http://127.0.0.1:{self.port}{path}"

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """Answer as the test says, else 404."""
        self.requests.append(request)
        handler = self.handlers.get(request.path)
        return await handler(request) if handler is not None else web.Response(status=404)


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
        """Fetch a document."""
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


def settings(**source: object) -> Settings:
    """Return the operator's settings, with these for sources."""
    return Settings(
        s3=S3Settings(endpoint="http://127.0.0.1:9", bucket="pdfjob"),
        runner=RunnerSettings(image="runner"),
        source=SourceSettings.model_validate({"allowed_cidrs": [LOOPBACK], **source}),
    )


def body(data: bytes, **headers: str) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    """Answer with a document."""

    async def handler(request: web.Request) -> web.StreamResponse:
        return web.Response(body=data, headers={key.replace("_", "-"): value for key, value in headers.items()})

    return handler


def status(code: int) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    """Answer with a status and no document."""

    async def handler(request: web.Request) -> web.StreamResponse:
        return web.Response(status=code, body=b"x" * 1000)

    return handler


def redirect(location: str, code: int = 302) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    """Answer with a redirect."""

    async def handler(request: web.Request) -> web.StreamResponse:
        return web.Response(status=code, headers={"Location": location})

    return handler
