"""Task process that merges chunk results: ``python -m pdfjob_operator.merging``.

The results of the chunks are concatenated in page order; nothing is compared or guessed, so the same inputs give the
same bytes. One chunk result is read at a time, sentence by sentence: memory does not grow with the document.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, BinaryIO, Final

import ijson

from pdfjob_api.conditions import Reason
from pdfjob_api.rendering import Format, Gap, Sentence, new_format

from .task_process import Channel, TaskError, run

_FLUSH: Final = 256 * 1024
"""Characters gathered before they are written."""
_REQUIRED: Final = frozenset({"version", "startPage", "endPage", "records"})
"""Fields without which an object is no chunk result."""


class Output:
    """One result file being written, with its hash."""

    def __init__(self, name: str, form: Format, path: Path, file: BinaryIO) -> None:
        self.name = name
        self.form = form
        self._path = path
        self._file = file
        self._hash = hashlib.sha256()
        self._size = 0
        self._texts = [form.head]
        self._characters = 0

    def write(self, text: str) -> None:
        """Add text; it reaches the file in large pieces."""
        self._texts.append(text)
        self._characters += len(text)
        if self._characters >= _FLUSH:
            self._flush()

    def finish(self) -> dict[str, Any]:
        """Write what is left and describe the file."""
        self._flush()
        self._file.flush()
        return {
            "format": self.name,
            "path": str(self._path),
            "size": self._size,
            "sha256": self._hash.hexdigest(),
        }

    def _flush(self) -> None:
        # JSON can name half a surrogate pair, UTF-8 cannot.
        data = "".join(self._texts).encode(errors="replace")
        self._file.write(data)
        self._hash.update(data)
        self._size += len(data)
        self._texts, self._characters = [], 0


class Merge:
    """Concatenates sentences and gaps; neighbouring gaps with the same code become one."""

    def __init__(self, outputs: list[Output]) -> None:
        self._outputs = outputs
        self._open_gap: Gap | None = None
        self.next_page = 1
        """First page of the part that must come next."""
        self.sentences = 0
        self.gaps: list[Gap] = []

    def add_gap(self, gap: Gap) -> None:
        """Add missing pages."""
        longer = self._open_gap.joined(gap) if self._open_gap else None
        if longer is None:
            self.close_gap()
        self._open_gap = longer or gap

    def close_gap(self) -> None:
        """Write the gap that might have grown."""
        if self._open_gap is None:
            return
        for output in self._outputs:
            output.write(output.form.gap(self._open_gap))
        self.gaps.append(self._open_gap)
        self._open_gap = None

    def add_sentence(self, sentence: Sentence) -> None:
        """Add a sentence; it gets the next number."""
        self.close_gap()
        for output in self._outputs:
            output.write(output.form.sentence(self.sentences, sentence))
        self.sentences += 1

    def add_part(self, line: dict[str, Any]) -> None:
        """Add a chunk result or a missing chunk, as the operator names it.

        Raises
        ------
        TaskError
            When it does not follow the part before, or is no chunk result of its pages.
        """
        first, last = line["first"], line["last"]
        if first != self.next_page or last < first:
            raise _merge_error(f"pages {first}-{last} do not follow page {self.next_page - 1}")
        self.next_page = last + 1
        if "code" in line:
            self.add_gap(Gap(first, last, line["code"]))
            return
        path = Path(line["path"])
        try:
            with path.open("rb") as file:
                self._add_result(file, first, last)
        except (ijson.JSONError, UnicodeDecodeError, KeyError, TypeError, ValueError) as error:
            raise _merge_error(f"the result of pages {first}-{last} cannot be read: {error}") from error

    def _add_result(self, file: BinaryIO, first: int, last: int) -> None:
        _check_form(file)
        gaps = iter(sorted({(_number(each, "page"), str(each["code"])) for each in _items(file, "missing.item")}))
        gap = next(gaps, None)
        page = first
        for record in _items(file, "records.item"):
            sentence = Sentence(_number(record, "page"), _number(record, "endPage"), record["text"])
            if not page <= sentence.page <= min(last, sentence.end_page):
                raise ValueError(f"a sentence of page {sentence.page} is out of order")
            page = sentence.page
            while gap is not None and gap[0] <= page:
                self._add_missing_page(gap, first, last)
                gap = next(gaps, None)
            self.add_sentence(sentence)
        while gap is not None:
            self._add_missing_page(gap, first, last)
            gap = next(gaps, None)

    def _add_missing_page(self, gap: tuple[int, str], first: int, last: int) -> None:
        page, code = gap
        if not first <= page <= last:
            raise ValueError(f"missing page {page} is not one of its pages")
        self.add_gap(Gap(page, page, code))


def _merge_error(message: str) -> TaskError:
    return TaskError(Reason.MERGE_FAILED, message)


def _check_form(file: BinaryIO) -> None:
    """Read as far as the fields that every chunk result has; they stand at its beginning.

    Raises
    ------
    ValueError
        When one is not there.
    """
    needed = set(_REQUIRED)
    file.seek(0)
    for prefix, _, _ in ijson.parse(file):
        needed.discard(prefix)
        if not needed:
            return
    raise ValueError(f"it lacks {', '.join(sorted(needed))}")


def _items(file: BinaryIO, prefix: str) -> Iterator[dict[str, Any]]:
    file.seek(0)
    for item in ijson.items(file, prefix):
        if not isinstance(item, dict):
            raise TypeError(f"{prefix} is not an object")
        yield item


def _number(item: dict[str, Any], key: str) -> int:
    value = item[key]
    if type(value) is not int:
        raise TypeError(f"{key} is not a number")
    return value


def _work(channel: Channel, request: dict[str, Any]) -> None:
    out = Path(request["out"])
    with ExitStack() as stack:
        outputs = []
        for name in request["formats"]:
            path = out / f"result.{name}"
            outputs.append(Output(name, new_format(name), path, stack.enter_context(path.open("wb"))))
        merge = Merge(outputs)
        while "end" not in (line := channel.receive()):
            merge.add_part(line)
            channel.send("read")
        merge.close_gap()
        files = [output.finish() for output in outputs]
    gaps = [(gap.first, gap.last, gap.code) for gap in merge.gaps]
    channel.send("merged", files=files, sentences=merge.sentences, missing=gaps)


if __name__ == "__main__":
    run(_work)
