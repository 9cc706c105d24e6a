"""What the operator remembers of each PdfJob between reconciles. All of it can be found again after a crash."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, Final

from pdfjob_api.contract import Progress, TerminationMessage
from pdfjob_api.pdfchunk import ChunkResultStatus

from .observation import EndFacts, Facts, Heartbeat, WorkError, WorkKind

_AFTER_END: Final = frozenset({WorkKind.RECORD, WorkKind.CLEAN})


@dataclass(slots=True)
class JobMemory:
    """Facts of one PdfJob, and the background work under way for it.

    What is known of each start, one of thousands, is changed in place and not copied: a decision is made in one piece.
    """

    facts: Facts = field(default_factory=Facts)
    task: asyncio.Task[None] | None = None
    failures: dict[WorkKind, int] = field(default_factory=dict)
    """How often in a row work of a kind has failed: its backoff grows with it."""
    merging: str | None = None
    """`merge_mark` of the merge under way, or of the last one; None while it has not looked at the chunks."""
    status_written: float = float("-inf")
    """Event loop time of the last write of the PdfJob's status."""
    reconcile_seconds: float = 0.0
    """What the last decision cost; events of a job of very many chunks are taken together for longer."""
    pace_seconds: float = 0.0
    """Pause between two calls of the language service that the runner which ended last had come to."""
    progress_read: dict[tuple[str, int], float] = field(default_factory=dict)
    """Event loop time of the last read of each heartbeat."""
    _ends: dict[tuple[str, int], EndFacts] = field(init=False)
    _progress: dict[tuple[str, int], Heartbeat] = field(init=False)
    _adopted: dict[str, ChunkResultStatus | None] = field(init=False)

    def __post_init__(self) -> None:
        self._own(self.facts)

    def _own(self, facts: Facts) -> None:
        """Take facts with mappings of its own, which nobody else changes."""
        self._ends, self._progress, self._adopted = dict(facts.ends), dict(facts.progress), dict(facts.adopted)
        self.facts = replace(facts, ends=self._ends, progress=self._progress, adopted=self._adopted)

    def learn(self, **facts: Any) -> None:
        """Replace facts by name."""
        self.facts = replace(self.facts, **facts)

    def look(self, now: datetime) -> None:
        """Remember when this process first looked at the job."""
        if self.facts.looked is None:
            self.learn(looked=now)

    def learn_end(self, chunk_uid: str, start: int, end: EndFacts) -> None:
        """Remember what S3 says about a start that has ended."""
        self._ends[chunk_uid, start] = end

    def learn_progress(self, chunk_uid: str, start: int, progress: Progress | None, now: datetime) -> None:
        """Remember a heartbeat; its age counts from when this very content was first read."""
        key = (chunk_uid, start)
        known = self._progress.get(key)
        since = now if known is None or known.progress != progress else known.since
        self._progress[key] = Heartbeat(progress, since, now)
        if progress is not None and progress.answered:
            self.learn(answered=True)

    def forgive_silence(self, chunk_uid: str, start: int, now: datetime) -> None:
        """Count the age of a heartbeat anew: the storage did not answer, so its silence says nothing."""
        key = (chunk_uid, start)
        known = self._progress.get(key)
        if known is not None:
            self._progress[key] = Heartbeat(known.progress, now, now)

    def learn_said(self, said: TerminationMessage) -> None:
        """Remember what the runners that come after one should know of the language service."""
        if said.requests:
            self.pace_seconds = said.pace_seconds
        if said.requests.get("200"):
            self.learn(answered=True)

    def learn_adopted(self, chunk_uid: str, result: ChunkResultStatus | None) -> None:
        """Remember what an earlier life of the PdfJob left for a chunk, or what the cache has."""
        self._adopted[chunk_uid] = result

    def forget_run(self) -> None:
        """Drop what only a job under way needs: a finished one costs no memory, a retry reads it anew."""
        kept = {kind: error for kind, error in self.facts.errors.items() if kind in _AFTER_END}
        facts = self.facts
        left = Facts(
            looked=facts.looked, working=facts.working, errors=kept, recorded=facts.recorded, cleaned=facts.cleaned
        )
        self._own(left)

    def forget_ended(self, chunk_uid: str, start: int) -> None:
        """Drop what is known of a start once its end is recorded in the PdfChunk."""
        key = (chunk_uid, start)
        self._ends.pop(key, None)
        self._progress.pop(key, None)
        self.progress_read.pop(key, None)

    def work_failed(self, kind: WorkKind, error: WorkError) -> None:
        """Remember how background work ended, and of a merge which one it was."""
        self.failures[kind] = self.failures.get(kind, 0) + 1
        merge = self.merging if kind is WorkKind.MERGE else None
        self.learn(errors={**self.facts.errors, kind: replace(error, merge=merge)})

    def work_succeeded(self, kind: WorkKind) -> None:
        """Forget earlier failures of this kind of work."""
        self.failures.pop(kind, None)
        self.learn(errors={other: error for other, error in self.facts.errors.items() if other is not kind})

    def retry_at(self, kind: WorkKind, now: datetime, first: float, most: float) -> datetime:
        """Return when failed work is tried again: ``first`` seconds, doubled with each failure, at most ``most``."""
        return now + timedelta(seconds=min(first * 2 ** min(self.failures.get(kind, 0), 16), most))
