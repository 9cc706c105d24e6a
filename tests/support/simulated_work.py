"""Background work of the simulated operator, as `work` does it: step by step, with faults between the steps."""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from pdfjob_api.conditions import ChunkPhase, Reason
from pdfjob_api.jobstatus import ResultFile, ResultFormat, SourceStatus
from pdfjob_api.pdfjob import PdfJob
from pdfjob_operator.cache import Cache
from pdfjob_operator.decide_chunk import TERMINAL
from pdfjob_operator.memory import JobMemory
from pdfjob_operator.observation import Merged, WorkError, WorkKind
from pdfjob_operator.plan import Manifest, Plan, StoredChunk, merge_input, merge_inputs, merge_mark, settings_hash
from pdfjob_operator.planning import plan_ranges
from pdfjob_operator.resources import build_chunk
from pdfjob_operator.storage.kubernetes import (
    AlreadyExistsError,
    ConflictError,
    KubernetesError,
    UnavailableError,
)

from .world import World

Steps = Generator[None, int, None]
"""Stands still before each step; what is sent in says which of several comes first."""


class WorkFailedError(Exception):
    """Background work failed; ``final`` says whether it is tried again."""

    def __init__(self, *, final: bool) -> None:
        super().__init__("the source is damaged" if final else "the storage does not answer")
        self.final = final


