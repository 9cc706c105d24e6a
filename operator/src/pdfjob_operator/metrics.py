"""What /metrics tells: counters of what this process did, and gauges of how the resources stand.

Counters begin at 0 with each process, and tell only of writes that this process made; the gauges of jobs and chunks
are read from the cached PdfJobs at each scrape, so that they are right from the first second of a process.
Source of the names: requirement R-77.
"""

from __future__ import annotations

import re
from collections import Counter as Tally
from collections.abc import Iterable, Iterator
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector
from typing_extensions import override

from pdfjob_api.conditions import ChunkPhase, JobCondition, JobPhase
from pdfjob_api.contract import TerminationMessage, Tokens
from pdfjob_api.errors import ChunkCode
from pdfjob_api.jobstatus import ChunkCounts, PdfJobStatus
from pdfjob_api.meta import Condition
from pdfjob_api.pdfchunk import Ending, EndReason, Outcome, PdfChunk, PdfChunkStatus, StartRecord
from pdfjob_api.pdfjob import PdfJob

from .cache import Cache
from .chunk_end import saved_before
from .clock import from_wire
from .conditions import is_true

_CALL_CODES: Final = frozenset({"timeout", "network"})
_STATUS: Final = re.compile("[1-5][0-9][0-9]")
"""Any image may write a termination message, so that its words are no labels as they are."""
_ENDS: Final = (ChunkPhase.SUCCEEDED, ChunkPhase.FAILED, ChunkPhase.CANCELLED)
_ATTEMPTS: Final = (1, 2, 3, 4, 5, 6, 8, 11, 21)
"""spec.retryPolicy.maxRetries is 3 by default and 20 at most."""
_DURATIONS: Final = (1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1200, 1800, 3600)
_WAITS: Final = (1, 2, 5, 15, 60, 300, 900, 3600, 4 * 3600, 12 * 3600, 24 * 3600)


