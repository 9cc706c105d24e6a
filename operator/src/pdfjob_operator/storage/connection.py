"""How boto3 talks to the object store: timeouts, retries, addressing, threads.

Credentials come from boto3's usual sources.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, ParamSpec, TypeVar

import boto3
from boto3.exceptions import Boto3Error
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from urllib3.exceptions import HTTPError

from pdfjob_operator.settings import S3Settings

from .errors import convert

FOREIGN: Final = (BotoCoreError, Boto3Error, ClientError, HTTPError, ConnectionError, TimeoutError)
"""What boto3 and the layers below it raise."""
_WRITES: Final = frozenset({"put", "upload", "delete"})
"""Operations that change what is stored and must not be left alone. A copy is not: nobody waits for it to end."""
_Parameters = ParamSpec("_Parameters")
_Result = TypeVar("_Result")

_THREADS: Final = 16
"""Requests at once; boto3 keeps as many connections."""


def clients(settings: S3Settings) -> tuple[Any, Any]:
    """Return the client that makes requests, and the one that signs URLs for the runner pods."""
    session = boto3.Session()
    config = Config(
        signature_version="s3v4",
        connect_timeout=5,
        read_timeout=60,
        retries={"mode": "standard", "total_max_attempts": 3},
        max_pool_connections=_THREADS,
        # Checksums that S3 added in 2025 are unknown to many compatible servers, and to presigned URLs.
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        # On AWS "virtual" makes presigned URLs name the region's endpoint ("auto" names the global one, which
        # redirects, and a redirect breaks the signature); a name with dots matches no certificate there.
        s3={"addressing_style": "path" if settings.endpoint or "." in settings.bucket else "virtual"},
    )
    inside, outside = settings.endpoint, settings.pod_endpoint or settings.endpoint
    client = session.client("s3", region_name=settings.region, endpoint_url=inside, config=config)
    return client, session.client("s3", region_name=settings.region, endpoint_url=outside, config=config)


class Requests:
    """Runs requests in the threads of a bounded pool, so that the event loop is never blocked.

    Parameters
    ----------
    endpoint
        Named in messages.
    observe
        Called with the name of each operation and the seconds it took, from any thread.
    """

    def __init__(self, endpoint: str, observe: Callable[[str, float], None] | None) -> None:
        self._endpoint = endpoint
        self._observe = observe
        self._executor = ThreadPoolExecutor(_THREADS, thread_name_prefix="s3")

    def close(self) -> None:
        """Give up the threads; requests under way end by themselves."""
        self._executor.shutdown(wait=False, cancel_futures=True)

    async def run(
        self,
        operation: str,
        what: str,
        function: Callable[_Parameters, _Result],
        *args: _Parameters.args,
        **parameters: _Parameters.kwargs,
    ) -> _Result:
        """Run a request and return its answer.

        Parameters
        ----------
        operation
            Its name for the metrics.
        what
            For messages, e.g. ``GET s3://bucket/key``.
        function
            Makes the request with the arguments that follow.

        Raises
        ------
        StorageError
        """

        def timed() -> _Result:
            begin = time.monotonic()
            try:
                return function(*args, **parameters)
            except FOREIGN as error:
                raise convert(error, what, self._endpoint) from error
            finally:
                if self._observe is not None:
                    self._observe(operation, time.monotonic() - begin)

        request = asyncio.get_running_loop().run_in_executor(self._executor, timed)
        if operation not in _WRITES:
            return await request
        try:
            return await asyncio.shield(request)
        except asyncio.CancelledError:
            # A thread cannot be stopped: who cancels a write must not go on, to a clean-up say, before it has ended.
            await asyncio.wait([request])
            raise
