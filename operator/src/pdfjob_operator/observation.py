"""What a reconcile knows: the resources from the caches, and facts read from S3 or kept by background work."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from pdfjob_api.conditions import Reason
from pdfjob_api.contract import Progress
from pdfjob_api.creditaccount import CreditAccount
from pdfjob_api.jobstatus import ResultFile
from pdfjob_api.pdfchunk import ChunkResultStatus, PdfChunk
from pdfjob_api.pdfjob import PdfJob

from .plan import Manifest, Plan
from .views import JobView, PodView


@dataclass(frozen=True, slots=True)
class EndFacts:
    """What S3 says about a start that has ended."""

    result: ChunkResultStatus | None
    """The verified result; None when there is none or it is not right."""
    result_error: str | None
    """Why a result object that is there was refused."""
    items: int
    """Pages saved in the newest checkpoint, earlier starts included."""
    pods: frozenset[str] | None = None
    """UIDs of the pods that had ended when it was read; None = of all. A Job that a queueing system held back and
    admitted again has another, which may have stored more."""

    def tells_of(self, start: Start) -> bool:
        """Whether no pod of the start has come since this was read."""
        return self.pods is None or all(pod.meta.uid in self.pods for pod in start.pods)


@dataclass(frozen=True, slots=True)
class Start:
    """One start of a chunk: its Job and pods as the caches show them."""

    number: int
    job: JobView | None
    pods: tuple[PodView, ...]


@dataclass(frozen=True, slots=True)
class WorkError:
    """Why background work of a job ended."""

    reason: Reason
    message: str
    retry_at: datetime | None
    """When it is tried again; None = never."""
    merge: str | None = None
    """`merge_mark` of the merge that failed; the error does not hold for another."""


class WorkKind(StrEnum):
    """Background work of a job; at most one at a time."""

    SPLIT = "split"
    """Fetch, inspect, plan, split; or read plan and manifest back when that is done already."""
    MERGE = "merge"
    """Merge the results of the chunks."""
    RECORD = "record"
    """Store the record of the job that outlives it."""
    CLEAN = "clean"
    """Remove the job's objects from S3."""


@dataclass(frozen=True, slots=True)
class Merged:
    """The merged result as it is stored."""

    files: tuple[ResultFile, ...]
    missing: tuple[tuple[int, int, str], ...]
    """First page, last page, code."""
    inputs: str
    """`merge_inputs` of the chunks that it was made of; with others it is an earlier result."""


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """The progress object of a running start."""

    progress: Progress | None
    """None when there is none yet."""
    since: datetime
    """When the operator first read this very content, by its own clock."""
    read: datetime | None = None
    """When it last read it, and found the same; None = just now."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of a job beyond its resources. All of it can be found again after a crash."""

    looked: datetime | None = None
    """When this process first looked at the job; None = it always has."""
    working: WorkKind | None = None
    """The background work under way."""
    step: Reason | None = None
    """How far splitting has come."""
    errors: Mapping[WorkKind, WorkError] = field(default_factory=dict)
    """How background work ended that did not succeed."""
    plan: Plan | None = None
    manifest: Manifest | None = None
    stored: int = 0
    """Chunk PDFs that are on S3."""
    merged: Merged | None = None
    cleaned: bool = False
    """Whether the job's objects are gone from S3, or given up."""
    invalid: str | None = None
    """Why the API server refuses the child Jobs of this spec, or no runner can do what it says."""
    refused: str | None = None
    """Why the API server took no child Job the last time: a quota, an admission rule; tried again."""
    ends: Mapping[tuple[str, int], EndFacts] = field(default_factory=dict)
    """By UID of the PdfChunk and number of the start."""
    progress: Mapping[tuple[str, int], Heartbeat] = field(default_factory=dict)
    """The newest heartbeat, keyed alike."""
    adopted: Mapping[str, ChunkResultStatus | None] = field(default_factory=dict)
    """By UID of the PdfChunk: the result that an earlier life of the PdfJob left, or that the cache has; None when
    there is none."""
    recorded: str | None = None
    """Where the record of the finished or deleted job is; empty when it was given up."""
    answered: bool = False
    """Whether a language service has answered a runner of this job."""
    capped: bool = False
    """Whether chunks could start but for ``maxConcurrentChunks`` of the installation."""

    @property
    def fatal(self) -> str | None:
        """Why the job cannot go on, since its source, plan or spec is no good; None when it can."""
        error = self.errors.get(WorkKind.SPLIT)
        split = error.message if error is not None and error.retry_at is None else None
        return self.invalid or split


@dataclass(frozen=True, slots=True)
class Observation:
    """Everything `decide` looks at."""

    job: PdfJob
    chunks: Mapping[int, PdfChunk]
    """By index."""
    starts: Mapping[int, tuple[Start, ...]]
    """By index of the chunk, in order of their numbers."""
    facts: Facts
    caching: bool = False
    """Whether the installation keeps results of paid work for other jobs."""
    torn_away: datetime | None = None
    """When a pod was last deleted by force as its runner was at work; None = never."""
    account: CreditAccount | None = None
    """The credit account that the job names; None when there is none of that name."""
    delivered: int = 0
    """Tokens of all results that the job has ever had, by the last that was seen of each PdfChunk."""


def group_starts(
    jobs: Iterable[JobView], pods: Iterable[PodView], newest: Mapping[int, int]
) -> dict[int, tuple[Start, ...]]:
    """Put Jobs and pods together by the chunk and start that their labels name.

    Parameters
    ----------
    newest
        The highest start of each chunk that was ever seen. It is in the answer even when Job and pod have vanished
        before anything was recorded of it, so that its number is never used again and its end is written down.
    """
    found: dict[int, dict[int, tuple[JobView | None, list[PodView]]]] = {
        chunk: {start: (None, [])} for chunk, start in newest.items()
    }
    for job in jobs:
        found.setdefault(job.meta.chunk, {})[job.meta.start] = (job, [])
    for pod in pods:
        starts = found.setdefault(pod.meta.chunk, {})
        starts.setdefault(pod.meta.start, (None, []))[1].append(pod)
    return {
        chunk: tuple(Start(number, job, tuple(own)) for number, (job, own) in sorted(starts.items()))
        for chunk, starts in found.items()
    }
