"""What befalls each start of each chunk, and what a job must come to: known before anything runs.

A fate follows from the seed, the job, the chunk and the number of the start, by a hash: the simulated runner and the
prediction draw the same one without talking to each other. The prediction is written from the rules that users are
told (docs/concepts.md, section 3.3 of the design), not with the operator's code.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

PAGES_PER_CHUNK: Final = 2
_PERMANENT: Final = 0.02
_RETRYABLE: Final = 0.10
_HISTORY: Final = 10
_RATES: Final = 2**32


@dataclass(frozen=True, slots=True)
class Fate:
    """How a start ends on the wire, and what has to be written down of it."""

    name: str
    exit_code: int
    stores_result: bool = False
    saves_page: bool = False
    """Whether it stores a checkpoint with the first page."""
    reason: str = "Error"
    """Reason of the terminated container."""
    outcome: str = "Failed"
    code: str | None = None
    counted: bool = True
    final: bool = False


_GOOD: Final = (
    *[Fate("done", 0, stores_result=True, reason="Completed", outcome="Succeeded")] * 39,
    Fate("crashed after its result was stored", 70, stores_result=True, outcome="Succeeded"),
)
_HEALS: Final = (
    Fate("crashed", 70, code="PROCESSING_ERROR"),
    Fate("killed", 137, code="PROCESSING_ERROR"),
    Fate("ended well without a result", 0, reason="Completed", code="PROCESSING_ERROR"),
    Fate("out of memory", 137, reason="OOMKilled", code="OUT_OF_MEMORY"),
    Fate("service failed", 71, code="API_ERROR"),
    Fate("storage failed", 74, code="STORAGE_ERROR"),
    Fate("timed out", 76, code="TIMEOUT"),
    Fate("timed out with a page saved", 76, saves_page=True, code="TIMEOUT", counted=False),
    Fate("rate limited", 72, code="RATE_LIMIT", counted=False),
    Fate("interrupted", 75, outcome="Lost", counted=False),
    Fate("met expired URLs", 77, outcome="Lost", counted=False),
)
_STAYS: Final = (
    Fate("found no text", 66, code="NO_TEXT", final=True),
    Fate("found an invalid PDF", 65, code="INVALID_PDF", final=True),
    Fate("refused its task", 64, code="PROCESSING_ERROR", final=True),
)
FATES: Final = MappingProxyType({fate.name: fate for fate in (*_GOOD, *_HEALS, *_STAYS)})


def fate_of(seed: int, job: str, chunk: int, start: int) -> Fate:
    """Return what befalls one start: 2 of 100 fail for good, 10 of 100 in a way that heals, the others succeed."""
    digest = hashlib.sha256(f"{seed}/{job}/{chunk}/{start}".encode()).digest()
    draw = int.from_bytes(digest[:4], "big") / _RATES
    fates = _STAYS if draw < _PERMANENT else _HEALS if draw < _PERMANENT + _RETRYABLE else _GOOD
    return fates[int.from_bytes(digest[4:8], "big") % len(fates)]


def seconds_of(seed: int, job: str, chunk: int, start: int) -> float:
    """Return how long the container of a start runs, 0.5 to 2.5 seconds."""
    digest = hashlib.sha256(f"{seed}/{job}/{chunk}/{start}/seconds".encode()).digest()
    return 0.5 + 2 * int.from_bytes(digest[:4], "big") / _RATES


@dataclass(frozen=True, slots=True)
class Plan:
    """What of a PdfJob's spec decides how it ends."""

    name: str
    chunks: int
    max_retries: int
    max_failed_chunks: int | str

    @property
    def allowed(self) -> int:
        """How many chunks may fail."""
        if isinstance(self.max_failed_chunks, int):
            return self.max_failed_chunks
        return self.chunks * int(self.max_failed_chunks.rstrip("%")) // 100


def plan_of(number: int, chunks: int) -> Plan:
    """Return the plan of a job by its number; limits of retries and of failed chunks take turns."""
    return Plan(
        name=f"soak-{number:04d}",
        chunks=chunks,
        max_retries=(3, 1, 2, 0)[number % 4],
        max_failed_chunks=(0, 2, "10%")[number % 3],
    )


@dataclass(frozen=True, slots=True)
class ExpectedStart:
    """What the history must say of a start."""

    start: int
    outcome: str
    code: str | None
    counted: bool


@dataclass(frozen=True, slots=True)
class ExpectedChunk:
    """How a chunk must end."""

    phase: str
    attempts: int
    starts: int
    history: tuple[ExpectedStart, ...]


@dataclass(frozen=True, slots=True)
class ExpectedJob:
    """How a PdfJob must end."""

    phase: str
    failed: tuple[int, ...]
    retries: int
    chunks: tuple[ExpectedChunk, ...]
    result_sha256: str | None
    """Of the merged result as jsonl; None for a job that is not merged."""


def predict(seed: int, plan: Plan) -> ExpectedJob:
    """Say how a job must end, however often the operator is killed on the way."""
    chunks = tuple(_predict_chunk(seed, plan, index) for index in range(plan.chunks))
    failed = tuple(index for index, chunk in enumerate(chunks) if chunk.phase == "Failed")
    good = len(failed) <= plan.allowed
    return ExpectedJob(
        phase="Succeeded" if good else "Failed",
        failed=failed,
        retries=sum(max(chunk.attempts - 1, 0) for chunk in chunks),
        chunks=chunks,
        result_sha256=hashlib.sha256(merged(chunks).encode()).hexdigest() if good else None,
    )


def _predict_chunk(seed: int, plan: Plan, index: int) -> ExpectedChunk:
    failures, saved = 0, False
    history: list[ExpectedStart] = []
    while True:
        start = len(history) + 1
        fate = fate_of(seed, plan.name, index, start)
        counted = fate.counted or (fate.saves_page and saved)  # the same page again is nothing new
        saved = saved or fate.saves_page
        history.append(ExpectedStart(start, fate.outcome, fate.code, counted))
        if fate.outcome == "Succeeded":
            return ExpectedChunk("Succeeded", failures + 1, start, tuple(history[-_HISTORY:]))
        failures += counted
        if fate.final or (counted and failures > plan.max_retries):
            return ExpectedChunk("Failed", failures, start, tuple(history[-_HISTORY:]))


def sentence(page: int) -> str:
    """Return what the simulated runner finds on a page."""
    return f"Page {page} has one sentence, and a \u201cquoted\u201d one, of the simulated runner."


def merged(chunks: tuple[ExpectedChunk, ...]) -> str:
    """Return the merged result as jsonl: sentences numbered over all pages, neighbouring gaps of one code joined."""
    lines: list[str] = []
    gap: list[int] = []
    gap_code, number = "", 0

    def close() -> None:
        if gap:
            lines.append(_json({"missing": [gap[0], gap[-1]], "code": gap_code}))
            gap.clear()

    for index, chunk in enumerate(chunks):
        pages = range(index * PAGES_PER_CHUNK + 1, (index + 1) * PAGES_PER_CHUNK + 1)
        if chunk.phase == "Failed":
            code = chunk.history[-1].code or ""
            if gap and code != gap_code:
                close()
            gap_code = code
            gap.extend(pages)
            continue
        close()
        for page in pages:
            lines.append(_json({"n": number, "page": page, "endPage": page, "text": sentence(page)}))
            number += 1
    close()
    return "".join(f"{line}\n" for line in lines)


def _json(value: dict[str, object]) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
