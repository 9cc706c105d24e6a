"""A web server of the tests' own that the operator can reach: sound documents, and every kind of bad answer."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Final

from typing_extensions import override

from devcluster.settings import NODE_ADDRESS

ADDRESS: Final = os.environ.get("PDFJOB_TEST_ADDRESS", NODE_ADDRESS)
"""Address of this machine as pods reach it; the variable names it where the cluster is not devcluster's own."""
_PIECE: Final = bytes(1024**2)

Answer = Callable[[BaseHTTPRequestHandler], None]


@dataclass
class WebServer:
    """A server whose answers a test sets by path, also while it runs; other paths answer 404."""

    port: int
    answers: dict[str, Answer] = field(default_factory=dict)
    asked: dict[str, int] = field(default_factory=dict)
    """Requests by path."""

    def url(self, path: str) -> str:
        """Return the address of a path."""
        return f"http://{ADDRESS}:{self.port}{path}"

    def offer(
        self, path: str, body: bytes = b"", *, status: int = 200, headers: Mapping[str, str] | None = None
    ) -> str:
        """Answer a path with this, and return its address."""
        self.answers[path] = lambda request: _answer(request, status, body, headers or {})
        return self.url(path)

    def redirect(self, path: str, target: str) -> str:
        """Answer a path with a redirect, and return its address."""
        return self.offer(path, status=302, headers={"Location": target})

    def offer_zeros(self, path: str, size: int, *, tell_length: bool) -> str:
        """Answer a path with so many bytes, made while they are sent, and return its address."""
        self.answers[path] = lambda request: _stream_zeros(request, size, tell_length=tell_length)
        return self.url(path)

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        """Answer one request."""
        path = request.path.partition("?")[0]
        answer = self.answers.get(path, _not_found)  # before it counts: who sees the count may set another
        self.asked[path] = self.asked.get(path, 0) + 1
        answer(request)


@contextmanager
def web_server() -> Iterator[WebServer]:
    """Run a server on a free port of `ADDRESS`."""

    class Handler(BaseHTTPRequestHandler):
        """Hands requests over; HTTP/1.0, so that a body without a length ends with the connection."""

        def do_GET(self) -> None:
            """Answer."""
            served.answer(self)

        @override
        def log_message(self, format: str, *args: object) -> None:
            """Stay silent."""

    with ThreadingHTTPServer((ADDRESS, 0), Handler) as listener:
        listener.daemon_threads = True
        served = WebServer(listener.server_address[1])
        thread = threading.Thread(target=listener.serve_forever, daemon=True)
        thread.start()
        try:
            yield served
        finally:
            listener.shutdown()
            thread.join()


def _not_found(request: BaseHTTPRequestHandler) -> None:
    _answer(request, 404, b"no such document", {})


def _answer(request: BaseHTTPRequestHandler, status: int, body: bytes, headers: Mapping[str, str]) -> None:
    request.send_response(status)
    request.send_header("Content-Length", str(len(body)))
    for name, value in headers.items():
        request.send_header(name, value)
    request.end_headers()
    request.wfile.write(body)


def _stream_zeros(request: BaseHTTPRequestHandler, size: int, *, tell_length: bool) -> None:
    request.send_response(200)
    if tell_length:
        request.send_header("Content-Length", str(size))
    request.end_headers()
    sent = 0
    try:
        request.wfile.write(b"%PDF-1.7\n")
        while sent < size:
            request.wfile.write(_PIECE)
            sent += len(_PIECE)
    except OSError:
        return  # the reader had enough, as it should
