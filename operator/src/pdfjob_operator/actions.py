"""What `decide` may ask for. Each action is safe to repeat, and safe to lose."""

from __future__ import annotations

from dataclasses import dataclass, field

from pdfjob_api.conditions import Reason
from pdfjob_api.contract import TerminationMessage
from pdfjob_api.jobstatus import PdfJobStatus
from pdfjob_api.pdfchunk import PdfChunk, PdfChunkStatus

from .bookings import Booking
from .observation import Start, WorkKind


@dataclass(frozen=True, slots=True)
class AddFinalizer:
    """Put the finalizer on the PdfJob, before anything is made for it."""


@dataclass(frozen=True, slots=True)
class RemoveFinalizer:
    """Let the PdfJob go."""


@dataclass(frozen=True, slots=True)
class StartWork:
    """Begin background work, unless some of the job is under way."""

    kind: WorkKind


@dataclass(frozen=True, slots=True)
class StopWork:
    """End the background work of the job."""


@dataclass(frozen=True, slots=True)
class DeleteChunks:
    """Delete all PdfChunks of the PdfJob at once: a new PdfJob of the same name must not meet them."""


@dataclass(frozen=True, slots=True)
class RestoreChunk:
    """Make a PdfChunk again that the manifest lists and the cluster lacks."""

    index: int


@dataclass(frozen=True, slots=True)
class ReadEnd:
    """Read result and checkpoint of a start that has ended."""

    chunk: PdfChunk
    start: int
    pods: frozenset[str] = field(default=frozenset(), compare=False)
    """UIDs of its pods, all of which have ended."""


@dataclass(frozen=True, slots=True)
class ReadAdopted:
    """Look for a result that an earlier life of the PdfJob left for a chunk, or that the cache has."""

    chunk: PdfChunk


@dataclass(frozen=True, slots=True)
class ReadProgress:
    """Read the heartbeat of a running start."""

    chunk: PdfChunk
    start: int
    every_seconds: float
    """How often it is read at most."""


@dataclass(frozen=True, slots=True)
class WriteChunk:
    """Replace the status of a PdfChunk."""

    chunk: PdfChunk
    status: PdfChunkStatus
    event: tuple[str, Reason, str] | None = None
    """Type, reason and message of the Event that tells it, if any."""
    ended: Start | None = None
    """The start whose end without a result is written: a record of it goes to S3 first."""
    said: TerminationMessage | None = None
    """The last word of the runner whose end is written."""
    keep: bool = False
    """Whether the result that is written is kept for other jobs: it goes into the cache first."""


@dataclass(frozen=True, slots=True)
class CreateJob:
    """Make the child Job for one start of a chunk."""

    chunk: PdfChunk
    start: int
    priority: int


@dataclass(frozen=True, slots=True)
class DeleteJob:
    """Delete a child Job, and its pod in the background."""

    name: str
    uid: str


@dataclass(frozen=True, slots=True)
class DeletePod:
    """Delete a runner pod, before its Job where there is one."""

    name: str
    uid: str
    grace_seconds: int | None = None
    """None = the pod's own."""


@dataclass(frozen=True, slots=True)
class Book:
    """Book in the credit account of the PdfJob."""

    booking: Booking


@dataclass(frozen=True, slots=True)
class DeleteSelf:
    """Delete the PdfJob, whose time after its end is over."""


Action = (
    AddFinalizer
    | RemoveFinalizer
    | StartWork
    | StopWork
    | DeleteChunks
    | RestoreChunk
    | ReadEnd
    | ReadAdopted
    | ReadProgress
    | WriteChunk
    | CreateJob
    | DeleteJob
    | DeletePod
    | Book
    | DeleteSelf
)


@dataclass(frozen=True, slots=True)
class Decision:
    """What one reconcile does."""

    actions: tuple[Action, ...]
    """In the order they are carried out; those that make Jobs come last and may be cut short by the dispatcher."""
    status: PdfJobStatus | None
    """The status the PdfJob should have; None = leave it."""
    requeue_seconds: float | None
    """When to look again without an event; None = only events matter."""
    in_flight: int
    """Chunks whose Job exists and has not ended: the dispatcher counts them."""
