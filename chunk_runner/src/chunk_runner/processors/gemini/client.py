"""The connection to the service: google-genai, told everything and left nothing to find out by itself.

Facts about google-genai 3.4 that this is made for: without a timeout it waits for ever, it takes keys, addresses and
modes from the environment, follows redirects with the key in the header, and reads answers of any size.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from typing import Any, Final

import httpx2
from google import genai
from google.genai import types
from google.oauth2 import service_account
from typing_extensions import override

from chunk_runner.failures import RunnerError
from pdfjob_api.contract import Task
from pdfjob_api.errors import ExitCode
from pdfjob_api.gemini import GeminiProcessor

from .key import Key, SecretName

GEMINI_URL: Final = "https://generativelanguage.googleapis.com"
VERTEX_URL: Final = "https://aiplatform.googleapis.com"
_MULTI_REGIONS: Final = frozenset({"us", "eu"})
_GEMINI_VERSION: Final = "v1beta"
_VERTEX_VERSION: Final = "v1beta1"
_SCOPE: Final = "https://www.googleapis.com/auth/cloud-platform"
_CONNECT_SECONDS: Final = 15.0
MAX_ANSWER_BYTES: Final = 32 * 1024 * 1024
"""A chunk result has no more either; 65,536 tokens of output are about 300 KB."""
_IGNORED: Final = ("GOOGLE_", "GEMINI_")
"""Beginnings of environment variables that google-genai and google-auth look at."""


def connect(task: Task, settings: GeminiProcessor, key: Key, secret: SecretName) -> genai.Client:
    """Make the client of one start.

    Raises
    ------
    RunnerError
        `ExitCode.AUTH_ERROR` when the key of the service account cannot be used, `ExitCode.INVALID_TASK` when an API
        key is given for a region of Vertex AI.
    """
    for name in [name for name in os.environ if name.startswith(_IGNORED)]:
        del os.environ[name]
    vertex = settings.vertex
    options = types.HttpOptions(
        base_url=settings.base_url or _address(settings),
        api_version=_GEMINI_VERSION if vertex is None else _VERTEX_VERSION,
        timeout=task.item_timeout_seconds * 1000,
        # A compressed answer could be of any size.
        headers={"Accept-Encoding": "identity"},
        httpx_client=http_client(task.item_timeout_seconds),
    )
    if vertex is None:
        return genai.Client(vertexai=False, api_key=key.api_key, http_options=options)
    if key.api_key is not None:
        if vertex.location != "global":
            raise RunnerError(
                ExitCode.INVALID_TASK,
                f"an API key works only with spec.processor.gemini.vertex.location: global, not {vertex.location}; "
                f"put the JSON key of a service account into the Secret",
            )
        return genai.Client(vertexai=True, api_key=key.api_key, http_options=options)
    try:
        credentials = service_account.Credentials.from_service_account_info(
            dict(key.service_account or {}), scopes=[_SCOPE]
        )
    except ValueError:  # its message may hold parts of the key
        raise secret.refused("the private key of the service account cannot be read") from None
    return genai.Client(
        vertexai=True,
        project=vertex.project,
        location=vertex.location,
        credentials=credentials,
        http_options=options,
    )


def _address(settings: GeminiProcessor) -> str:
    if settings.vertex is None:
        return GEMINI_URL
    location = settings.vertex.location
    if location == "global":
        return VERTEX_URL
    if location in _MULTI_REGIONS:
        return f"https://aiplatform.{location}.rep.googleapis.com"
    return f"https://{location}-aiplatform.googleapis.com"


def http_client(limit_seconds: float) -> httpx2.Client:
    """Make an HTTP client that follows no redirect, reads no endless answer, and takes no longer than a call may."""

    def on_request(request: httpx2.Request) -> None:
        # google-genai sets one number for everything; a network that swallows packets shall be noticed sooner.
        timeout = dict(request.extensions.get("timeout") or {})
        timeout["connect"] = min(_CONNECT_SECONDS, limit_seconds)
        request.extensions = {**request.extensions, "timeout": timeout}

    def on_response(response: httpx2.Response) -> None:
        encoding = response.headers.get("content-encoding", "identity")
        if encoding.lower() != "identity":
            raise httpx2.DecodingError(f"the answer is compressed ({encoding}), which was not asked for")
        assert isinstance(response.stream, httpx2.SyncByteStream)
        response.stream = _Bounded(response.stream, until=time.monotonic() + limit_seconds)

    hooks: dict[str, list[Any]] = {"request": [on_request], "response": [on_response]}
    return httpx2.Client(follow_redirects=False, event_hooks=hooks, timeout=limit_seconds)


class _Bounded(httpx2.SyncByteStream):
    """Ends an answer that is too large, or that drips for longer than a call may take."""

    def __init__(self, stream: httpx2.SyncByteStream, *, until: float) -> None:
        self._stream = stream
        self._until = until

    @override
    def __iter__(self) -> Iterator[bytes]:
        size = 0
        for block in self._stream:
            size += len(block)
            if size > MAX_ANSWER_BYTES:
                raise httpx2.DecodingError(f"the answer has more than {MAX_ANSWER_BYTES} bytes")
            if time.monotonic() > self._until:
                raise httpx2.ReadTimeout("the answer did not end in time")
            yield block

    @override
    def close(self) -> None:
        self._stream.close()