class Metrics:
    """The metrics of one operator process, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)  # memory, processor time, open files of the operator itself
        self.resources = ResourceCounts()
        self.registry.register(self.resources)
        self._build_chunk_metrics()
        self.reconciles = Counter(
            "pdfjob_reconciles_total", "Reconciles by result.", ["result"], registry=self.registry
        )
        self.reconcile_seconds = Histogram(
            "pdfjob_reconcile_seconds", "Duration of a reconcile.", registry=self.registry
        )
        self.queue_depth = Gauge("pdfjob_queue_depth", "PdfJobs that wait for a reconcile.", registry=self.registry)
        self.api_seconds = Histogram(
            "pdfjob_api_request_seconds", "Calls to the API server.", ["verb"], registry=self.registry
        )
        self.s3_seconds = Histogram("pdfjob_s3_request_seconds", "Calls to S3.", ["operation"], registry=self.registry)
        self.schema_missing = Gauge(
            "pdfjob_crd_fields_missing", "Fields that the installed CRDs lack.", registry=self.registry
        )

    def job_written(self, before: PdfJobStatus, status: PdfJobStatus) -> None:
        """Count the answer to a request for a retry that a write of a PdfJob's status has given."""
        answer = status.last_retry
        if answer is not None and answer != before.last_retry:
            self.retries.labels("accepted" if answer.retried_count else "nothing").inc()

    def chunk_written(self, chunk: PdfChunk, status: PdfChunkStatus) -> None:
        """Count what the write of a PdfChunk's status has made known.

        Parameters
        ----------
        chunk
            The PdfChunk as it was before.
        status
            What was written, and taken by the API server.
        """
        before = chunk.status
        if status.last_retry is not None and status.last_retry != before.last_retry:
            self.retries.labels("accepted" if status.last_retry.accepted else "refused").inc()
        if before.started_at is None and status.started_at is not None:
            self.queue_wait_seconds.observe(_seconds(chunk.metadata.creation_timestamp, status.started_at))
        last = status.history[-1] if status.history else None
        if last is not None and last.start > (before.history[-1].start if before.history else 0):
            self._start_ended(before, status, last)
        if status.phase in _ENDS and before.phase not in _ENDS:
            self.chunks_finished.labels(status.phase.value).inc()
            if status.phase is not ChunkPhase.CANCELLED:
                self.chunk_attempts.observe(status.attempts)

    def runner_said(self, said: TerminationMessage) -> None:
        """Count the calls of a language service, and their tokens, that a runner has told of at its end."""
        for code, calls in said.requests.items():
            self.llm_requests.labels(code if code in _CALL_CODES or _STATUS.fullmatch(code) else "other").inc(calls)

    def _start_ended(self, before: PdfChunkStatus, status: PdfChunkStatus, record: StartRecord) -> None:
        self.starts.labels(outcome=record.outcome.value, code=record.code or "").inc()
        if record.outcome is Outcome.FAILED and record.code is not None:
            self.chunk_errors.labels(record.code).inc()
            self.starts_stuck.inc(_is_stuck(before.ending))
        tokens = status.result.tokens if status.result is not None else Tokens()
        for kind, number in tokens:
            self.llm_tokens.labels(kind).inc(number)
        missing = status.result.missing_pages if status.result is not None else 0
        self.items.labels("Failed").inc(missing)
        self.items.labels("Succeeded").inc(max(record.items - saved_before(before) - missing, 0))
        succeeded = record.outcome is Outcome.SUCCEEDED
        if succeeded and record.started_at is not None and record.finished_at is not None:
            self.chunk_duration_seconds.observe(_seconds(record.started_at, record.finished_at))

    def _build_chunk_metrics(self) -> None:
        """Make the metrics of chunks; every value that a label can have is there from the beginning, with 0."""
        self.starts = Counter(
            "pdfjob_chunk_starts_ended_total",
            "Starts of chunks that ended, by outcome and error code.",
            ["outcome", "code"],
            registry=self.registry,
        )
        self.chunks_finished = Counter(
            "pdfjob_chunks_finished_total",
            "Chunks that ended; one that is retried by hand ends again.",
            ["outcome"],
            registry=self.registry,
        )
        self.chunk_attempts = Histogram(
            "pdfjob_chunk_attempts",
            "Attempts of a chunk when it succeeded or failed; 1 is without a retry.",
            buckets=_ATTEMPTS,
            registry=self.registry,
        )
        self.chunk_duration_seconds = Histogram(
            "pdfjob_chunk_duration_seconds",
            "From the start of the container that succeeded until its result was verified.",
            buckets=_DURATIONS,
            registry=self.registry,
        )
        self.chunk_errors = Counter(
            "pdfjob_chunk_errors_total",
            "Starts that failed, by error code.",
            ["code"],
            registry=self.registry,
        )
        self.starts_stuck = Counter(
            "pdfjob_chunk_starts_stuck_total",
            "Starts that were given up since they gave no sign of life; among the errors with the code TIMEOUT.",
            registry=self.registry,
        )
        self.items = Counter(
            "pdfjob_items_total",
            "Pages saved by starts that ended (Succeeded), and pages that a result lacks (Failed).",
            ["outcome"],
            registry=self.registry,
        )
        self.queue_wait_seconds = Histogram(
            "pdfjob_queue_wait_seconds",
            "From the creation of a PdfChunk to the start of its first container.",
            buckets=_WAITS,
            registry=self.registry,
        )
        self.llm_requests = Counter(
            "pdfjob_llm_requests_total",
            "Calls of a language service by runners that ended, by HTTP status, or timeout or network.",
            ["code"],
            registry=self.registry,
        )
        self.llm_tokens = Counter(
            "pdfjob_llm_tokens_total",
            "Tokens of chunks that succeeded: input (cached ones included), output, cached, thinking.",
            ["kind"],
            registry=self.registry,
        )
        for kind in Tokens.model_fields:
            self.llm_tokens.labels(kind)
        self.retries = Counter(
            "pdfjob_retry_requests_total",
            "Requests for a retry that were answered: accepted, refused, or nothing to start.",
            ["answer"],
            registry=self.registry,
        )
        for answer in ("accepted", "refused", "nothing"):
            self.retries.labels(answer)
        for phase in _ENDS:
            self.chunks_finished.labels(phase.value)
        for code in ChunkCode:
            self.chunk_errors.labels(code.value)
        for outcome in ("Succeeded", "Failed"):
            self.items.labels(outcome)


