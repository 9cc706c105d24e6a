"""The PdfJob resource: the whole interface of the product."""

from __future__ import annotations

from enum import StrEnum
from typing import Any, Final, Literal

from pydantic import ConfigDict, Field

from .base import PRIORITY_RULE, Model, rules
from .conditions import JobPhase
from .creditaccount import CreditAccountRef
from .jobstatus import PdfJobStatus, ResultFormat
from .meta import JobMeta
from .names import MAX_JOB_NAME
from .processing import LocalProcessor, Processor, Repair
from .runner import Runner

_IMMUTABLE = "is immutable; create a new PdfJob to process the document with other settings"


class DeletionPolicy(StrEnum):
    """What deletion of the PdfJob does with its intermediate objects on S3."""

    DELETE = "Delete"
    RETAIN = "Retain"


class CacheUse(StrEnum):
    """What a job does with results of chunks that were paid for before."""

    USE = "Use"
    IGNORE = "Ignore"


class Shutdown(StrEnum):
    """How a job is ended by its user, for good."""

    STOP = "Stop"
    """The pages in hand are finished and saved."""
    CANCEL = "Cancel"
    """Running pods are killed."""


class S3Source(Model):
    """A PDF on S3-compatible storage, read with the operator's credentials."""

    bucket: str | None = Field(
        default=None,
        min_length=3,
        max_length=63,
        description="Bucket; absent = the operator's own. Other buckets only where the installation allows them for "
        "the namespace.",
    )
    key: str = Field(
        min_length=1,
        max_length=1024,
        description="Object key. In the operator's own bucket it must be in the namespace's inbox, "
        "PREFIX/inbox/NAMESPACE/.",
    )


class HttpSource(Model):
    """A PDF on a web server."""

    url: str = Field(
        max_length=2048,
        description="URL of the PDF, http or https; public addresses only.",
        json_schema_extra=rules(
            (
                "self.matches('^https?://[^/?#]+')",
                "source.http.url must start with http:// or https:// and name a host",
            )
        ),
    )
    sha256: str | None = Field(
        default=None,
        pattern="^[0-9a-f]{64}$",
        max_length=64,
        description="SHA-256 that the bytes must have, 64 lower-case hex digits.",
    )


