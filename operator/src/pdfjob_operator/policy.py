"""What the result may lack: whether chunks that have ended may be merged. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from pdfjob_api.jobstatus import ChunkCounts
from pdfjob_api.pdfchunk import PdfChunkStatus

from .observation import Observation


def settled(counts: ChunkCounts) -> bool:
    """Whether no chunk is pending, running or scheduled."""
    return counts.succeeded + counts.failed + counts.cancelled == counts.total


def may_be_merged(obs: Observation, counts: ChunkCounts, chunks: Mapping[int, PdfChunkStatus]) -> bool:
    """Whether every chunk has ended, and the result lacks no more than the failure policy allows."""
    return settled(counts) and not lacks_chunks(obs, counts) and not lacks_answers(obs, chunks)


def lacks_chunks(obs: Observation, counts: ChunkCounts) -> bool:
    """Whether more chunks are without a result than the failure policy allows."""
    return counts.failed + counts.cancelled > obs.job.spec.failure_policy.allowed(counts.total)


def lacks_answers(obs: Observation, chunks: Mapping[int, PdfChunkStatus]) -> bool:
    """Whether a language model gave no usable answer for more pages than the failure policy allows."""
    missing = sum(unanswered(chunks).values())
    source = obs.facts.plan.source if obs.facts.plan is not None else obs.job.status.source
    pages = (source.pages if source is not None else None) or 0
    return missing > obs.job.spec.failure_policy.allowed_items(pages)


def unanswered(chunks: Mapping[int, PdfChunkStatus]) -> dict[int, int]:
    """Return, by chunk, the pages for which a language model gave no usable answer; chunks without such are left out.

    Pages that ``repair: Repair`` gave up are not among them: the user has agreed to lose those.
    """
    return {
        index: status.result.unanswered_pages
        for index, status in sorted(chunks.items())
        if status.result is not None and status.result.unanswered_pages
    }
