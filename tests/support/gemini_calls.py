"""Requests to the stub of the Gemini API, as any HTTP client would make them."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Mapping
from typing import Any


def ask(
    method: str, url: str, body: Any = None, headers: Mapping[str, str] | None = None, *, timeout: float = 30
) -> dict[str, Any]:
    """Send a request with a JSON body, or none, and return the JSON of the answer.

    Raises
    ------
    urllib.error.URLError
        Nobody answers; the status is not good: `urllib.error.HTTPError`.
    """
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json", **(headers or {})}, method=method)
    # A proxy of the environment is for the world outside, not for this machine's and the cluster's addresses.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(request, timeout=timeout) as response:
        answer: dict[str, Any] = json.load(response)
        return answer


def generate(base_url: str, model: str, key: str, body: Mapping[str, Any], *, timeout: float) -> dict[str, Any]:
    """Call ``generateContent`` with an API key; raise as `ask` does."""
    url = f"{base_url}/v1beta/models/{model}:generateContent"
    return ask("POST", url, body, {"x-goog-api-key": key}, timeout=timeout)
