"""The two commit points of splitting: plan.json before the first chunk object, manifest.json after the last."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from typing import Literal

from pydantic import Field

from pdfjob_api.base import Model
from pdfjob_api.pdfjob import PdfJobSpec, SourceStatus

from .planning import ChunkRange, plan_ranges


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