@dataclass(slots=True)
class SimulatedWork:
    """The work under way for one PdfJob, and what it shares with the reconciles."""

    world: World
    cache: Cache = field(default_factory=Cache)
    memory: JobMemory = field(default_factory=JobMemory)
    due: datetime | None = None
    """When the work queue hands the PdfJob out; None = nobody has asked for it."""
    failing: str = ""
    """What the next call to the API server does: "before" it has an effect, or "after" it, it fails; "" = works."""
    work_fails: WorkFailedError | None = None
    """How the next step of background work fails."""
    damage_at: int | None = None
    """Step of a split at which the source turns out to be damaged for good."""
    _work: Steps | None = None
    _work_steps: int = 0

    def wake(self, seconds: float = 0.02) -> None:
        """Put the PdfJob on the work queue."""
        due = self.world.now + timedelta(seconds=seconds)
        self.due = due if self.due is None else min(self.due, due)

    def call(self, call: Callable[[], object]) -> None:
        """Call the API server, which may not answer: before it has done anything, or after."""
        fault, self.failing = self.failing, ""
        if fault != "before":
            call()
        if fault:
            raise UnavailableError(f"no answer ({fault})")

    def create_chunk(self, job: PdfJob, stored: StoredChunk) -> None:
        """Make the PdfChunk of a stored chunk PDF; one that is there already is ours."""
        pages = plan_ranges(self.world.pages, job.spec.chunking)[stored.index]
        body = build_chunk(job, pages, stored, f"s3://bucket/c{stored.index}.pdf")
        try:
            self.call(lambda: self.world.create("pdfchunks", body))
        except AlreadyExistsError:
            assert self.world.find("pdfchunks", body["metadata"]["name"])
        self.cache.apply("pdfchunks", self.world.get("pdfchunks", body["metadata"]["name"]))

    def work_step(self) -> None:
        """Do the next step of the background work under way."""
        assert self._work is not None
        kind = self.memory.facts.working
        assert kind is not None
        try:
            self._fail_work(kind)
            next(self._work)
        except StopIteration:
            self.memory.work_succeeded(kind)
            self.end_work()
        except (WorkFailedError, KubernetesError) as error:
            final = isinstance(error, WorkFailedError) and error.final and kind not in {WorkKind.CLEAN, WorkKind.RECORD}
            retry_at = None if final else self.memory.retry_at(kind, self.world.now, first=10, most=300)
            reason = Reason.INVALID_FORMAT if final else Reason.STORAGE_UNREACHABLE
            self.memory.work_failed(kind, WorkError(reason, str(error), retry_at))
            self.end_work()

    def _fail_work(self, kind: WorkKind) -> None:
        self._work_steps += 1
        if kind is WorkKind.SPLIT and self._work_steps == self.damage_at:
            raise WorkFailedError(final=True)
        if self.work_fails is not None:
            fault, self.work_fails = self.work_fails, None
            raise fault

    def start_work(self, job: PdfJob, kind: WorkKind) -> None:
        """Begin background work, unless some is under way."""
        if self._work is not None:
            return
        if kind is WorkKind.MERGE:
            phases = [chunk.status.phase for chunk in self.cache.chunks(self.world.uid).values()]
            lacking = len(phases) - phases.count(ChunkPhase.SUCCEEDED)
            self.world.must(set(phases) <= TERMINAL, f"the merge begins while chunks are {phases}")
            allowed = job.spec.failure_policy.allowed(len(phases))
            self.world.must(lacking <= allowed, f"the merge begins although {lacking} chunks failed")
            chunks = sorted(self.cache.chunks(self.world.uid).items())
            self.memory.merging = merge_mark((chunk.status for _, chunk in chunks), job.status.last_retry)
        self.memory.learn(working=kind)
        self._work_steps = 0
        works = {WorkKind.SPLIT: self._split, WorkKind.MERGE: self._merge, WorkKind.CLEAN: self._clean}
        works[WorkKind.RECORD] = self._record
        self._work = works[kind](job)

    def end_work(self) -> None:
        """Let go of the work under way and ask for a reconcile."""
        self._work = None
        self.memory.learn(working=None)
        self.wake()

    def _split(self, job: PdfJob) -> Steps:
        storage, learn = self.world.storage, self.memory.learn
        if storage.plan is not None and storage.manifest is not None:
            learn(plan=storage.plan, manifest=storage.manifest, stored=len(storage.manifest.chunks))
            return
        learn(plan=storage.plan, step=Reason.FETCHING)
        self.wake()
        yield
        learn(step=Reason.SPLITTING)
        self.wake()
        yield
        if storage.plan is None:
            storage.plan = self._plan(job)
        learn(plan=storage.plan)
        self.wake()
        stored = {index: _stored(index) for index in self.cache.chunks(job.metadata.uid)}
        learn(stored=len(stored))
        for pages in plan_ranges(self.world.pages, job.spec.chunking):
            if pages.index not in stored:
                yield
                self.create_chunk(job, _stored(pages.index))
                stored[pages.index] = _stored(pages.index)
                learn(stored=len(stored))
                self.wake()
        yield
        storage.manifest = Manifest(run=job.metadata.uid[:8], chunks=[stored[index] for index in sorted(stored)])
        learn(manifest=storage.manifest)

    def _plan(self, job: PdfJob) -> Plan:
        chunking = job.spec.chunking
        return Plan(
            run=job.metadata.uid[:8],
            source=SourceStatus(sha256="s", size_bytes=1, pages=self.world.pages, file_name="novel.pdf"),
            settings_sha256=settings_hash(job.spec),
            pages_per_chunk=chunking.pages_per_chunk,
            threshold_pages=chunking.threshold_pages,
            overlap_pages=chunking.overlap_pages,
        )

    def _merge(self, job: PdfJob) -> Steps:
        statuses = [chunk.status for _, chunk in sorted(self.cache.chunks(job.metadata.uid).items())]
        inputs = [merge_input(status) for status in statuses]
        if len(inputs) != self.world.pages // self.world.pages_per_chunk or None in inputs:
            raise ConflictError("a PdfChunk was deleted or started again")
        yield
        self.world.storage.merged = merge_inputs(statuses)
        yield
        file = ResultFile(format=ResultFormat.TXT, uri="s3://bucket/result.txt", bytes=9, sha256="m")
        gaps = tuple((n, n, each) for n, each in enumerate(inputs) if each is not None and each.startswith("missing:"))
        self.memory.learn(merged=Merged((file,), gaps, merge_inputs(statuses)))

    def _record(self, job: PdfJob) -> Steps:
        yield
        self.world.storage.recorded = job.status.completion_time or "deleted"
        self.memory.learn(recorded="s3://bucket/history")

    def _clean(self, job: PdfJob) -> Steps:
        self.world.check_nothing_left()
        yield
        self.world.storage.cleaned = True
        self.memory.learn(cleaned=True)


def _stored(index: int) -> StoredChunk:
    return StoredChunk(index=index, size_bytes=1, sha256=f"{index}")
