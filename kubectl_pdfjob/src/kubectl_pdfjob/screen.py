"""Writing to the terminal: tables and text to stdout, progress and remarks to stderr.

On a terminal there are colours and bars; in a pipe or a log there are plain lines of any length, as kubectl has them.
"""

from __future__ import annotations

import io
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from rich.console import Console, RenderableType
from rich.live import Live
from rich.markup import escape
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from .formats import byte_size

__all__ = ["Screen"]

_PIPE_WIDTH: Final = 4096
"""Columns where there is no terminal: nothing is wrapped or cut."""
_LINE_SECONDS: Final = 5.0
"""Without a terminal, a transfer reports so often."""


class Screen:
    """The user's terminal, or what stands in for it."""

    def __init__(self) -> None:
        self._out = Console(highlight=False, soft_wrap=False)
        self._err = Console(stderr=True, highlight=False, soft_wrap=True)

    @property
    def live(self) -> bool:
        """Whether stdout is a terminal that can be drawn on."""
        return self._out.is_terminal and not self._out.is_dumb_terminal

    @property
    def live_progress(self) -> bool:
        """Whether stderr is a terminal that can be drawn on."""
        return self._err.is_terminal and not self._err.is_dumb_terminal

    def show(self, renderable: RenderableType) -> None:
        """Print a view to stdout."""
        if self._out.is_terminal:
            self._out.print(renderable)
        else:
            self.write(plain(renderable))

    def write(self, text: str) -> None:
        """Print text to stdout as it is."""
        sys.stdout.write(text if text.endswith("\n") else f"{text}\n")
        sys.stdout.flush()

    def note(self, text: str) -> None:
        """Print a remark to stderr, without any markup."""
        self._err.print(text, markup=False)

    @contextmanager
    def drawing(self, *, keep: bool) -> Iterator[Callable[[RenderableType], None]]:
        """Draw a view on stdout again and again in one place, and ``keep`` the last one or remove it at the end.

        Without a terminal each is printed.
        """
        if not self.live:
            yield self.show
            return
        with Live(console=self._out, auto_refresh=False, transient=not keep, vertical_overflow="crop") as live:
            yield lambda view: live.update(view, refresh=True)

    @contextmanager
    def step_bar(self) -> Iterator[Callable[[str, int], None]]:
        """Show a step text and a percentage on stderr; without a terminal, a line whenever they change."""
        if not self.live_progress:
            yield _Lines(self.note).step
            return
        columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:>3.0f}%"))
        with Progress(*columns, console=self._err, transient=True) as progress:
            task = progress.add_task("Waiting for the operator", total=100)
            yield lambda text, percent: progress.update(task, description=escape(text), completed=percent)

    @contextmanager
    def transfer_bar(self, text: str, total: int) -> Iterator[Callable[[int], None]]:
        """Show a transfer on stderr; the function takes the bytes sent since its last call, from any thread."""
        if not self.live_progress:
            yield _Lines(self.note).transfer(text, total)
            return
        columns = (TextColumn("{task.description}"), BarColumn(bar_width=24), DownloadColumn(), TransferSpeedColumn())
        with Progress(*columns, TimeRemainingColumn(), console=self._err, transient=True) as progress:
            task = progress.add_task(escape(text), total=total)
            yield lambda sent: progress.advance(task, sent)


def plain(renderable: RenderableType, width: int = _PIPE_WIDTH) -> str:
    """Render without colour and without blanks at the line ends."""
    buffer = io.StringIO()
    console = Console(file=buffer, width=width, color_system=None, highlight=False, legacy_windows=False)
    console.print(renderable)
    return "\n".join(line.rstrip() for line in buffer.getvalue().splitlines()) + "\n"


class _Lines:
    """Progress as lines, for pipes and logs."""

    def __init__(self, note: Callable[[str], None]) -> None:
        self._note = note
        self._last = ""
        self._lock = threading.Lock()

    def step(self, text: str, percent: int) -> None:
        line = f"{percent:3d}%  {text}"
        if line != self._last:
            self._last = line
            self._note(f"{time.strftime('%H:%M:%S')}  {line}")

    def transfer(self, text: str, total: int) -> Callable[[int], None]:
        self._note(f"{text} ({byte_size(total)})")
        state = {"sent": 0, "due": time.monotonic() + _LINE_SECONDS}

        def advance(sent: int) -> None:
            with self._lock:
                state["sent"] += sent
                if time.monotonic() >= state["due"]:
                    state["due"] = time.monotonic() + _LINE_SECONDS
                    done = min(state["sent"], total)
                    self._note(f"{text}: {100 * done // max(total, 1):.0f}% of {byte_size(total)}")

        return advance
