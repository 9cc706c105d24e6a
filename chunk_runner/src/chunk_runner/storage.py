"""The object storage, by presigned URLs: the only module that speaks HTTP.

urllib3 and not a larger client: it starts in a third of the time, and nothing more is needed.
"""

from __future__ import annotations

import hashlib
import random
import re
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final, TypeVar
from urllib.parse import parse_qs, urlsplit

import urllib3

from pdfjob_api.contract import MAX_RESULT_BYTES
from pdfjob_api.errors import ExitCode

from .failures import RunnerError
from .inputs import Inputs

T = TypeVar("T")

_BLOCK: Final = 1 << 16
_ERROR_BODY: Final = 4096
"""Bytes of an error answer that are read."""
_TIMEOUT: Final = urllib3.Timeout(connect=5, read=30)
_ATTEMPTS: Final = 6
_FIRST_DELAY: Final = 0.5
_LONGEST_DELAY: Final = 8.0
_HEALS: Final = frozenset({408, 409, 425, 429, 500, 502, 503, 504})
"""409: S3 answers so when two conditional writes meet."""
_EXPIRED: Final = re.compile(rb"Request has expired|<Code>ExpiredToken</Code>|<Code>RequestExpired</Code>")
_CODE: Final = re.compile(rb"<Code>([A-Za-z]{1,60})</Code>")


class _TransientError(Exception):
    """Another attempt may succeed."""


class Storage:
    """The objects of one start.

    Parameters
    ----------
    inputs
        Holds the URLs and what the chunk must be.
    check
        Called between blocks and attempts of a download; raises to end it.
    """

    def __init__(self, inputs: Inputs, check: Callable[[], None]) -> None:
        self._inputs = inputs
        self._check = check
        self._pool = urllib3.PoolManager(num_pools=2, maxsize=3, retries=False, timeout=_TIMEOUT)

    def download_chunk(self, path: Path) -> None:
        """Stream the chunk PDF to a file, at most as many bytes as the task says.

        Raises
        ------
        RunnerError
            `ExitCode.STORAGE_ERROR` when it cannot be read or is not the one of the task, `ExitCode.URL_EXPIRED`.
        """
        self._retry("reading the chunk PDF", _ATTEMPTS, lambda: self._download(path), self._check)

    def previous_checkpoint(self) -> bytes | None:
        """Return the newest checkpoint of an earlier start, or None when there is none.

        Raises
        ------
        RunnerError
            When the storage fails: to begin anew would do work twice.
        """
        url = self._inputs.previous_checkpoint_url
        if url is None:
            return None
        return self._retry("reading the checkpoint", _ATTEMPTS, lambda: self._get(url), self._check)

    def put_checkpoint(self, body: bytes, *, attempts: int) -> None:
        """Store the checkpoint of this start."""
        self._put("writing the checkpoint", self._inputs.checkpoint_url, body, attempts)

    def put_progress(self, body: bytes) -> None:
        """Store the progress object; one attempt, the next one comes soon."""
        self._put("writing the progress", self._inputs.progress_url, body, 1)

    def put_result(self, body: bytes) -> None:
        """Store the result once; one that is already stored is ours, from an attempt whose answer was lost."""
        self._put("writing the result", self._inputs.result_url, body, _ATTEMPTS, once=True)

    def _download(self, path: Path) -> None:
        task = self._inputs.task
        digest = hashlib.sha256()
        size = 0
        with self._request("GET", self._inputs.chunk_url) as response, path.open("wb") as file:
            _raise_for(response, self._inputs.chunk_url)
            for block in response.stream(_BLOCK, decode_content=False):
                self._check()
                size += len(block)
                if size > task.size_bytes:
                    break
                digest.update(block)
                file.write(block)
        if size != task.size_bytes or digest.hexdigest() != task.sha256:
            raise RunnerError(
                ExitCode.STORAGE_ERROR,
                f"the chunk PDF on the storage is not the one of the task: {size} bytes, sha256 {digest.hexdigest()}; "
                f"expected {task.size_bytes} bytes, sha256 {task.sha256}",
            )

    def _get(self, url: str) -> bytes | None:
        with self._request("GET", url) as response:
            if response.status == 404:
                return None
            _raise_for(response, url)
            body = bytearray()
            for block in response.stream(_BLOCK, decode_content=False):
                body += block
                if len(body) > MAX_RESULT_BYTES:
                    return b""  # no checkpoint of ours; an empty one is discarded as damaged
            return bytes(body)

    def _put(self, what: str, url: str, body: bytes, attempts: int, *, once: bool = False) -> None:
        def put() -> None:
            headers = {"If-None-Match": "*"} if once else {}
            with self._request("PUT", url, body, headers) as response:
                if not (once and response.status == 412):
                    _raise_for(response, url)

        self._retry(what, attempts, put, lambda: None)

    def _request(
        self, method: str, url: str, body: bytes | None = None, headers: dict[str, str] | None = None
    ) -> urllib3.BaseHTTPResponse:
        return self._pool.request(method, url, body=body, headers=headers, redirect=False, preload_content=False)

    def _retry(self, what: str, attempts: int, action: Callable[[], T], check: Callable[[], None]) -> T:
        for attempt in range(attempts):
            check()
            try:
                return action()
            except _TransientError as error:
                reason = str(error)
            except (urllib3.exceptions.HTTPError, OSError) as error:
                reason = _reason(error)
            if attempt + 1 < attempts:
                delay = min(_LONGEST_DELAY, _FIRST_DELAY * 2**attempt) * random.uniform(0.75, 1.25)
                until = time.monotonic() + delay
                while time.monotonic() < until:
                    check()
                    time.sleep(min(0.1, delay))
        raise RunnerError(ExitCode.STORAGE_ERROR, f"{what} failed {attempts} times, the last time: {reason}")


def _raise_for(response: urllib3.BaseHTTPResponse, url: str) -> None:
    """Turn an answer that is no success into the error it means."""
    if response.status < 300:
        return
    body = response.read(_ERROR_BODY, decode_content=False)
    named = _CODE.search(body)
    reason = f"HTTP {response.status}{' ' + named.group(1).decode() if named else ''}"
    if response.status in _HEALS:
        raise _TransientError(reason)
    if response.status in (400, 401, 403) and (_EXPIRED.search(body) or _is_past(url)):
        raise RunnerError(ExitCode.URL_EXPIRED, f"a presigned URL expired ({reason}); the chunk starts again")
    raise RunnerError(ExitCode.STORAGE_ERROR, f"the object storage refused {urlsplit(url).path}: {reason}")


def _is_past(url: str) -> bool:
    """Whether the signature of the URL says that it is no longer valid."""
    query = parse_qs(urlsplit(url).query)
    try:
        signed = datetime.strptime(query["X-Amz-Date"][0], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
        lifetime = timedelta(seconds=int(query["X-Amz-Expires"][0]))
    except (KeyError, ValueError, OverflowError):
        return False
    return datetime.now(tz=UTC) > signed + lifetime


def _reason(error: Exception) -> str:
    """Say what failed, without the URL that urllib3 puts into some messages."""
    text = str(error).split(": ", 1)[-1] if isinstance(error, urllib3.exceptions.PoolError) else str(error)
    return f"{type(error).__name__}: {text}"[:300]
