"""An object storage on the wire: a real HTTP server that answers as S3 does to presigned URLs.

It stands in for the storage only; what talks to it is the real runner. Tests set `faults` to make it fail.
"""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

from typing_extensions import override

SIGNATURE = "X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Date=20990101T000000Z&X-Amz-Expires=3600&X-Amz-Signature=c0ffee"


@dataclass(slots=True)
class Fault:
    """How requests to one object fail."""

    status: int = 500
    body: bytes = b"<Error><Code>InternalError</Code></Error>"
    times: int = 1
    """How many requests fail; then all is well."""
    delay: float = 0.0
    """Seconds before the answer."""
    cut: bool = False
    """Send half of the object and close the connection."""
    after_store: bool = False
    """A PUT is stored all the same: its answer is what gets lost."""


@dataclass
class WireStorage:
    """Objects by path, and what was asked of them."""

    objects: dict[str, bytes] = field(default_factory=dict)
    faults: dict[tuple[str, str], Fault] = field(default_factory=dict)
    """By method and path."""
    requests: Counter[tuple[str, str]] = field(default_factory=Counter)
    history: deque[tuple[str, str, bytes]] = field(default_factory=lambda: deque(maxlen=1000))
    """Method, path and body of every request, in order."""

    def __enter__(self) -> Self:
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Handler, self))
        self._server.daemon_threads = True
        self._lock = threading.Lock()
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()

    def url(self, path: str, query: str = SIGNATURE) -> str:
        """Return the presigned URL of an object."""
        return f"http://127.0.0.1:{self._server.server_port}/{path}?{query}"

    def wait_for(self, condition: Callable[[], bool], seconds: float = 60) -> None:
        """Wait until something has happened."""
        deadline = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > deadline:
                raise TimeoutError(f"not within {seconds} s; requests so far: {dict(self.requests)}")
            time.sleep(0.01)

    def take_fault(self, method: str, path: str) -> Fault | None:
        """Note a request and return its fault, if it has one left."""
        with self._lock:
            self.requests[method, path] += 1
            fault = self.faults.get((method, path))
            if fault is None or fault.times <= 0:
                return None
            fault.times -= 1
            return fault


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def __init__(self, wire: WireStorage, *args: Any) -> None:
        self.wire = wire
        super().__init__(*args)

    @override
    def log_message(self, format: str, *args: object) -> None:
        """Tests read the runner's log, not the server's."""

    def do_GET(self) -> None:
        path = urlsplit(self.path).path.lstrip("/")
        fault = self.wire.take_fault("GET", path)
        self.wire.history.append(("GET", path, b""))
        body = self.wire.objects.get(path)
        if fault and fault.delay:
            time.sleep(fault.delay)
        if fault and fault.cut and body is not None:
            self._answer(200, body[: len(body) // 2], length=len(body))
            self.close_connection = True
        elif fault and not fault.delay:
            self._answer(fault.status, fault.body)
        elif body is None:
            self._answer(404, b"<Error><Code>NoSuchKey</Code></Error>")
        else:
            self._answer(200, body)

    def do_PUT(self) -> None:
        path = urlsplit(self.path).path.lstrip("/")
        body = self.rfile.read(int(self.headers["Content-Length"]))
        fault = self.wire.take_fault("PUT", path)
        self.wire.history.append(("PUT", path, body))
        if fault and fault.delay:
            time.sleep(fault.delay)
            fault = None
        if fault and not fault.after_store:
            self._answer(fault.status, fault.body)
        elif self.headers.get("If-None-Match") == "*" and path in self.wire.objects:
            self._answer(412, b"<Error><Code>PreconditionFailed</Code></Error>")
        else:
            self.wire.objects[path] = body
            self._answer(fault.status if fault else 200, fault.body if fault else b"")

    def _answer(self, status: int, body: bytes, length: int | None = None) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        self.end_headers()
        self.wfile.write(body)
