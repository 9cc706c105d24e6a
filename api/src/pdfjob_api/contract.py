"""The runner contract: what a chunk runner is given, and what it must leave behind.

``docs/runner-contract.md`` tells it in prose; any container image that keeps to it can be a processor.
Everything is JSON and carries ``version``; a runner ignores fields that it does not know.
"""

from __future__ import annotations

from typing import Any, Final, Literal

from pydantic import Field

from .base import Model
from .processing import Processor, Repair

CONTRACT_VERSION: Final = 1

ENV_TASK: Final = "PDFJOB_TASK"
"""The task as JSON, see `Task`."""
ENV_CHUNK_URL: Final = "PDFJOB_CHUNK_URL"
"""GET: the PDF of the chunk, context pages included."""
ENV_PREVIOUS_CHECKPOINT_URL: Final = "PDFJOB_PREVIOUS_CHECKPOINT_URL"
"""GET: the newest checkpoint of an earlier start; absent when there is none."""
ENV_CHECKPOINT_URL: Final = "PDFJOB_CHECKPOINT_URL"
"""PUT: the checkpoint of this start, may be written again and again."""
ENV_PROGRESS_URL: Final = "PDFJOB_PROGRESS_URL"
"""PUT: the progress object, at least every 10 seconds; it is the heartbeat too."""
ENV_RESULT_URL: Final = "PDFJOB_RESULT_URL"
"""PUT once, with the header ``If-None-Match: *``; 412 means that it is already stored."""
ENV_API_KEY_FILE: Final = "PDFJOB_API_KEY_FILE"
"""Path of the file that holds the processor's API key; absent when it needs none. The file is absent when the Secret
or its key is."""

TERMINATION_MESSAGE_PATH: Final = "/dev/termination-log"
ENV_TERMINATION_LOG: Final = "PDFJOB_TERMINATION_LOG"
"""Where the termination message goes instead of `TERMINATION_MESSAGE_PATH`, outside a cluster."""
MAX_TERMINATION_MESSAGE: Final = 3072
"""Bytes; Kubernetes cuts at 4096."""
MAX_RESULT_BYTES: Final = 32 * 1024 * 1024
"""Bytes; a chunk result or checkpoint that is larger is refused. The operator checks a result in memory, which takes
about twenty times its size when its records are as short as can be; the text of 1000 pages has about 4 MB."""


class Tokens(Model):
    """Tokens of a language model, those of answers that were thrown away included: they are paid for too."""

    input: int = Field(default=0, ge=0, description="Tokens sent to the language model, cached ones included.")
    output: int = Field(default=0, ge=0, description="Tokens that the language model returned, thinking not included.")
    cached: int = Field(default=0, ge=0, description="Tokens of the input that the service had cached.")
    thinking: int = Field(default=0, ge=0, description="Tokens spent on thinking; they are billed like output.")

    @property
    def total(self) -> int:
        """Tokens that are charged: input, output and thinking."""
        return self.input + self.output + self.thinking

    def __add__(self, other: Tokens) -> Tokens:
        return Tokens(
            input=self.input + other.input,
            output=self.output + other.output,
            cached=self.cached + other.cached,
            thinking=self.thinking + other.thinking,
        )


class Task(Model):
    """What one start of a runner has to do. Page numbers are the document's, 1-based.

    The chunk PDF holds pages ``start_page - context_before`` to ``end_page + context_after`` in order.
    """

    version: Literal[1] = CONTRACT_VERSION
    namespace: str
    job: str
    chunk: int = Field(ge=0)
    """0-based index of the chunk."""
    start: int = Field(ge=1)
    """Number of this start; 1 is the first."""
    start_page: int = Field(ge=1)
    """First page the chunk owns."""
    end_page: int = Field(ge=1)
    """Last page the chunk owns, inclusive."""
    context_before: int = Field(default=0, ge=0)
    """Pages in the PDF before ``start_page``."""
    context_after: int = Field(default=0, ge=0)
    """Pages in the PDF after ``end_page``."""
    sha256: str
    """Of the chunk PDF, lower-case hex."""
    size_bytes: int = Field(ge=1)
    """Of the chunk PDF."""
    repair: Repair = Repair.STRICT
    lost_pages: list[int] = Field(default_factory=list)
    """Owned pages whose content the operator found lost or damaged, under ``repair: Repair`` only: one on which no text
    is found is missing, not blank."""
    processor: Processor
    soft_timeout_seconds: int = Field(ge=1)
    """After this many seconds the runner saves its checkpoint and exits with 76."""
    item_timeout_seconds: int = Field(default=300, ge=1)
    """Limit of one call of a language service."""
    pace_seconds: float = Field(default=0, ge=0)
    """Pause between two calls of a language service that earlier starts of the job ended with: where to begin."""
    grace_seconds: int = Field(default=30, ge=1)
    """``terminationGracePeriodSeconds`` of the pod: time to finish the item in hand and save after SIGTERM."""


