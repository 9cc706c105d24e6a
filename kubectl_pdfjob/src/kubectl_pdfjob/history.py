"""``kubectl pdfjob history``: the records of finished jobs on S3, which outlive the jobs."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from typing import Any, Final, TypeVar

from pydantic import ValidationError
from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from pdfjob_api.base import Model
from pdfjob_api.history import ChunkRecord, ErrorRecord, JobRecord
from pdfjob_api.keys import history_prefix
from pdfjob_api.names import run_of
from pdfjob_api.pdfchunk import StartRecord

from .cluster import Cluster
from .errors import StorageError, UsageError
from .formats import NONE, ago, byte_size, clock, counted, duration, parse_time
from .installation import StorageOptions
from .screen import Screen
from .storage import ListedObject, ObjectStore, find_installation, open_store
from .views import new_table, phase_text

__all__ = ["record_table", "record_view", "show_record", "show_records"]

_RECORD: Final = "job.json"
_ERRORS_SHOWN: Final = 20
_MESSAGE: Final = 160
"""Characters of an error's message; ``-o json`` has all of it."""

_M = TypeVar("_M", bound=Model)


@dataclass(frozen=True, slots=True)
class Archive:
    """The records of one namespace."""

    store: ObjectStore
    bucket: str
    prefix: str

    def found(self, name: str | None = None) -> list[ListedObject]:
        """Return the records of jobs, the newest first; those of one name only when asked for."""
        listed = self.store.list(self.bucket, f"{self.prefix}{name}/" if name else self.prefix)
        records = [item for item in listed if item.key.endswith(f"/{_RECORD}")]
        return sorted(records, key=lambda item: (item.modified, item.key), reverse=True)

    def record(self, item: ListedObject) -> JobRecord:
        """Read a record."""
        return self._read(JobRecord, item.key)

    def errors(self, item: ListedObject) -> Iterator[ErrorRecord]:
        """Read the records of the starts that failed, in order of chunks and starts."""
        for found in self.store.list(self.bucket, f"{item.key.removesuffix(_RECORD)}errors/"):
            yield self._read(ErrorRecord, found.key)

    def _read(self, model: type[_M], key: str) -> _M:
        data = b"".join(self.store.read(self.bucket, key))
        try:
            return model.model_validate_json(data)
        except ValidationError as error:
            raise StorageError(f"s3://{self.bucket}/{key} is no record that this plugin knows: {error}") from error


def show_records(cluster: Cluster, storage: StorageOptions, limit: int, screen: Screen, *, as_json: bool) -> None:
    """Print the finished jobs of the namespace, the newest first; ``limit`` 0 = all."""
    with _archive(cluster, storage) as archive:
        found = archive.found()
        chosen = found[:limit] if limit else found
        records = [archive.record(item) for item in chosen]
    if as_json:
        screen.write(_json([_without_chunks(record) for record in records]))
    elif not records:
        screen.note(f"No finished jobs in namespace {cluster.namespace}.")
    else:
        screen.show(record_table(records))
    if len(found) > len(chosen):
        screen.note(f"... and {len(found) - len(chosen)} older ones (--limit 0 shows all)")


def show_record(
    cluster: Cluster, name: str, run: str | None, storage: StorageOptions, screen: Screen, *, as_json: bool
) -> None:
    """Print one finished job chunk by chunk, with the errors of its starts.

    Raises
    ------
    StorageError
        When there is no record of it.
    """
    with _archive(cluster, storage) as archive:
        found = archive.found(name)
        item = _chosen(found, name, run, cluster.namespace)
        record = archive.record(item)
        errors = list(archive.errors(item) if as_json else islice(archive.errors(item), _ERRORS_SHOWN + 1))
    if as_json:
        screen.write(_json({**record.wire(), "errors": [error.wire() for error in errors]}))
        return
    screen.show(record_view(record, errors, datetime.now(UTC)))
    others = [_run(other) for other in found if other.key != item.key]
    if others and run is None:
        screen.note(f"\nEarlier jobs of this name: --run {', --run '.join(others)}")


@contextmanager
def _archive(cluster: Cluster, storage: StorageOptions) -> Iterator[Archive]:
    installation = find_installation(cluster, storage)
    with open_store(cluster, installation) as store:
        yield Archive(store, installation.bucket, history_prefix(installation.prefix, cluster.namespace))


def _chosen(found: Sequence[ListedObject], name: str, run: str | None, namespace: str) -> ListedObject:
    if not found:
        raise StorageError(
            f'there is no record of a job "{name}" in namespace "{namespace}"; one is written when a job ends'
        )
    if run is None:
        return found[0]
    chosen = next((item for item in found if _run(item) == run), None)
    if chosen is None:
        raise UsageError(f'"{name}" has no run {run}; it has {", ".join(_run(item) for item in found)}')
    return chosen


def _run(item: ListedObject) -> str:
    return item.key.split("/")[-2]


def _without_chunks(record: JobRecord) -> dict[str, Any]:
    return {key: value for key, value in record.wire().items() if key != "chunks"}


def _json(data: Any) -> str:
    return json.dumps(data, indent=2, ensure_ascii=False)


