"""How fast to ask: the interval between calls follows the rate limit of the service.

Many runners share one limit and know nothing of each other but what the operator hands on as the pace to start with.
Each widens its interval at a refusal and narrows it a little with each success; what matters is the ratio of the two:
in the long run a share of about ``_NARROWER / _WIDER`` of the calls is refused, whatever the limit, the latency and
the number of runners. The interval is the time of a call and the pause after it, because the time of a call counts as
well: a pause that only grew by a factor would start from nothing and, beside slow calls, change nothing for long.
"""

from __future__ import annotations

import math
from typing import Final

_WIDER: Final = math.log(1.3)
_NARROWER: Final = 0.008
_SMOOTHING: Final = 0.2
_NOTHING: Final = 0.01
"""Seconds; a shorter pause is none."""
_LONGEST: Final = 60.0
"""Seconds; a longer pause would not be pacing any more. Waits that the service asks for come on top."""


class Pace:
    """Pause between the end of a call and the next one.

    Parameters
    ----------
    seconds
        The pause to begin with, which other starts have found.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = min(max(0.0, seconds), _LONGEST)
        self._latency = 1.0
        self._measured = False

    @property
    def seconds(self) -> float:
        """The pause."""
        return self._seconds

    def succeeded(self, latency: float) -> None:
        """Take note of a call that took ``latency`` seconds and was answered."""
        self._latency = latency if not self._measured else self._latency + _SMOOTHING * (latency - self._latency)
        self._measured = True
        self._scale(-_NARROWER)

    def refused(self) -> None:
        """Take note of a call that the rate limit refused."""
        self._scale(_WIDER)

    def _scale(self, exponent: float) -> None:
        if exponent < 0 and not self._seconds:
            return
        interval = (self._latency + self._seconds) * math.exp(exponent)
        seconds = interval - self._latency
        self._seconds = min(seconds, _LONGEST) if seconds > _NOTHING else 0.0
