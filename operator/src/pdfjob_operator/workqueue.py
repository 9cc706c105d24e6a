"""A de-duplicating work queue: one reconcile at a time per key, delays, backoff per key."""

from __future__ import annotations

import asyncio
import heapq
from typing import Final

_BACKOFF_FIRST: Final = 0.5
_BACKOFF_MAX: Final = 60.0
_BACKOFF_STEPS: Final = 7


class WorkQueue:
    """Keys to reconcile, each at most once in the queue and in at most one worker's hands.

    A key added while it is being worked on is handed out again afterwards, so that no change is missed. Of several
    delays the earliest counts. All times are the event loop's, in seconds.
    """

    def __init__(self) -> None:
        self._due: dict[str, float] = {}
        self._heap: list[tuple[float, str]] = []
        self._in_hand: dict[str, float] = {}
        self._failures: dict[str, int] = {}
        self._changed = asyncio.Event()
        self._closed = False

    def add(self, key: str, delay: float = 0.0) -> None:
        """Ask for a reconcile of ``key`` in ``delay`` seconds at the latest."""
        due = asyncio.get_running_loop().time() + max(delay, 0.0)
        if due < self._due.get(key, float("inf")):
            self._due[key] = due
            heapq.heappush(self._heap, (due, key))
            self._changed.set()

    async def get(self) -> str | None:
        """Wait for a key that is due and take it; None when the queue was closed.

        Each key taken must be given back with `done` or `failed`.
        """
        loop = asyncio.get_running_loop()
        while not self._closed:
            now = loop.time()
            key, wait = self._next(now)
            if key is not None:
                self._in_hand[key] = now
                return key
            self._changed.clear()
            try:
                await asyncio.wait_for(self._changed.wait(), wait)
            except TimeoutError:
                continue
        return None

    def done(self, key: str) -> None:
        """Give a key back after a reconcile that went well."""
        self._failures.pop(key, None)
        self._give_back(key)

    def failed(self, key: str) -> float:
        """Give a key back after a failure; it comes again after a growing delay, which is returned (seconds)."""
        failures = self._failures.get(key, 0)
        self._failures[key] = failures + 1
        delay = min(_BACKOFF_FIRST * float(1 << min(failures, _BACKOFF_STEPS)), _BACKOFF_MAX)
        self._give_back(key)
        self.add(key, delay)
        return delay

    def close(self) -> None:
        """Hand out no more keys; every waiting `get` returns None."""
        self._closed = True
        self._changed.set()

    def oldest_age(self) -> float:
        """Seconds for which the longest-waiting due key, or key in hand, has not been reconciled."""
        now = asyncio.get_running_loop().time()
        overdue = [now - due for key, due in self._due.items() if due <= now and key not in self._in_hand]
        return max([*overdue, *(now - since for since in self._in_hand.values())], default=0.0)

    def __len__(self) -> int:
        """Keys that wait or are in hand."""
        return len(self._due.keys() | self._in_hand.keys())

    def _give_back(self, key: str) -> None:
        del self._in_hand[key]
        if key in self._due:
            heapq.heappush(self._heap, (self._due[key], key))
            self._changed.set()

    def _next(self, now: float) -> tuple[str | None, float | None]:
        while self._heap:
            due, key = self._heap[0]
            if self._due.get(key) != due or key in self._in_hand:
                heapq.heappop(self._heap)  # replaced by an earlier time, or pushed again when it is given back
                continue
            if due > now:
                return None, due - now
            heapq.heappop(self._heap)
            del self._due[key]
            return key, None
        return None, None
