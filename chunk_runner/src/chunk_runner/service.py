"""What a start has seen of a language service; the operator steers the other starts of the job by it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field


@dataclass(slots=True)
class ServiceUse:
    """Calls of this start. The main thread writes, the keeper reads."""

    requests: Counter[str] = field(default_factory=Counter)
    """By HTTP status, ``timeout`` or ``network``."""
    answered: bool = False
    """Whether a call succeeded: the key is good."""
    pace_seconds: float = 0.0
    """Pause between two calls that the rate limit led to."""