def record_table(records: Iterable[JobRecord]) -> Table:
    """Return the table of finished jobs, in the order given."""
    table = new_table("NAME", "PHASE", "PAGES", "CHUNKS", "FAILED", "STARTED", "TOOK", "RUN")
    for record in records:
        table.add_row(
            record.name,
            phase_text(record.phase),
            str(record.source.pages) if record.source and record.source.pages is not None else NONE,
            f"{record.counts.succeeded}/{record.counts.total}" if record.counts else NONE,
            str(record.counts.failed) if record.counts else NONE,
            clock(record.started or record.created),
            _took(record),
            run_of(record.uid),
        )
    return table


def _took(record: JobRecord) -> str:
    if record.processing_seconds is not None:
        return duration(record.processing_seconds)
    return NONE if record.completed else "deleted"


def record_view(record: JobRecord, errors: Sequence[ErrorRecord], now: datetime) -> RenderableType:
    """Return the view of one finished job."""
    parts: list[RenderableType] = [_facts(record, now)]
    for title, body in (("Chunks", _chunks(record.chunks)), ("Errors", _errors(errors))):
        if body is not None:
            parts += [Text(""), Text(f"{title}:", style="bold"), Padding(body, (0, 0, 0, 2), expand=False)]
    return Group(*parts)


def _facts(record: JobRecord, now: datetime) -> Table:
    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(no_wrap=True)
    grid.add_column(overflow="fold")
    rows: list[tuple[str, str | Text | None]] = [
        ("Name", f"{record.name}  (namespace {record.namespace}, run {run_of(record.uid)})"),
        ("Phase", phase_text(record.phase)),
        ("Source", _source(record)),
        ("Chunks", _counts(record)),
        ("Charged", None if record.charged is None else f"{counted(record.charged, 'token')} to its credit account"),
        ("Result", _result(record)),
        ("Error", f"{record.last_error.code}: {record.last_error.message}" if record.last_error else None),
        ("Ended by", _shutdown(record)),
        ("Times", _times(record, now)),
    ]
    for name, value in rows:
        if value is not None:
            grid.add_row(Text(f"{name}:", style="bold"), value)
    return grid


def _source(record: JobRecord) -> str | None:
    source = record.source
    if source is None:
        return None
    size = [counted(source.pages, "page")] if source.pages is not None else []
    return ", ".join([source.file_name, *size, byte_size(source.size_bytes)])


def _counts(record: JobRecord) -> str | None:
    counts = record.counts
    if counts is None:
        return None
    cached = f" ({counts.cached} from the cache)" if counts.cached else ""
    text = f"{counts.total} in all: {counts.succeeded} succeeded{cached}, {counts.failed} failed"
    if record.failed_chunks:
        text += f" (numbers {record.failed_chunks})"
    if counts.cancelled:
        text += f", {counts.cancelled} cancelled"
    return f"{text}; {counted(record.retries, 'retry', 'retries')}"


def _result(record: JobRecord) -> str | None:
    if record.result is None:
        return None
    text = ", ".join(f"{file.uri} ({byte_size(file.bytes)})" for file in record.result.files)
    return text + (f"; partial, missing pages {record.result.missing_pages or '?'}" if record.result.partial else "")


def _shutdown(record: JobRecord) -> str | None:
    if record.shutdown is None:
        return None
    return f"{record.shutdown.requested_by}, {clock(record.shutdown.requested_at)}"


def _times(record: JobRecord, now: datetime) -> str:
    text = f"created {clock(record.created)}"
    if record.completed:
        text += f", ended {clock(record.completed)} ({ago(record.completed, now)} ago)"
    else:
        text += f", deleted under way {clock(record.recorded)}"
    return text + (f", took {duration(record.processing_seconds)}" if record.processing_seconds is not None else "")


def _chunks(chunks: Sequence[ChunkRecord]) -> Table | None:
    if not chunks:
        return None
    table = new_table("CHUNK", "PAGES", "PHASE", "TRIES", "STARTS", "LAST", "ENDS OF ITS STARTS")
    for chunk in chunks:
        last = chunk.history[-1] if chunk.history else None
        table.add_row(
            str(chunk.index),
            f"{chunk.start_page}-{chunk.end_page}",
            phase_text(chunk.phase),
            str(chunk.attempts),
            str(chunk.starts),
            clock(last.finished_at) if last else NONE,
            ", ".join(_end(start) for start in chunk.history) or NONE,
        )
    return table


def _end(start: StartRecord) -> str:
    """Return how a start ended: ``a2 TIMEOUT after 40s``."""
    begun, ended = parse_time(start.started_at), parse_time(start.finished_at)
    after = f" after {duration((ended - begun).total_seconds())}" if begun and ended else ""
    return f"a{start.start} {start.code or start.outcome}{after}"


def _errors(errors: Sequence[ErrorRecord]) -> RenderableType | None:
    if not errors:
        return None
    table = new_table("CHUNK", "START", "TIME", "CODE", "POD", "MESSAGE")
    for error in errors[:_ERRORS_SHOWN]:
        message = " ".join(error.message.split())
        table.add_row(
            str(error.chunk),
            str(error.start),
            clock(error.time),
            error.code or error.outcome,
            _pod(error),
            message if len(message) <= _MESSAGE else f"{message[: _MESSAGE - 4]} ...",
        )
    more = "... and more; " if len(errors) > _ERRORS_SHOWN else ""
    return Group(table, Text(f"{more}-o json has the log and the pod of each"))


def _pod(error: ErrorRecord) -> str:
    if error.pod is None:
        return "gone"
    exit_code = "" if error.pod.exit_code is None else f" exit {error.pod.exit_code}"
    return (error.pod.exit_reason or error.pod.reason or error.pod.phase or NONE) + exit_code
