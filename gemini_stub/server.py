"""The HTTP side: ``:generateContent`` of the Gemini API and of Vertex AI, and the control of scenarios and counts."""

from __future__ import annotations

import base64
import json
import re
import select
import socket
import struct
import sys
import threading
import time
import zlib
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final
from urllib.parse import parse_qs, quote, unquote

from . import answering
from .asking import Asked, BadRequestError, read
from .counts import Counts
from .scenario import ERRORS, Fate, Scenario

DEMO_KEY: Final = "demo"
DEMO: Final = Scenario(latency_seconds=0.4, seconds_per_token=0.0005, thinking_tokens=40, cached_share=0.1)
"""A demonstration shall be seen, and shall not take long."""
MAX_BODY: Final = 128 * 1024**2
MAX_KEYS: Final = 10_000
_GENERATE: Final = re.compile(
    r"/(?P<version>v1|v1beta|v1beta1)/(?:projects/[^/]+/locations/[^/]+/)?(?:publishers/google/)?models/"
    r"(?P<model>[^/:]+):generateContent$"
)
_PIECE: Final = b" " * 65536
_LOOK_SECONDS: Final = 0.5
"""After so long at the most, an answer that waits notices that the stub ends."""


@dataclass(slots=True)
class _Reply:
    """What is sent last and counted with it."""

    outcome: str
    send: Callable[[], None] | None
    """None when everything was sent before, or nothing is."""
    usage: dict[str, Any] = field(default_factory=dict)
    good: bool = False


@dataclass(slots=True)
class _Key:
    """One API key."""

    scenario: Scenario
    fate: Fate
    counts: Counts = field(default_factory=Counts)
    allowed: deque[float] = field(default_factory=deque)
    """Times of the requests of the last ``limit_seconds``."""
    lock: threading.Lock = field(default_factory=threading.Lock)

    def wait_for_limit(self) -> float | None:
        """Take one of the requests that the limit allows; when there is none, return the seconds until there is."""
        if self.scenario.limit_requests is None:
            return None
        now = time.monotonic()
        while self.allowed and self.allowed[0] <= now - self.scenario.limit_seconds:
            self.allowed.popleft()
        if len(self.allowed) < self.scenario.limit_requests:
            self.allowed.append(now)
            return None
        return self.allowed[0] + self.scenario.limit_seconds - now if self.allowed else self.scenario.limit_seconds


class Stub:
    """The stub within a process, or at the other end of the control interface."""

    def __init__(self, port: int, host: str) -> None:
        self._keys: dict[str, _Key] = {}
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        handler = type("_BoundHandler", (_Handler,), {"stub": self})
        self._listener = _Listener((host, port), handler)
        self.host: Final = host
        self.port: Final[int] = self._listener.server_address[1]
        self._thread = threading.Thread(
            target=self._listener.serve_forever, kwargs={"poll_interval": 0.03}, daemon=True
        )
        self._thread.start()

    @property
    def url(self) -> str:
        """Its address: what ``baseUrl`` names."""
        return f"http://{self.host}:{self.port}"

    @property
    def stopped(self) -> bool:
        """Whether it is being closed."""
        return self._stopped.is_set()

    def register(self, key: str, scenario: Scenario | None = None) -> str:
        """Make a key known, or change the scenario of a known one, whose counts stay; return the key."""
        scenario = (scenario or Scenario()).checked()
        with self._lock:
            known = self._keys.get(key)
            if known is None:
                if len(self._keys) >= MAX_KEYS:
                    raise ValueError(f"there are {MAX_KEYS} keys already")
                self._keys[key] = _Key(scenario, Fate(scenario))
                return key
        with known.lock:
            known.scenario, known.fate = scenario, Fate(scenario)
        return key

    def forget(self, key: str) -> None:
        """Make a key invalid and forget its counts."""
        with self._lock:
            self._keys.pop(key, None)

    def counts(self, key: str, *, brief: bool = False) -> dict[str, Any] | None:
        """Return the counts of a key, see `Counts.as_json`; None when it is not known."""
        found = self.find(key)
        if found is None:
            return None
        with found.lock:
            return found.counts.as_json(brief=brief)

    def find(self, key: str) -> _Key | None:
        """Return a key; None when it is not valid."""
        with self._lock:
            if key == DEMO_KEY and key not in self._keys:
                self._keys[key] = _Key(DEMO, Fate(DEMO))
            return self._keys.get(key)

    def close(self) -> None:
        """End it; requests in flight are dropped."""
        self._stopped.set()
        self._listener.shutdown()
        self._listener.server_close()
        self._thread.join()


@contextmanager
def serve(port: int = 0, host: str = "127.0.0.1") -> Iterator[Stub]:
    """Run a stub in threads of this process; port 0 takes a free one."""
    stub = Stub(port, host)
    try:
        yield stub
    finally:
        stub.close()


