"""What stays on S3 when a PdfJob is gone: one record of the job, one of each start that failed."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from .base import Model
from .conditions import ChunkPhase, JobPhase
from .contract import Tokens
from .jobstatus import ChunkCounts, JobResult, LastRetry, ShutdownStatus, SourceStatus
from .meta import Condition, LastError
from .pdfchunk import Outcome, StartRecord


class ChunkRecord(Model):
    """How one chunk went."""

    index: int
    start_page: int
    end_page: int
    phase: ChunkPhase
    attempts: int
    starts: int
    last_error: LastError | None = None
    history: list[StartRecord] = Field(default_factory=list)
    """Its last ten starts; every failed one has an error record besides."""


class JobRecord(Model):
    """A PdfJob as it stood at its end, or when it was deleted before that."""

    version: Literal[1] = 1
    namespace: str
    name: str
    uid: str
    created: str
    started: str | None = None
    completed: str | None = None
    """None when it was deleted while it was under way."""
    recorded: str
    """When this record was written."""
    processing_seconds: int | None = None
    phase: JobPhase
    conditions: list[Condition] = Field(default_factory=list)
    source: SourceStatus | None = None
    counts: ChunkCounts | None = None
    failed_chunks: str | None = None
    retries: int = 0
    sentences: int | None = None
    tokens: Tokens | None = None
    charged: int | None = None
    """Tokens charged to the credit account, all runs together; None when the job names none."""
    result: JobResult | None = None
    last_error: LastError | None = None
    last_retry: LastRetry | None = None
    shutdown: ShutdownStatus | None = None
    chunks: list[ChunkRecord] = Field(default_factory=list)


class PodState(Model):
    """What Kubernetes said of the pod of a start."""

    name: str
    node: str | None = None
    phase: str = ""
    reason: str = ""
    message: str = ""
    exit_code: int | None = None
    exit_reason: str = ""
    started: str | None = None


class ErrorRecord(Model):
    """One start of a chunk that failed or was lost."""

    version: Literal[1] = 1
    namespace: str
    job: str
    uid: str
    chunk: int
    start_page: int
    end_page: int
    start: int
    attempt: int
    counted: bool
    outcome: Outcome
    code: str | None = None
    message: str = ""
    time: str
    job_name: str
    """Of the child Job."""
    job_failed: str = ""
    """What the Job's condition Failed says."""
    pod: PodState | None = None
    """None when the pod was gone."""
    log_tail: str = ""
    """The last lines of the runner's log, where the pod was still there."""
