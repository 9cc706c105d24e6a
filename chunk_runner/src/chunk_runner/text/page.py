"""One page, segmented by itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .layout import Block, Line, find_blocks
from .sentences import split_sentences


@dataclass(frozen=True, slots=True)
class Paragraph:
    """A block with its sentences; never without any."""

    block: Block
    sentences: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Page:
    """The paragraphs of a page in reading order."""

    paragraphs: tuple[Paragraph, ...] = ()


BLANK = Page()
"""A page without text, and what stands for one that does not exist or cannot be read."""


def read_page(lines: Sequence[Line], language: str) -> Page:
    """Segment one page.

    Parameters
    ----------
    lines
        In reading order, characters cleaned.
    language
        ISO 639 code.
    """
    paragraphs = ((block, _sentences(block, language)) for block in find_blocks(lines))
    return Page(tuple(Paragraph(block, sentences) for block, sentences in paragraphs if sentences))


def _sentences(block: Block, language: str) -> tuple[str, ...]:
    if block.entry:
        return (block.text,) if block.text else ()
    return tuple(split_sentences(block.text, language))
