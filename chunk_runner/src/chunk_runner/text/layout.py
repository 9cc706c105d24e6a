"""The paragraphs of one page, from the lines as PDFium gives them and where they stand.

A PDF has no paragraphs. What tells them apart is the space between lines, the size of the letters, and a line that
ends though the next word would have fitted.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from .repair import collapse, has_leader, join_lines, resolve_hyphens

_BULLET: Final = re.compile(r"[•◦▪▫‣●○■□►❖✓➢\uf0b7\uf0a7]\s?")
_ENUMERATOR: Final = re.compile(r"(?:\(?(?:\d{1,3}|[a-zA-Z]|[ivxIVX]{1,5})[.)]|[-–—*])\s+\S")
_TERMINAL: Final = re.compile(r"[.!?…:;。！？][)\]}»”’\"'\s\d]*\Z")

SIZE_TOLERANCE: Final = 0.2
"""Ratio of letter sizes from which two lines do not belong to one paragraph; inline code differs by 10 %."""
_LOOSEST_GAP: Final = 1.5
"""Baseline distance in letter sizes that is always within a paragraph."""
_WIDEST_GAP: Final = 3.5
"""Baseline distance that is always between paragraphs; double spacing has 2.4."""
_GAP_FACTOR: Final = 1.4
"""A paragraph ends where the distance is this much larger than on the tighter lines of the page."""


@dataclass(frozen=True, slots=True)
class Line:
    """A line of a page. Lengths are in points, along and across the direction of the text."""

    text: str
    left: float
    right: float
    """Origin of the last letter."""
    first_base: float
    """Height of the baseline at the first letter, growing upwards."""
    last_base: float
    """Of the last letter: lower where PDFium joined two lines at a hyphen."""
    size: float
    """Of a letter in the middle of the line."""


@dataclass(frozen=True, slots=True)
class Block:
    """A paragraph, a heading, an item of a list: text that sentences do not leave."""

    text: str
    lines: int
    size: float
    """Of its letters."""
    room: float
    """Letters that would have fitted on the last line, a space included."""
    entry: bool
    """Whether it is one line of a table of contents."""


@dataclass(slots=True)
class _Page:
    lines: Sequence[Line]
    margins: list[float] = field(default_factory=list)
    """For each line the right margin of its column."""
    largest_gap: float = _LOOSEST_GAP


def find_blocks(lines: Sequence[Line]) -> list[Block]:
    """Group the lines of one page, in reading order, into blocks. Empty lines are left out."""
    page = _Page([line for line in lines if line.text.strip()])
    page.margins = _margins(page.lines)
    gaps = sorted(
        (above.last_base - line.first_base) / _larger(above, line)
        for above, line in zip(page.lines, page.lines[1:], strict=False)
        if above.last_base - line.first_base > 0.5 * _larger(above, line)
    )
    if gaps:
        # Where a page has little text, most distances are those around it.
        tight = gaps[max(0, len(gaps) // 4 - 1)]
        page.largest_gap = min(max(_LOOSEST_GAP, _GAP_FACTOR * tight), _WIDEST_GAP)
    evidence = "\n".join(line.text for line in page.lines)
    return [_block(page, start, end, evidence) for start, end in _ranges(page)]


def _ranges(page: _Page) -> Iterator[tuple[int, int]]:
    start = 0
    for index in range(1, len(page.lines)):
        if _ends_block(page, index - 1):
            yield start, index
            start = index
    if page.lines:
        yield start, len(page.lines)


def _block(page: _Page, start: int, end: int, evidence: str) -> Block:
    lines = page.lines[start:end]
    text = lines[0].text
    for line in lines[1:]:
        text = join_lines(text, line.text)
    return Block(
        text=collapse(resolve_hyphens(text, evidence)),
        lines=len(lines),
        size=max(lines, key=lambda line: len(line.text)).size,
        room=_room(page, end - 1),
        entry=has_leader(lines[0].text),
    )


def _ends_block(page: _Page, index: int) -> bool:
    """Whether the block ends after this line."""
    above, line = page.lines[index], page.lines[index + 1]
    size = _larger(above, line)
    if min(above.size, line.size) < size * (1 - SIZE_TOLERANCE):
        return True
    if has_leader(above.text) or has_leader(line.text):
        return True
    gap = (above.last_base - line.first_base) / size
    if abs(gap) < 0.3:  # pieces of one row
        return False
    if gap > page.largest_gap:
        return True
    finished = _TERMINAL.search(above.text) is not None
    if gap < 0:  # the next column
        return finished or not line.text[0].islower()
    return _starts_anew(page, index, finished=finished)


def _starts_anew(page: _Page, index: int, *, finished: bool) -> bool:
    """Whether two lines at normal distance belong to different blocks."""
    line = page.lines[index + 1]
    if _BULLET.match(line.text):
        return True
    if not fits(line.text, _room(page, index)):
        return False
    if finished or _ENUMERATOR.match(line.text):
        return True
    return not line.text[0].islower()


def fits(text: str, room: float) -> bool:
    """Whether the first word of the text would have fitted where so many letters have room.

    A no-break space is part of a word. One letter in ten is tolerance: widths are means.
    """
    return 1.1 * (len(text.split(" ", 1)[0]) + 2) < room


def _room(page: _Page, index: int) -> float:
    line = page.lines[index]
    return (page.margins[index] - line.right) / _letter(line)


def _margins(lines: Sequence[Line]) -> list[float]:
    """Return for each line the right end of the longest line of its column."""
    margins: list[float] = []
    start = 0
    for index in range(1, len(lines) + 1):
        if index == len(lines) or lines[index].first_base > lines[index - 1].last_base + 2 * lines[index].size:
            margins += [max(line.right for line in lines[start:index])] * (index - start)
            start = index
    return margins


def _letter(line: Line) -> float:
    """Mean width of a letter."""
    width = (line.right - line.left) / len(line.text)
    # A line that PDFium joined from two says nothing about its width.
    return width if 0 < width < line.size else 0.5 * line.size


def _larger(above: Line, line: Line) -> float:
    return max(above.size, line.size, 0.1)
