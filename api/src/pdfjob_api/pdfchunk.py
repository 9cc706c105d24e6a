"""The PdfChunk resource: one range of pages of a PdfJob, made and kept by the operator."""

from __future__ import annotations

from enum import StrEnum
from typing import Final, Literal

from pydantic import ConfigDict, Field

from .base import PRIORITY_RULE, Model, rules
from .conditions import ChunkPhase
from .contract import Tokens
from .meta import Condition, LastError, ObjectMeta, Time


class Outcome(StrEnum):
    """How a start ended."""

    SUCCEEDED = "Succeeded"
    FAILED = "Failed"
    LOST = "Lost"
    """The infrastructure took it; not counted."""
    ENDED = "Ended"
    """The operator ended it, to pause, stop or cancel; not counted."""


class EndReason(StrEnum):
    """Why the operator ended a start."""

    SUSPENDED = "Suspended"
    STOPPED = "Stopped"
    CANCELLED = "Cancelled"
    TIMED_OUT = "TimedOut"
    """The time limit of the whole job was exceeded."""
    JOB_FAILED = "JobFailed"
    """The job fails for another reason: its source is damaged, say."""
    STUCK = "Stuck"
    """No heartbeat within ``limits.stuckTimeoutSeconds``."""
    PENDING = "Pending"
    """Its container could not start within ``limits.pendingTimeoutSeconds``."""
    REQUEUED = "Requeued"
    """A queueing system suspended its Job after the pod had run; resumed, the Job would make a second pod."""


_PLAN: Final = (
    "index",
    "startPage",
    "endPage",
    "pageCount",
    "contextBefore",
    "contextAfter",
    "hasOverlap",
    "storageURI",
    "sizeBytes",
    "sha256",
)
"""Fields of the spec that the operator sets once."""


class ChunkRetryRequest(Model):
    """Asks for another start of this chunk; acted on once for each id."""

    id: str = Field(min_length=1, max_length=128, description="Any text; a request is new when its id is.")
    force: bool = Field(
        default=False,
        description="Also beyond the retry limit, after a final error, and when the chunk has succeeded.",
    )


