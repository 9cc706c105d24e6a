"""Which pages make which chunk: pure arithmetic, exact for every document."""

from __future__ import annotations

from dataclasses import dataclass

from pdfjob_api.pdfjob import Chunking


@dataclass(frozen=True, slots=True)
class ChunkRange:
    """Pages of one chunk; page numbers are the document's, 1-based and inclusive."""

    index: int
    """From 0."""
    start_page: int
    end_page: int
    context_before: int
    """Pages of the chunk before that its PDF starts with."""
    context_after: int
    """Pages of the chunk after that its PDF ends with."""

    @property
    def page_count(self) -> int:
        """Pages that the chunk owns."""
        return self.end_page - self.start_page + 1


def plan_ranges(pages: int, chunking: Chunking) -> tuple[ChunkRange, ...]:
    """Cut ``pages`` pages into chunks: every page in exactly one, no chunk empty.

    Strictly more pages than ``threshold_pages`` are split; otherwise the document is one chunk.

    Raises
    ------
    ValueError
        When ``pages`` is not positive.
    """
    if pages < 1:
        raise ValueError("a document without pages has no plan")
    size = chunking.pages_per_chunk if pages > chunking.threshold_pages else pages
    overlap = chunking.overlap_pages
    return tuple(
        ChunkRange(
            index=index,
            start_page=start,
            end_page=min(start + size - 1, pages),
            context_before=min(overlap, start - 1),
            context_after=min(overlap, pages - min(start + size - 1, pages)),
        )
        for index, start in enumerate(range(1, pages + 1, size))
    )
