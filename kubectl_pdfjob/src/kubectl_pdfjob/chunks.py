"""``kubectl pdfjob chunks``: the chunks of a job, or the one that starts next."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime

from pdfjob_api.conditions import ChunkPhase
from pdfjob_api.pdfchunk import PdfChunk
from pdfjob_api.pdfjob import PdfJob

from .cluster import Cluster
from .errors import ClusterError, UsageError
from .screen import Screen
from .views import chunk_table
from .why import STARTABLE, Queue
from .workers import live_workers

__all__ = ["of_job", "show_chunks", "show_next_chunk"]


def show_chunks(cluster: Cluster, name: str, phase: str | None, screen: Screen) -> None:
    """Print the chunks of a job, those in one phase only when asked for."""
    chosen = _phase(phase) if phase else None
    job = cluster.job(name)
    chunks = of_job(cluster.chunks(name, chosen), job)
    if not chunks:
        screen.note(f'pdfjob "{name}" has no chunks' + (f" in phase {chosen}" if chosen else " yet") + ".")
        return
    screen.show(chunk_table(chunks, _queue(cluster, job).why, datetime.now(UTC)))


def show_next_chunk(cluster: Cluster, name: str, screen: Screen) -> None:
    """Print the chunk that starts next, be it for the first time or again."""
    job = cluster.job(name)
    queue = _queue(cluster, job)
    now = datetime.now(UTC)
    waiting = [chunk for phase in STARTABLE for chunk in of_job(cluster.chunks(name, phase), job)]
    chunk = queue.next(waiting, now)
    if chunk is None:
        screen.note(f'pdfjob "{name}" has no chunk that waits to be started.')
        return
    screen.show(chunk_table([chunk], queue.why, now))


def of_job(chunks: Iterable[PdfChunk], job: PdfJob) -> list[PdfChunk]:
    """Leave out chunks of an earlier job of the same name that is still being deleted."""
    return [
        chunk for chunk in chunks if any(owner.uid == job.metadata.uid for owner in chunk.metadata.owner_references)
    ]


def _queue(cluster: Cluster, job: PdfJob) -> Queue:
    try:
        pods = cluster.pods(job.metadata.name)
    except ClusterError:
        # Who may read PdfChunks but no pods still sees them; only what a pod waits for is not told.
        pods = []
    return Queue(job, live_workers(pods, job.metadata.uid))


def _phase(text: str) -> str:
    found = next((phase for phase in ChunkPhase if phase.value.lower() == text.lower()), None)
    if found is None:
        raise UsageError(f'no chunk is ever in phase "{text}"; phases are {", ".join(ChunkPhase)}')
    return found.value
