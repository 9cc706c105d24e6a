"""The command line: which verbs and options there are. What they do is imported when one runs."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any, Final, NoReturn

import typer

from .errors import ExitCode, PluginError, UsageError
from .installation import DEFAULT_NAMESPACE, StorageOptions

if TYPE_CHECKING:
    from .cluster import Cluster

__all__ = ["main"]

PROGRAM: Final = "kubectl pdfjob"

app = typer.Typer(
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)


class Form(StrEnum):
    """Output forms of ``submit``."""

    YAML = "yaml"
    JSON = "json"
    NAME = "name"


class ResultForm(StrEnum):
    """Formats of a result."""

    JSONL = "jsonl"
    TXT = "txt"
    CSV = "csv"


Namespace = Annotated[
    str | None, typer.Option("--namespace", "-n", help="Namespace; default: the one of the context.", metavar="NAME")
]
Context = Annotated[str | None, typer.Option("--context", help="Context of the kubeconfig to use.", metavar="NAME")]
Kubeconfig = Annotated[Path | None, typer.Option("--kubeconfig", help="Kubeconfig file to use.", metavar="FILE")]
InstallNamespace = Annotated[
    str | None,
    typer.Option(
        "--install-namespace",
        envvar="PDFJOB_INSTALL_NAMESPACE",
        help=f"Namespace that pdfjob is installed in; default: {DEFAULT_NAMESPACE}, else the one that has it.",
        metavar="NAME",
    ),
]
Endpoint = Annotated[
    str | None,
    typer.Option(
        "--s3-endpoint",
        envvar="PDFJOB_S3_ENDPOINT",
        help="S3 server as you reach it, with your own AWS credentials; default: as installed.",
        metavar="URL",
    ),
]
Bucket = Annotated[
    str | None,
    typer.Option("--s3-bucket", envvar="PDFJOB_S3_BUCKET", help="Bucket; default: as installed.", metavar="NAME"),
]
Prefix = Annotated[
    str | None,
    typer.Option(
        "--s3-prefix", envvar="PDFJOB_S3_PREFIX", help="First part of every key; default: as installed.", metavar="TEXT"
    ),
]
Timeout = Annotated[str | None, typer.Option("--timeout", help="Wait at most so long: 90s, 5m, 1h.", metavar="TIME")]
Debug = Annotated[bool, typer.Option("--debug", help="Show a traceback with an error.")]


@app.callback(invoke_without_command=True)
def root(context: typer.Context) -> None:
    """Turn large PDFs into clean text on a Kubernetes cluster.

    Exit codes: 0 done, 1 the job failed or has no result, 2 wrong usage, 3 cluster, 4 storage, 5 time of --wait over,
    130 interrupted (the job goes on).
    """
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


@app.command("submit")
def submit_verb(
    source: Annotated[str, typer.Argument(metavar="FILE|URL|s3://BUCKET/KEY", help="The PDF.")],
    name: Annotated[
        str | None, typer.Option("--name", help="Name of the PdfJob; default: from the file name.", metavar="NAME")
    ] = None,
    namespace: Namespace = None,
    wait: Annotated[bool, typer.Option("--wait", help="Wait for the end and show the first sentences.")] = False,
    timeout: Timeout = None,
    pages_per_chunk: Annotated[
        int | None, typer.Option("--pages-per-chunk", help="Pages of one chunk, 1 to 1000.", metavar="N")
    ] = None,
    overlap: Annotated[
        int | None, typer.Option("--overlap", help="Context pages on each side of a chunk, 1 to 5.", metavar="N")
    ] = None,
    threshold: Annotated[
        int | None,
        typer.Option("--threshold", help="A document of at most so many pages is one chunk; 0 to 1000.", metavar="N"),
    ] = None,
    language: Annotated[
        str | None, typer.Option("--language", help="Language of the document, e.g. fr or en.", metavar="CODE")
    ] = None,
    parallelism: Annotated[
        int | None, typer.Option("--parallelism", help="Chunks at work at once.", metavar="N")
    ] = None,
    priority: Annotated[int | None, typer.Option("--priority", help="0 to 10, higher first.", metavar="N")] = None,
    repair: Annotated[bool, typer.Option("--repair", help="Take what can be read of a damaged document.")] = False,
    form: Annotated[
        list[ResultForm] | None,
        typer.Option("--format", help="Format of the result; may be given again.", metavar="jsonl|txt|csv"),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the PdfJob; store and create nothing.")] = False,
    output: Annotated[Form | None, typer.Option("--output", "-o", help="Print the PdfJob in this form.")] = None,
    context: Context = None,
    kubeconfig: Kubeconfig = None,
    install_namespace: InstallNamespace = None,
    s3_endpoint: Endpoint = None,
    s3_bucket: Bucket = None,
    s3_prefix: Prefix = None,
    debug: Debug = False,
) -> None:
    """Submit a PDF: a file (it is uploaded), a URL, or an object on S3."""
    with _reported(debug):
        from .screen import Screen
        from .submit import JobSettings, Submission, submit

        if dry_run and wait:
            raise UsageError("--dry-run creates nothing that --wait could wait for")
        settings = JobSettings(
            pages_per_chunk=pages_per_chunk,
            overlap=overlap,
            threshold=threshold,
            language=language,
            parallelism=parallelism,
            priority=priority,
            repair=repair,
            formats=[item.value for item in form or []],
        )
        request = Submission(
            source=source,
            name=name,
            settings=settings,
            dry_run=dry_run,
            output=output.value if output else None,
            wait=wait,
            timeout=_timeout(timeout, wait=wait),
        )
        cluster = _connect(namespace, context, kubeconfig, install_namespace)
        submit(cluster, request, StorageOptions(s3_endpoint, s3_bucket, s3_prefix), Screen())


@app.command("status")
def status_verb(
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="A PdfJob; without it, all of them.")] = None,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Follow it live to its end.")] = False,
    namespace: Namespace = None,
    context: Context = None,
    kubeconfig: Kubeconfig = None,
    debug: Debug = False,
) -> None:
    """Show where jobs stand: all in a table, or one in full."""
    with _reported(debug):
        from . import status
        from .screen import Screen

        cluster, screen = _connect(namespace, context, kubeconfig), Screen()
        if name is None:
            (status.watch_jobs if watch else status.show_jobs)(cluster, screen)
        else:
            (status.watch_job if watch else status.show_job)(cluster, name, screen)


@app.command("results")
def results_verb(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A PdfJob.")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write to this file; default: stdout.", metavar="FILE")
    ] = None,
    form: Annotated[
        ResultForm | None,
        typer.Option("--format", help="Format; default: by the suffix of FILE, else jsonl.", metavar="jsonl|txt|csv"),
    ] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Wait for the end of the job first.")] = False,
    timeout: Timeout = None,
    namespace: Namespace = None,
    context: Context = None,
    kubeconfig: Kubeconfig = None,
    install_namespace: InstallNamespace = None,
    s3_endpoint: Endpoint = None,
    s3_bucket: Bucket = None,
    s3_prefix: Prefix = None,
    debug: Debug = False,
) -> None:
    """Fetch the merged result of a job; size and SHA-256 are checked."""
    with _reported(debug):
        from .results import fetch
        from .screen import Screen
        from .waiting import wait_until_finished

        seconds = _timeout(timeout, wait=wait)
        cluster, screen = _connect(namespace, context, kubeconfig, install_namespace), Screen()
        job = cluster.job(name)
        if wait:
            job = wait_until_finished(cluster, name, seconds, screen)
        options = StorageOptions(s3_endpoint, s3_bucket, s3_prefix)
        fetch(cluster, job, form.value if form else None, output, options, screen)


@app.command("chunks")
def chunks_verb(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A PdfJob.")],
    phase: Annotated[
        str | None, typer.Option("--status", help="Only chunks in this phase, e.g. Failed.", metavar="PHASE")
    ] = None,
    namespace: Namespace = None,
    context: Context = None,
    kubeconfig: Kubeconfig = None,
    debug: Debug = False,
) -> None:
    """Show the chunks of a job, with the reason of each failure."""
    with _reported(debug):
        from .screen import Screen
        from .status import show_chunks

        show_chunks(_connect(namespace, context, kubeconfig), name, phase, Screen())


def _connect(
    namespace: str | None, context: str | None, kubeconfig: Path | None, install_namespace: str | None = None
) -> Cluster:
    from .cluster import Cluster
    from .kubeconfig import ClusterOptions

    return Cluster.connect(ClusterOptions(kubeconfig, context, namespace, install_namespace))


def _timeout(text: str | None, *, wait: bool) -> float | None:
    if text is None:
        return None
    if not wait:
        raise UsageError("--timeout says how long to wait; it needs --wait")
    from .formats import parse_duration

    seconds = parse_duration(text)
    if not seconds:
        raise UsageError(f"--timeout {text}: write a time like 90s, 5m or 1h30m")
    return seconds


@contextmanager
def _reported(debug: bool) -> Iterator[None]:
    """Turn errors into one line on stderr and an exit code; ``--debug`` adds the traceback."""
    try:
        yield
    except PluginError as error:
        if debug:
            import traceback

            traceback.print_exc()
        print(f"error: {error}", file=sys.stderr)
        if error.hint:
            print(f"  try: {error.hint}", file=sys.stderr)
        raise typer.Exit(error.exit_code) from error
    except (typer.Exit, BrokenPipeError):
        raise
    except Exception as error:  # a traceback is for those who ask for one
        if debug:
            raise
        text = " ".join(f"{type(error).__name__}: {error}".split())
        print(f"error: unexpected {text} (--debug shows where; please report it)", file=sys.stderr)
        raise typer.Exit(ExitCode.INTERNAL) from error
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        raise typer.Exit(ExitCode.INTERRUPTED) from None


def _on_sigterm(_number: int, _frame: FrameType | None) -> NoReturn:
    """End in order, so that a tunnel to the cluster ends too."""
    raise SystemExit(int(ExitCode.TERMINATED))


def main() -> None:
    """Entry point of ``kubectl-pdfjob``."""
    signal.signal(signal.SIGTERM, _on_sigterm)
    try:
        code: Any = app(prog_name=PROGRAM, standalone_mode=False)
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
