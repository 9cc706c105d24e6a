"""Task process that merges chunk results: ``python -m pdfjob_operator.merging``.

The results of the chunks are concatenated in page order; nothing is compared or guessed, so the same inputs give the
same bytes. One chunk result is read at a time, sentence by sentence: memory does not grow with the document.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import re
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final, Protocol

import ijson

from pdfjob_api.conditions import Reason

from .task_process import Channel, TaskError, run

_LINE_BREAKS: Final = re.compile("[ \t]*[\n\r\v\f\x1c-\x1e\x85\u2028\u2029]+[ \t]*")
_FLUSH: Final = 256 * 1024
"""Characters gathered before they are written."""
_REQUIRED: Final = frozenset({"version", "startPage", "endPage", "records"})
"""Fields without which an object is no chunk result."""


@dataclass(frozen=True, slots=True)
class Sentence:
    """One sentence, with the pages it starts and ends on."""

    page: int
    end_page: int
    text: str


@dataclass(frozen=True, slots=True)
class Gap:
    """Pages, 1-based and inclusive, that are missing."""

    first: int
    last: int
    code: str


class Format(Protocol):
    """One format of the result, as text."""

    head: str
    """What the file begins with."""

    def sentence(self, number: int, sentence: Sentence) -> str:
        """Return the text for a sentence."""

    def gap(self, gap: Gap) -> str:
        """Return the text for missing pages."""


class JsonLines:
    """One JSON object a line; the keys are always in the same order."""

    head = ""

    def sentence(self, number: int, sentence: Sentence) -> str:
        """Return ``{"n":0,"page":12,"endPage":13,"text":"..."}``."""
        text = json.dumps(sentence.text, ensure_ascii=False)
        return f'{{"n":{number},"page":{sentence.page},"endPage":{sentence.end_page},"text":{text}}}\n'

    def gap(self, gap: Gap) -> str:
        """Return ``{"missing":[51,100],"code":"TIMEOUT"}``."""
        return f'{{"missing":[{gap.first},{gap.last}],"code":{json.dumps(gap.code)}}}\n'


class PlainText:
    """One sentence a line, an empty line between pages."""

    head = ""

    def __init__(self) -> None:
        self._page = 0

    def sentence(self, number: int, sentence: Sentence) -> str:  # noqa: ARG002 - lines carry no number
        """Return the sentence on one line, after an empty line where its page begins."""
        return self._turn(sentence.page) + _LINE_BREAKS.sub(" ", sentence.text) + "\n"

    def gap(self, gap: Gap) -> str:
        """Return ``[pages 51-100 missing: TIMEOUT]``."""
        return f"{self._turn(gap.last)}[pages {gap.first}-{gap.last} missing: {gap.code}]\n"

    def _turn(self, page: int) -> str:
        between = "\n" if self._page and page != self._page else ""
        self._page = page
        return between


class Csv:
    """RFC 4180. A gap is a row without a number: page and end_page are its first and last page."""

    head = "n,page,end_page,text\r\n"

    def sentence(self, number: int, sentence: Sentence) -> str:
        """Return the row of a sentence."""
        return self._row(number, sentence.page, sentence.end_page, sentence.text)

    def gap(self, gap: Gap) -> str:
        """Return the row of missing pages."""
        return self._row("", gap.first, gap.last, f"[pages {gap.first}-{gap.last} missing: {gap.code}]")

    def _row(self, *fields: object) -> str:
        line = io.StringIO(newline="")
        csv.writer(line).writerow(fields)
        return line.getvalue()


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
        last = self._open_gap
        if last is not None and (last.last + 1, last.code) == (gap.first, gap.code):
            self._open_gap = Gap(last.first, gap.last, gap.code)
            return
        self.close_gap()
        self._open_gap = gap

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
    forms: dict[str, Format] = {"jsonl": JsonLines(), "txt": PlainText(), "csv": Csv()}
    out = Path(request["out"])
    with ExitStack() as stack:
        outputs = []
        for name in request["formats"]:
            path = out / f"result.{name}"
            outputs.append(Output(name, forms[name], path, stack.enter_context(path.open("wb"))))
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
