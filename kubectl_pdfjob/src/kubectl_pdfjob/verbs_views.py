"""Verbs that show where jobs stand: ``status``, ``watch``, ``progress``, ``chunks``."""

from __future__ import annotations

from typing import Annotated

import typer

from .errors import UsageError
from .options import JobName, JsonOutput, OptionalJobName, Where, verb

__all__ = ["add_view_verbs"]


def _status(
    where: Where,
    name: OptionalJobName = None,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Follow it live to its end.")] = False,
    output: JsonOutput = None,
) -> None:
    """Show where jobs stand: all in a table, or one in full."""
    from . import status
    from .screen import Screen

    if watch and output:
        raise UsageError("--watch is for the eye; use kubectl get pdfjobs --watch -o json for programs")
    cluster, screen = where.connect(), Screen()
    if output:
        (status.print_jobs(cluster, screen) if name is None else status.print_job(cluster, name, screen))
    elif name is None:
        (status.watch_jobs if watch else status.show_jobs)(cluster, screen)
    else:
        (status.watch_job if watch else status.show_job)(cluster, name, screen)


def _watch(
    where: Where,
    name: OptionalJobName = None,
    interval: Annotated[
        float, typer.Option("--interval", min=0.1, help="Seconds after which a line comes at the latest.", metavar="S")
    ] = 5,
) -> None:
    """Follow one job to its end; without NAME, the latest one. The exit code is 0 when it succeeded, else 1.

    On a terminal: the live view of status --watch. In a pipe: a line at each change, and at least one every --interval
    seconds.
    """
    from .screen import Screen
    from .watch import watch_to_the_end

    watch_to_the_end(where.connect(), name, interval, Screen())


def _progress(where: Where, name: JobName, output: JsonOutput = None) -> None:
    """Show the counts of the chunks of a job, as text or as JSON."""
    from .progress import show_progress
    from .screen import Screen

    show_progress(where.connect(), name, Screen(), as_json=output is not None)


def _chunks(
    where: Where,
    name: JobName,
    phase: Annotated[
        str | None, typer.Option("--status", help="Only chunks in this phase, e.g. Failed.", metavar="PHASE")
    ] = None,
    first: Annotated[
        bool, typer.Option("--next", help="Only the chunk that starts next, or again: highest priority first.")
    ] = False,
) -> None:
    """Show the chunks of a job: why one failed, what one waits for."""
    from .chunks import show_chunks, show_next_chunk
    from .screen import Screen

    if first and phase:
        raise UsageError("--next shows one chunk, so --status has nothing to choose")
    cluster, screen = where.connect(), Screen()
    if first:
        show_next_chunk(cluster, name, screen)
    else:
        show_chunks(cluster, name, phase, screen)


def add_view_verbs(app: typer.Typer) -> None:
    """Add the verbs of this module to the command line."""
    verb(
        app,
        "status",
        "Show where jobs stand.",
        plain="kubectl get pdfjobs\nkubectl describe pdfjob NAME\nkubectl get pdfchunks,pods -l pdfjob.dev/job=NAME",
    )(_status)
    verb(
        app,
        "watch",
        "Follow a job to its end.",
        plain="kubectl get pdfjob NAME --watch\nkubectl wait pdfjob/NAME --for=condition=Finished",
    )(_watch)
    verb(app, "progress", "Show the counts of a job.", plain="kubectl get pdfjob NAME -o jsonpath='{.status.chunks}'")(
        _progress
    )
    verb(
        app,
        "chunks",
        "Show the chunks of a job.",
        plain="kubectl get pdfchunks -l pdfjob.dev/job=NAME \\\n  --field-selector status.phase=Failed",
    )(_chunks)
