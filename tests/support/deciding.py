"""Ask `decide` and `decide_chunk` about chunks, Jobs and pods, and read their answers."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Final, TypeVar

from pdfjob_api.conditions import JobCondition
from pdfjob_api.errors import ChunkCode
from pdfjob_api.jobstatus import PdfJobStatus
from pdfjob_api.meta import Condition
from pdfjob_api.pdfchunk import ChunkResultStatus, Outcome, PdfChunk, PdfChunkStatus, StartRecord
from pdfjob_api.pdfjob import PdfJob
from pdfjob_operator.actions import Action, CreateJob, Decision, WriteChunk
from pdfjob_operator.decide import decide
from pdfjob_operator.decide_chunk import ChunkDecision, decide_chunk
from pdfjob_operator.intent import Intent
from pdfjob_operator.observation import EndFacts, Facts, Start, group_starts
from pdfjob_operator.views import job_view, pod_view

from .builders import NOW, at, observation, pdf_job, raw_job, split_facts

RESULT: Final = ChunkResultStatus(uri="s3://pdfjob/r", sha256="d", bytes=1, sentences=3)
NOTHING: Final = EndFacts(None, None, 0)
ActionType = TypeVar("ActionType", bound=Action)
Resource = TypeVar("Resource", PdfJob, PdfChunk)


def starts_of(*raws: Mapping[str, Any], newest: Mapping[int, int] | None = None) -> dict[int, tuple[Start, ...]]:
    """Put raw Jobs and pods together by chunk and start."""
    pods = [raw for raw in raws if "containerStatuses" in raw["status"]]
    jobs = [raw for raw in raws if raw not in pods]
    return group_starts([job_view(raw) for raw in jobs], [pod_view(raw) for raw in pods], newest or {})


def queued_job(*, chunk: int = 0, start: int = 1) -> dict[str, Any]:
    """Build a child Job that a queueing system holds back."""
    return {**raw_job(chunk=chunk, start=start), "spec": {"suspend": True}}


def decided(
    job: PdfJob,
    chunks: list[PdfChunk],
    facts: Facts,
    *raws: Mapping[str, Any],
    seconds: float = 0,
    **known: Any,
) -> Decision:
    """Decide about a PdfJob with these Jobs and pods, so many seconds after NOW.

    ``known`` is what else the observation tells: ``caching``, ``account``, ``delivered``, ``torn_away``.
    """
    return decide(observation(job, chunks, facts, starts_of(*raws), **known), NOW + timedelta(seconds=seconds))


def chunk_decided(
    chunk: PdfChunk,
    *raws: Mapping[str, Any],
    end: EndFacts | None = None,
    job: PdfJob | None = None,
    facts: Mapping[str, Any] | None = None,
    seen: int = 0,
    seconds: float = 0,
    intent: Intent = Intent.RUN,
    held: ChunkCode | None = None,
    caching: bool = False,
) -> ChunkDecision:
    """Decide about a chunk with these Jobs and pods, so many seconds after NOW.

    ``end`` is what S3 says of its newest start; ``seen`` the highest start the cache has ever shown.
    """
    index = chunk.spec.index
    starts = starts_of(*raws, newest={index: seen} if seen else None)
    job = job or pdf_job()
    number = max([start.number for start in starts.get(index, ())], default=chunk.status.starts)
    ends = {(chunk.metadata.uid, number): end} if end else {}
    known = split_facts(job, 2, 1, **{"ends": ends, **(facts or {})})
    obs = observation(job, [chunk], known, starts, caching=caching)
    return decide_chunk(chunk, obs, NOW + timedelta(seconds=seconds), intent, held)


def of_type(decision: Decision | ChunkDecision, kind: type[ActionType]) -> list[ActionType]:
    """Return the actions of one type."""
    return [action for action in decision.actions if isinstance(action, kind)]


def started(decision: Decision) -> list[int]:
    """Return the numbers of the chunks that a decision starts, in this order."""
    return [create.chunk.spec.index for create in of_type(decision, CreateJob)]


def written(decision: ChunkDecision) -> PdfChunkStatus:
    """Return the one status that a decision about a chunk writes."""
    (write,) = of_type(decision, WriteChunk)
    assert write.status == decision.status
    return write.status


def condition(status: PdfJobStatus | None, kind: JobCondition) -> Condition:
    """Return a condition of a PdfJob."""
    assert status is not None
    return next(item for item in status.conditions if item.type == kind.value)


def record(
    start: int = 1,
    code: ChunkCode | str | None = None,
    *,
    outcome: Outcome | None = None,
    counted: bool = True,
    finished: float | None = None,
    began: float | None = None,
    **values: Any,
) -> StartRecord:
    """Build the record of a start; failed or lost, as it was counted, unless the outcome says otherwise."""
    return StartRecord(
        start=start,
        attempt=1,
        counted=counted,
        outcome=outcome or (Outcome.FAILED if counted or code else Outcome.LOST),
        code=code,
        finished_at=None if finished is None else at(finished),
        started_at=None if began is None else at(began),
        **values,
    )


def with_spec(resource: Resource, **spec: Any) -> Resource:
    """Return the resource as its user has edited it."""
    return resource.model_copy(update={"spec": resource.spec.model_copy(update=spec)})


def with_status(resource: Resource, **status: Any) -> Resource:
    """Return the resource with another status."""
    return resource.model_copy(update={"status": resource.status.model_copy(update=status)})