class Source(Model):
    """Where the document is. Exactly one of s3, http."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            (
                "[has(self.s3), has(self.http)].filter(x, x).size() == 1",
                "exactly one of source.s3, source.http must be set",
            )
        )
    )

    s3: S3Source | None = Field(default=None, description="A PDF on S3-compatible storage.")
    http: HttpSource | None = Field(default=None, description="A PDF on a web server.")
    repair: Repair = Field(
        default=Repair.STRICT,
        description="Strict refuses a damaged document and says what is wrong; Repair takes what can be read of it and "
        "lists the pages that are lost.",
    )


class Chunking(Model):
    """How the document is cut."""

    pages_per_chunk: int = Field(default=50, ge=1, le=1000, description="Pages of one chunk, 1 to 1000.")
    threshold_pages: int = Field(
        default=50,
        ge=0,
        le=1000,
        description="Documents of at most this many pages are one chunk, 0 to 1000; 0 = always split.",
    )
    overlap_pages: int = Field(
        default=1,
        ge=1,
        le=5,
        description="Context pages on each side of a chunk where they exist, 1 to 5. They make sentences across the "
        "cut whole; nothing comes out twice.",
    )


class Backoff(Model):
    """Waiting time before an automatic retry: initial * factor^(retry - 1), at most max, with jitter."""

    initial_seconds: int = Field(default=10, ge=1, le=3600, description="Seconds before the first retry.")
    factor: int = Field(default=2, ge=1, le=10, description="Factor from one retry to the next.")
    max_seconds: int = Field(default=300, ge=1, le=86400, description="Seconds at most.")


class RetryPolicy(Model):
    """Automatic retries of a chunk."""

    max_retries: int = Field(
        default=3, ge=0, le=20, description="Counted retries of a chunk; 3 means 4 attempts at most."
    )
    backoff: Backoff = Field(default=Backoff(), description="Waiting time before a retry.")


_COUNT_OR_PERCENT: Final[dict[str, Any]] = {
    "x-kubernetes-int-or-string": True,
    "maxLength": 8,
    **rules(
        (
            "type(self) == int ? self >= 0 : self.matches('^(100|[0-9]{1,2})%$')",
            "must be a number of at least 0 or a percentage from 0% to 100%",
        )
    ),
}


class FailurePolicy(Model):
    """What the result may lack."""

    max_failed_chunks: int | str = Field(
        default=0,
        description="Chunks that may fail without failing the job, a number or a percentage of all (rounded down), "
        "e.g. 2 or 5%; their pages are listed as missing. Looked at when every chunk has ended.",
        json_schema_extra=_COUNT_OR_PERCENT,
    )

    max_failed_items: int | str = Field(
        default=0,
        description="Pages for which a language model gave no usable answer that the chunks which succeeded may lack, "
        "a number or a percentage of all pages (rounded down). Pages that repair: Repair gave up do not count.",
        json_schema_extra=_COUNT_OR_PERCENT,
    )

    def allowed(self, total: int) -> int:
        """Return how many of ``total`` chunks may fail."""
        return _share(self.max_failed_chunks, total)

    def allowed_items(self, total: int) -> int:
        """Return how many of ``total`` pages may be without a usable answer."""
        return _share(self.max_failed_items, total)


def _share(limit: int | str, total: int) -> int:
    """Return a number as it is, and a percentage as a number of ``total``, rounded down."""
    return limit if isinstance(limit, int) else total * int(limit.removesuffix("%")) // 100


class RetryRequest(Model):
    """Asks for another start of chunks; acted on once for each id."""

    id: str = Field(min_length=1, max_length=128, description="Any text; a request is new when its id is.")
    chunks: list[int] | None = Field(
        default=None,
        max_length=10000,
        description="Numbers of the chunks; absent = every failed or retry-scheduled one, and those that never ran. "
        "With none of these the results are merged again.",
        json_schema_extra={"x-kubernetes-list-type": "set"},
    )
    force: bool = Field(
        default=False,
        description="Also chunks beyond their retry limit, with a final error, and, where named, succeeded ones.",
    )


class TtlSecondsAfterFinished(Model):
    """How long a PdfJob stays after its end, in seconds; 0 = not at all, -1 = until somebody deletes it."""

    succeeded: int = Field(default=86400, ge=-1, le=315360000, description="After success.")
    failed: int = Field(default=-1, ge=-1, le=315360000, description="After failure.")
    stopped: int = Field(default=-1, ge=-1, le=315360000, description="After spec.shutdown: Stop.")
    cancelled: int = Field(default=-1, ge=-1, le=315360000, description="After spec.shutdown: Cancel.")

    def after(self, phase: JobPhase) -> int | None:
        """Return the seconds for which a job that ended in this phase stays; None = until somebody deletes it."""
        seconds = {
            JobPhase.SUCCEEDED: self.succeeded,
            JobPhase.FAILED: self.failed,
            JobPhase.STOPPED: self.stopped,
            JobPhase.CANCELLED: self.cancelled,
        }.get(phase, -1)
        return seconds if seconds >= 0 else None


class Limits(Model):
    """Time limits."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            (
                "self.chunkSoftTimeoutSeconds < self.chunkTimeoutSeconds",
                "limits.chunkSoftTimeoutSeconds must be lower than limits.chunkTimeoutSeconds",
            )
        )
    )

    chunk_timeout_seconds: int = Field(
        default=1800,
        ge=2,
        le=518400,
        description="Hard limit of one start of a chunk, in seconds from its pod's start; then it is killed.",
    )
    chunk_soft_timeout_seconds: int = Field(
        default=1500,
        ge=1,
        le=518400,
        description="Soft limit of one start of a chunk, in seconds; the runner saves what it has and ends, and the "
        "chunk goes on from there.",
    )
    item_timeout_seconds: int = Field(
        default=300,
        ge=1,
        le=3600,
        description="Limit of one call of a language service, in seconds. A runner that is told to end waits so long "
        "for the call in hand, 300 seconds at most.",
    )
    stuck_timeout_seconds: int = Field(
        default=600,
        ge=10,
        le=3600,
        description="Seconds without a heartbeat after which a start is ended as stuck, and after which a pod that was "
        "told to end and still stands (lost node) is given up.",
    )
    pending_timeout_seconds: int = Field(
        default=600,
        ge=1,
        le=86400,
        description="Seconds that a pod may take to start its container. Then an image that cannot be pulled or "
        "container settings that cannot work end the start; for a node or a quota the chunk goes on waiting, Degraded.",
    )
    job_timeout_seconds: int | None = Field(
        default=None,
        ge=1,
        le=31536000,
        description="Limit of the whole job, in seconds in which it was worked on: waiting and suspension do not "
        "count. Absent = none; 3600 for each wave of parallel chunks is a good choice.",
    )


