"""The two commit points of splitting: plan.json before the first chunk object, manifest.json after the last.

Also what is the same in two lives of one name: a PdfJob that was deleted with ``deletionPolicy: Retain`` and created
again goes on from what is stored when document, ranges and settings are those of the stored plan.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from typing import Final, Literal

from pydantic import Field

from pdfjob_api.base import Model
from pdfjob_api.conditions import ChunkPhase
from pdfjob_api.errors import ChunkCode
from pdfjob_api.jobstatus import LastRetry, SourceStatus
from pdfjob_api.pdfchunk import PdfChunk, PdfChunkStatus
from pdfjob_api.pdfjob import PdfJobSpec

from .planning import ChunkRange, plan_ranges

_MOST_ADOPTED: Final = 10
"""Earlier lives whose results and checkpoints are looked for."""


class Plan(Model):
    """Which pages make which chunk, of which document, under which settings. Fixed once it is stored."""

    version: Literal[1] = 1
    run: str
    """First 8 characters of the UID of the PdfJob that made it."""
    source: SourceStatus
    settings_sha256: str
    """Of everything in the spec that the results depend on."""
    pages_per_chunk: int
    threshold_pages: int
    overlap_pages: int
    damage: list[str] = Field(default_factory=list)
    """What was found wrong with the document, under ``repair: Repair``."""
    empty_pages: list[int] = Field(default_factory=list)
    """Pages without content, or with content that cannot be read whole, under ``repair: Repair`` when the document is
    damaged: a runner that finds no text on one reports it as missing."""
    characters: int | None = None
    """Of the text of the document, counted for the estimate of tokens; None = not counted."""
    adopted: list[str] = Field(default_factory=list)
    """Runs of earlier lives whose results and checkpoints are this one's too, newest first."""

    def adopted_by(self, run: str, spec: PdfJobSpec, source: SourceStatus) -> Plan | None:
        """Return the plan of a later life that goes on from this one's objects; None when it has to start clean.

        Parameters
        ----------
        run
            The later life.
        source
            The document that it has fetched; the pages follow from its bytes.
        """
        chunking = spec.chunking
        here = (self.source.sha256, self.pages_per_chunk, self.threshold_pages, self.overlap_pages)
        there = (source.sha256, chunking.pages_per_chunk, chunking.threshold_pages, chunking.overlap_pages)
        if here != there or self.settings_sha256 != settings_hash(spec):
            return None
        runs = [self.run, *(each for each in self.adopted if each != self.run)]
        known = source.model_copy(update={"pages": self.source.pages})
        return self.model_copy(update={"run": run, "source": known, "adopted": runs[:_MOST_ADOPTED]})

    def ranges(self, spec: PdfJobSpec) -> tuple[ChunkRange, ...]:
        """Return the page ranges of the chunks; they follow from the number of pages and the immutable chunking."""
        return plan_ranges(self.source.pages or 0, spec.chunking)


class StoredChunk(Model):
    """A chunk PDF on S3."""

    index: int
    size_bytes: int
    sha256: str


class Manifest(Model):
    """Every chunk PDF with its hash, by index. From it a lost PdfChunk can be made again."""

    version: Literal[1] = 1
    run: str
    chunks: list[StoredChunk]


def own_lost_pages(chunk: PdfChunk, pages: Sequence[int]) -> list[int]:
    """Return those of the document's lost pages (`Plan.empty_pages`) that a chunk owns."""
    return [page for page in pages if chunk.spec.start_page <= page <= chunk.spec.end_page]


def settings_hash(spec: PdfJobSpec) -> str:
    """Hash the settings that the results depend on: chunking, processor, repair."""
    settings = {
        "chunking": spec.chunking.wire(),
        "processor": spec.processor.wire(),
        "repair": spec.source.repair.value,
    }
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()


def inputs_hash(results: Iterable[str]) -> str:
    """Hash what a merged result was made of: the SHA-256 of each chunk result, in order of the chunks."""
    return hashlib.sha256("\n".join(results).encode()).hexdigest()


def merge_inputs(chunks: Iterable[PdfChunkStatus]) -> str:
    """Hash what a merge of these chunks, in order, is made of: results, and the codes of those that have none."""
    return inputs_hash(merge_input(status) or "" for status in chunks)


def merge_mark(chunks: Iterable[PdfChunkStatus], last_retry: LastRetry | None) -> str:
    """Name one merge: of these chunks, in order, after this request of the user. Its error tells nothing of another.

    A chunk that was done again may have the same result as before, now stored anew.
    """
    inputs = inputs_hash(f"{status.starts} {merge_input(status)}" for status in chunks)
    return f"{inputs}/{last_retry.number if last_retry is not None else 0}"


def merge_input(status: PdfChunkStatus) -> str | None:
    """Return what a chunk is to the merge: the SHA-256 of its result, ``missing:CODE``, None when it has not ended."""
    if status.phase is ChunkPhase.SUCCEEDED and status.result is not None:
        return status.result.sha256
    return f"missing:{missing_code(status)}" if status.phase in {ChunkPhase.FAILED, ChunkPhase.CANCELLED} else None


def missing_code(status: PdfChunkStatus) -> str:
    """Return the code under which the pages of a chunk without a result are missing."""
    if status.last_error is not None:
        return status.last_error.code
    return "CANCELLED" if status.phase is ChunkPhase.CANCELLED else ChunkCode.PROCESSING_ERROR.value
