"""The way of the simulated node to API server and object storage: asynchronous, with the administrator's proof."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import aiohttp
from kubernetes import client, config
from yarl import URL

Raw = dict[str, Any]
_MERGE: Final = "application/merge-patch+json"
_BUFFER: Final = 2**22
"""Bytes of one line of a watch at most."""
_SECONDS: Final = 30.0
_TRIES: Final = 4
_TIMEOUT: Final = aiohttp.ClientTimeout(total=_SECONDS)

T = TypeVar("T")


class RefusedError(Exception):
    """A server said no."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(f"{status}: {text[:300]}")
        self.status = status


@dataclass(frozen=True, slots=True)
class NodeApi:
    """Requests of a simulated node."""

    session: aiohttp.ClientSession
    server: str
    headers: Mapping[str, str]
    trust: ssl.SSLContext

    @classmethod
    @asynccontextmanager
    async def connect(cls, kubeconfig: str) -> AsyncIterator[NodeApi]:
        """Read the kubeconfig and open the connections."""
        settings = client.Configuration()
        config.load_kube_config(config_file=kubeconfig, client_configuration=settings)
        trust = ssl.create_default_context(cafile=settings.ssl_ca_cert)
        if settings.cert_file:
            trust.load_cert_chain(settings.cert_file, settings.key_file)
        token = settings.api_key.get("authorization")
        connector = aiohttp.TCPConnector(limit=64)
        async with aiohttp.ClientSession(connector=connector, read_bufsize=_BUFFER, trust_env=False) as session:
            yield cls(session, settings.host, {"Authorization": token} if token else {}, trust)

    async def call(self, method: str, path: str, body: Raw | None = None) -> Raw:
        """Make a request to the API server; a PATCH is a merge patch.

        Raises
        ------
        RefusedError
        """
        kind = _MERGE if method == "PATCH" else "application/json"
        async with self.session.request(
            method,
            self.server + path,
            data=None if body is None else json.dumps(body),
            headers={**self.headers, "Content-Type": kind},
            ssl=self.trust,
            timeout=_TIMEOUT,
        ) as answer:
            data = await answer.read()
            if answer.status >= 300:
                raise RefusedError(answer.status, data.decode(errors="replace"))
            found: Raw = json.loads(data)
            return found

    async def watch(self, path: str) -> AsyncIterator[Raw]:
        """Yield the events of a watch until it ends; the path names everything but ``watch``."""
        async with self.session.get(
            f"{self.server}{path}&watch=true&timeoutSeconds=300",
            headers=self.headers,
            ssl=self.trust,
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=10),
        ) as answer:
            if answer.status >= 300:
                raise RefusedError(answer.status, await answer.text())
            async for line in answer.content:
                yield json.loads(line)

    async def store(self, url: str, data: bytes, *, once: bool = False) -> None:
        """PUT an object to a presigned URL as a runner does; ``once`` asks that it is not there yet.

        Raises
        ------
        RefusedError
        """
        headers = {"If-None-Match": "*"} if once else {}
        sent = False

        async def put() -> None:
            nonlocal sent
            async with self.session.put(URL(url, encoded=True), data=data, headers=headers, timeout=_TIMEOUT) as answer:
                again, sent = sent, True
                if answer.status >= 300 and not (answer.status == 412 and again):  # an answer to the first was lost
                    raise RefusedError(answer.status, await answer.text())

        await patiently(put)

    async def fetch(self, url: str) -> bytes:
        """GET an object from a presigned URL.

        Raises
        ------
        RefusedError
        """

        async def get() -> bytes:
            async with self.session.get(URL(url, encoded=True), timeout=_TIMEOUT) as answer:
                data = await answer.read()
                if answer.status >= 300:
                    raise RefusedError(answer.status, data.decode(errors="replace"))
                return data

        return await patiently(get)


async def patiently(call: Callable[[], Awaitable[T]]) -> T:
    """Make a request again when the server failed or was not reached, as kubelets and runners do.

    Raises
    ------
    RefusedError, aiohttp.ClientError, TimeoutError
        Of the last try, or at once when the request itself is refused.
    """
    for number in range(_TRIES - 1):
        try:
            return await call()
        except RefusedError as error:
            if error.status < 500 and error.status != 429:
                raise
        except (aiohttp.ClientError, TimeoutError):
            pass
        await asyncio.sleep(2**number)
    return await call()
