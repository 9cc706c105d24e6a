"""One page, segmented by itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sentencex import segment

from .layout import Block, Line, find_blocks


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
        ISO 639 code; for one it does not know, sentencex takes a related language or English.
    """
    paragraphs = ((block, split_sentences(block, language)) for block in find_blocks(lines))
    return Page(tuple(Paragraph(block, sentences) for block, sentences in paragraphs if sentences))


def split_sentences(block: Block, language: str) -> tuple[str, ...]:
    """Return the sentences of a block, none of them empty; an entry of a table of contents is one."""
    if block.entry:
        return (block.text,) if block.text else ()
    return tuple(text for text in (part.strip() for part in segment(language, block.text)) if text)