class PdfChunkSpec(Model):
    """The range of pages; fixed but for the overrides."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            (
                " && ".join(f"self.{field} == oldSelf.{field}" for field in _PLAN),
                "the plan of a chunk is immutable; only priority, maxRetries and retryRequest may be edited",
            ),
            ("self.endPage >= self.startPage", "endPage must not be before startPage"),
        )
    )

    index: int = Field(ge=0, description="Number of the chunk, from 0.")
    start_page: int = Field(ge=1, description="First page, from 1.")
    end_page: int = Field(ge=1, description="Last page, inclusive.")
    page_count: int = Field(ge=1, description="Pages the chunk owns.")
    context_before: int = Field(default=0, ge=0, le=5, description="Context pages in the PDF before the first page.")
    context_after: int = Field(default=0, ge=0, le=5, description="Context pages in the PDF after the last page.")
    has_overlap: bool = Field(description="Whether the PDF starts with pages of the chunk before.")
    storage_uri: str = Field(alias="storageURI", max_length=512, description="Where the chunk PDF is, s3://bucket/key.")
    size_bytes: int = Field(ge=1, description="Bytes of the chunk PDF.")
    sha256: str = Field(max_length=64, description="SHA-256 of the chunk PDF, lower-case hex.")
    priority: int | None = Field(
        default=None,
        description="Overrides the job's priority, 0 to 10; absent = the job's.",
        json_schema_extra=PRIORITY_RULE,
    )
    max_retries: int | None = Field(
        default=None, ge=0, le=20, description="Overrides the job's maxRetries; absent = the job's."
    )
    retry_request: ChunkRetryRequest | None = Field(default=None, description="Asks for another start of the chunk.")


class ChunkResultStatus(Model):
    """The verified result of a chunk."""

    uri: str = Field(max_length=1200, description="Where it is, s3://bucket/key.")
    sha256: str = Field(max_length=64, description="SHA-256.")
    bytes: int = Field(ge=0, description="Size.")
    sentences: int = Field(ge=0, description="Sentences that start on a page of the chunk.")
    missing_pages: int = Field(default=0, ge=0, description="Pages that the result lacks.")
    unanswered_pages: int = Field(
        default=0, ge=0, description="Those of them for which a language model gave no usable answer."
    )
    tokens: Tokens = Field(default=Tokens(), description="Tokens used; none when the result was there already.")
    cached: bool = Field(
        default=False,
        description="Whether the result of language work was there already, in the cache or from an earlier life of "
        "the PdfJob: nothing was paid for it.",
    )


class StartRecord(Model):
    """How one start ended."""

    start: int = Field(ge=0, description="Number of the start.")
    attempt: int = Field(ge=0, description="Number of the attempt it was.")
    counted: bool = Field(description="Whether it counted against maxRetries.")
    final: bool = Field(default=False, description="Whether no further start can heal it.")
    node: str | None = Field(default=None, max_length=253, description="Node its pod ran on.")
    started_at: Time | None = Field(default=None, description="When its container started.")
    finished_at: Time | None = Field(default=None, description="When its end was recorded.")
    outcome: Outcome = Field(description="Succeeded, Failed, Lost or Ended.")
    code: str | None = Field(default=None, max_length=50, description="Error code.")
    items: int = Field(default=0, ge=0, description="Pages saved by then, earlier starts included.")


class Ending(Model):
    """A start that the operator is ending; written before its Job is deleted."""

    start: int = Field(ge=1, description="Number of the start.")
    reason: EndReason = Field(description="Why it is ended.")
    code: str | None = Field(default=None, max_length=50, description="Error code, where it cannot be started.")
    message: str = Field(default="", max_length=1024, description="What is known of the cause.")


class ChunkRetry(Model):
    """The answer to a retry request."""

    id: str = Field(max_length=128, description="Id of the request.")
    accepted: bool = Field(description="Whether the chunk starts again.")
    message: str = Field(default="", max_length=256, description="Why it was refused.")
    time: Time = Field(description="When it was answered.")


class PdfChunkStatus(Model):
    """Where the chunk stands."""

    observed_generation: int | None = Field(
        default=None, ge=0, description="Generation of the spec this status speaks of."
    )
    phase: ChunkPhase = Field(default=ChunkPhase.PENDING, description="State of the chunk.")
    attempts: int = Field(default=0, ge=0, description="Counted failures, plus one while Running or Succeeded.")
    starts: int = Field(default=0, ge=0, description="Jobs made for the chunk.")
    uncounted: int = Field(
        default=0,
        ge=0,
        description="Starts in a row that were lost to the infrastructure without a new page saved.",
    )
    job_name: str | None = Field(default=None, max_length=63, description="The current or last Job.")
    started_at: Time | None = Field(default=None, description="When the current or last container started.")
    updated_at: Time | None = Field(default=None, description="When the status last changed.")
    processed_at: Time | None = Field(default=None, description="When the chunk succeeded.")
    next_retry_time: Time | None = Field(default=None, description="When the chunk starts again.")
    last_error: LastError | None = Field(default=None, description="Why the last start failed.")
    ending: Ending | None = Field(default=None, description="The start that is being ended.")
    last_retry: ChunkRetry | None = Field(default=None, description="Answer to the last retryRequest of this chunk.")
    last_job_retry_id: str | None = Field(
        default=None, max_length=128, description="Id of the PdfJob's last retryRequest that took this chunk."
    )
    last_job_retry_number: int = Field(
        default=0, ge=0, description="Number of that request; with it an id may be used again."
    )
    fresh_after: int = Field(
        default=0,
        ge=0,
        description="Checkpoints of starts up to this number are not used: the chunk had succeeded and is processed "
        "again.",
    )
    result: ChunkResultStatus | None = Field(default=None, description="The verified result.")
    tokens_before: int = Field(
        default=0,
        ge=0,
        description="Tokens (input, output, thinking) of results that the chunk had and that were made anew.",
    )
    history: list[StartRecord] = Field(
        default_factory=list, max_length=10, description="How the last 10 starts ended, oldest first."
    )
    conditions: list[Condition] = Field(
        default_factory=list,
        max_length=4,
        description="Waiting: what a chunk whose Job exists waits for.",
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]},
    )


class PdfChunk(Model):
    """One range of pages of a PdfJob."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            (
                (
                    "self.metadata.name.matches('-c[0-9]{5,6}$') && int(self.metadata.name.substring("
                    "self.metadata.name.lastIndexOf('-c') + 2)) == self.spec.index"
                ),
                (
                    "metadata.name must be the PdfJob's name, -c and spec.index in five digits, e.g. novel-c00002: "
                    "so there is one PdfChunk for each number"
                ),
            )
        )
    )

    api_version: Literal["pdfjob.dev/v1alpha1"] = "pdfjob.dev/v1alpha1"
    kind: Literal["PdfChunk"] = "PdfChunk"
    metadata: ObjectMeta
    spec: PdfChunkSpec = Field(description="The range of pages.")
    status: PdfChunkStatus = Field(
        default=PdfChunkStatus(), description="Where the chunk stands; written by the operator."
    )
