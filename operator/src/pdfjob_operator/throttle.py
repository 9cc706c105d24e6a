"""How many chunks a job may have in flight, by how its starts ended. Pure: computed anew from the chunks' histories.

Two things hold a job down. A rate limit halves its parallelism, and each success gives a little back (additive
increase, multiplicative decrease). And when the last starts all failed with the same cause outside the document, no
more are burnt: one probe at a time, with growing pauses, until one succeeds or the user asks for a retry.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from pdfjob_api.errors import ChunkCode
from pdfjob_api.pdfchunk import Outcome, PdfChunkStatus, StartRecord
from pdfjob_api.pdfjob import PdfJob

from .backoff import retry_delay
from .clock import from_wire

COMMON: Final = frozenset(
    code.value
    for code in (
        ChunkCode.AUTH_ERROR,
        ChunkCode.IMAGE_ERROR,
        ChunkCode.RATE_LIMIT,
        ChunkCode.API_ERROR,
        ChunkCode.STORAGE_ERROR,
    )
)
"""Causes that lie outside the document and so strike every chunk: key, image, quota, network."""
_LEAST: Final = 3
"""Failures in a row before a cause counts as common."""
_TOLD: Final = frozenset({Outcome.SUCCEEDED, Outcome.FAILED})
"""Outcomes that say something about the cause; a start that was lost or ended by the operator does not."""


@dataclass(frozen=True, slots=True)
class Throttle:
    """What a job's past failures allow it."""

    parallelism: int
    """Chunks in flight at most."""
    held: ChunkCode | None = None
    """The common cause for which dispatch is held."""
    probe_at: datetime | None = None
    """When the next probe may start, while held."""


def throttle_of(job: PdfJob, chunks: Mapping[int, PdfChunkStatus], *, answered: bool = True) -> Throttle:
    """Say how many chunks may be in flight, and whether dispatch is held.

    Parameters
    ----------
    answered
        Whether the job's language service has ever answered: a key that it refuses before that is no good, and one
        refusal is enough to know.
    """
    spec = job.spec.parallelism
    if not any(_failed_commonly(status) for status in chunks.values()):
        return Throttle(spec)
    since = _retried_at(job, chunks)
    records = [
        record
        for status in chunks.values()
        for record in status.history
        if record.finished_at is not None and record.finished_at > since and record.outcome in _TOLD
    ]
    refused = not answered and any(record.code == ChunkCode.AUTH_ERROR for record in records)
    held, failures, last = _common_cause(records, 1 if refused else max(_LEAST, min(spec, len(chunks))))
    if held is None or last is None:
        return Throttle(_adapted(records, spec))
    delay = retry_delay(job.spec.retry_policy.backoff, failures, f"{job.metadata.uid}/{last}")
    probe_at = from_wire(last) + timedelta(seconds=delay)
    return Throttle(1, held, max(probe_at, min(_named_times(chunks, held), default=probe_at)))


def _named_times(chunks: Mapping[int, PdfChunkStatus], held: ChunkCode) -> Iterator[datetime]:
    """Yield when chunks that met the rate limit are due: the service may have named the time, and it holds for all."""
    if held is not ChunkCode.RATE_LIMIT:
        return
    for status in chunks.values():
        if status.next_retry_time is not None and status.history and status.history[-1].code == held:
            yield from_wire(status.next_retry_time)


def _failed_commonly(status: PdfChunkStatus) -> bool:
    return any(record.outcome is Outcome.FAILED and record.code in COMMON for record in status.history)


def _retried_at(job: PdfJob, chunks: Mapping[int, PdfChunkStatus]) -> str:
    """Return when the user last asked for a retry: what failed before that is forgiven, whatever it took.

    Times in statuses are the operator's own, all of one form (`to_wire`): they are compared as they are written.
    """
    answers = [status.last_retry.time for status in chunks.values() if status.last_retry and status.last_retry.accepted]
    if job.status.last_retry is not None:
        answers.append(job.status.last_retry.time)
    return max(answers, default="")


def _common_cause(records: Sequence[StartRecord], enough: int) -> tuple[ChunkCode | None, int, str | None]:
    """Return the cause that the last ``enough`` ends share, how many probes failed since, and the time of the last."""
    newest = max(records, key=_moment, default=None)
    if newest is None or newest.code not in COMMON:  # by far the most frequent case
        return None, 0, None
    ordered = heapq.nlargest(enough + 16, records, key=_moment)
    if not ordered or ordered[0].outcome is Outcome.SUCCEEDED or ordered[0].code not in COMMON:
        return None, 0, None
    cause = ordered[0].code
    row = next((at for at, record in enumerate(ordered) if record.code != cause), len(ordered))
    if row < enough:
        return None, 0, None
    return ChunkCode(cause), row - enough + 1, ordered[0].finished_at


def _moment(record: StartRecord) -> tuple[str, bool]:
    """Return when a start ended; in the same second a success counts as the later: it proves that the cause is gone."""
    return record.finished_at or "", record.outcome is Outcome.SUCCEEDED


def _adapted(records: Sequence[StartRecord], most: int) -> int:
    """Replay the ends: a rate limit halves the parallelism, once for all starts that were under way then."""
    allowed, cut_at = float(most), ""
    first = min((_moment(record) for record in records if record.code == ChunkCode.RATE_LIMIT), default=None)
    if first is None:
        return most
    for record in sorted((record for record in records if _moment(record) >= first), key=_moment):
        if record.code == ChunkCode.RATE_LIMIT:
            if (record.started_at or record.finished_at or "") > cut_at:
                allowed, cut_at = max(allowed / 2, 1.0), record.finished_at or ""
        elif record.outcome is Outcome.SUCCEEDED:
            allowed = min(allowed + 1 / allowed, float(most))
    return max(int(allowed), 1)
