"""Phases, condition types and reasons. Reasons are constants: scripts and alerts match on them."""

from __future__ import annotations

from enum import StrEnum
from typing import Final


class JobPhase(StrEnum):
    """Summary of a PdfJob for people and columns; computed, never read back as state."""

    PENDING = "Pending"
    SPLITTING = "Splitting"
    RUNNING = "Running"
    SUSPENDED = "Suspended"
    PAGES_FAILED = "PagesFailed"
    """A language model gave no usable answer for more pages than the failure policy allows."""
    MERGING = "Merging"
    SUCCEEDED = "Succeeded"
    FAILED = "Failed"
    STOPPED = "Stopped"
    CANCELLED = "Cancelled"


class ChunkPhase(StrEnum):
    """State of a PdfChunk."""

    PENDING = "Pending"
    RUNNING = "Running"
    RETRY_SCHEDULED = "RetryScheduled"
    SUCCEEDED = "Succeeded"
    FAILED = "Failed"
    CANCELLED = "Cancelled"


class JobCondition(StrEnum):
    """Condition types of a PdfJob."""

    ACCEPTED = "Accepted"
    """The spec can work."""
    SPLIT = "Split"
    """Every chunk PDF is stored."""
    REPAIRED = "Repaired"
    """The document was damaged and what could be read of it was taken."""
    CHUNKS_SUCCEEDED = "ChunksSucceeded"
    """Every chunk has its verified result."""
    MERGED = "Merged"
    """The merged result is stored."""
    SUSPENDED = "Suspended"
    """Nothing of the job runs, since the user paused it."""
    DEGRADED = "Degraded"
    """Something outside the document holds the job up; it waits and goes on by itself."""
    FINISHED = "Finished"
    """True at every end, for ``kubectl wait``."""
    SUCCEEDED = "Succeeded"
    """Summary: True done, Unknown active, False ended badly."""


class Reason(StrEnum):
    """Reasons of conditions and Events."""

    ACCEPTED = "Accepted"
    """The operator took the job."""
    INVALID_SPEC = "InvalidSpec"
    """The spec passes the schema but cannot work."""
    WAITING = "Waiting"
    """The step has not begun."""
    FETCHING = "Fetching"
    """The source is being copied to the operator's disk."""
    SPLITTING = "Splitting"
    """Chunk PDFs are being written."""
    ALL_CHUNKS_STORED = "AllChunksStored"
    """Split=True."""
    SOURCE_NOT_FOUND = "SourceNotFound"
    """The key or URL does not exist, is refused, or redirects for ever."""
    SOURCE_NOT_ALLOWED = "SourceNotAllowed"
    """The bucket, the inbox or the address is not open to this namespace."""
    SOURCE_TOO_LARGE = "SourceTooLarge"
    """The source has more bytes than ``source.maxBytes`` of the installation."""
    CHECKSUM_MISMATCH = "ChecksumMismatch"
    """The bytes fetched do not have ``spec.source.http.sha256``."""
    INVALID_FORMAT = "InvalidFormat"
    """Not a PDF, or a damaged one while ``repair`` is Strict."""
    ENCRYPTED = "Encrypted"
    """A password is needed to open the document."""
    EMPTY_PDF = "EmptyPdf"
    """The document has no pages."""
    SPLIT_ERROR = "SplitError"
    """The splitter failed; the message is its own."""
    STORAGE_UNREACHABLE = "StorageUnreachable"
    """The storage or web server does not answer well; tried again."""
    STORAGE_ACCESS_DENIED = "StorageAccessDenied"
    """The operator's credentials are refused; tried again."""
    BUCKET_NOT_FOUND = "BucketNotFound"
    """The bucket does not exist; tried again."""
    API_SERVER_UNAVAILABLE = "ApiServerUnavailable"
    """The API server refuses or does not answer well; tried again."""
    INTERNAL_ERROR = "InternalError"
    """A defect of the operator; tried again, its log has the details."""
    PAGES_LOST = "PagesLost"
    """Repaired=True: content of the document is missing or was rebuilt."""
    PROCESSING = "Processing"
    """Chunks are being processed."""
    ALL_CHUNKS_SUCCEEDED = "AllChunksSucceeded"
    """ChunksSucceeded=True."""
    CHUNKS_FAILED = "ChunksFailed"
    """At least one chunk failed for good."""
    PAGES_FAILED = "PagesFailed"
    """A language model gave no usable answer for more pages than the failure policy allows."""
    MERGING = "Merging"
    """The results are being merged."""
    RESULT_STORED = "ResultStored"
    """Merged=True."""
    MERGE_FAILED = "MergeFailed"
    """The results could not be merged; they are kept."""
    COMPLETED = "Completed"
    """Succeeded=True, Finished=True."""
    PARTIAL_RESULT = "PartialResult"
    """Succeeded=True, but the result lacks pages."""
    ACTIVE = "Active"
    """The job is under way."""
    FAILED = "Failed"
    """Finished=True after a failure."""

    DRAINING = "Draining"
    """Suspended=False: the runners finish the page in hand and save."""
    SUSPENDED = "Suspended"
    """Suspended=True."""
    RESUMED = "Resumed"
    """Suspended=False after a pause."""
    STOPPED = "Stopped"
    """Finished=True: the user stopped the job for good."""
    CANCELLED = "Cancelled"
    """Finished=True: the user cancelled the job."""
    DISPATCHING = "Dispatching"
    """Degraded=False: chunks start as there is room."""
    NO_POD = "NoPod"
    """Jobs of chunks get no pod: a quota, Pod Security, a service account that is missing."""
    UNSCHEDULABLE = "Unschedulable"
    """No node takes a pod."""
    IMAGE_PULL = "ImagePull"
    """The image of a pod cannot be pulled (yet)."""
    QUEUED = "Queued"
    """A queueing system (Kueue) holds the Job back."""

    # Conditions of a PdfChunk.
    STARTING = "Starting"
    """A pod is on its node and its container has not started."""

    # Events only.
    RETRY_REQUESTED = "RetryRequested"
    """A manual retry was carried out, or refused; the message answers it."""
    LARGE_FILE_DETECTED = "LargeFileDetected"
    """The document has more pages than the threshold."""
    CACHE_USED = "CacheUsed"
    """Chunks were not paid for: their results were there."""
    CHUNK_RETRY = "ChunkRetry"
    """A start of a chunk failed and the chunk will start again."""
    CHUNK_FAILED = "ChunkFailed"
    """A chunk failed for good."""
    CHUNK_RESTARTED = "ChunkRestarted"
    """A start was lost to the infrastructure; not counted as an attempt."""
    CLEANUP_ABANDONED = "CleanupAbandoned"
    """Storage was gone while the job was deleted; objects may be left there."""
    SOFT_TIMEOUT = "SoftTimeout"
    """A start reached its soft limit and saved what it had."""


class ChunkCondition(StrEnum):
    """Condition types of a PdfChunk."""

    WAITING = "Waiting"
    """True while the chunk's Job exists and its container does not run; the reason says what it waits for."""


UNDER_WAY: Final = frozenset(
    {Reason.WAITING, Reason.FETCHING, Reason.SPLITTING, Reason.PROCESSING, Reason.MERGING, Reason.ACTIVE}
)
"""Reasons of an Unknown condition while all goes well; any other reason there says what holds the job up."""
