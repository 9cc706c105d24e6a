"""Document work as the operator sees it: inspect, split, merge, each in a limited process of its own.

A hostile document costs one process, never the operator or another job's work.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pdfjob_api.conditions import Reason
from pdfjob_api.jobstatus import ResultFormat
from pdfjob_api.processing import Repair

from .planning import ChunkRange
from .settings import DocumentSettings
from .task_process import TaskError
from .task_runner import task_run

_SLACK: Final = 64 * 1024**2
"""Bytes that a chunk may have beyond twice its source: qpdf decodes a little before it encodes."""
_MERGED_BYTES: Final = 64 * 1024**3
"""Bytes that a merged result may have."""


class DocumentError(Exception):
    """A document cannot be inspected or split; text and reason are for the user.

    Attributes
    ----------
    reason
        InvalidFormat, Encrypted, EmptyPdf or SplitError.
    retryable
        Whether it was no fault of the document, such as a full disk: then the same work may succeed later.
    """

    def __init__(self, reason: Reason, message: str, *, retryable: bool = False) -> None:
        super().__init__(message)
        self.reason = reason
        self.retryable = retryable


class MergeError(Exception):
    """Chunk results cannot be merged.

    Attributes
    ----------
    retryable
        Whether it was no fault of the results, such as a full disk.
    """

    def __init__(self, message: str, *, retryable: bool = False) -> None:
        super().__init__(message)
        self.retryable = retryable


@dataclass(frozen=True, slots=True)
class Inspection:
    """What a document is."""

    pages: int
    damage: tuple[str, ...]
    """What is wrong with it, in words; empty when nothing is. Never anything under Strict: that is an error."""
    empty_pages: tuple[int, ...]
    """Pages, from 1, whose content is lost."""
    characters: int | None = None
    """Of its text; None = not counted, or it cannot be."""


@dataclass(frozen=True, slots=True)
class ChunkFile:
    """One chunk PDF on disk; it belongs to the caller, who deletes it."""

    index: int
    path: Path
    size_bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class ResultPart:
    """A downloaded chunk result: a file that holds `pdfjob_api.contract.ChunkResult` as JSON."""

    path: Path
    first_page: int
    last_page: int


@dataclass(frozen=True, slots=True)
class MissingPart:
    """Pages, from 1 and inclusive, that have no result, and why."""

    first_page: int
    last_page: int
    code: str


MergeInput = ResultPart | MissingPart


@dataclass(frozen=True, slots=True)
class MergedFile:
    """One format of the merged result."""

    format: ResultFormat
    path: Path
    size_bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Merged:
    """The merged result."""

    files: tuple[MergedFile, ...]
    sentences: int
    missing: tuple[tuple[int, int, str], ...]
    """First page, last page and code of each gap, in page order."""


class Documents:
    """Runs document work, at most ``settings.processes`` tasks at once."""

    def __init__(self, settings: DocumentSettings) -> None:
        self._settings = settings
        self._slots = asyncio.Semaphore(settings.processes)

    async def inspect(self, path: Path, repair: Repair, *, count_text: bool = False) -> Inspection:
        """Count the pages of a document, and the characters of its text if asked for, and look for damage.

        Raises
        ------
        DocumentError
            InvalidFormat (under Strict also when content is lost), Encrypted, EmptyPdf or SplitError.
        """
        with tempfile.TemporaryDirectory(dir=path.parent, prefix="inspect-") as scratch:
            request = {
                "task": "inspect",
                "path": str(path),
                "scratch": scratch,
                "strict": repair is Repair.STRICT,
                "count_text": count_text,
            }
            try:
                async with (
                    self._slots,
                    task_run("splitting", request, limits=self._settings, file_bytes=_file_limit(path)) as task,
                ):
                    event = await task.receive()
            except TaskError as error:
                raise DocumentError(error.reason, str(error), retryable=error.retryable) from error
        return Inspection(event["pages"], tuple(event["damage"]), tuple(event["empty_pages"]), event["characters"])

    async def split(
        self,
        path: Path,
        ranges: Sequence[ChunkRange],
        out: Path,
        repair: Repair,  # noqa: ARG002 - the same way of reading serves both; Strict refused at the inspection
    ) -> AsyncGenerator[ChunkFile, None]:
        """Write the chunk PDFs of ``ranges`` to ``out``, in that order, context pages included.

        At most four files that have not been asked past lie on disk: asking for the next one says that the one before
        is taken. A generator that is left early must be closed (`contextlib.aclosing`), which ends the process.

        Raises
        ------
        DocumentError
            As `inspect` does, or SplitError when pages cannot be copied.
        """
        cuts = [
            (each.index, each.start_page - each.context_before, each.end_page + each.context_after) for each in ranges
        ]
        with tempfile.TemporaryDirectory(dir=path.parent, prefix="split-") as scratch:
            request = {"task": "split", "path": str(path), "scratch": scratch, "out": str(out), "cuts": cuts}
            try:
                async with (
                    self._slots,
                    task_run("splitting", request, limits=self._settings, file_bytes=_file_limit(path)) as task,
                ):
                    while (event := await task.receive())["event"] == "chunk":
                        yield ChunkFile(event["index"], Path(event["path"]), event["size"], event["sha256"])
                        await task.send({"taken": 1})
            except TaskError as error:
                raise DocumentError(error.reason, str(error), retryable=error.retryable) from error

    async def merge(self, inputs: AsyncIterator[MergeInput], out: Path, formats: Sequence[ResultFormat]) -> Merged:
        """Merge chunk results in page order into ``out/result.<format>``; memory does not grow with the document.

        The inputs must cover the pages from 1 on, each once. When the iterator is asked for the next one, the one
        before has been read and its file may go.

        Raises
        ------
        MergeError
        """
        request = {"task": "merge", "out": str(out), "formats": [each.value for each in formats]}
        try:
            async with (
                self._slots,
                task_run("merging", request, limits=self._settings, file_bytes=_MERGED_BYTES) as task,
            ):
                async for part in inputs:
                    line: dict[str, object] = {"first": part.first_page, "last": part.last_page}
                    if isinstance(part, ResultPart):
                        line["path"] = str(part.path)
                    else:
                        line["code"] = part.code
                    await task.send(line)
                    await task.receive()
                await task.send({"end": True})
                event = await task.receive()
        except TaskError as error:
            raise MergeError(str(error), retryable=error.retryable) from error
        files = tuple(
            MergedFile(ResultFormat(each["format"]), Path(each["path"]), each["size"], each["sha256"])
            for each in event["files"]
        )
        return Merged(files, event["sentences"], tuple((first, last, code) for first, last, code in event["missing"]))


def _file_limit(path: Path) -> int:
    return 2 * path.stat().st_size + _SLACK
