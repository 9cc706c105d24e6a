"""/metrics, /livez and /readyz."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

_STALE_SECONDS: Final = 300.0
"""A key that nobody reconciled for so long means that the operator makes no progress."""


class Health:
    """The HTTP server of the operator.

    Parameters
    ----------
    registry
        What /metrics shows.
    oldest_age
        Seconds for which the oldest due key has not been reconciled: liveness is progress, not an open port.
    ready
        Raises when the API server or S3 cannot be reached; what it says or returns is shown.
    """

    def __init__(
        self, registry: CollectorRegistry, oldest_age: Callable[[], float], ready: Callable[[], Awaitable[str]]
    ) -> None:
        self._registry = registry
        self._oldest_age = oldest_age
        self._ready = ready
        app = web.Application()
        app.add_routes(
            [
                web.get("/metrics", self._metrics),
                web.get("/livez", self._livez),
                web.get("/readyz", self._readyz),
            ]
        )
        self._runner = web.AppRunner(app, access_log=None)

    async def start(self, port: int) -> int:
        """Listen on all addresses; returns the port, which is chosen when 0 was asked for."""
        await self._runner.setup()
        await web.TCPSite(self._runner, port=port).start()
        bound: int = self._runner.addresses[0][1]
        return bound

    async def stop(self) -> None:
        """Stop listening."""
        await self._runner.cleanup()

    async def _metrics(self, _: web.Request) -> web.Response:
        return web.Response(body=generate_latest(self._registry), headers={"Content-Type": CONTENT_TYPE_LATEST})

    async def _livez(self, _: web.Request) -> web.Response:
        age = self._oldest_age()
        text = f"oldest unreconciled key: {age:.0f} s"
        return web.Response(text=text, status=200 if age < _STALE_SECONDS else 503)

    async def _readyz(self, _: web.Request) -> web.Response:
        try:
            text = await self._ready()
        except Exception as error:  # noqa: BLE001 - whatever it is, it is why the operator is not ready
            return web.Response(text=f"not ready: {error}", status=503)
        return web.Response(text=text)
