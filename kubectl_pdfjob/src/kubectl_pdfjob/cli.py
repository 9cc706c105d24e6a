"""The command line of ``kubectl pdfjob``: its root, and where it ends. The verbs are in the modules ``verbs_*``."""

from __future__ import annotations

import os
import signal
import sys
from types import FrameType
from typing import Any, Final, NoReturn

import typer

from .errors import ExitCode
from .verbs_control import add_control_verbs
from .verbs_credits import add_credit_verbs
from .verbs_documents import add_document_verbs
from .verbs_views import add_view_verbs

__all__ = ["main"]

PROGRAM: Final = "kubectl pdfjob"


def root(context: typer.Context) -> None:
    """Turn large PDFs into clean text on a Kubernetes cluster.

    Exit codes: 0 done, 1 the job failed, has no result or does not take the verb, 2 wrong usage, 3 cluster, 4 storage,
    5 time of waiting over, 130 interrupted (the job goes on).
    """
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


def command_line() -> typer.Typer:
    """Return the command line with all its verbs."""
    app = typer.Typer(
        add_completion=False,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    )
    app.callback(invoke_without_command=True)(root)
    add_document_verbs(app)
    add_view_verbs(app)
    add_control_verbs(app)
    add_credit_verbs(app)
    return app


def _on_sigterm(_number: int, _frame: FrameType | None) -> NoReturn:
    """End in order, so that a tunnel to the cluster ends too."""
    raise SystemExit(int(ExitCode.TERMINATED))


def main() -> None:
    """Entry point of ``kubectl-pdfjob``."""
    signal.signal(signal.SIGTERM, _on_sigterm)
    try:
        code: Any = command_line()(prog_name=PROGRAM, standalone_mode=False)
        sys.stdout.flush()
    except typer.TyperException as error:
        where = getattr(getattr(error, "ctx", None), "command_path", PROGRAM)
        print(f"error: {error.format_message()} (see {where} --help)", file=sys.stderr)
        code = ExitCode.USAGE
    except (typer.Abort, KeyboardInterrupt):
        code = ExitCode.INTERRUPTED
    except BrokenPipeError:
        # The reader went away (| head); the interpreter would complain when it flushes stdout at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = ExitCode.BROKEN_PIPE
    sys.exit(int(code or 0))


if __name__ == "__main__":
    main()
