"""A proxy in front of the API server and one in front of the object store, which can spoil any request on the way.

Both speak plain HTTP to the operator (and the object store's to runner pods). Requests go on as they came, Host header
included, since S3 signatures cover it. Answers are streamed, so that watches work.
"""

from __future__ import annotations

import asyncio
import re
import ssl
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Self, TypeVar

import aiohttp
from aiohttp import web
from yarl import URL

from tests.support.fault_requests import API, Request, api_request, s3_request

_HOP: Final = frozenset({"connection", "keep-alive", "transfer-encoding", "upgrade", "expect", "te", "trailer"})
_LIMIT: Final = 64 * 1024**2
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Seen:
    """A request that was answered by the real server."""

    request: Request
    status: int


@dataclass(slots=True)
class Exchange:
    """A request under way; a fault decides what becomes of it."""

    request: Request
    incoming: web.Request
    body: bytes
    proxy: Proxy

    async def forward(self, delay: float = 0.0) -> web.StreamResponse:
        """Send it on and stream the answer back; ``delay`` seconds pass between the two."""
        async with self._answered() as answer:
            if delay:
                await asyncio.sleep(delay)
            return await self._back(answer, await answer.read() if self.request.verb != "watch" else None)

    async def forward_and_hold(self, after: Callable[[], Awaitable[None]]) -> web.StreamResponse:
        """Send it on, do something once the server has answered, and only then pass the answer back."""
        async with self._answered() as answer:
            data = await answer.read()
            await after()
            return await self._back(answer, data)

    async def execute(self) -> None:
        """Send it on and keep the answer."""
        async with self._answered() as answer:
            await answer.read()

    def cut(self) -> web.StreamResponse:
        """Close the connection instead of answering."""
        if self.incoming.transport is not None:
            self.incoming.transport.abort()
        return web.Response(status=502)

    @asynccontextmanager
    async def _answered(self) -> AsyncIterator[aiohttp.ClientResponse]:
        """Ask the real server, and note that it was asked."""
        async with self.proxy.upstream(self) as answer:
            self.proxy.seen.append(Seen(self.request, answer.status))
            yield answer

    async def _back(self, answer: aiohttp.ClientResponse, data: bytes | None) -> web.StreamResponse:
        response = web.StreamResponse(status=answer.status, reason=answer.reason)
        for name, value in answer.headers.items():
            if name.lower() not in _HOP:
                response.headers.add(name, value)
        await response.prepare(self.incoming)
        if data is None:
            await self.proxy.stream(answer, response, self)
        elif self.incoming.method != "HEAD":
            await response.write(data)
        await response.write_eof()
        return response


Effect = Callable[[Exchange], Coroutine[Any, Any, web.StreamResponse]]
"""What becomes of a request."""


@dataclass(slots=True)
class Rule:
    """Spoils some of the requests that match."""

    match: Callable[[Request], bool]
    effect: Effect
    first: int = 1
    """The first of them that is spoiled, from 1."""
    times: int | None = 1
    """How many are; None = all from the first on."""
    seen: int = 0
    hits: int = 0
    """How many were."""
    struck: threading.Event = field(default_factory=threading.Event)
    """Set when the first one was reached."""

    def takes(self, request: Request) -> bool:
        """Count a request, and say whether it is one of them."""
        if not self.match(request):
            return False
        self.seen += 1
        if self.seen < self.first or (self.times is not None and self.hits >= self.times):
            return False
        self.hits += 1
        self.struck.set()
        return True