class _Listener(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing about clients that left; runners are killed here all the time."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)


class _GoneError(OSError):
    """The client has left."""


class _Handler(BaseHTTPRequestHandler):
    """Answers one connection."""

    stub: Stub
    protocol_version = "HTTP/1.1"
    timeout = 120
    """Seconds until an idle connection is closed."""
    disable_nagle_algorithm = True
    """Head and body are two writes: without this the second request of a connection waits 40 ms for its answer."""

    def do_GET(self) -> None:
        """Health and counts."""
        if self.path == "/healthz":
            self._send(200, {})
            return
        counts = self.stub.counts(self._named_key(), brief=self.path.endswith("?brief"))
        self._send(404, {"error": "no such key"}) if counts is None else self._send(200, counts)

    def do_PUT(self) -> None:
        """Register a key."""
        try:
            scenario = Scenario.from_json(json.loads(self._body() or b"{}"))
            self.stub.register(self._named_key(), scenario)
        except (ValueError, TypeError) as error:
            self._send(400, {"error": str(error)})
        else:
            self._send(200, asdict(scenario))

    def do_DELETE(self) -> None:
        """Make a key invalid."""
        self.stub.forget(self._named_key())
        self._send(200, {})

    def do_POST(self) -> None:
        """Answer a call of the API."""
        body = self._body()
        path = self.path.partition("?")[0]
        if path == "/stub/token":
            self._send_token(body)
        elif path.startswith("/stub/elsewhere/"):
            key = self.stub.find(unquote(path.rpartition("/")[2]))
            if key is not None:
                with key.lock:
                    key.counts.redirects_followed += 1
            self._send(200, {})
        elif found := _GENERATE.search(path):
            self._generate(body, found["model"], found["version"])
        else:
            self._send(404, {"error": {"code": 404, "message": f"No such method: {path}", "status": "NOT_FOUND"}})

    def _generate(self, body: bytes, model: str, version: str) -> None:
        value = self._api_key()
        key = self.stub.find(value)
        if key is None:
            self._send(*answering.error("bad_key", Scenario()))
            return
        with key.lock:
            key.counts.begin(model)
        asked, fault, wait, problem = self._judge(key, body, model)
        try:
            reply = self._reply(key, asked, model, fault, value, wait, problem)
        except OSError:
            reply = _Reply("gone", None)
        bearer = self.headers.get("Authorization", "").startswith("Bearer ")
        more = {"fault": fault, "model": model, "version": version, "body_bytes": len(body), "bearer": bearer}
        more |= {"server_timeout": self.headers.get("X-Server-Timeout"), "problem": problem}
        # Who has an answer shall find it counted, so nobody reads the counts between the two.
        with key.lock:
            try:
                if reply.send is not None:
                    reply.send()
                    key.counts.bill(reply.usage)
                    if reply.good and asked is not None:
                        key.counts.sold(asked)
            except OSError:
                reply.outcome = "gone"
            self.close_connection = self.close_connection or reply.outcome == "gone"
            key.counts.end(reply.outcome, fault)
            key.counts.note(asked, status=reply.outcome, **more)

    def _judge(self, key: _Key, body: bytes, model: str) -> tuple[Asked | None, str | None, float | None, str]:
        """Return what is asked, which fault it gets, the wait for the limit, and what is wrong with the request."""
        with key.lock:
            wait = key.wait_for_limit()
        if wait is not None:
            return None, "rate_limit", wait, ""
        if key.scenario.models is not None and model not in key.scenario.models:
            return None, "model_not_found", None, f"models/{model} is not found for this API version."
        try:
            asked = read(json.loads(body))
        except (BadRequestError, ValueError, AttributeError, TypeError) as error:
            return None, "invalid_argument", None, str(error)
        with key.lock:
            return asked, key.fate.choose(asked.window, list(asked.pages)), None, ""

    def _reply(
        self,
        key: _Key,
        asked: Asked | None,
        model: str,
        fault: str | None,
        value: str,
        wait: float | None,
        problem: str,
    ) -> _Reply:
        """Make the reply and wait as long as a model would; what cannot be counted at its end is sent here.

        Raises
        ------
        OSError
            The client has left.
        """
        scenario = key.scenario
        if asked is None or fault in ERRORS:
            status, body, headers = answering.error(str(fault), scenario, wait=wait, message=problem)
            return _Reply(str(status), lambda: self._send(status, body, headers))
        if fault == "hang":
            self._wait(scenario.hang_seconds)
            self.close_connection = True
            return _Reply("hang", None)
        if fault == "redirect":
            target = f"{self._own_address()}/stub/elsewhere/{quote(value)}"
            return _Reply("307", lambda: self._send(307, {}, {"Location": target}))
        if fault in {"html", "html_502"}:
            status = 502 if fault == "html_502" else 200
            page = b"<html><body>gateway</body></html>"
            return _Reply(str(status), lambda: self._send_bytes(status, page, "text/html"))
        if fault in {"oversized", "oversized_gzip"}:
            self._send_oversized(scenario.oversized_bytes, packed=fault == "oversized_gzip")
            return _Reply("200", None)
        response, good = answering.answer(asked, scenario, model, fault)
        usage = response.get("usageMetadata", {})
        tokens = usage.get("candidatesTokenCount", 0) + usage.get("thoughtsTokenCount", 0)
        self._wait(scenario.latency_seconds + scenario.seconds_per_token * tokens)
        if fault in {"drop", "reset"}:
            self._send_half(json.dumps(response).encode(), reset=fault == "reset")
            return _Reply(str(fault), None)
        if fault == "trickle":
            self._trickle(json.dumps(response).encode())
            return _Reply("200", lambda: None, usage, good)
        return _Reply("200", lambda: self._send(200, response), usage, good)

    def _wait(self, seconds: float) -> None:
        """Wait, unless the client leaves or the stub ends before; then raise `_GoneError`.

        A client that was killed gets no answer, and none is counted as paid.
        """
        client = select.poll()
        client.register(self.connection, select.POLLRDHUP)  # not POLLIN: a next request on the connection can wait
        deadline = time.monotonic() + seconds
        while True:
            left = max(0.0, deadline - time.monotonic())
            if client.poll(1000 * min(left, _LOOK_SECONDS)) or self.stub.stopped:
                raise _GoneError
            if not left:
                return

    def _api_key(self) -> str:
        bearer = self.headers.get("Authorization", "")
        query = parse_qs(self.path.partition("?")[2])
        return self.headers.get("x-goog-api-key") or bearer.removeprefix("Bearer ") or query.get("key", [""])[0]

    def _named_key(self) -> str:
        path = self.path.partition("?")[0]
        return unquote(path.removeprefix("/stub/keys/")) if path.startswith("/stub/keys/") else ""

    def _own_address(self) -> str:
        return f"http://{self.headers.get('Host', f'{self.stub.host}:{self.stub.port}')}"

    def _body(self) -> bytes:
        length = int(self.headers.get("Content-Length") or 0)
        if length > MAX_BODY:
            self.close_connection = True
            raise OSError(f"a body of {length} bytes")
        return self.rfile.read(length)

    def _send_token(self, body: bytes) -> None:
        claims = parse_qs(body.decode()).get("assertion", [""])[0].split(".")
        try:
            address = json.loads(base64.urlsafe_b64decode(claims[1] + "=="))["iss"]
        except (IndexError, ValueError, KeyError):
            self._send(400, {"error": "invalid_grant", "error_description": "Invalid JWT."})
            return
        token = address.partition("@")[0]
        self._send(200, {"access_token": token, "expires_in": 3599, "token_type": "Bearer"})

    def _send(self, status: int, body: Mapping[str, Any], headers: Mapping[str, str] | None = None) -> None:
        data = json.dumps(body, ensure_ascii=False).encode()
        self._send_bytes(status, data, "application/json; charset=UTF-8", headers)

    def _send_bytes(self, status: int, data: bytes, kind: str, headers: Mapping[str, str] | None = None) -> None:
        self._head(status, kind, {"Content-Length": str(len(data)), **(headers or {})})
        self.wfile.write(data)
        self.wfile.flush()

    def _head(self, status: int, kind: str, headers: Mapping[str, str]) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()

    def _send_half(self, data: bytes, *, reset: bool) -> None:
        self._head(200, "application/json", {"Content-Length": str(len(data))})
        self.wfile.write(data[: len(data) // 2])
        self.wfile.flush()
        if reset:  # closing with unsent data thrown away is a TCP reset
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close_connection = True

    def _trickle(self, data: bytes) -> None:
        """Send so slowly that no read of the client times out."""
        self._head(200, "application/json", {"Content-Length": str(len(data))})
        for number in range(len(data)):
            self.wfile.write(data[number : number + 1])
            self._wait(0.2)

    def _send_oversized(self, size: int, *, packed: bool) -> None:
        """Send so many bytes of white space in an answer, until the client has had enough."""
        self._head(200, "application/json", {"Connection": "close", **({"Content-Encoding": "gzip"} if packed else {})})
        self.close_connection = True
        packer = zlib.compressobj(9, zlib.DEFLATED, 31)
        for _ in range(size // len(_PIECE)):
            self.wfile.write(packer.compress(_PIECE) if packed else _PIECE)
        self.wfile.write(packer.flush() if packed else b"{}")

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class names it so
        """Stay silent: paths may hold keys."""
