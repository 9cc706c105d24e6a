"""A Kubernetes API server on the wire, as far as background work needs one: it takes objects and serves logs."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web
from aiohttp.test_utils import TestServer
from kubernetes.aio import client

_NAMESPACED = "/apis/pdfjob.dev/v1alpha1/namespaces/{namespace}/pdfchunks"


@dataclass
class WireApi:
    """Objects that were created, and what is known of pods."""

    address: str = ""
    chunks: dict[str, dict[str, Any]] = field(default_factory=dict)
    """PdfChunks by name."""
    events: list[dict[str, Any]] = field(default_factory=list)
    logs: dict[str, str] = field(default_factory=dict)
    """Log of each pod whose container has started, by name."""
    starting: set[str] = field(default_factory=set)
    """Pods whose container has not started."""
    broken: bool = False
    """Whether every answer is an error of the server."""
    requests: int = 0
    asked: list[dict[str, str]] = field(default_factory=list)
    """Query of each request for a log."""

    @property
    def configuration(self) -> client.Configuration:
        """What a client needs to call it."""
        configuration = client.Configuration()
        configuration.host = self.address
        return configuration

    async def create_chunk(self, request: web.Request) -> web.Response:
        """Store a PdfChunk; 409 when the name is taken."""
        body = await request.json()
        name = body["metadata"]["name"]
        if name in self.chunks:
            return _status(409, "AlreadyExists", f'pdfchunks "{name}" already exists')
        given = {"uid": str(uuid.uuid4()), "resourceVersion": str(len(self.chunks) + 1), "generation": 1}
        body["metadata"] |= {**given, "creationTimestamp": "2026-11-22T05:00:00Z"}
        self.chunks[name] = body
        return web.json_response(body, status=201)

    async def get_chunk(self, request: web.Request) -> web.Response:
        """Return a PdfChunk."""
        found = self.chunks.get(request.match_info["name"])
        return web.json_response(found) if found else _status(404, "NotFound", "not found")

    async def create_event(self, request: web.Request) -> web.Response:
        """Keep an Event."""
        self.events.append(await request.json())
        return web.json_response(self.events[-1], status=201)

    async def log(self, request: web.Request) -> web.Response:
        """Return a log as a kubelet does."""
        name = request.match_info["name"]
        self.asked.append(dict(request.query))
        if name in self.starting:
            return _status(400, "BadRequest", f'container "runner" in pod "{name}" is waiting to start')
        if name not in self.logs:
            return _status(404, "NotFound", f'pods "{name}" not found')
        lines = self.logs[name].splitlines(keepends=True)[-int(request.query["tailLines"]) :]
        data = "".join(lines).encode()[: int(request.query["limitBytes"])]
        return web.Response(body=data, content_type="text/plain")


@asynccontextmanager
async def wire_api() -> AsyncIterator[WireApi]:
    """Serve until the block ends."""
    api = WireApi()

    @web.middleware
    async def faults(request: web.Request, handler: Any) -> web.StreamResponse:
        api.requests += 1
        return _status(500, "InternalError", "out of order") if api.broken else await handler(request)

    app = web.Application(middlewares=[faults])
    app.router.add_post(_NAMESPACED, api.create_chunk)
    app.router.add_get(_NAMESPACED + "/{name}", api.get_chunk)
    app.router.add_post("/api/v1/namespaces/{namespace}/events", api.create_event)
    app.router.add_get("/api/v1/namespaces/{namespace}/pods/{name}/log", api.log)
    async with TestServer(app) as server:
        api.address = str(server.make_url("")).rstrip("/")
        yield api


def _status(code: int, reason: str, message: str) -> web.Response:
    return web.json_response({"kind": "Status", "code": code, "reason": reason, "message": message}, status=code)
