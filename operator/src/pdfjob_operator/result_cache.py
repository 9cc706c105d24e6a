"""Which results of chunks are kept for other jobs of the namespace, and under which name. Pure.

Only language work is kept: it is paid for. The local pipeline costs nothing, and what a custom image answers nobody
knows to be the same.
"""

from __future__ import annotations

import hashlib
import json

from pdfjob_api.conditions import ChunkPhase
from pdfjob_api.contract import CONTRACT_VERSION
from pdfjob_api.pdfchunk import PdfChunk, PdfChunkStatus
from pdfjob_api.pdfjob import CacheUse, PdfJob

from .plan import Plan, own_lost_pages


def uses_cache(job: PdfJob) -> bool:
    """Whether a job takes results from the cache and keeps its own there."""
    return job.spec.processor.gemini is not None and job.spec.cache is CacheUse.USE


def is_worth_keeping(job: PdfJob, status: PdfChunkStatus) -> bool:
    """Whether the result that a chunk has just got is kept: one that lacks pages might be whole another time."""
    result = status.result
    whole = status.phase is ChunkPhase.SUCCEEDED and result is not None and result.unanswered_pages == 0
    return whole and uses_cache(job)


def result_name(job: PdfJob, chunk: PdfChunk, plan: Plan) -> str:
    """Return the name of a chunk's result in the cache: a hash of all that the answer depends on.

    The API key is none of it: with another key the same model says the same. Time limits, retries and the size of the
    pod are none of it either.
    """
    spec, gemini, runner = chunk.spec, job.spec.processor.gemini, job.spec.runner
    settings = gemini.wire() if gemini is not None else {}
    inputs = {
        "contract": CONTRACT_VERSION,
        "source": plan.source.sha256,
        "pages": [spec.start_page, spec.end_page],
        "context": [spec.context_before, spec.context_after],
        "repair": job.spec.source.repair.value,
        "lostPages": own_lost_pages(chunk, plan.empty_pages),
        "gemini": {name: value for name, value in settings.items() if name != "apiKeySecretRef"},
        "image": runner.image if runner is not None else None,
    }
    return hashlib.sha256(json.dumps(inputs, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