class Output(Model):
    """What is written at the end."""

    formats: list[ResultFormat] = Field(
        default=[ResultFormat.JSONL, ResultFormat.TXT, ResultFormat.CSV],
        min_length=1,
        max_length=3,
        description="Formats of the merged result: jsonl, txt, csv.",
        json_schema_extra={"x-kubernetes-list-type": "set"},
    )


class PdfJobSpec(Model):
    """What the user wants."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            ("self.source == oldSelf.source", f"spec.source {_IMMUTABLE}"),
            ("self.chunking == oldSelf.chunking", f"spec.chunking {_IMMUTABLE}"),
            ("self.processor == oldSelf.processor", f"spec.processor {_IMMUTABLE}"),
            (
                (
                    "has(self.creditAccountRef) == has(oldSelf.creditAccountRef) && (!has(self.creditAccountRef) || "
                    "self.creditAccountRef.name == oldSelf.creditAccountRef.name)"
                ),
                f"spec.creditAccountRef.name {_IMMUTABLE}",
            ),
            (
                (
                    "!has(oldSelf.shutdown) || (has(self.shutdown) && "
                    "(self.shutdown == oldSelf.shutdown || self.shutdown == 'Cancel'))"
                ),
                (
                    "spec.shutdown is for good: only Stop may still become Cancel; delete the PdfJob and create it "
                    "again to process the document after all"
                ),
            ),
            (
                "!(has(self.processor.custom) && has(self.runner) && has(self.runner.image))",
                "runner.image is for the standard runner; with processor.custom set processor.custom.image instead",
            ),
        )
    )

    source: Source = Field(description="Where the document is; immutable.")
    chunking: Chunking = Field(default=Chunking(), description="How the document is cut; immutable.")
    processor: Processor = Field(
        default=Processor(local=LocalProcessor()),
        description="What is done with the text; immutable. Exactly one of local, gemini, custom.",
    )
    parallelism: int = Field(
        default=4,
        ge=1,
        le=10000,
        description="Chunks of this job in flight, at least 1; kubectl scale sets it too.",
    )
    priority: int = Field(
        default=5,
        description="0 to 10, higher first; nothing that runs is pre-empted.",
        json_schema_extra=PRIORITY_RULE,
    )
    suspend: bool = Field(
        default=False,
        description="true pauses the job: runners finish the page in hand and save, nothing new starts; false goes on.",
    )
    shutdown: Shutdown | None = Field(
        default=None,
        description="Stop ends the job for good as suspend pauses it; Cancel kills running pods. Never unset again.",
    )
    retry_policy: RetryPolicy = Field(default=RetryPolicy(), description="Automatic retries of a chunk.")
    failure_policy: FailurePolicy = Field(default=FailurePolicy(), description="What the result may lack.")
    retry_request: RetryRequest | None = Field(default=None, description="Asks for another start of chunks.")
    limits: Limits = Field(default=Limits(), description="Time limits.")
    runner: Runner | None = Field(default=None, description="The pod of a chunk; absent = the installation's defaults.")
    output: Output = Field(default=Output(), description="What is written at the end.")
    cache: CacheUse = Field(
        default=CacheUse.USE,
        description="With processor.gemini: Use takes the results that chunks of the same pages of the same document "
        "had before in this namespace under the same settings, for which nothing is asked of the service, and keeps "
        "this job's for others; Ignore does neither. Of no effect with local, which costs nothing, and custom, whose "
        "answers nobody knows to be the same.",
    )
    credit_account_ref: CreditAccountRef | None = Field(
        default=None,
        description="The credit account that pays; no chunk starts before it has reserved the estimate. Absent = "
        "nobody counts.",
    )
    ttl_seconds_after_finished: TtlSecondsAfterFinished = Field(
        default=TtlSecondsAfterFinished(),
        description="How long the PdfJob stays after its end, by outcome; result and history stay on S3.",
    )
    deletion_policy: DeletionPolicy = Field(
        default=DeletionPolicy.DELETE,
        description="Delete or Retain the intermediate objects on S3 when the PdfJob is deleted; the merged result "
        "stays in both cases.",
    )


class PdfJob(Model):
    """Turns one PDF into clean, structured text."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            (
                f"size(self.metadata.name) <= {MAX_JOB_NAME}",
                f"metadata.name must have at most {MAX_JOB_NAME} characters, since child Jobs are named after it",
            )
        )
    )

    api_version: Literal["pdfjob.dev/v1alpha1"] = "pdfjob.dev/v1alpha1"
    kind: Literal["PdfJob"] = "PdfJob"
    metadata: JobMeta
    spec: PdfJobSpec = Field(description="What the user wants.")
    status: PdfJobStatus = Field(default=PdfJobStatus(), description="Where it stands; written by the operator.")
