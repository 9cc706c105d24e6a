"""The numbers in the status of a PdfJob, computed anew from its chunks. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from pdfjob_api.conditions import ChunkPhase
from pdfjob_api.contract import Tokens
from pdfjob_api.jobstatus import ChunkCounts, Items, Summary
from pdfjob_api.pdfchunk import ChunkResultStatus, PdfChunkStatus

from .chunk_end import saved_before
from .observation import Observation


def count(obs: Observation, statuses: Mapping[int, PdfChunkStatus]) -> ChunkCounts | None:
    """Count the chunks by phase, those that are not made yet as pending; None until the plan is known."""
    plan, stored = obs.facts.plan, obs.job.status.chunks
    if plan is not None:
        pages = plan.source.pages or 0
        size = plan.pages_per_chunk if pages > plan.threshold_pages else max(pages, 1)
        planned = -(-pages // size)
    elif stored is not None:  # planned by an earlier process; this one has not read the plan
        planned = stored.total
    else:
        return None
    total = max(planned, len(statuses))
    by_phase = dict.fromkeys(ChunkPhase, 0)
    for status in statuses.values():
        by_phase[status.phase] += 1
    return ChunkCounts(
        total=total,
        pending=by_phase[ChunkPhase.PENDING] + total - len(statuses),
        running=by_phase[ChunkPhase.RUNNING],
        retry_scheduled=by_phase[ChunkPhase.RETRY_SCHEDULED],
        succeeded=by_phase[ChunkPhase.SUCCEEDED],
        cached=count_cached(statuses.values()),
        failed=by_phase[ChunkPhase.FAILED],
        cancelled=by_phase[ChunkPhase.CANCELLED],
    )


def count_cached(statuses: Iterable[PdfChunkStatus]) -> int:
    """Count the chunks whose result was there already."""
    return sum(status.result is not None and status.result.cached for status in statuses)


def closed(counts: ChunkCounts) -> ChunkCounts:
    """Return the counts of a job that has ended early: what has not ended by itself will not run any more."""
    open_ones = counts.pending + counts.running + counts.retry_scheduled
    return counts.model_copy(
        update={"pending": 0, "running": 0, "retry_scheduled": 0, "cancelled": counts.cancelled + open_ones}
    )


def summary(counts: ChunkCounts | None) -> Summary | None:
    """Write the counts for columns."""
    if counts is None:
        return None
    percent = 100 * counts.succeeded // max(counts.total, 1)
    return Summary(progress=f"{percent}%", chunks=f"{counts.succeeded}/{counts.total}")


def items(obs: Observation, chunks: Mapping[int, PdfChunkStatus]) -> Items:
    """Count the pages, those that are saved in checkpoints too."""
    done = failed = 0
    for index, status in chunks.items():
        chunk = obs.chunks[index]
        if status.phase is ChunkPhase.SUCCEEDED and status.result is not None:
            done += chunk.spec.page_count - status.result.missing_pages
            failed += status.result.missing_pages
        elif status.starts and status.phase is not ChunkPhase.FAILED:  # in checkpoints, from which the chunk goes on
            beat = obs.facts.progress.get((chunk.metadata.uid, status.starts))
            told = beat.progress.done if beat and beat.progress else 0
            done += min(max(told, saved_before(status)), chunk.spec.page_count)
    source = obs.facts.plan.source if obs.facts.plan else obs.job.status.source
    return Items(total=(source.pages if source else None) or 0, done=done, failed=failed)


def sums(chunks: Mapping[int, PdfChunkStatus]) -> dict[str, int | Tokens | None]:
    """Sum what the results tell; fields of the PdfJob's status."""
    results = [chunk.result for chunk in chunks.values() if chunk.result is not None]
    return {
        "sentences": sum(result.sentences for result in results) if results else None,
        "tokens": sum_tokens(results),
    }


def sum_tokens(results: Iterable[ChunkResultStatus]) -> Tokens | None:
    """Sum the tokens of results; None when none were used."""
    used = [result.tokens for result in results]
    # Field by field: a model made for each of 10,000 chunks costs as much as all the rest.
    tokens = Tokens(**{name: sum(getattr(each, name) for each in used) for name in Tokens.model_fields})
    return tokens if tokens != Tokens() else None
