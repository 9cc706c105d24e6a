"""What the person at the terminal sees: one line per step with the time it took."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.markup import escape

console = Console(stderr=True, highlight=False, soft_wrap=True)
"""All progress goes to standard error: standard output is for values that scripts read."""


@contextmanager
def step(what: str) -> Iterator[None]:
    """Say what is being done, then how long it took.

    Parameters
    ----------
    what
        A short sentence part such as ``building etcd 3.6.16``.
    """
    what = escape(what)
    console.print(f"[bold]==>[/bold] {what} ...")
    start = time.monotonic()
    try:
        yield
    except BaseException:
        console.print(f"    [red]failed[/red] after {time.monotonic() - start:.1f} s: {what}")
        raise
    console.print(f"    [green]done[/green] in {time.monotonic() - start:.1f} s: {what}")


def note(text: str, style: str | None = None) -> None:
    """Print one line that is not a timed step."""
    console.print(f"    {text}", style=style, markup=False)


def complain(text: str) -> None:
    """Print the message of a failure; log lines in it may hold anything, brackets too."""
    console.print(f"[red]error:[/red] {escape(text)}")