@dataclass
class Proxy:
    """Both proxies, in a thread with an event loop of its own."""

    api_url: str
    api_trust: ssl.SSLContext
    token: str
    """Bearer token that requests to the API server get: the operator's own service account."""
    s3_url: str
    s3_host: str
    """Address that pods reach this machine by."""
    rules: list[Rule] = field(default_factory=list)
    seen: list[Seen] = field(default_factory=list)
    """Every request that a server has answered, watches included, in order."""
    watches_refused: bool = False
    watch_delay: float = 0.0
    """Seconds by which watches lag behind."""

    def __enter__(self) -> Self:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="fault proxy", daemon=True)
        self._thread.start()
        self._watches: list[web.Request] = []
        self.api_port, self.s3_port = self.call(self._start())
        return self

    def __exit__(self, *_: object) -> None:
        self.call(self._stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)

    def call(self, coroutine: Coroutine[Any, Any, _T]) -> _T:
        """Run a coroutine in the proxy's loop and wait for it."""
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(30)

    @contextmanager
    def rule(self, rule: Rule) -> Iterator[Rule]:
        """Let a rule hold for a while."""
        self.rules.append(rule)
        try:
            yield rule
        finally:
            self.rules.remove(rule)

    def drop_watches(self) -> int:
        """Break every open watch, as a load balancer does; returns how many there were."""

        async def drop() -> int:
            open_now = list(self._watches)
            for incoming in open_now:
                if incoming.transport is not None:
                    incoming.transport.abort()
            return len(open_now)

        return self.call(drop())

    def writes(self, since: int = 0) -> list[Request]:
        """Return the writes that were done, in order, from the ``since``-th request on."""
        return [one.request for one in self.seen[since:] if one.request.is_write and one.status < 300]

    def upstream(self, exchange: Exchange) -> Any:
        """Open the request to the real server."""
        incoming, request = exchange.incoming, exchange.request
        headers = {name: value for name, value in incoming.headers.items() if name.lower() not in _HOP}
        base, trust = (self.api_url, self.api_trust) if request.server == API else (self.s3_url, None)
        if request.server == API:
            headers["Authorization"] = f"Bearer {self.token}"
            headers.pop("Host", None)
        return self._session.request(
            incoming.method,
            URL(base + incoming.raw_path, encoded=True),
            headers=headers,
            data=exchange.body,
            ssl=trust or True,
            allow_redirects=False,
            skip_auto_headers=("Content-Type", "User-Agent", "Accept", "Accept-Encoding"),
            timeout=aiohttp.ClientTimeout(total=None),
        )

    async def stream(self, answer: aiohttp.ClientResponse, response: web.StreamResponse, exchange: Exchange) -> None:
        """Pass a watch on, each piece as late as `watch_delay` says."""
        self._watches.append(exchange.incoming)
        pieces: asyncio.Queue[tuple[float, bytes] | None] = asyncio.Queue()

        async def read() -> None:
            try:
                async for piece in answer.content.iter_any():
                    pieces.put_nowait((self._loop.time() + self.watch_delay, piece))
            finally:
                pieces.put_nowait(None)

        reader = asyncio.create_task(read())
        try:
            while (item := await pieces.get()) is not None:
                await asyncio.sleep(max(0.0, item[0] - self._loop.time()))
                await response.write(item[1])
        finally:
            reader.cancel()
            await asyncio.gather(reader, return_exceptions=True)
            self._watches.remove(exchange.incoming)

    async def _start(self) -> tuple[int, int]:
        self._session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), auto_decompress=False)
        self._runners: list[web.AppRunner] = []
        return await self._serve(self._api, "127.0.0.1"), await self._serve(self._s3, self.s3_host)

    async def _serve(self, handler: Callable[[web.Request], Awaitable[web.StreamResponse]], host: str) -> int:
        application = web.Application(client_max_size=_LIMIT)
        application.router.add_route("*", "/{path:.*}", handler)
        runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1, handler_cancellation=True)
        await runner.setup()
        await web.TCPSite(runner, host, 0).start()
        self._runners.append(runner)
        port: int = runner.addresses[0][1]
        return port

    async def _stop(self) -> None:
        for runner in self._runners:
            await runner.cleanup()
        await self._session.close()

    async def _api(self, incoming: web.Request) -> web.StreamResponse:
        body = await incoming.read()
        path, _, query = incoming.raw_path.partition("?")
        request = api_request(incoming.method, path, query, body)
        exchange = Exchange(request, incoming, body, self)
        if request.verb == "watch" and self.watches_refused:
            return exchange.cut()
        return await self._treat(exchange)

    async def _s3(self, incoming: web.Request) -> web.StreamResponse:
        body = await incoming.read()
        path, _, query = incoming.raw_path.partition("?")
        return await self._treat(
            Exchange(s3_request(incoming.method, path, query, incoming.headers, body), incoming, body, self)
        )

    async def _treat(self, exchange: Exchange) -> web.StreamResponse:
        taken = [rule for rule in self.rules if rule.takes(exchange.request)]
        try:
            return await (taken[0].effect(exchange) if taken else exchange.forward())
        except (aiohttp.ClientError, ConnectionError):
            return exchange.cut()  # one of the two is gone: the other learns it in the same way


def matches(point: str, *, caller: str = "operator", name: str = "") -> Callable[[Request], bool]:
    """Return a test for requests: verb and object as regular expressions, e.g. ``put (plan|manifest)``."""
    form = re.compile(point)
    return lambda request: (
        request.caller == caller and form.fullmatch(request.point) is not None and name in request.name
    )


def trust(ca: str | Path) -> ssl.SSLContext:
    """Trust this authority, given as a file or as PEM text."""
    text = str(ca)
    return ssl.create_default_context(cadata=text) if "BEGIN" in text else ssl.create_default_context(cafile=text)
