"""The formats of a result: how sentences and missing pages are written as jsonl, txt and csv.

Source of the formats: section 3.5 of the design. The operator merges with them, and ``kubectl pdfjob results
--partial`` writes what there is so far; so both write the same bytes for the same sentences.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final, Protocol, TypeAlias

from .contract import ChunkResult

_LINE_BREAKS: Final = re.compile("[ \t]*[\n\r\v\f\x1c-\x1e\x85\u2028\u2029]+[ \t]*")


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

    def joined(self, following: Gap) -> Gap | None:
        """Return both as one; None when they do not touch or have different codes."""
        if (self.last + 1, self.code) != (following.first, following.code):
            return None
        return Gap(self.first, following.last, self.code)


Piece: TypeAlias = Sentence | Gap


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


def new_format(name: str) -> Format:
    """Return a format by its name, ``jsonl``, ``txt`` or ``csv``; one object writes one file.

    Raises
    ------
    KeyError
        When there is none of this name.
    """
    forms: dict[str, type[JsonLines | PlainText | Csv]] = {"jsonl": JsonLines, "txt": PlainText, "csv": Csv}
    return forms[name]()


def pieces_of(result: ChunkResult) -> Iterator[Piece]:
    """Yield the sentences of a chunk result and its missing pages, in page order; a missing page stands first."""
    gaps = iter(sorted({(each.page, each.code) for each in result.missing}))
    gap = next(gaps, None)
    for record in result.records:
        while gap is not None and gap[0] <= record.page:
            yield Gap(gap[0], gap[0], gap[1])
            gap = next(gaps, None)
        yield Sentence(record.page, record.end_page, record.text)
    while gap is not None:
        yield Gap(gap[0], gap[0], gap[1])
        gap = next(gaps, None)


def rendered(pieces: Iterable[Piece], form: Format) -> Iterator[str]:
    """Yield the text of a whole file: its head, sentences numbered from 0, neighbouring gaps of one code as one."""
    yield form.head
    number = 0
    gap: Gap | None = None
    for piece in pieces:
        if isinstance(piece, Gap):
            longer = gap.joined(piece) if gap else piece
            if gap and longer is None:
                yield form.gap(gap)
            gap = longer or piece
            continue
        if gap:
            yield form.gap(gap)
            gap = None
        yield form.sentence(number, piece)
        number += 1
    if gap:
        yield form.gap(gap)
