"""How fast to ask: the interval between calls follows the rate limit of the service.

Many runners share one limit and know nothing of each other but what the operator hands on as the pace to start with.
Each widens its interval at a refusal and narrows it a little with each success; what matters is the ratio of the two:
in the long run a share of about ``_NARROWER / _WIDER`` of the calls is refused, whatever the limit, the latency and
the number of runners. The interval is the time of a call and the pause after it, because the time of a call counts as
well: a pause that only grew by a factor would start from nothing and, beside slow calls, change nothing for long.

How long the service asks to wait tells how far off the interval is. A quota of a minute that was used up in a third of
it asks for the other two thirds, so all who share it asked three times too often; asked at nearly the right interval,
it soon has room again. Without that a job spends its first ten minutes in bursts.
"""

from __future__ import annotations

import math
from typing import Final

_WIDER: Final = math.log(1.2)
_WIDEST: Final = math.log(2.0)
"""At one refusal: the wait may be the same whatever was asked, or that of others' burst."""
_NARROWER: Final = 0.003
_MINUTE: Final = 60.0
"""Seconds; quotas of language services are those of a minute or of a day."""
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
        self._answered = False
        """Since the interval was widened, or since the start: only then does a refusal tell of the interval."""

    @property
    def seconds(self) -> float:
        """The pause."""
        return self._seconds

    def succeeded(self, latency: float) -> None:
        """Take note of a call that took ``latency`` seconds and was answered."""
        self._latency = latency if not self._measured else self._latency + _SMOOTHING * (latency - self._latency)
        self._measured = self._answered = True
        self._scale(-_NARROWER)

    def refused(self, wait: float | None) -> None:
        """Take note of a call that the rate limit refused; ``wait`` is how many seconds the service asks to wait."""
        if self._answered:
            used = 1 - min(wait or 0.0, _MINUTE - 1) / _MINUTE
            self._scale(min(max(-math.log(used), _WIDER), _WIDEST))
        self._answered = False

    def _scale(self, exponent: float) -> None:
        if exponent < 0 and not self._seconds:
            return
        interval = (self._latency + self._seconds) * math.exp(exponent)
        seconds = interval - self._latency
        self._seconds = min(seconds, _LONGEST) if seconds > _NOTHING else 0.0
