"""Waiting times before retries: exponential, capped, with jitter that is a function of its inputs."""

from __future__ import annotations

import hashlib
from typing import Final

from pdfjob_api.pdfjob import Backoff

_JITTER: Final = 0.2
_RATE_LIMIT_FACTOR: Final = 4


def retry_delay(backoff: Backoff, retry: int, seed: str, *, rate_limited: bool = False) -> float:
    """Return the seconds to wait before retry number ``retry`` (1 is the first).

    initial * factor^(retry - 1), at most the maximum, less up to 20 % of jitter, so that chunks that failed together
    do not start together. The jitter comes from ``seed``: the same retry always waits the same time.
    """
    initial = backoff.initial_seconds * (_RATE_LIMIT_FACTOR if rate_limited else 1)
    exponent = min(max(retry, 1) - 1, 32)
    delay = min(float(initial * backoff.factor**exponent), float(backoff.max_seconds))
    spread = int.from_bytes(hashlib.sha256(seed.encode()).digest()[:4], "big") / 2**32
    return delay * (1 - _JITTER * spread)
