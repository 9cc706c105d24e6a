"""Options that several verbs share, and how a function becomes a verb."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

import typer

from .errors import ExitCode, PluginError, UsageError
from .installation import DEFAULT_NAMESPACE, StorageOptions

if TYPE_CHECKING:
    from .cluster import Cluster

__all__ = ["JobName", "JsonOutput", "OptionalJobName", "ResultForm", "Timeout", "Wait", "Where", "timeout_of", "verb"]


class ResultForm(StrEnum):
    """Formats of a result."""

    JSONL = "jsonl"
    TXT = "txt"
    CSV = "csv"


class DataForm(StrEnum):
    """Forms of data for programs."""

    JSON = "json"


JobName: TypeAlias = Annotated[str, typer.Argument(metavar="NAME", help="A PdfJob.")]
OptionalJobName: TypeAlias = Annotated[str | None, typer.Argument(metavar="[NAME]", help="A PdfJob.")]
Wait: TypeAlias = Annotated[bool, typer.Option("--wait", help="Wait until it is done.")]
Timeout: TypeAlias = Annotated[
    str | None, typer.Option("--timeout", help="Wait at most so long: 90s, 5m, 1h.", metavar="TIME")
]
JsonOutput: TypeAlias = Annotated[
    DataForm | None, typer.Option("--output", "-o", help="Print JSON, for programs.", metavar="json")
]

_Namespace: TypeAlias = Annotated[
    str | None, typer.Option("--namespace", "-n", help="Namespace; default: the one of the context.", metavar="NAME")
]
_Context: TypeAlias = Annotated[
    str | None, typer.Option("--context", help="Context of the kubeconfig to use.", metavar="NAME")
]
_Kubeconfig: TypeAlias = Annotated[
    Path | None, typer.Option("--kubeconfig", help="Kubeconfig file to use.", metavar="FILE")
]
_InstallNamespace: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--install-namespace",
        envvar="PDFJOB_INSTALL_NAMESPACE",
        help=f"Namespace that pdfjob is installed in; default: {DEFAULT_NAMESPACE}, else the one that has it.",
        metavar="NAME",
    ),
]
_Endpoint: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--s3-endpoint",
        envvar="PDFJOB_S3_ENDPOINT",
        help="S3 server as you reach it, with your own AWS credentials; default: as installed.",
        metavar="URL",
    ),
]
_Bucket: TypeAlias = Annotated[
    str | None,
    typer.Option("--s3-bucket", envvar="PDFJOB_S3_BUCKET", help="Bucket; default: as installed.", metavar="NAME"),
]
_Prefix: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--s3-prefix", envvar="PDFJOB_S3_PREFIX", help="First part of every key; default: as installed.", metavar="TEXT"
    ),
]
_Debug: TypeAlias = Annotated[bool, typer.Option("--debug", help="Show a traceback with an error.")]


@dataclass(frozen=True, slots=True)
class Where:
    """Which cluster, namespace and storage the user means."""

    namespace: str | None
    context: str | None
    kubeconfig: Path | None
    install_namespace: str | None = None
    storage: StorageOptions = field(default_factory=StorageOptions)

    def connect(self) -> Cluster:
        """Return the cluster; no request is made yet."""
        from .cluster import Cluster
        from .kubeconfig import ClusterOptions

        return Cluster.connect(ClusterOptions(self.kubeconfig, self.context, self.namespace, self.install_namespace))


def _cluster_options(
    namespace: _Namespace = None, context: _Context = None, kubeconfig: _Kubeconfig = None, debug: _Debug = False
) -> None:
    """Carry the options of every verb."""


def _storage_options(
    namespace: _Namespace = None,
    context: _Context = None,
    kubeconfig: _Kubeconfig = None,
    install_namespace: _InstallNamespace = None,
    s3_endpoint: _Endpoint = None,
    s3_bucket: _Bucket = None,
    s3_prefix: _Prefix = None,
    debug: _Debug = False,
) -> None:
    """Carry the options of a verb that reads or writes the storage."""


def verb(
    app: typer.Typer, name: str, short: str, *, plain: str, storage: bool = False
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Make a function a verb: it gets a `Where` and its own options, and the options of every verb are added.

    Parameters
    ----------
    app
        The command line.
    name
        Name of the verb.
    short
        What it does, in the list of all verbs.
    plain
        The same with kubectl, shown at the end of its help.
    storage
        Whether the verb uses the storage, and so has the options for it.
    """

    def register(function: Callable[..., None]) -> Callable[..., None]:
        _, *own = inspect.signature(function, eval_str=True).parameters.values()
        common = inspect.signature(_storage_options if storage else _cluster_options, eval_str=True)

        def run(**values: Any) -> None:
            with _reported(values.pop("debug")):
                function(_where(values), **values)

        parameters = [*own, *common.parameters.values()]
        keyword_only = [each.replace(kind=inspect.Parameter.KEYWORD_ONLY) for each in parameters]
        # Typer reads what it needs to know from these.
        run.__signature__ = inspect.Signature(keyword_only)  # type: ignore[attr-defined]
        run.__annotations__ = {each.name: each.annotation for each in parameters}
        # The control character keeps the lines that follow it as they are.
        commands = "\n".join(f"  {line}" for line in plain.splitlines())
        text = f"{inspect.getdoc(function)}\n\nThe same with kubectl:\n\n\b\n{commands}"
        app.command(name, help=text, short_help=short)(run)
        return function

    return register


def _where(values: dict[str, Any]) -> Where:
    """Take the common options out of the values of a verb."""
    cluster = (values.pop("namespace"), values.pop("context"), values.pop("kubeconfig"))
    if "s3_bucket" not in values:
        return Where(*cluster)
    storage = StorageOptions(values.pop("s3_endpoint"), values.pop("s3_bucket"), values.pop("s3_prefix"))
    return Where(*cluster, values.pop("install_namespace"), storage)


def timeout_of(text: str | None, *, wait: bool) -> float | None:
    """Return the seconds of ``--timeout``; None when it was not given.

    Raises
    ------
    UsageError
        When it is no time, or there is nothing to wait for.
    """
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