class ResourceCounts(Collector):
    """How many jobs and chunks there are in each phase, by the statuses of the cached PdfJobs.

    No PdfChunk is looked at but those of unfinished jobs, for the stuck ones: a scrape stays cheap.
    """

    def __init__(self) -> None:
        self._cache = Cache()

    def read_from(self, cache: Cache) -> None:
        """Count what is in this cache from now on."""
        self._cache = cache

    @override
    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Count anew."""
        jobs = [job for uid in self._cache.uids() if (job := self._cache.job(uid)) is not None]
        phases = Tally(job.status.phase for job in jobs)
        yield _family("pdfjob_jobs", "PdfJobs by phase.", ((phase, phases[phase]) for phase in JobPhase))
        counts = [job.status.chunks for job in jobs if job.status.chunks is not None]
        yield _family(
            "pdfjob_chunks",
            "Chunks by phase, as the statuses of all PdfJobs sum them.",
            ((phase, sum(_count(one, phase) for one in counts)) for phase in ChunkPhase),
        )
        stuck = GaugeMetricFamily("pdfjob_chunks_stuck", "Chunks that are being ended since they gave no sign of life.")
        stuck.add_metric([], sum(self._stuck(job) for job in jobs if not is_true(job, JobCondition.FINISHED)))
        yield stuck
        tokens = GaugeMetricFamily(
            "pdfjob_credit_tokens", "Tokens of a credit account.", labels=["namespace", "account", "state"]
        )
        for account in self._cache.accounts():
            status, meta = account.status, account.metadata
            tokens.add_metric([meta.namespace, meta.name, "available"], status.available)
            tokens.add_metric([meta.namespace, meta.name, "reserved"], status.reserved)
            tokens.add_metric([meta.namespace, meta.name, "charged"], status.charged)
        yield tokens
        reasons = Tally(item.reason for job in jobs for item in job.status.conditions if _is_degraded(item))
        degraded = GaugeMetricFamily("pdfjob_jobs_degraded", "PdfJobs held up, by reason.", labels=["reason"])
        for reason, count in sorted(reasons.items()):
            degraded.add_metric([reason], count)
        yield degraded

    def _stuck(self, job: PdfJob) -> int:
        endings = (chunk.status.ending for chunk in self._cache.chunks(job.metadata.uid).values())
        return sum(_is_stuck(ending) for ending in endings)


def _is_stuck(ending: Ending | None) -> bool:
    return ending is not None and ending.reason is EndReason.STUCK


def _is_degraded(condition: Condition) -> bool:
    return condition.type == JobCondition.DEGRADED.value and condition.status == "True"


def _family(name: str, text: str, values: Iterable[tuple[JobPhase | ChunkPhase, int]]) -> GaugeMetricFamily:
    family = GaugeMetricFamily(name, text, labels=["phase"])
    for phase, value in values:
        family.add_metric([phase.value], value)
    return family


def _count(counts: ChunkCounts, phase: ChunkPhase) -> int:
    match phase:
        case ChunkPhase.PENDING:
            return counts.pending
        case ChunkPhase.RUNNING:
            return counts.running
        case ChunkPhase.RETRY_SCHEDULED:
            return counts.retry_scheduled
        case ChunkPhase.SUCCEEDED:
            return counts.succeeded
        case ChunkPhase.FAILED:
            return counts.failed
        case ChunkPhase.CANCELLED:
            return counts.cancelled


def _seconds(since: str, until: str) -> float:
    """Return the seconds between two times as they are written; clocks of nodes differ, so never less than 0."""
    return max((from_wire(until) - from_wire(since)).total_seconds(), 0.0)
