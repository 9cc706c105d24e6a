"""Verbs that steer a job: ``retry``, ``suspend``, ``resume``, ``stop``, ``cancel``."""

from __future__ import annotations

from typing import Annotated

import typer

from .options import JobName, Timeout, Where, timeout_of, verb

__all__ = ["add_control_verbs"]

_WaitEnd = Annotated[bool, typer.Option("--wait", help="Wait for the end of the job.")]
_WaitStill = Annotated[bool, typer.Option("--wait", help="Wait until nothing of it runs.")]


def _retry(
    where: Where,
    name: JobName,
    chunk: Annotated[
        list[int] | None,
        typer.Option("--chunk", min=0, help="Number of a chunk; may be given again. Default: see above.", metavar="N"),
    ] = None,
    force: Annotated[
        bool,
        typer.Option(
            "--force", help="Also chunks beyond their retry limit, with a final error and, where named, succeeded ones."
        ),
    ] = False,
    wait: _WaitEnd = False,
    timeout: Timeout = None,
) -> None:
    """Start chunks of a job again, while it runs or after it has failed.

    Without --chunk: every chunk that failed or waits for a retry, and after a failure those that never ran; when there
    is none, the results are merged again. Shows what the operator answers: which chunks start again, which do not and
    why. The exit code is 1 when none does.
    """
    from .control import retry
    from .screen import Screen

    seconds = timeout_of(timeout, wait=wait)
    retry(where.connect(), name, chunk or None, Screen(), force=force, wait=wait, timeout=seconds)


def _suspend(where: Where, name: JobName, wait: _WaitStill = False, timeout: Timeout = None) -> None:
    """Pause a job: the pages in hand are finished and saved, nothing new starts, and resume goes on from there."""
    from .control import suspend
    from .screen import Screen

    seconds = timeout_of(timeout, wait=wait)
    suspend(where.connect(), name, Screen(), wait=wait, timeout=seconds)


def _resume(where: Where, name: JobName) -> None:
    """Go on with a suspended job where it stopped; shows the progress so far. Nothing is processed twice."""
    from .control import resume
    from .screen import Screen

    resume(where.connect(), name, Screen())


def _stop(where: Where, name: JobName, wait: _WaitStill = False, timeout: Timeout = None) -> None:
    """End a job for good, in order: the pages in hand are finished and saved. What is done can still be read.

    A stopped job is never resumed. Who stopped it, and when, is kept in its status.
    """
    from .control import shut_down
    from .screen import Screen

    shut_down(where.connect(), name, "Stop", Screen(), wait=wait, timeout=timeout_of(timeout, wait=wait))


def _cancel(where: Where, name: JobName, wait: _WaitStill = False, timeout: Timeout = None) -> None:
    """End a job for good and at once: its pods are killed within 5 seconds. Pages saved before that stay saved.

    A cancelled job is never resumed. Who cancelled it, and when, is kept in its status.
    """
    from .control import shut_down
    from .screen import Screen

    shut_down(where.connect(), name, "Cancel", Screen(), wait=wait, timeout=timeout_of(timeout, wait=wait))


def add_control_verbs(app: typer.Typer) -> None:
    """Add the verbs of this module to the command line."""
    verb(app, "retry", "Start chunks again.", plain=_patch('{"retryRequest":{"id":"any-new","chunks":[2,5]}}'))(_retry)
    verb(app, "suspend", "Pause a job.", plain=_patch('{"suspend":true}'))(_suspend)
    verb(app, "resume", "Go on with a suspended job.", plain=_patch('{"suspend":false}'))(_resume)
    verb(app, "stop", "End a job for good, in order.", plain=_patch('{"shutdown":"Stop"}'))(_stop)
    verb(app, "cancel", "End a job for good, at once.", plain=_patch('{"shutdown":"Cancel"}'))(_cancel)


def _patch(spec: str) -> str:
    """Return the kubectl command that changes the spec of a PdfJob."""
    return f"kubectl patch pdfjob NAME --type=merge \\\n  -p '{{\"spec\":{spec}}}'"
