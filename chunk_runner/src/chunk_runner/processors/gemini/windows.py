"""Which pages go into one request."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from chunk_runner.processors import Window


def cut(remaining: Sequence[int], size: int) -> Iterator[Window]:
    """Divide pages, ascending but perhaps with gaps, into runs of neighbours of at most ``size`` pages."""
    run: list[int] = []
    for page in remaining:
        if run and (page != run[-1] + 1 or len(run) == size):
            yield tuple(run)
            run = []
        run.append(page)
    if run:
        yield tuple(run)


def halve(window: Window) -> tuple[Window, Window]:
    """Divide a window of two pages or more; the first half is the longer one."""
    middle = (len(window) + 1) // 2
    return window[:middle], window[middle:]


def name(window: Window) -> str:
    """Return the pages as a reader writes them: 1-5, or 1-3,5."""
    return ",".join(f"{run[0]}-{run[-1]}" if len(run) > 1 else str(run[0]) for run in cut(window, len(window)))
