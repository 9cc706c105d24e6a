"""Following resources: what a watch yields, and keeping the newest state of several watches at once."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final, Generic, TypeAlias, TypeVar

__all__ = ["Change", "Known", "Snapshot", "follow_all"]

_T = TypeVar("_T")

_SETTLE_SECONDS: Final = 0.25
"""Changes that come within this time are shown together."""


@dataclass(frozen=True, slots=True)
class Snapshot(Generic[_T]):
    """Everything that exists now; what was known before and is not in it is gone."""

    objects: list[_T]


@dataclass(frozen=True, slots=True)
class Change(Generic[_T]):
    """One object changed, or went away."""

    object: _T
    deleted: bool


Step: TypeAlias = Snapshot[_T] | Change[_T]


@dataclass(slots=True)
class Known(Generic[_T]):
    """The newest state of the objects of one watch."""

    key: Callable[[_T], str]
    objects: dict[str, _T] = field(default_factory=dict)
    complete: bool = False
    """Whether the first snapshot has come."""

    def take(self, step: Step[_T]) -> None:
        """Apply one step of a watch."""
        if isinstance(step, Snapshot):
            self.objects = {self.key(item): item for item in step.objects}
            self.complete = True
        elif step.deleted:
            self.objects.pop(self.key(step.object), None)
        else:
            self.objects[self.key(step.object)] = step.object


def follow_all(
    streams: Mapping[str, Callable[[], Iterator[Any]]], known: Mapping[str, Known[Any]], tick: float
) -> Iterator[None]:
    """Follow several watches at once; yield whenever ``known`` has news, at most four times a second.

    Nothing is yielded before each watch has had its first snapshot. An error of any watch is raised here. The
    threads are daemons: a blocked read ends with the process.

    Parameters
    ----------
    streams
        What to follow: a name and the function that opens the watch.
    known
        The state to keep, by the same names.
    tick
        Seconds without news after which it yields all the same, so that ages on a screen move on.
    """
    news: queue.SimpleQueue[tuple[str, Any]] = queue.SimpleQueue()

    def pump(name: str, open_stream: Callable[[], Iterator[Any]]) -> None:
        try:
            for step in open_stream():
                news.put((name, step))
        except Exception as error:  # noqa: BLE001 - carried to the reader, who raises it
            news.put((name, error))

    for name, open_stream in streams.items():
        threading.Thread(target=pump, args=(name, open_stream), daemon=True, name=f"follow-{name}").start()
    while True:
        with suppress(queue.Empty):
            _take(news.get(timeout=tick), known)
        settled = time.monotonic() + _SETTLE_SECONDS
        while (left := settled - time.monotonic()) > 0:
            try:
                _take(news.get(timeout=left), known)
            except queue.Empty:
                break
        if all(state.complete for state in known.values()):
            yield


def _take(piece: tuple[str, Any], known: Mapping[str, Known[Any]]) -> None:
    name, step = piece
    if isinstance(step, Exception):
        raise step
    known[name].take(step)