class Record(Model):
    """One sentence. It belongs to the page that it starts on."""

    page: int = Field(ge=1)
    end_page: int = Field(ge=1)
    text: str


class MissingPage(Model):
    """A page without text of its own, and why: one of `pdfjob_api.errors.ItemCode`."""

    page: int = Field(ge=1)
    code: str


class Checkpoint(Model):
    """The finished items of an unfinished chunk. What remains is a set, never a position."""

    version: Literal[1] = CONTRACT_VERSION
    start_page: int
    end_page: int
    done: list[int]
    """Pages that are finished, missing ones included."""
    records: list[Record]
    """Sentences of the finished pages, in page order."""
    missing: list[MissingPage] = Field(default_factory=list)
    tokens: Tokens = Tokens()


class ChunkResult(Model):
    """The result of a chunk: every sentence that starts on a page it owns, in page order."""

    version: Literal[1] = CONTRACT_VERSION
    start_page: int
    end_page: int
    records: list[Record]
    missing: list[MissingPage] = Field(default_factory=list)
    tokens: Tokens = Tokens()


class Progress(Model):
    """The heartbeat, about 100 bytes."""

    done: int = Field(ge=0)
    """Items finished, earlier starts included."""
    total: int = Field(ge=0)
    time: str
    """RFC 3339, UTC."""
    answered: bool = False
    """Whether a language service has answered a call of this start: its key is good."""


class TerminationMessage(Model):
    """The last word of a runner, at most 3 KiB of JSON in its termination message file."""

    code: str | None = None
    """Error code of the table; absent after success."""
    message: str = ""
    items: int = Field(default=0, ge=0)
    """Items saved so far, earlier starts included."""
    tokens: Tokens = Tokens()
    requests: dict[str, int] = Field(default_factory=dict)
    """Calls of a language service in this start by HTTP status, ``timeout`` or ``network``."""
    pace_seconds: float = Field(default=0, ge=0)
    """Pause between two calls that the service's rate limit led to."""
    retry_after_seconds: float | None = Field(default=None, ge=0)
    """When the service said it may be asked again, with ``RATE_LIMIT``."""
    result_sha256: str | None = None
    result_bytes: int | None = None


def check_result(data: dict[str, Any], start_page: int, end_page: int, context_after: int) -> ChunkResult:
    """Parse a chunk result and check that it belongs to these pages.

    Raises
    ------
    ValueError
        When the shape is wrong, the pages are others, a sentence starts on a page that the chunk does not own, or
        the sentences are not in page order, or one is empty.
    """
    result = ChunkResult.model_validate(data)
    if (result.start_page, result.end_page) != (start_page, end_page):
        raise ValueError(f"result is for pages {result.start_page}-{result.end_page}, not {start_page}-{end_page}")
    page = start_page
    for record in result.records:
        if not page <= record.page <= end_page:
            raise ValueError(f"a sentence is on page {record.page}: out of order or not of this chunk")
        if not record.page <= record.end_page <= end_page + context_after:
            raise ValueError(f"a sentence of page {record.page} ends on page {record.end_page}")
        if not record.text:
            raise ValueError(f"a sentence of page {record.page} is empty")
        page = record.page
    for missing in result.missing:
        if not start_page <= missing.page <= end_page:
            raise ValueError(f"missing page {missing.page} is not of this chunk")
    return result
