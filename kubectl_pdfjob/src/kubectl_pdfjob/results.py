"""The merged result: to stdout, to a file, or its first sentences to the screen."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Final

from pdfjob_api.jobstatus import ResultFile, ResultFormat
from pdfjob_api.pdfjob import PdfJob

from .cluster import Cluster
from .errors import JobFailedError, StorageError, UsageError
from .formats import byte_size, counted
from .installation import StorageOptions
from .screen import Screen
from .storage_uri import split_uri
from .views import failure, is_finished, is_succeeded

__all__ = ["choose_file", "fetch", "sentences", "show_sentences", "verified", "write_file"]

_SMALL_BYTES: Final = 16 * 1024
"""A result of at most so many bytes is shown whole after ``--wait``."""
_FIRST: Final = 5


def choose_file(job: PdfJob, wanted: str | None, output: Path | None, flags: str = "") -> ResultFile:
    """Return the file of the result to fetch.

    Parameters
    ----------
    job
        The job; it must have a result.
    wanted
        Format that the user named; None = by the suffix of ``output``, else jsonl, else the first there is.
    output
        File that the user named.
    flags
        Flags that the commands in hints need.

    Raises
    ------
    JobFailedError
        When there is no result, with the state of the job.
    UsageError
        When the job does not write this format.
    """
    name, result = job.metadata.name, job.status.result
    if result is None or not result.files:
        if is_finished(job) and not is_succeeded(job):
            message, hint = failure(job, flags)
            raise JobFailedError(message, hint=hint)
        summary = job.status.summary
        state = f"{job.status.phase}, {summary.chunks} chunks" if summary else str(job.status.phase)
        raise JobFailedError(
            f'pdfjob "{name}" has no result yet ({state})', hint=f"kubectl pdfjob results {name} --wait{flags}"
        )
    files = {str(file.format): file for file in result.files}
    suffix = output.suffix.lower().removeprefix(".") if output else ""
    chosen = wanted or (suffix if suffix in files else "jsonl" if "jsonl" in files else next(iter(files)))
    if chosen not in files:
        raise UsageError(f'pdfjob "{name}" has no result in format {chosen}; it has {", ".join(files)}')
    return files[chosen]


def verified(pieces: Iterable[bytes], file: ResultFile) -> Iterator[bytes]:
    """Pass bytes on and check at the end that they are those that the operator stored.

    Raises
    ------
    StorageError
        When size or SHA-256 differ; what was passed on is not to be used.
    """
    digest, size = hashlib.sha256(), 0
    for piece in pieces:
        digest.update(piece)
        size += len(piece)
        yield piece
    if size != file.bytes or digest.hexdigest() != file.sha256:
        raise StorageError(
            f"{file.uri} is not what the job stored ({size} bytes instead of {file.bytes}, or another SHA-256); "
            "do not use it"
        )


def write_file(pieces: Iterable[bytes], target: Path) -> None:
    """Write a file so that it is there whole or not at all.

    Raises
    ------
    UsageError
        When the place cannot be written to.
    """
    if target.exists() and not target.is_file():
        if target.is_dir():
            raise UsageError(f"{target} is a folder; name a file")
        with target.open("wb") as device:
            device.writelines(pieces)
        return
    part = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        with part.open("xb") as stream:
            stream.writelines(pieces)
            stream.flush()
            os.fsync(stream.fileno())
        part.replace(target)
    except OSError as error:
        raise UsageError(f"cannot write {target}: {error.strerror or error}") from error
    finally:
        part.unlink(missing_ok=True)


def fetch(
    cluster: Cluster, job: PdfJob, wanted: str | None, output: Path | None, storage: StorageOptions, screen: Screen
) -> None:
    """Stream the result of a job to stdout or into a file, and check that it is whole."""
    from .storage import find_installation, open_store

    file = choose_file(job, wanted, output, cluster.flags)
    bucket, key = split_uri(file.uri)
    with open_store(cluster, find_installation(cluster, storage)) as store:
        pieces = verified(store.read(bucket, key), file)
        if output is None or str(output) == "-":
            for piece in pieces:
                sys.stdout.buffer.write(piece)
            sys.stdout.buffer.flush()
        else:
            with screen.transfer_bar(f"Downloading {output.name}", file.bytes) as advance:
                write_file(_counted(pieces, advance), output)
            screen.note(f"{output}: {byte_size(file.bytes)}, SHA-256 verified")
    _note_gaps(job, screen)


def _note_gaps(job: PdfJob, screen: Screen) -> None:
    """Say which pages a result lacks."""
    if job.status.result and job.status.result.partial:
        screen.note(f"note: the result is partial; missing pages: {job.status.result.missing_pages or 'unknown'}")


def _counted(pieces: Iterable[bytes], advance: Callable[[int], None]) -> Iterator[bytes]:
    for piece in pieces:
        advance(len(piece))
        yield piece


def show_sentences(cluster: Cluster, job: PdfJob, storage: StorageOptions, screen: Screen) -> None:
    """Print the sentences of a small result, or the first ones of a large one, and how to get the rest.

    The job has ended well, so a storage that the user cannot reach is only remarked upon.
    """
    from .storage import find_installation, open_store

    file = choose_file(job, None, None)
    bucket, key = split_uri(file.uri)
    more = f"kubectl pdfjob results {job.metadata.name}{cluster.flags}"
    try:
        with open_store(cluster, find_installation(cluster, storage)) as store:
            data = store.read_start(bucket, key, min(file.bytes, _SMALL_BYTES)) if file.bytes else b""
    except StorageError as error:
        screen.note(f'pdfjob "{job.metadata.name}" succeeded; the result is {file.uri}, but: {error}')
        return
    whole = len(data) == file.bytes
    found = list(sentences(data, file.format, whole=whole))
    shown = found if whole else found[:_FIRST]
    for sentence in shown:
        screen.write(sentence)
    total = job.status.sentences
    count = counted(total, "sentence") if total is not None else byte_size(file.bytes)
    if whole:
        screen.note(f'pdfjob "{job.metadata.name}" succeeded: {count}')
    else:
        screen.note(
            f'pdfjob "{job.metadata.name}" succeeded: {count}; the first {len(shown)} are above, all of them: {more}'
        )
    _note_gaps(job, screen)


def sentences(data: bytes, form: ResultFormat, *, whole: bool) -> Iterator[str]:
    """Yield the sentences at the start of a result, fit for a terminal.

    Parameters
    ----------
    data
        The first bytes of the file.
    form
        Its format.
    whole
        Whether it is the whole file; otherwise the last line is cut off somewhere and left out.
    """
    text = data.decode(errors="ignore")
    if not whole:
        text = text[: text.rfind("\n") + 1]
    if form is ResultFormat.JSONL:
        lines = (_record(json.loads(line)) for line in text.split("\n") if line)
    elif form is ResultFormat.CSV:
        lines = (row[-1] for row in list(csv.reader(io.StringIO(text, newline="")))[1:] if row)
    else:
        lines = (line for line in text.split("\n") if line)
    for line in lines:
        # Text of a stranger's document must not be able to drive the terminal.
        yield "".join(char for char in line if char.isprintable())


def _record(record: dict[str, object]) -> str:
    missing = record.get("missing")
    if isinstance(missing, list):
        return f"[pages {missing[0]}-{missing[-1]} missing: {record.get('code')}]"
    return str(record.get("text", ""))
