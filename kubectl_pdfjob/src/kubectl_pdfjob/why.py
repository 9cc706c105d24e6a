"""Why a chunk is where it is: its error, what it waits for, and which one starts next."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from pdfjob_api.conditions import ChunkCondition, ChunkPhase, JobCondition
from pdfjob_api.pdfchunk import PdfChunk
from pdfjob_api.pdfjob import PdfJob

from .formats import duration, parse_time
from .views import condition, is_finished, unpaid
from .workers import Worker, WorkerState

__all__ = ["STARTABLE", "Queue", "error_text"]

STARTABLE: Final = (ChunkPhase.PENDING, ChunkPhase.RETRY_SCHEDULED)
"""Phases of chunks that the operator starts when there is room."""


def error_text(chunk: PdfChunk, now: datetime) -> str:
    """Return why a chunk failed and when it starts again; empty when neither applies."""
    status = chunk.status
    if status.phase is ChunkPhase.SUCCEEDED or status.last_error is None:
        return ""
    text = f"{status.last_error.code}: {status.last_error.message}"
    due = parse_time(status.next_retry_time)
    if status.phase is ChunkPhase.RETRY_SCHEDULED and due:
        text += f" (again in {duration((due - now).total_seconds())})" if due > now else " (due)"
    return text


@dataclass(frozen=True, slots=True)
class Queue:
    """What is known of a job that tells what its chunks wait for."""

    job: PdfJob
    workers: Sequence[Worker]
    """Its pods that have not ended."""

    def why(self, chunk: PdfChunk, now: datetime) -> str:
        """Return why a chunk is in its phase: its error, or what it waits for; empty when it runs or is done."""
        phase = chunk.status.phase
        if phase is ChunkPhase.PENDING:
            return "; ".join(filter(None, (self._waits_for(chunk), _saved(chunk))))
        if phase is ChunkPhase.CANCELLED:
            return _saved(chunk)
        if phase is ChunkPhase.RUNNING:
            ending = chunk.status.ending
            return f"is being ended: {ending.reason}" if ending else ""
        text = error_text(chunk, now)
        if phase is ChunkPhase.RETRY_SCHEDULED and (held := self._held()):
            return f"{text}; {held}" if text else held
        return text

    def next(self, chunks: Iterable[PdfChunk], now: datetime) -> PdfChunk | None:
        """Return the chunk that starts next, as the operator chooses.

        Of those that are due, the highest priority, then the lowest number; when none is, the first to become due.
        """

        def rank(chunk: PdfChunk) -> tuple[float, int, int]:
            due = parse_time(chunk.status.next_retry_time)
            wait = max((due - now).total_seconds(), 0.0) if due else 0.0
            return wait, -self.priority(chunk), chunk.spec.index

        return min((chunk for chunk in chunks if self._is_idle(chunk)), key=rank, default=None)

    def priority(self, chunk: PdfChunk) -> int:
        """Return the priority of a chunk: its own, or else that of the job."""
        return self.job.spec.priority if chunk.spec.priority is None else chunk.spec.priority

    def _is_idle(self, chunk: PdfChunk) -> bool:
        """Whether a chunk is to start and no Job has been made for it."""
        return chunk.status.phase in STARTABLE and not _waiting(chunk) and self._worker(chunk) is None

    def _worker(self, chunk: PdfChunk) -> Worker | None:
        return next((worker for worker in self.workers if worker.chunk == chunk.spec.index), None)

    def _waits_for(self, chunk: PdfChunk) -> str:
        if waiting := _waiting(chunk):
            return waiting
        worker = self._worker(chunk)
        if worker:
            return f"its pod is {worker.state}" + (f": {worker.detail}" if worker.detail else "")
        if is_finished(self.job):
            return "the job has ended"
        return self._held() or self._room()

    def _held(self) -> str:
        """Return why nothing of the job starts; empty when things do."""
        spec = self.job.spec
        if spec.shutdown:
            return f"the job is being ended (shutdown: {spec.shutdown})"
        if spec.suspend:
            return "the job is suspended"
        if held := unpaid(self.job):
            return f"its credit account does not pay yet: {held.reason}"
        degraded = condition(self.job, JobCondition.DEGRADED)
        return f"dispatch is held: {degraded.reason}" if degraded and degraded.status == "True" else ""

    def _room(self) -> str:
        counts = self.job.status.chunks
        running = counts.running if counts else 0
        starting = sum(worker.chunk is not None and worker.state is not WorkerState.ENDING for worker in self.workers)
        in_flight = max(running, starting)
        most = self.job.status.effective_parallelism or self.job.spec.parallelism
        if in_flight >= most:
            return f"waits for room ({in_flight} of {most} in flight)"
        return "waits for its turn"


def _saved(chunk: PdfChunk) -> str:
    """Return how far an earlier start of a chunk came: the next one goes on from there."""
    items = chunk.status.history[-1].items if chunk.status.history else 0
    return f"{items} of {chunk.spec.page_count} pages are saved" if items else ""


def _waiting(chunk: PdfChunk) -> str:
    """Return what the Job of a chunk waits for; empty when there is none that waits."""
    found = next((item for item in chunk.status.conditions if item.type == ChunkCondition.WAITING), None)
    if found is None or found.status != "True":
        return ""
    return f"{found.reason}: {found.message}" if found.message else found.reason
