"""Where a PdfJob stands: what the operator writes, and nobody else."""

from __future__ import annotations

from enum import StrEnum

from pydantic import Field

from .base import Model
from .conditions import JobPhase
from .contract import Tokens
from .meta import Condition, LastError, Time


class ResultFormat(StrEnum):
    """Formats of the merged result."""

    JSONL = "jsonl"
    TXT = "txt"
    CSV = "csv"


class SourceStatus(Model):
    """What was found at the source."""

    sha256: str = Field(max_length=64, description="SHA-256 of the document.")
    size_bytes: int = Field(ge=0, description="Bytes of the document.")
    pages: int | None = Field(default=None, ge=0, description="Pages of the document; absent until it was inspected.")
    file_name: str = Field(max_length=1024, description="Name of the file as the user knows it.")


class ChunkCounts(Model):
    """Chunks by phase; the sum of the phases is total."""

    total: int = Field(default=0, ge=0, description="Chunks of the plan.")
    pending: int = Field(default=0, ge=0, description="Chunks that have not begun, those not yet created included.")
    running: int = Field(default=0, ge=0, description="Chunks whose pod runs.")
    retry_scheduled: int = Field(default=0, ge=0, description="Chunks that wait for their next start.")
    succeeded: int = Field(default=0, ge=0, description="Chunks with a verified result.")
    cached: int = Field(
        default=0,
        ge=0,
        description="Those of them that nothing was paid for: their result was there, in the cache or from an earlier "
        "life of the PdfJob. Not part of the sum.",
    )
    failed: int = Field(default=0, ge=0, description="Chunks that failed for good.")
    cancelled: int = Field(default=0, ge=0, description="Chunks that will not run.")


class Summary(Model):
    """Strings for the printer columns."""

    progress: str = Field(max_length=8, description="Chunks succeeded in percent of all, e.g. 70%.")
    chunks: str = Field(max_length=24, description="Chunks succeeded of all, e.g. 7/10.")


class Items(Model):
    """Pages."""

    total: int = Field(default=0, ge=0, description="Pages of the document.")
    done: int = Field(default=0, ge=0, description="Pages finished, also those saved by chunks that have not ended.")
    failed: int = Field(default=0, ge=0, description="Pages that could not be read, or got no usable answer.")


class ResultFile(Model):
    """One file of the merged result."""

    format: ResultFormat = Field(description="jsonl, txt or csv.")
    uri: str = Field(max_length=1200, description="Where it is, s3://bucket/key.")
    bytes: int = Field(ge=0, description="Size.")
    sha256: str = Field(max_length=64, description="SHA-256.")


class JobResult(Model):
    """The merged result."""

    files: list[ResultFile] = Field(max_length=3, description="One per format.")
    partial: bool = Field(default=False, description="Whether pages are missing.")
    missing_pages: str | None = Field(
        default=None,
        max_length=1024,
        description='Pages that are missing, e.g. "3,7-9"; absent when none is.',
    )


class RefusedChunks(Model):
    """Chunks that a retry request did not take."""

    chunks: str = Field(max_length=1024, description='Their numbers, e.g. "3,7-9".')
    reason: str = Field(max_length=256, description="Why.")


class LastRetry(Model):
    """The answer to the last retry request."""

    id: str = Field(max_length=128, description="Id of the request.")
    number: int = Field(default=1, ge=0, description="Which request it was, counted from 1.")
    message: str = Field(max_length=1024, description="For people, e.g. Retrying 2 chunks.")
    retried_count: int = Field(default=0, ge=0, description="Chunks that start again.")
    chunks: list[int] = Field(
        default_factory=list, max_length=1000, description="Their numbers; the first thousand of them."
    )
    refused: list[RefusedChunks] = Field(
        default_factory=list, max_length=16, description="Chunks that were not taken, by reason."
    )
    time: Time = Field(description="When it was answered.")


class ShutdownStatus(Model):
    """Who stopped or cancelled the job, and when."""

    requested_at: Time = Field(description="When it was asked for.")
    requested_by: str = Field(max_length=256, description="User, or the client that set spec.shutdown.")


