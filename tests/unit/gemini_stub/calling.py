"""Calls of the stub as any HTTP client would make them."""

from __future__ import annotations

import base64
import http.client
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gemini_stub import Stub

PATH = "/v1beta/models/gemini-test:generateContent"


@dataclass(frozen=True)
class Answer:
    """What came back."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.body)
        return found

    @property
    def text(self) -> str:
        text: str = self.json["candidates"][0]["content"]["parts"][0]["text"]
        return text

    @property
    def pages(self) -> list[dict[str, Any]]:
        pages: list[dict[str, Any]] = json.loads(self.text)["pages"]
        return pages

    @property
    def finish(self) -> str:
        reason: str = self.json["candidates"][0]["finishReason"]
        return reason


def text_body(pages: Mapping[int, str], context: Mapping[int, str] | None = None, **fields: Any) -> dict[str, Any]:
    """Return a request in mode Text."""
    parts = [{"text": f'<context page="{number}">\n{text}\n</context>'} for number, text in (context or {}).items()]
    parts += [{"text": f'<page number="{number}">\n{text}\n</page>'} for number, text in pages.items()]
    return {"contents": [{"role": "user", "parts": parts}], **fields}


def pdf_body(
    pages: Sequence[int], context: Sequence[int] = (), data: bytes = b"%PDF-1.7 ...", **fields: Any
) -> dict[str, Any]:
    """Return a request in mode Pdf."""
    names = [f"context page {number}" for number in context] + [f"page {number}" for number in pages]
    lines = "\n".join(f"PDF page {place}: {name}" for place, name in enumerate(names, 1))
    blob = {"mimeType": "application/pdf", "data": base64.b64encode(data).decode()}
    return {"contents": [{"role": "user", "parts": [{"inlineData": blob}, {"text": lines}]}], **fields}


def call(
    stub: Stub,
    body: Mapping[str, Any],
    key: str = "key",
    *,
    path: str = PATH,
    headers: Mapping[str, str] | None = None,
    timeout: float = 10,
) -> Answer:
    """Call it with a key."""
    return ask(stub, "POST", path, body, {"x-goog-api-key": key} if headers is None else headers, timeout=timeout)


def ask(
    stub: Stub,
    method: str,
    path: str,
    body: Mapping[str, Any] | bytes | None = None,
    headers: Mapping[str, str] | None = None,
    *,
    timeout: float = 10,
) -> Answer:
    """Send one request on a connection of its own."""
    data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
    connection = http.client.HTTPConnection(stub.host, stub.port, timeout=timeout)
    try:
        connection.request(method, path, data, dict(headers or {}))
        response = connection.getresponse()
        found = {name.lower(): value for name, value in response.getheaders()}
        return Answer(response.status, found, response.read())
    finally:
        connection.close()
