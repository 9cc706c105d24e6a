"""The Kubernetes API as the operator uses it: plain JSON objects, few verbs, errors that say whether to try again."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from time import perf_counter
from typing import Any, Final

import aiohttp
from kubernetes.aio import client, config

from pdfjob_api.names import (
    CREDIT_ACCOUNT_PLURAL,
    FIELD_MANAGER,
    GROUP,
    LABEL_MANAGED_BY,
    MANAGED_BY,
    PDFCHUNK_PLURAL,
    PDFJOB_PLURAL,
    RUNNER_CONTAINER,
    VERSION,
)

_TIMEOUT_SECONDS: Final = 30.0
_LOG_TIMEOUT: Final = 5.0
"""Seconds; the kubelet of a pod whose log is asked for may be the one in trouble."""
_PAGE: Final = 500
_MERGE_PATCH: Final = "application/merge-patch+json"
_JSON_PATCH: Final = "application/json-patch+json"
_MANAGED: Final = f"{LABEL_MANAGED_BY}={MANAGED_BY}"


class KubernetesError(Exception):
    """A call to the API server failed. ``retryable`` says whether the same call may go through later."""

    retryable = True


class NotFoundError(KubernetesError):
    """The object does not exist."""

    retryable = False


class AlreadyExistsError(KubernetesError):
    """An object of that name exists."""

    retryable = False


class ConflictError(KubernetesError):
    """The object changed since it was read; read again and redo."""


class InvalidError(KubernetesError):
    """The API server refuses the object as it is (400, 422)."""

    retryable = False


class ForbiddenError(KubernetesError):
    """Not allowed: missing rights, a quota, an admission rule, a namespace that is being deleted."""


class UnavailableError(KubernetesError):
    """The API server did not answer well: overload, transport, time-out."""


@dataclass(frozen=True, slots=True)
class Kind:
    """Where objects of a kind live, and which of them the operator looks at."""

    plural: str
    prefix: str
    """Path of the API group and version."""
    selector: str | None = None
    """Label selector of those that concern us; None = all."""


PDFJOBS: Final = Kind(PDFJOB_PLURAL, f"/apis/{GROUP}/{VERSION}")
PDFCHUNKS: Final = Kind(PDFCHUNK_PLURAL, f"/apis/{GROUP}/{VERSION}")
CREDITACCOUNTS: Final = Kind(CREDIT_ACCOUNT_PLURAL, f"/apis/{GROUP}/{VERSION}")
JOBS: Final = Kind("jobs", "/apis/batch/v1", _MANAGED)
PODS: Final = Kind("pods", "/api/v1", _MANAGED)
LEASES: Final = Kind("leases", "/apis/coordination.k8s.io/v1")
KINDS: Final = (CREDITACCOUNTS, PDFJOBS, PDFCHUNKS, JOBS, PODS)
"""Those that are watched."""


class Cluster:
    """Calls to the API server. Every method raises `KubernetesError`."""

    def __init__(
        self,
        api: client.ApiClient,
        observe: Callable[[str, float], None] | None = None,
        timeout_seconds: float = _TIMEOUT_SECONDS,
    ) -> None:
        self._api = api
        self._observe = observe
        self._timeout = timeout_seconds
        self.answers = True
        """Whether the API server could be reached at the last call."""

    @classmethod
    async def connect(
        cls,
        observe: Callable[[str, float], None] | None = None,
        *,
        guard: Callable[[], None] | None = None,
        timeout_seconds: float = _TIMEOUT_SECONDS,
    ) -> Cluster:
        """Use the pod's service account, or else the kubeconfig of the environment.

        ``guard`` is called right before each write is sent, and raises when it must not be.
        """
        configuration = client.Configuration()
        try:
            config.load_incluster_config(client_configuration=configuration)
        except config.ConfigException:
            await config.load_kube_config(client_configuration=configuration)
        return cls.using(configuration, observe, guard=guard, timeout_seconds=timeout_seconds)

    @classmethod
    def using(
        cls,
        configuration: client.Configuration,
        observe: Callable[[str, float], None] | None = None,
        *,
        guard: Callable[[], None] | None = None,
        timeout_seconds: float = _TIMEOUT_SECONDS,
    ) -> Cluster:
        """Use the API server of this configuration, otherwise as `connect`."""
        configuration.connection_pool_maxsize = 32
        configuration.retries = None  # the work queue tries again; with 0 the library does so for ever after a 500
        if guard is not None:
            configuration.trace_configs = [_guarded(guard)]
        return cls(client.ApiClient(configuration), observe, timeout_seconds)

    async def close(self) -> None:
        """Close all connections."""
        await self._api.close()

    async def list_all(self, kind: Kind, namespace: str | None, selector: str | None = None) -> tuple[list[Any], int]:
        """List all objects of a kind, page by page; returns them and the resourceVersion of the list."""
        items: list[Any] = []
        version = 0
        async for page in self._pages(kind, namespace, selector or kind.selector):
            items += page["items"]
            version = int(page["metadata"].get("resourceVersion") or 0)
        return items, version

    async def get(self, kind: Kind, namespace: str, name: str) -> dict[str, Any]:
        """Read one object."""
        return await self._call("GET", _path(kind, namespace, name))

    async def create(self, kind: Kind, namespace: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Create an object. Raises `AlreadyExistsError` when the name is taken."""
        return await self._call("POST", _path(kind, namespace), body=body, query={"fieldManager": FIELD_MANAGER})

    async def replace(self, kind: Kind, namespace: str, name: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Replace an object. Raises `ConflictError` unless it is at the resourceVersion that ``body`` names."""
        return await self._call("PUT", _path(kind, namespace, name), body=body, query=_manager())

    async def next_change(
        self, kind: Kind, namespace: str, name: str, version: str, seconds: float
    ) -> dict[str, Any] | None:
        """Wait until an object is no longer at ``version`` and return it, empty when it was deleted.

        Returns None when nothing changed for so many seconds.
        """
        path = _path(kind, namespace)
        query = {"watch": "true", "fieldSelector": f"metadata.name={name}", "resourceVersion": version}
        try:
            async with asyncio.timeout(seconds):
                response = await self._send("GET", path, None, query, "application/json", seconds + self._timeout)
                try:
                    line = await response.response.content.readline()
                finally:
                    response.response.close()
        except TimeoutError:
            return None
        except client.ApiException as error:
            raise _converted(error.status, str(error.reason), error.body, "WATCH", path) from error
        except (aiohttp.ClientError, OSError) as error:
            self.answers = False
            raise UnavailableError(f"WATCH {path}: {type(error).__name__}: {error}") from error
        try:
            event: dict[str, Any] = json.loads(line)
        except ValueError as error:
            raise UnavailableError(f"WATCH {path}: the answer is cut off") from error
        if response.status >= 400 or event["type"] == "ERROR":
            raise UnavailableError(f"WATCH {path}: {line.decode(errors='replace')[:500]}")
        return {} if event["type"] == "DELETED" else event["object"]

    async def replace_status(
        self, kind: Kind, namespace: str, name: str, resource_version: str, status: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Replace the whole status. Raises `ConflictError` unless the object is at ``resource_version``."""
        patch = [
            {"op": "test", "path": "/metadata/resourceVersion", "value": resource_version},
            {"op": "add", "path": "/status", "value": dict(status)},
        ]
        path = _path(kind, namespace, name) + "/status"
        return await self._call("PATCH", path, body=patch, content_type=_JSON_PATCH, query=_manager())

    async def set_finalizers(
        self, kind: Kind, namespace: str, name: str, resource_version: str, finalizers: list[str]
    ) -> dict[str, Any]:
        """Replace the finalizers. Raises `ConflictError` unless the object is at ``resource_version``."""
        body = {"metadata": {"resourceVersion": resource_version, "finalizers": finalizers}}
        path = _path(kind, namespace, name)
        return await self._call("PATCH", path, body=body, content_type=_MERGE_PATCH, query=_manager())

    async def delete(
        self, kind: Kind, namespace: str, name: str, uid: str, *, grace_seconds: int | None = None
    ) -> bool:
        """Delete the object with this UID, its dependents in the background; False when it is gone already."""
        body: dict[str, Any] = {"propagationPolicy": "Background", "preconditions": {"uid": uid}}
        if grace_seconds is not None:
            body["gracePeriodSeconds"] = grace_seconds
        try:
            await self._call("DELETE", _path(kind, namespace, name), body=body)
        except (NotFoundError, ConflictError):  # gone, or another object of that name: not the one that was meant
            return False
        return True

    async def delete_all(self, kind: Kind, namespace: str, selector: str) -> None:
        """Delete every object that the label selector takes, in one call."""
        query = {"labelSelector": selector}
        body = {"propagationPolicy": "Background"}
        await self._call("DELETE", _path(kind, namespace), body=body, query=query)

    async def create_event(self, namespace: str, body: Mapping[str, Any]) -> None:
        """Record an Event."""
        await self._call("POST", f"/api/v1/namespaces/{namespace}/events", body=body, query=_manager())

    async def pod_log(self, namespace: str, name: str, *, tail_lines: int, limit_bytes: int) -> str:
        """Read the last lines of the runner's log; empty for a pod that is gone or whose container has not started.

        Parameters
        ----------
        limit_bytes
            Of the last ``tail_lines`` lines at most so many bytes, from their beginning.
        """
        query = {"container": RUNNER_CONTAINER, "tailLines": str(tail_lines), "limitBytes": str(limit_bytes)}
        try:
            data = await self._request("GET", f"{_path(PODS, namespace, name)}/log", query=query, seconds=_LOG_TIMEOUT)
        except (NotFoundError, InvalidError):  # 400: the container is waiting to start
            return ""
        return data.decode(errors="replace")

    async def openapi(self) -> dict[str, Any]:
        """Read the schemas of our group as the API server has them."""
        return await self._call("GET", f"/openapi/v3/apis/{GROUP}/{VERSION}")

    async def ready(self) -> None:
        """Ask the API server for its version; any service account may."""
        await self._call("GET", "/version")

    async def _pages(self, kind: Kind, namespace: str | None, selector: str | None) -> AsyncIterator[dict[str, Any]]:
        token = ""
        while True:
            query = {"limit": str(_PAGE)}
            if selector:
                query["labelSelector"] = selector
            if token:
                query["continue"] = token
            page = await self._call("GET", _path(kind, namespace), query=query)
            yield page
            token = page["metadata"].get("continue") or ""
            if not token:
                return

    async def _call(
        self,
        method: str,
        path: str,
        *,
        body: Any = None,
        query: Mapping[str, str] | None = None,
        content_type: str = "application/json",
    ) -> dict[str, Any]:
        """Make a call whose answer is an object."""
        data = await self._request(method, path, body=body, query=query, content_type=content_type)
        try:
            answer: dict[str, Any] = json.loads(data)
        except ValueError as error:
            raise UnavailableError(f"{method} {path}: the answer is cut off") from error
        return answer

    async def _request(
        self,
        method: str,
        path: str,
        *,
        body: Any = None,
        query: Mapping[str, str] | None = None,
        content_type: str = "application/json",
        seconds: float | None = None,
    ) -> bytes:
        began = perf_counter()
        try:
            response = await self._send(method, path, body, query, content_type, seconds or self._timeout)
            data: bytes = await response.read()
            self.answers = True
        except client.ApiException as error:
            self.answers = True
            raise _converted(error.status, str(error.reason), error.body, method, path) from error
        except (TimeoutError, aiohttp.ClientError, OSError) as error:
            self.answers = False
            raise UnavailableError(f"{method} {path}: {type(error).__name__}: {error}") from error
        finally:
            if self._observe is not None:
                self._observe(method, perf_counter() - began)
        if response.status >= 400:
            raise _converted(response.status, str(response.reason), data, method, path)
        return data

    async def _send(
        self, method: str, path: str, body: Any, query: Mapping[str, str] | None, content_type: str, seconds: float
    ) -> Any:
        request = await self._api.param_serialize(
            method=method,
            resource_path=path,
            query_params=list((query or {}).items()),
            header_params={"Accept": "application/json, */*", "Content-Type": content_type},
            body=body,
            auth_settings=["BearerToken"],
        )
        return await self._api.call_api(*request, _request_timeout=seconds)


def _guarded(guard: Callable[[], None]) -> aiohttp.TraceConfig:
    """Ask ``guard`` when the connection is there and nothing is sent yet: waiting for one may have taken long."""

    async def before_headers(_: Any, __: Any, request: aiohttp.TraceRequestHeadersSentParams) -> None:
        if request.method != "GET":
            guard()

    trace = aiohttp.TraceConfig()
    trace.on_request_headers_sent.append(before_headers)
    return trace


def _manager() -> dict[str, str]:
    return {"fieldManager": FIELD_MANAGER}


def _path(kind: Kind, namespace: str | None, name: str | None = None) -> str:
    where = f"{kind.prefix}/namespaces/{namespace}/{kind.plural}" if namespace else f"{kind.prefix}/{kind.plural}"
    return f"{where}/{name}" if name else where


def _converted(status: int | None, reason: str, body: bytes | str | None, method: str, path: str) -> KubernetesError:
    """Turn an answer of the API server into our error, with the server's own words."""
    try:
        answer = json.loads(body or "{}")
    except ValueError:
        answer = {}
    text = f"{method} {path}: {answer.get('message') or reason or status}"
    match status:
        case 404:
            return NotFoundError(text)
        case 409 if answer.get("reason") == "AlreadyExists":
            return AlreadyExistsError(text)
        case 409:
            return ConflictError(text)
        case 403 | 401:
            return ForbiddenError(text)
        # A JSON patch whose test fails is answered with 422 and the word of the patch library.
        case 422 if "testing path" in text or "test failed" in text.lower():
            return ConflictError(text)
        case 400 | 413 | 415 | 422:
            return InvalidError(text)
    return UnavailableError(text)
