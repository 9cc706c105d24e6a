"""An event loop whose clock jumps from timer to timer: nobody waits."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any, Final, TypeVar

from typing_extensions import override

T = TypeVar("T")
_TICK: Final = 1e-7
"""Time never stands still: a timer that is due in less than a rounding error would be waited for without end."""


class _JumpingSelector(selectors.SelectSelector):
    now = 0.0

    @override
    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        self.now += max(timeout or 0.0, _TICK)
        return super().select(0)


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """Goes to the next timer at once."""

    def __init__(self) -> None:
        self._clock = _JumpingSelector()
        super().__init__(self._clock)

    @override
    def time(self) -> float:
        return self._clock.now


def run_in_virtual_time(test: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine to its end; its sleeps take no time."""
    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        return runner.run(test)
