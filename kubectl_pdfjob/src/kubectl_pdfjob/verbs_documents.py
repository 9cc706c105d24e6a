"""Verbs for documents: ``submit`` brings one in, ``results`` and ``history`` tell what became of it."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from .errors import UsageError
from .options import JobName, JsonOutput, OptionalJobName, ResultForm, Timeout, Where, timeout_of, verb

__all__ = ["add_document_verbs"]


class Form(StrEnum):
    """Output forms of ``submit``."""

    YAML = "yaml"
    JSON = "json"
    NAME = "name"


def _submit(
    where: Where,
    source: Annotated[str, typer.Argument(metavar="FILE|URL|s3://BUCKET/KEY", help="The PDF.")],
    name: Annotated[
        str | None, typer.Option("--name", help="Name of the PdfJob; default: from the file name.", metavar="NAME")
    ] = None,
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
    credit_account: Annotated[
        str | None, typer.Option("--credit-account", help="CreditAccount that pays the tokens.", metavar="NAME")
    ] = None,
    estimated_tokens: Annotated[
        int | None,
        typer.Option("--estimated-tokens", min=1, help="Tokens to reserve; default: as estimated.", metavar="N"),
    ] = None,
    repair: Annotated[bool, typer.Option("--repair", help="Take what can be read of a damaged document.")] = False,
    form: Annotated[
        list[ResultForm] | None,
        typer.Option("--format", help="Format of the result; may be given again.", metavar="jsonl|txt|csv"),
    ] = None,
    spec: Annotated[
        Path | None,
        typer.Option("--spec", help="YAML with further settings: a PdfJob, or its spec; options win.", metavar="FILE"),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the PdfJob; store and create nothing.")] = False,
    output: Annotated[Form | None, typer.Option("--output", "-o", help="Print the PdfJob in this form.")] = None,
) -> None:
    """Submit a PDF: a file (it is uploaded), a URL, or an object on S3."""
    from .screen import Screen
    from .spec_file import read_spec
    from .submit import JobSettings, Submission, submit

    if dry_run and wait:
        raise UsageError("--dry-run creates nothing that --wait could wait for")
    further = read_spec(spec) if spec else {}
    if estimated_tokens and not (credit_account or further.get("creditAccountRef")):
        raise UsageError("--estimated-tokens says what to reserve; it needs --credit-account")
    settings = JobSettings(
        pages_per_chunk=pages_per_chunk,
        overlap=overlap,
        threshold=threshold,
        language=language,
        parallelism=parallelism,
        priority=priority,
        credit_account=credit_account,
        estimated_tokens=estimated_tokens,
        repair=repair,
        formats=[item.value for item in form or []],
        spec=further,
    )
    request = Submission(
        source=source,
        name=name,
        settings=settings,
        dry_run=dry_run,
        output=output.value if output else None,
        wait=wait,
        timeout=timeout_of(timeout, wait=wait),
    )
    submit(where.connect(), request, where.storage, Screen())


def _results(
    where: Where,
    name: JobName,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write to this file; default: stdout.", metavar="FILE")
    ] = None,
    form: Annotated[
        ResultForm | None,
        typer.Option("--format", help="Format; default: by the suffix of FILE, else jsonl.", metavar="jsonl|txt|csv"),
    ] = None,
    partial: Annotated[
        bool,
        typer.Option("--partial", help="What has succeeded so far, also while the job runs and after it failed."),
    ] = False,
    wait: Annotated[bool, typer.Option("--wait", help="Wait for the end of the job first.")] = False,
    timeout: Timeout = None,
) -> None:
    """Fetch the merged result of a job; size and SHA-256 are checked.

    With --partial, the results of the chunks that have succeeded so far, in page order; where others are missing, a
    line names their pages and why.
    """
    from .screen import Screen

    if partial and wait:
        raise UsageError("--partial is for what there is now; --wait is for the whole result")
    seconds = timeout_of(timeout, wait=wait)
    cluster, screen = where.connect(), Screen()
    job = cluster.job(name)
    chosen = form.value if form else None
    if partial:
        from .partial import fetch_partial

        fetch_partial(cluster, job, chosen, output, where.storage, screen)
        return
    from .results import fetch
    from .waiting import wait_until_finished

    if wait:
        job = wait_until_finished(cluster, name, seconds, screen)
    fetch(cluster, job, chosen, output, where.storage, screen)


def _history(
    where: Where,
    name: OptionalJobName = None,
    run: Annotated[
        str | None,
        typer.Option("--run", help="One of several jobs of this name; default: the last.", metavar="RUN"),
    ] = None,
    limit: Annotated[int, typer.Option("--limit", min=0, help="Jobs to list, the newest; 0 = all.", metavar="N")] = 20,
    output: JsonOutput = None,
) -> None:
    """List finished jobs, also those that are deleted; with NAME, one of them chunk by chunk.

    The records lie on S3 and stay there for good: how each chunk went, and for every start that failed the message, the
    last lines of its log and the state of its pod.
    """
    from .history import show_record, show_records
    from .screen import Screen

    if run and name is None:
        raise UsageError("--run needs the NAME of a job")
    cluster, screen = where.connect(), Screen()
    if name is None:
        show_records(cluster, where.storage, limit, screen, as_json=output is not None)
    else:
        show_record(cluster, name, run, where.storage, screen, as_json=output is not None)


def add_document_verbs(app: typer.Typer) -> None:
    """Add the verbs of this module to the command line."""
    verb(
        app,
        "submit",
        "Submit a PDF.",
        storage=True,
        plain="aws s3 cp novel.pdf s3://BUCKET/PREFIX/inbox/NAMESPACE/\nkubectl apply -f examples/pdfjob.yaml",
    )(_submit)
    verb(
        app,
        "results",
        "Fetch the result of a job.",
        storage=True,
        plain="kubectl get pdfjob NAME -o jsonpath='{.status.result.files}'\n"
        "kubectl get pdfchunks -l pdfjob.dev/job=NAME \\\n"
        "  -o jsonpath='{.items[*].status.result.uri}'\n"
        "aws s3 cp URI novel.txt",
    )(_results)
    verb(
        app,
        "history",
        "List finished jobs, also deleted ones.",
        storage=True,
        plain="kubectl get pdfjob NAME -o jsonpath='{.status.history}'\n"
        "aws s3 ls --recursive s3://BUCKET/PREFIX/history/NAMESPACE/",
    )(_history)