class Credits(Model):
    """What the job has reserved and used of its credit account, in tokens: input, output and thinking.

    A run goes from the first start of a chunk to the end of the job; a retry of a finished job begins the next.
    """

    run: int = Field(default=1, ge=1, description="Which run these numbers are of, counted from 1.")
    reserved: int = Field(default=0, ge=0, description="Reserved for this run.")
    charged: int = Field(
        default=0, ge=0, description="Charged in this run: what the chunks used that delivered a result in it."
    )
    refunded: int = Field(default=0, ge=0, description="Gone back at the end of this run: reserved and not used.")
    charged_earlier: int = Field(default=0, ge=0, description="Charged in earlier runs.")


class Clock(Model):
    """The time for which the job was worked on; limits.jobTimeoutSeconds is held against it."""

    seconds: int = Field(default=0, ge=0, description="Whole seconds up to `since`.")
    since: Time | None = Field(
        default=None, description="From when on seconds are not yet in `seconds`; absent = it stands."
    )


class PdfJobStatus(Model):
    """Where it stands."""

    observed_generation: int | None = Field(
        default=None, ge=0, description="Generation of the spec this status speaks of."
    )
    phase: JobPhase = Field(default=JobPhase.PENDING, description="Summary for people; scripts use the conditions.")
    current_step: str | None = Field(
        default=None, max_length=40, description="What is being done, e.g. Processing chunk 5/10."
    )
    progress_percent: int = Field(
        default=0,
        ge=0,
        le=100,
        description="5 accepted, 10 inspected, to 15 with the chunks stored, to 75 with the chunks done, 100 with the "
        "result stored.",
    )
    source: SourceStatus | None = Field(default=None, description="What was found at the source.")
    chunks: ChunkCounts | None = Field(default=None, description="Chunks by phase; absent until planned.")
    summary: Summary | None = Field(default=None, description="Strings for the printer columns.")
    items: Items | None = Field(default=None, description="Pages; absent until planned.")
    failed_chunks: str | None = Field(
        default=None,
        max_length=1024,
        description='Numbers of the failed chunks, e.g. "3,7-9"; absent when none is.',
    )
    retries: int = Field(default=0, ge=0, description="Counted retries of all chunks.")
    sentences: int | None = Field(default=None, ge=0, description="Sentences of the chunks that succeeded.")
    estimated_tokens: int | None = Field(
        default=None,
        ge=0,
        description="Tokens, input and output together, that the language work of the whole document was expected to "
        "take before it began; absent without language work.",
    )
    tokens: Tokens | None = Field(
        default=None, description="Tokens of the chunks that succeeded; absent when none were used."
    )
    credits: Credits | None = Field(
        default=None, description="Tokens of the credit account; absent while nothing was reserved there."
    )
    result: JobResult | None = Field(default=None, description="The merged result; absent until stored.")
    last_error: LastError | None = Field(default=None, description="The last error of the job.")
    last_retry: LastRetry | None = Field(default=None, description="Answer to the last retryRequest.")
    shutdown: ShutdownStatus | None = Field(default=None, description="Who stopped or cancelled the job, and when.")
    effective_parallelism: int | None = Field(
        default=None,
        ge=1,
        description="Chunks in flight at most while a rate limit or a common failure holds spec.parallelism down; "
        "absent = spec.parallelism.",
    )
    clock: Clock | None = Field(default=None, description="Time for which the job was worked on.")
    history: str | None = Field(
        default=None, max_length=1200, description="Where the record of the finished job is, s3://bucket/key."
    )
    start_time: Time | None = Field(default=None, description="When the job was accepted.")
    completion_time: Time | None = Field(default=None, description="When the job ended.")
    processing_seconds: int | None = Field(default=None, ge=0, description="Seconds from start to completion.")
    conditions: list[Condition] = Field(
        default_factory=list,
        max_length=16,
        description="Accepted, Split, Repaired, CreditsReserved, ChunksSucceeded, Merged, Suspended, Degraded, "
        "CreditsSettled, Finished, Succeeded.",
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]},
    )
