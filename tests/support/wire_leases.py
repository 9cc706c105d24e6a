"""An API server on the wire that knows one thing: Leases of one namespace, as coordination.k8s.io/v1 has them."""

from __future__ import annotations

import asyncio
import json
from typing import Any, Final, Literal, Self

from aiohttp import web
from aiohttp.test_utils import TestServer
from kubernetes.aio import client

from pdfjob_operator.storage.kubernetes import Cluster

NAMESPACE: Final = "pdfjob-system"
_PATH: Final = f"/apis/coordination.k8s.io/v1/namespaces/{NAMESPACE}/leases"

Raw = dict[str, Any]


class WireLeases:
    """The server; ``trouble`` makes its answers fail."""

    def __init__(self) -> None:
        self.leases: dict[str, Raw] = {}
        self.writes: list[tuple[str, str]] = []
        """Holder and verb of every write that went through."""
        self.trouble: Literal["", "hang", "error", "answer lost"] = ""
        self._version = 0
        self._changed = asyncio.Condition()
        self._clusters: list[Cluster] = []
        app = web.Application()
        app.add_routes(
            [
                web.get(_PATH, self._watch),
                web.post(_PATH, self._create),
                web.get(_PATH + "/{name}", self._get),
                web.put(_PATH + "/{name}", self._replace),
            ]
        )
        self._server = TestServer(app)

    async def __aenter__(self) -> Self:
        await self._server.start_server()
        return self

    async def __aexit__(self, *_: object) -> None:
        self.trouble = ""
        for cluster in self._clusters:
            await cluster.close()
        await self._server.close()

    def cluster(self, **options: Any) -> Cluster:
        """Return a client of this server."""
        made = Cluster.using(client.Configuration(host=str(self._server.make_url("")).rstrip("/")), **options)
        self._clusters.append(made)
        return made

    async def wait_for_writes(self, count: int) -> None:
        """Wait until so many writes have gone through, at most 5 seconds."""
        async with asyncio.timeout(5), self._changed:
            await self._changed.wait_for(lambda: len(self.writes) >= count)

    def holder(self, name: str) -> str | None:
        """Return whom a Lease names."""
        return self.leases[name]["spec"]["holderIdentity"] if name in self.leases else None

    async def edit(self, name: str, **spec: Any) -> None:
        """Change a Lease by hand."""
        lease = self.leases[name]
        await self._store({**lease, "spec": {**lease["spec"], **spec}})

    async def delete(self, name: str) -> None:
        """Delete a Lease by hand."""
        async with self._changed:
            del self.leases[name]
            self._changed.notify_all()

    async def _get(self, request: web.Request) -> web.Response:
        await self._suffer()
        lease = self.leases.get(request.match_info["name"])
        return web.json_response(lease) if lease else _refusal(404, "NotFound")

    async def _create(self, request: web.Request) -> web.Response:
        lease = await request.json()
        await self._suffer()
        if lease["metadata"]["name"] in self.leases:
            return _refusal(409, "AlreadyExists")
        return web.json_response(await self._store(lease, "create"), status=201)

    async def _replace(self, request: web.Request) -> web.Response:
        lease = await request.json()
        if self.trouble != "answer lost":
            await self._suffer()
        there = self.leases.get(request.match_info["name"])
        if there is None:
            return _refusal(404, "NotFound")
        if there["metadata"]["resourceVersion"] != lease["metadata"].get("resourceVersion"):
            return _refusal(409, "Conflict")
        stored = await self._store(lease, "update")
        if self.trouble == "answer lost":
            self.trouble = ""
            return _refusal(504, "Timeout")
        return web.json_response(stored)

    async def _watch(self, request: web.Request) -> web.StreamResponse:
        await self._suffer()
        name, version = request.query["fieldSelector"].partition("=")[2], request.query["resourceVersion"]
        stream = web.StreamResponse()
        await stream.prepare(request)

        def changed() -> bool:
            return name not in self.leases or self.leases[name]["metadata"]["resourceVersion"] != version

        async with self._changed:
            await self._changed.wait_for(changed)
        lease = self.leases.get(name)
        event = {"type": "MODIFIED" if lease else "DELETED", "object": lease or {}}
        await stream.write(json.dumps(event).encode() + b"\n")
        return stream

    async def _suffer(self) -> None:
        if self.trouble == "hang":
            await asyncio.sleep(30)
        if self.trouble == "error":
            raise web.HTTPInternalServerError

    async def _store(self, lease: Raw, verb: str = "") -> Raw:
        async with self._changed:
            self._version += 1
            stored = {**lease, "metadata": {**lease["metadata"], "resourceVersion": str(self._version)}}
            self.leases[lease["metadata"]["name"]] = stored
            if verb:
                self.writes.append((lease["spec"]["holderIdentity"], verb))
            self._changed.notify_all()
        return stored


def _refusal(status: int, reason: str) -> web.Response:
    return web.json_response({"kind": "Status", "reason": reason, "message": reason, "code": status}, status=status)
