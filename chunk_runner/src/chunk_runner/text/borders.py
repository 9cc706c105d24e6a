"""Sentences that a page border cuts.

The decision looks at the two pages of the border and at nothing else, and takes at most one sentence from the second
page and never all it has. So no chain of joins is longer than two pages, and a chunk that has one context page on each
side decides as the whole document would.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from pdfjob_api.contract import Record

from .layout import SIZE_TOLERANCE, fits
from .page import Page, Paragraph
from .repair import SOFT_HYPHEN, join_lines, resolve_hyphens
from .sentences import is_one_sentence

_RUNNING_BLOCKS: Final = 2
"""At most so many blocks at the top and at the bottom of a page are looked at as running heads."""
_RUNNING_LENGTH: Final = 120
"""Characters; longer text is no running head."""
_ROMAN: Final = r"(?=[ivxlc])(?:xc|xl|l?x{0,3})(?:ix|iv|v?i{0,3})"
_NUMBER: Final = re.compile(rf"\d{{1,4}}|\b{_ROMAN}\b")
_NUMBERED: Final = re.compile(
    rf"\W*(?:\d{{1,4}}|{_ROMAN})\W*\Z"  # - 12 -
    rf"|\d{{1,4}}\s|{_ROMAN}\s+[A-ZÀ-Þ]"  # 12 Chapter 2. The Archive
    rf"|.*\s(?:\d{{1,4}}|{_ROMAN})\s?[-–—|)\]]?\Z"  # Reference 73 / 237
)
_NOTE_MARK: Final = re.compile(r"(?:\d{1,3}|[*†‡§¶]+|\[\d{1,3}\]|\([a-z0-9]{1,2}\))[.)]?\s*\S")
_NOTE_SIZE: Final = 0.93
"""Footnotes are set at most this large, relative to the text of the page."""
_CLOSING: Final = "\"'”’»)]}"
_ENOUGH: Final = 20
"""Characters; shorter text that stops without a mark is a heading, a cell or a label."""
_CONTEXT: Final = 120
"""Characters on both sides that are shown to the segmenter."""


@dataclass(frozen=True, slots=True)
class Border:
    """A sentence that goes on over the border after a page."""

    first: int
    """Paragraph of the first page whose last sentence goes on."""
    second: int
    """Paragraph of the second page whose first sentence ends it."""
    text: str
    """The whole sentence."""


def page_records(number: int, before: Page, page: Page, after: Page, language: str) -> list[Record]:
    """Return the sentences that start on a page, in reading order.

    Parameters
    ----------
    number
        Of the page in the document, 1-based.
    before, page, after
        The page and its neighbours, blank where there is none.
    language
        ISO 639 code.
    """
    taken = find_border(before, page, language)
    border = find_border(page, after, language)
    records: list[Record] = []
    for index, paragraph in enumerate(page.paragraphs):
        sentences = paragraph.sentences[1:] if taken and taken.second == index else paragraph.sentences
        goes_on = border is not None and border.first == index
        records += [
            Record(page=number, end_page=number, text=text) for text in (sentences[:-1] if goes_on else sentences)
        ]
        if border is not None and goes_on:
            records.append(Record(page=number, end_page=number + 1, text=border.text))
    return records


def find_border(page: Page, after: Page, language: str) -> Border | None:
    """Return the sentence that goes on from a page to the next one, if one does."""
    first = _last_of_text(page, after)
    second = _first_of_text(after, page)
    if first is None or second is None:
        return None
    head = page.paragraphs[first]
    tail = after.paragraphs[second]
    if sum(len(paragraph.sentences) for paragraph in after.paragraphs[second : _surely_text(after)]) < 2:
        return None  # its only sentence may go on over the next border; and no page goes whole into the one before
    if not _goes_on(head, tail, language):
        return None
    return Border(first, second, resolve_hyphens(join_lines(head.sentences[-1], tail.sentences[0])))


def _goes_on(head: Paragraph, tail: Paragraph, language: str) -> bool:
    left, right = head.sentences[-1], tail.sentences[0]
    sizes = head.block.size, tail.block.size
    if head.block.entry or tail.block.entry or min(sizes) < max(sizes) * (1 - SIZE_TOLERANCE):
        return False
    if fits(right, head.block.room):
        return False  # the page ended there, not the line
    if left.endswith(("-", "\u2010", SOFT_HYPHEN)) and len(left) > 1 and left[-2].isalpha() and right[0].islower():
        return True
    bare = left.rstrip(_CLOSING)
    if not bare or bare[-1] in "!?…:。！？":
        return False
    if bare[-1] == ".":
        # An abbreviation at the end of the page; the library knows those of the language.
        return right[0].isalnum() and is_one_sentence(left[-_CONTEXT:], right[:_CONTEXT], language)
    if right[0].islower():
        return True
    # Capitals, digits and scripts without case say little: it must look like running text on both sides.
    return tail.block.lines > 1 and len(left) >= _ENOUGH


def _last_of_text(page: Page, after: Page) -> int | None:
    """Index of the last paragraph above running feet and footnotes."""
    end = len(page.paragraphs) - _running_at_end(page, after)
    end -= _notes(page, end)
    return end - 1 if end > 0 else None


def _first_of_text(page: Page, before: Page) -> int | None:
    """Index of the first paragraph below running heads."""
    paragraphs = page.paragraphs
    likes = [_form(paragraph) for paragraph in before.paragraphs[:_RUNNING_BLOCKS]]
    start = 0
    while start < min(_RUNNING_BLOCKS, len(paragraphs)) and _is_running(paragraphs[start], likes):
        start += 1
    return start if start < len(paragraphs) else None


def _surely_text(page: Page) -> int:
    """End of the paragraphs that are text whatever the next page looks like."""
    end = len(page.paragraphs)
    while end > max(0, len(page.paragraphs) - _RUNNING_BLOCKS) and _may_run(page.paragraphs[end - 1]):
        end -= 1
    return end - _notes(page, end)


def _running_at_end(page: Page, other: Page) -> int:
    likes = [_form(paragraph) for paragraph in other.paragraphs[-_RUNNING_BLOCKS:]]
    count = 0
    for paragraph in reversed(page.paragraphs[-_RUNNING_BLOCKS:]):
        if not _is_running(paragraph, likes):
            break
        count += 1
    return count


def _is_running(paragraph: Paragraph, likes: list[str]) -> bool:
    """Whether it is a running head or foot: it bears a page number, or the other page has its like."""
    if not _may_run(paragraph):
        return False
    return _NUMBERED.match(paragraph.block.text) is not None or _form(paragraph) in likes


def _may_run(paragraph: Paragraph) -> bool:
    block = paragraph.block
    return block.lines == 1 and len(block.text) <= _RUNNING_LENGTH and not block.entry


def _form(paragraph: Paragraph) -> str:
    return _NUMBER.sub("0", paragraph.block.text[:_RUNNING_LENGTH])


def _notes(page: Page, end: int) -> int:
    """Return how many paragraphs before ``end`` are footnotes."""
    weights: dict[float, int] = {}
    for paragraph in page.paragraphs:
        size = round(paragraph.block.size, 1)
        weights[size] = weights.get(size, 0) + len(paragraph.block.text)
    if not weights:
        return 0
    largest_note = _NOTE_SIZE * max(weights, key=lambda size: (weights[size], size))
    start = end
    marked = end
    while start > 1 and page.paragraphs[start - 1].block.size <= largest_note:
        start -= 1
        if _NOTE_MARK.match(page.paragraphs[start].block.text):
            marked = start
    return end - marked
