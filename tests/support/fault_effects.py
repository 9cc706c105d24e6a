"""What a proxy can do to a request."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from aiohttp import web

from tests.support.fault_proxy import Effect, Exchange
from tests.support.fault_requests import API

_CODES: Final = {
    403: ("Forbidden", "AccessDenied"),
    404: ("NotFound", "NoSuchKey"),
    409: ("Conflict", "OperationAborted"),
    429: ("TooManyRequests", "SlowDown"),
    500: ("InternalError", "InternalError"),
    503: ("ServiceUnavailable", "ServiceUnavailable"),
}
"""What the API server and S3 call a status."""


def answer(status: int, *, retry_after: int | None = None) -> Effect:
    """Answer with an error, as the server does that was meant, and do not ask it."""

    async def effect(exchange: Exchange) -> web.StreamResponse:
        headers = {} if retry_after is None else {"Retry-After": str(retry_after)}
        kubernetes, s3 = _CODES[status]
        if exchange.request.server == API:
            body = {
                "kind": "Status",
                "apiVersion": "v1",
                "status": "Failure",
                "reason": kubernetes,
                "message": f"injected: {kubernetes}",
                "code": status,
            }
            return web.Response(status=status, headers=headers, text=json.dumps(body), content_type="application/json")
        text = f"<Error><Code>{s3}</Code><Message>injected: {s3}</Message></Error>"
        return web.Response(status=status, headers=headers, text=text, content_type="application/xml")

    return effect


def slow(seconds: float) -> Effect:
    """Do what is asked and answer late."""

    async def effect(exchange: Exchange) -> web.StreamResponse:
        return await exchange.forward(delay=seconds)

    return effect


def cut() -> Effect:
    """Close the connection without having asked the server."""

    async def effect(exchange: Exchange) -> web.StreamResponse:
        return exchange.cut()

    return effect


def lose_answer() -> Effect:
    """Do what is asked and close the connection instead of saying so."""

    async def effect(exchange: Exchange) -> web.StreamResponse:
        await exchange.execute()
        return exchange.cut()

    return effect


def stall(seconds: float) -> Effect:
    """Neither ask nor answer for so long, then close the connection."""

    async def effect(exchange: Exchange) -> web.StreamResponse:
        await asyncio.sleep(seconds)
        return exchange.cut()

    return effect


def strike_after(deed: Callable[[], None]) -> Effect:
    """Have the server do what is asked, then do ``deed`` (kill the operator), and never answer."""

    async def effect(exchange: Exchange) -> web.StreamResponse:
        return await exchange.forward_and_hold(lambda: _do(deed))

    return effect


async def _do(deed: Callable[[], None]) -> None:
    deed()


@dataclass
class Gate:
    """Holds a request until a test lets it go, so that the test can act at that very moment."""

    reached: threading.Event = field(default_factory=threading.Event)
    released: threading.Event = field(default_factory=threading.Event)

    def before(self) -> Effect:
        """Hold the request before the server hears of it."""

        async def effect(exchange: Exchange) -> web.StreamResponse:
            await self._pass()
            return await exchange.forward()

        return effect

    def after(self) -> Effect:
        """Hold the answer."""

        async def effect(exchange: Exchange) -> web.StreamResponse:
            return await exchange.forward_and_hold(self._pass)

        return effect

    def cut(self) -> Effect:
        """Hold the request, then close the connection without having asked the server."""

        async def effect(exchange: Exchange) -> web.StreamResponse:
            await self._pass()
            return exchange.cut()

        return effect

    async def _pass(self) -> None:
        self.reached.set()
        while not self.released.is_set():  # noqa: ASYNC110 - set by another thread, of which there may be few to wait in
            await asyncio.sleep(0.02)
