"""Requests to the Kubernetes API server: lists read page by page, watches taken up again, errors as one clear line.

With `cluster`, the only module that touches the client.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final, TypeVar

import urllib3
from kubernetes import client

from pdfjob_api import names

from .errors import ClusterError, ConflictError, ForbiddenError, NameTakenError, NotFoundError
from .following import Change, Snapshot

__all__ = ["ApiServer", "RefusedError"]

_PAGE: Final = 500
"""Objects per LIST request, as kubectl does."""
_CONNECT_SECONDS: Final = 10.0
_READ_SECONDS: Final = 60.0
_WATCH_SECONDS: Final = 240
"""The server ends a watch after so long, and it is taken up where it ended."""
_RECONNECT_SECONDS: Final = 60.0
"""A watch that lost its connection tries so long to get it back."""
_GONE: Final = 410
"""The resource version of a watch is too old; list again."""

_T = TypeVar("_T")


class RefusedError(Exception):
    """An HTTP status of 400 and above, with the Kubernetes ``Status`` object when there is one."""

    def __init__(self, code: int, status: Mapping[str, Any]) -> None:
        super().__init__(f"{code}: {status.get('message', '')}")
        self.code = code
        self.reason = str(status.get("reason") or "")
        self.message = str(status.get("message") or f"HTTP {code}")
        details = status.get("details") or {}
        self.names_object = bool(details.get("name"))
        self.causes = [str(cause.get("message") or "") for cause in details.get("causes") or []]
        self.passing = code == 429 or code >= 500


class ApiServer:
    """One API server; ``namespace`` is the one that its errors speak of."""

    def __init__(self, host: str, namespace: str) -> None:
        self._host = host
        self._namespace = namespace

    def call(self, function: Callable[..., Any], *arguments: Any, **options: Any) -> dict[str, Any]:
        """Send a request of the client and return the answer as JSON.

        Raises
        ------
        RefusedError
            When the server says no.
        """
        response = _send(function, *arguments, **options, _request_timeout=(_CONNECT_SECONDS, _READ_SECONDS))
        answer: dict[str, Any] = json.loads(response.data)
        return answer

    def list(self, call: Callable[..., Any]) -> tuple[list[dict[str, Any]], str]:
        """Return all objects of a LIST, read page by page, and the resource version to watch from."""
        items: list[dict[str, Any]] = []
        more: dict[str, Any] = {}
        while True:
            page = self.call(call, limit=_PAGE, **more)
            items += page.get("items") or []
            token = page["metadata"].get("continue")
            if not token:
                return items, page["metadata"]["resourceVersion"]
            more = {"_continue": token}

    def follow(
        self, call: Callable[..., Any], parse: Callable[[dict[str, Any]], _T], deadline: float | None
    ) -> Iterator[Snapshot[_T] | Change[_T]]:
        """List, then watch from there; on a gap list again. A lost connection is taken up again.

        Ends at ``deadline`` (of `time.monotonic`); None = never.
        """
        version: str | None = None
        lost_since: float | None = None
        while deadline is None or time.monotonic() < deadline:
            try:
                if version is None:
                    with self.translated("list"):
                        items, version = self.list(call)
                    yield Snapshot([parse(item) for item in items])
                for kind, item in self._watch(call, version, deadline):
                    lost_since = None
                    version = item["metadata"]["resourceVersion"]
                    if kind != "BOOKMARK":
                        yield Change(parse(item), kind == "DELETED")
                lost_since = None
            except (RefusedError, urllib3.exceptions.HTTPError) as error:
                if isinstance(error, RefusedError) and error.code == _GONE:
                    version = None
                    continue
                if isinstance(error, RefusedError) and not error.passing:
                    raise self._explained("watch", error) from error
                now = time.monotonic()
                lost_since = lost_since or now
                if now - lost_since > _RECONNECT_SECONDS:
                    raise ClusterError(f"lost the connection to the API server {self._host}") from error
                time.sleep(1)

    def _watch(
        self, call: Callable[..., Any], version: str, deadline: float | None
    ) -> Iterator[tuple[str, dict[str, Any]]]:
        seconds = _WATCH_SECONDS
        if deadline is not None:
            seconds = min(seconds, max(1, int(deadline - time.monotonic()) + 1))
        response = _send(
            call,
            watch=True,
            resource_version=version,
            allow_watch_bookmarks=True,
            timeout_seconds=seconds,
            _request_timeout=(_CONNECT_SECONDS, seconds + _CONNECT_SECONDS),
        )
        try:
            for line in response:
                event = json.loads(line)
                if event["type"] == "ERROR":
                    raise RefusedError(int(event["object"].get("code", 500)), event["object"])
                yield event["type"], event["object"]
        finally:
            response.close()

    @contextmanager
    def translated(self, doing: str, plural: str = names.PDFJOB_PLURAL) -> Iterator[None]:
        """Turn what the client raises into one line; ``doing`` says what was tried, ``plural`` with which kind."""
        try:
            yield
        except RefusedError as error:
            raise self._explained(doing, error, plural) from error
        except (urllib3.exceptions.HTTPError, client.ApiException) as error:
            reason = getattr(error, "reason", None) or error
            text = str(reason).rsplit(": ", 1)[-1]
            raise ClusterError(f"cannot reach the API server {self._host}: {text}") from error

    def _explained(self, doing: str, error: RefusedError, plural: str = names.PDFJOB_PLURAL) -> ClusterError:
        where = f'in namespace "{self._namespace}"'
        if error.code == 401:
            return ClusterError(f"the API server {self._host} refused your credentials; log in again")
        if error.code == 404 and not error.names_object:
            older = "" if plural == names.PDFJOB_PLURAL else ", or in an older version"
            resource = f"{plural}.{names.GROUP}"
            return ClusterError(f"pdfjob is not installed on this cluster{older}: it has no resource {resource}")
        if error.code == 404 and error.message.startswith("namespaces "):
            return ClusterError(f'namespace "{self._namespace}" does not exist')
        if error.code == 404:
            return NotFoundError(f"{error.message} {where}")
        if error.code == 409 and error.reason == "AlreadyExists":
            return NameTakenError(f"{error.message} {where}")
        if error.code == 409:
            return ConflictError(f"cannot {doing}: {error.message}")
        if error.code == 403 and error.reason == "Forbidden":
            return ForbiddenError(f"cannot {doing}: {error.message}")
        return ClusterError(f"cannot {doing}: {error.message}")


def _send(function: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
    """Send a request of the client and return the answer unread, as JSON is parsed here and not by the client."""
    try:
        return function(*arguments, **options, _preload_content=False)
    except client.ApiException as error:
        if not error.status:
            raise
        try:
            status = json.loads(error.body or "")
        except ValueError:
            # A proxy in between may send something else than a Status object.
            status = {}
        raise RefusedError(error.status, status if isinstance(status, dict) else {}) from error
