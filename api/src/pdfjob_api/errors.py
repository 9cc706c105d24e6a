"""Error codes of chunks and jobs: one table says what each means, whether it heals, and what to do.

Source of the rules: requirements R-27, R-28, R-35 and section 3.3 of the design.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum, StrEnum
from types import MappingProxyType
from typing import Final


class ChunkCode(StrEnum):
    """How a start of a chunk failed."""

    TIMEOUT = "TIMEOUT"
    NO_TEXT = "NO_TEXT"
    API_ERROR = "API_ERROR"
    RATE_LIMIT = "RATE_LIMIT"
    PROCESSING_ERROR = "PROCESSING_ERROR"
    INVALID_PDF = "INVALID_PDF"
    AUTH_ERROR = "AUTH_ERROR"
    OUT_OF_MEMORY = "OUT_OF_MEMORY"
    IMAGE_ERROR = "IMAGE_ERROR"
    STORAGE_ERROR = "STORAGE_ERROR"
    INVALID_ITEM = "INVALID_ITEM"


class ItemCode(StrEnum):
    """Why a page is missing from the result of a chunk that succeeded."""

    INVALID_ITEM = "INVALID_ITEM"
    """It cannot be read or is lost, under ``repair: Repair``."""
    BLOCKED = "BLOCKED"
    """The safety filters of the language service refused it."""
    RECITATION = "RECITATION"
    """The language service takes it for a copy of protected text."""
    CUT_OFF = "CUT_OFF"
    """Its answer was cut off at the limit of output tokens."""
    TOO_LARGE = "TOO_LARGE"
    """It is larger than the language service takes."""
    INVALID_ANSWER = "INVALID_ANSWER"
    """Its answers were not of the shape asked for."""


class JobCode(StrEnum):
    """Why a PdfJob failed; also the reason of its condition ``Succeeded=False``."""

    CHUNK_PROCESSING_ERROR = "CHUNK_PROCESSING_ERROR"
    TASK_TIMEOUT = "TASK_TIMEOUT"
    PROCESSING_ERROR = "PROCESSING_ERROR"
    INVALID_SOURCE = "INVALID_SOURCE"
    MERGE_ERROR = "MERGE_ERROR"


class ExitCode(IntEnum):
    """Exit codes of a runner container. 0 is never used for work that was interrupted."""

    DONE = 0
    INVALID_TASK = 64
    INVALID_PDF = 65
    NO_TEXT = 66
    PROCESSING_ERROR = 70
    API_ERROR = 71
    RATE_LIMIT = 72
    AUTH_ERROR = 73
    STORAGE_ERROR = 74
    INTERRUPTED = 75
    SOFT_TIMEOUT = 76
    URL_EXPIRED = 77


@dataclass(frozen=True, slots=True)
class CodeRule:
    """What the operator does about an error code, and what the user should do."""

    message: str
    """Default message, used when the runner left none."""
    retryable: bool
    """Whether another start can heal it without the user."""
    counted: bool
    """Whether a start that ends so counts against ``retryPolicy.maxRetries``."""
    advice: str
    """What the user should do when it stays; NAME and N stand for the PdfJob and the chunk in commands."""

    def advice_for(self, job: str, chunk: int | None = None) -> str:
        """Return the advice with the names of this very case in its commands."""
        text = self.advice.replace("NAME", job)
        return text if chunk is None else text.replace("chunk=N", f"chunk={chunk}")


CHUNK_CODES: Final = MappingProxyType(
    {
        ChunkCode.TIMEOUT: CodeRule(
            "Processing timeout exceeded",
            retryable=True,
            counted=True,
            advice="raise spec.limits.chunkTimeoutSeconds and chunkSoftTimeoutSeconds, or make chunks smaller "
            "with spec.chunking.pagesPerChunk in a new PdfJob",
        ),
        ChunkCode.NO_TEXT: CodeRule(
            "No extractable text in PDF chunk",
            retryable=False,
            counted=True,
            advice="the pages hold images only: run OCR over the document first (ocrmypdf does) and submit the result",
        ),
        ChunkCode.API_ERROR: CodeRule(
            "Gemini API error",
            retryable=True,
            counted=True,
            advice="the language service failed; look at the message, then submit again when it is well",
        ),
        ChunkCode.RATE_LIMIT: CodeRule(
            "API rate limit exceeded",
            retryable=True,
            counted=False,
            advice="lower spec.parallelism or raise the quota of the language service",
        ),
        ChunkCode.PROCESSING_ERROR: CodeRule(
            "Generic processing error",
            retryable=True,
            counted=True,
            advice="read the runner's log: kubectl logs -l pdfjob.dev/job=NAME,pdfjob.dev/chunk=N",
        ),
        ChunkCode.INVALID_PDF: CodeRule(
            "Invalid format",
            retryable=False,
            counted=True,
            advice="a page cannot be read; set spec.source.repair: Repair in a new PdfJob to go on without it",
        ),
        ChunkCode.AUTH_ERROR: CodeRule(
            "The language service refused the key",
            retryable=True,
            counted=False,
            advice="check the Secret that holds the API key",
        ),
        ChunkCode.OUT_OF_MEMORY: CodeRule(
            "The runner was killed for memory",
            retryable=True,
            counted=True,
            advice="raise spec.runner.resources.limits.memory, or make chunks smaller",
        ),
        ChunkCode.IMAGE_ERROR: CodeRule(
            "The runner image cannot be pulled",
            retryable=True,
            counted=False,
            advice="check the image name, the registry and spec.runner.imagePullSecrets",
        ),
        ChunkCode.STORAGE_ERROR: CodeRule(
            "The object storage failed",
            retryable=True,
            counted=True,
            advice="check that pods reach s3.podEndpoint and that the storage has room",
        ),
        ChunkCode.INVALID_ITEM: CodeRule(
            "Invalid format",
            retryable=False,
            counted=False,
            advice="the page cannot be read and is listed in status.result.missingPages",
        ),
    }
)

JOB_CODES: Final = MappingProxyType(
    {
        JobCode.CHUNK_PROCESSING_ERROR: CodeRule(
            "Failed to process a chunk",
            retryable=False,
            counted=False,
            advice="see why: kubectl get pdfchunks -l pdfjob.dev/job=NAME, then kubectl describe pdfchunk",
        ),
        JobCode.TASK_TIMEOUT: CodeRule(
            "Task exceeded time limit",
            retryable=False,
            counted=False,
            advice="finished chunks are kept: raise spec.limits.jobTimeoutSeconds, then kubectl pdfjob retry NAME",
        ),
        JobCode.PROCESSING_ERROR: CodeRule(
            "General processing error",
            retryable=False,
            counted=False,
            advice="read the condition's message and the operator's log",
        ),
        JobCode.INVALID_SOURCE: CodeRule(
            "The source cannot be processed",
            retryable=False,
            counted=False,
            advice="the condition Split says what is wrong with the source and what to do",
        ),
        JobCode.MERGE_ERROR: CodeRule(
            "The results could not be merged",
            retryable=False,
            counted=False,
            advice="the chunk results are kept; read the condition Merged",
        ),
    }
)

EXIT_CODE_ERRORS: Final = MappingProxyType(
    {
        ExitCode.INVALID_TASK: ChunkCode.PROCESSING_ERROR,
        ExitCode.INVALID_PDF: ChunkCode.INVALID_PDF,
        ExitCode.NO_TEXT: ChunkCode.NO_TEXT,
        ExitCode.PROCESSING_ERROR: ChunkCode.PROCESSING_ERROR,
        ExitCode.API_ERROR: ChunkCode.API_ERROR,
        ExitCode.RATE_LIMIT: ChunkCode.RATE_LIMIT,
        ExitCode.AUTH_ERROR: ChunkCode.AUTH_ERROR,
        ExitCode.STORAGE_ERROR: ChunkCode.STORAGE_ERROR,
        ExitCode.SOFT_TIMEOUT: ChunkCode.TIMEOUT,
    }
)
"""Error code of each exit code that means failure; 75 and 77 are no failures of the chunk."""
