"""Background work of a PdfJob: split, merge, record, clean. Each can be killed at any point and run again.

At most one piece of work per PdfJob is under way. It reports by changing the facts in the job's memory and asking for
a reconcile; it decides nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
from collections.abc import Callable
from contextlib import aclosing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import structlog

from pdfjob_api.conditions import Reason
from pdfjob_api.gemini import GeminiMode
from pdfjob_api.jobstatus import ResultFile, ResultFormat, SourceStatus
from pdfjob_api.keys import JobKeys
from pdfjob_api.names import ANNOTATION_FILE_NAME, run_of
from pdfjob_api.pdfjob import PdfJob

from .cache import Cache
from .chunk_results import fetch_results
from .clock import from_wire, utc_now
from .documents import Documents, MergedFile
from .memory import JobMemory
from .observation import Merged, WorkKind
from .plan import Manifest, Plan, StoredChunk, merge_input, merge_inputs, merge_mark, settings_hash
from .planning import ChunkRange, plan_ranges
from .records import store_job_record
from .resources import build_chunk, build_event
from .settings import Settings
from .sources import fetch_source
from .storage.errors import BucketNotFound, PreconditionFailed, StorageError
from .storage.kubernetes import PDFCHUNKS, AlreadyExistsError, Cluster, ConflictError, KubernetesError
from .storage.s3 import ObjectStore
from .stored import intact_chunks, read_manifest, read_plan, start_clean
from .work_errors import PlanMismatchError, work_error

_CREATES: Final = 16
"""PdfChunks of stored chunk PDFs that are made at once."""
_SOURCES: Final = 4
"""Sources on the operator's disk at once, over all PdfJobs: its volume has a limit, beyond it the pod is evicted."""
_CLEAN_SECONDS: Final = 600.0
"""Storage that stays away for so long while a job is deleted is gone for good."""
_CONTENT_TYPES: Final = {
    ResultFormat.JSONL: "application/x-ndjson",
    ResultFormat.TXT: "text/plain; charset=utf-8",
    ResultFormat.CSV: "text/csv; charset=utf-8",
}

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Work:
    """Does the background work of all PdfJobs."""

    settings: Settings
    cluster: Cluster
    store: ObjectStore
    documents: Documents
    cache: Cache
    wake: Callable[[str], None]
    """Asks for a reconcile of the PdfJob with this UID."""
    sources: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(_SOURCES))
    """Held while a source lies on disk."""

    def start(self, job: PdfJob, memory: JobMemory, kind: WorkKind) -> None:
        """Begin a piece of work, unless one is under way."""
        if memory.task is not None:
            return
        memory.merging = None
        memory.learn(working=kind)
        memory.task = asyncio.create_task(self._run(job, memory, kind), name=f"{kind.value} {job.metadata.name}")

    async def stop(self, memory: JobMemory) -> None:
        """End the work under way and wait until it has ended."""
        if memory.task is not None:
            memory.task.cancel()
            await asyncio.gather(memory.task, return_exceptions=True)

    def keys(self, job: PdfJob) -> JobKeys:
        """Return the object keys of a PdfJob."""
        return JobKeys(self.settings.s3.prefix, job.metadata.namespace, job.metadata.name, job.metadata.uid)

    async def _run(self, job: PdfJob, memory: JobMemory, kind: WorkKind) -> None:
        # One for each kind: the removal of the last one may still be under way, on another thread.
        folder = self.settings.work_dir / f"{job.metadata.uid}-{kind.value}"
        context = {"job": job_key(job), "work": kind.value}
        try:
            await asyncio.to_thread(folder.mkdir, parents=True, exist_ok=True)
            log.info("work begins", **context)
            match kind:
                case WorkKind.SPLIT:
                    await self._split(job, memory, folder)
                case WorkKind.MERGE:
                    await self._merge(job, memory, folder)
                case WorkKind.RECORD:
                    await self._record(job, memory)
                case WorkKind.CLEAN:
                    await self._clean(job, memory)
            memory.work_succeeded(kind)
            log.info("work done", **context)
        except Exception as error:
            # The last line of defence of a task that nobody awaits: whatever happened is told on the resource.
            failed = work_error(error, memory.retry_at(kind, utc_now(), first=10, most=300))
            log.warning("work failed", **context, reason=failed.reason.value, error=failed.message, exc_info=error)
            memory.work_failed(kind, failed)
        finally:
            memory.task = None
            memory.learn(working=None)
            self.wake(job.metadata.uid)
            # On another thread and not awaited for long: a cancelled task must still leave nothing behind.
            await asyncio.shield(asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True))

    async def _split(self, job: PdfJob, memory: JobMemory, folder: Path) -> None:
        """Make plan.json, the chunk PDFs, the PdfChunks and manifest.json, as far as they are not there."""
        keys, run = self.keys(job), run_of(job.metadata.uid)
        found = await read_plan(self.store, keys)
        # Settings of this run's plan are immutable; their hash differs all the same when a newer CRD has a new default.
        plan = found if found is not None and found.run == run else None
        manifest = await read_manifest(self.store, keys)
        if plan is not None and manifest is not None and manifest.run == run:
            memory.learn(plan=plan, manifest=manifest, stored=len(manifest.chunks))
            return
        memory.learn(plan=plan, step=Reason.FETCHING)  # chunks that are stored already need not wait for a place
        self.wake(job.metadata.uid)
        if plan is not None:
            await self._take_over(job, memory, plan)
            if not self._unstored(job, plan):  # a manifest that was lost needs no source
                await self._store_manifest(job, memory, plan)
                return
        async with self.sources:
            await self._split_source(job, memory, folder, found)

    async def _split_source(self, job: PdfJob, memory: JobMemory, folder: Path, found: Plan | None) -> None:
        """Fetch the source and split it; what is stored already stays.

        Parameters
        ----------
        found
            The stored plan, of this life or of an earlier one.
        """
        source, run = folder / "source.pdf", run_of(job.metadata.uid)
        fetched = await fetch_source(
            job.spec.source, job.metadata.namespace, source, settings=self.settings, store=self.store
        )
        memory.learn(step=Reason.SPLITTING)
        self.wake(job.metadata.uid)
        own = found.source if found is not None and found.run == run else job.status.source
        if own is not None and own.sha256 != fetched.sha256:
            raise PlanMismatchError("the source changed while it was being split; create a new PdfJob for the new one")
        plan = found
        if plan is None or plan.run != run:
            file_name = job.metadata.annotations.get(ANNOTATION_FILE_NAME) or fetched.file_name
            document = SourceStatus(sha256=fetched.sha256, size_bytes=fetched.size_bytes, file_name=file_name[:255])
            plan = await self._adopt(job, found, document) or await self._make_plan(job, source, document)
        memory.learn(plan=plan)
        self.wake(job.metadata.uid)
        await self._take_over(job, memory, plan)
        await self._store_chunks(job, memory, source, plan)
        await self._store_manifest(job, memory, plan)

    async def _adopt(self, job: PdfJob, found: Plan | None, document: SourceStatus) -> Plan | None:
        """Go on from the plan of an earlier life of the same name, or else remove what that life left.

        One PUT makes the plan this life's: before it the earlier plan stands and all is done again, after it the
        chunk PDFs, results and checkpoints of the lives that it names are this one's too. Runners of an earlier life
        write under keys of their own run only, however late.
        """
        if found is None:
            return None
        keys = self.keys(job)
        plan = found.adopted_by(run_of(job.metadata.uid), job.spec, document)
        if plan is None:
            removed = await start_clean(self.store, keys)
            log.info("another document or other settings: started clean", job=job_key(job), removed=removed)
            return None
        await self.store.put(keys.plan, plan.model_dump_json(by_alias=True).encode())
        log.info("an earlier life is adopted", job=job_key(job), runs=plan.adopted)
        return plan

    async def _make_plan(self, job: PdfJob, source: Path, found: SourceStatus) -> Plan:
        gemini = job.spec.processor.gemini
        count_text = gemini is not None and gemini.mode is GeminiMode.TEXT
        inspection = await self.documents.inspect(source, job.spec.source.repair, count_text=count_text)
        chunking, key = job.spec.chunking, self.keys(job).plan
        plan = Plan(
            run=run_of(job.metadata.uid),
            source=found.model_copy(update={"pages": inspection.pages}),
            settings_sha256=settings_hash(job.spec),
            pages_per_chunk=chunking.pages_per_chunk,
            threshold_pages=chunking.threshold_pages,
            overlap_pages=chunking.overlap_pages,
            damage=[text[:200] for text in inspection.damage[:20]],
            empty_pages=list(inspection.empty_pages),
            characters=inspection.characters,
        )
        data = plan.model_dump_json(by_alias=True).encode()
        try:
            await self.store.put(key, data, if_absent=True)
        except PreconditionFailed:  # an earlier try of this run stored it and did not live to hear so, or it is damaged
            stored = await read_plan(self.store, self.keys(job))
            if stored is not None and stored.run == plan.run:
                return stored
            await self.store.put(key, data)
        return plan

    async def _take_over(self, job: PdfJob, memory: JobMemory, plan: Plan) -> None:
        """Make the PdfChunks of the chunk PDFs that an adopted life stored and that are still right.

        Its manifest goes when some are not: they are written anew, perhaps not to the same byte, and a PdfChunk made
        of the old entry after a crash would have the wrong hash.
        """
        keys = self.keys(job)
        manifest = await read_manifest(self.store, keys) if plan.adopted else None
        if manifest is None or manifest.run not in plan.adopted:
            return
        ranges = plan.ranges(job.spec)
        there = self.cache.chunks(job.metadata.uid)
        intact = await intact_chunks(self.store, keys, manifest)
        todo = [chunk for chunk in intact if chunk.index not in there and chunk.index < len(ranges)]
        for first in range(0, len(todo), _CREATES):
            some = todo[first : first + _CREATES]
            creations = (self.create_chunk(job, ranges[chunk.index], chunk) for chunk in some)
            for error in await asyncio.gather(*creations, return_exceptions=True):  # none goes on behind a failure
                if error is not None:
                    raise error
            memory.learn(stored=len(self.cache.chunks(job.metadata.uid)))
            self.wake(job.metadata.uid)
        if self._unstored(job, plan):
            await self.store.delete(keys.manifest)

    def _unstored(self, job: PdfJob, plan: Plan) -> list[ChunkRange]:
        """Return the ranges without a PdfChunk; one is made only after its object is stored."""
        there = self.cache.chunks(job.metadata.uid)
        return [pages for pages in plan.ranges(job.spec) if pages.index not in there]

    async def _store_manifest(self, job: PdfJob, memory: JobMemory, plan: Plan) -> None:
        """Write down that every chunk is stored. The PdfChunks say what is."""
        chunks = self.cache.chunks(job.metadata.uid)
        unstored = self._unstored(job, plan)
        if unstored:
            raise ConflictError(f"PdfChunk {unstored[0].index} was deleted; it is made again")
        specs = [chunks[pages.index].spec for pages in plan.ranges(job.spec)]
        stored = [StoredChunk(index=spec.index, size_bytes=spec.size_bytes, sha256=spec.sha256) for spec in specs]
        manifest = Manifest(run=run_of(job.metadata.uid), chunks=stored)
        await self.store.put(self.keys(job).manifest, manifest.model_dump_json(by_alias=True).encode())
        memory.learn(manifest=manifest, stored=len(stored))

    async def _store_chunks(self, job: PdfJob, memory: JobMemory, source: Path, plan: Plan) -> None:
        """Store the PDF and make the PdfChunk of every range that has none."""
        keys, ranges = self.keys(job), plan.ranges(job.spec)
        missing = self._unstored(job, plan)
        memory.learn(stored=len(ranges) - len(missing))
        out = source.parent / "chunks"
        await asyncio.to_thread(out.mkdir, exist_ok=True)
        async with aclosing(self.documents.split(source, missing, out, job.spec.source.repair)) as files:
            async for file in files:
                entry = StoredChunk(index=file.index, size_bytes=file.size_bytes, sha256=file.sha256)
                await self.store.upload(file.path, keys.chunk(file.index), content_type="application/pdf", metadata={})
                await asyncio.to_thread(file.path.unlink)
                await self.create_chunk(job, ranges[file.index], entry)
                memory.learn(stored=memory.facts.stored + 1)
                self.wake(job.metadata.uid)

    async def create_chunk(self, job: PdfJob, pages: ChunkRange, stored: StoredChunk) -> None:
        """Make the PdfChunk of a stored chunk PDF; one that is there already is ours if this PdfJob owns it."""
        uri = self.store.uri(self.keys(job).chunk(pages.index))
        body = build_chunk(job, pages, stored, uri)
        namespace, name = job.metadata.namespace, body["metadata"]["name"]
        try:
            raw = await self.cluster.create(PDFCHUNKS, namespace, body)
        except AlreadyExistsError as error:
            raw = await self.cluster.get(PDFCHUNKS, namespace, name)
            owners = {owner["uid"] for owner in raw["metadata"].get("ownerReferences") or []}
            if job.metadata.uid not in owners:
                raise KubernetesError(f"PdfChunk {name} belongs to another PdfJob that is being removed") from error
        self.cache.apply(PDFCHUNKS.plural, raw)

    async def _merge(self, job: PdfJob, memory: JobMemory, folder: Path) -> None:
        """Merge the chunk results in page order and store the files; the same bytes each time.

        Chunks that failed leave gaps: whether they may is decided before this begins.
        """
        keys = self.keys(job)
        chunks = [chunk for _, chunk in sorted(self.cache.chunks(job.metadata.uid).items())]
        memory.merging = merge_mark((chunk.status for chunk in chunks), job.status.last_retry)
        plan = memory.facts.plan
        planned = [pages.index for pages in plan.ranges(job.spec)] if plan is not None else []
        if [chunk.spec.index for chunk in chunks if merge_input(chunk.status) is not None] != planned:
            raise ConflictError("a PdfChunk was deleted or started again; it is done before the merge")
        inputs = merge_inputs(chunk.status for chunk in chunks)
        out = folder / "merged"
        await asyncio.to_thread(out.mkdir, exist_ok=True)
        async with aclosing(fetch_results(self.store, chunks, folder)) as results:
            merged = await self.documents.merge(results, out, job.spec.output.formats)
        files = [await self._store_merged(keys, file, inputs) for file in merged.files]
        memory.learn(merged=Merged(tuple(files), tuple(merged.missing), inputs))

    async def _store_merged(self, keys: JobKeys, file: MergedFile, inputs: str) -> ResultFile:
        """Upload a merged file unless this very one is stored."""
        key = keys.result(file.format.value)
        metadata = {"run": run_of(keys.uid), "inputs": inputs, "sha256": file.sha256}
        known = await self.store.head(key)
        if known is None or known.metadata != metadata or known.size != file.size_bytes:
            await self.store.upload(file.path, key, content_type=_CONTENT_TYPES[file.format], metadata=metadata)
        return ResultFile(format=file.format, uri=self.store.uri(key), bytes=file.size_bytes, sha256=file.sha256)

    async def _record(self, job: PdfJob, memory: JobMemory) -> None:
        """Store the record of the job that outlives it; a deletion gives up on storage that is gone for good."""
        keys = self.keys(job)
        chunks = self.cache.last_known_chunks(job.metadata.uid).values()
        try:
            planned = await self._planned(job, memory)
            uri = await store_job_record(self.store, keys, job, chunks, utc_now(), planned)
        except StorageError as error:
            if not _gone_for_good(job, error):
                raise
            await self._abandon(job, f"the history record {self.store.uri(keys.history_record)} is not stored: {error}")
            uri = ""
        memory.learn(recorded=uri)

    async def _planned(self, job: PdfJob, memory: JobMemory) -> tuple[ChunkRange, ...]:
        """Return the chunks that the plan has; none before there is a plan."""
        source = job.status.source
        if memory.facts.plan is None and source is not None and source.pages:
            return plan_ranges(source.pages, job.spec.chunking)
        plan = memory.facts.plan or await read_plan(self.store, self.keys(job))
        return plan.ranges(job.spec) if plan is not None and plan.run == run_of(job.metadata.uid) else ()

    async def _clean(self, job: PdfJob, memory: JobMemory) -> None:
        """Remove everything of the job but merged result and history; give up on storage that is gone for good."""
        keys = self.keys(job)
        try:
            removed = await self.store.delete_prefix(keys.root, keep=keys.is_merged_result)
            log.info("objects removed", job=job_key(job), count=removed)
        except StorageError as error:
            if not _gone_for_good(job, error):
                raise
            what = f"objects under {self.store.uri(keys.root)} could not be removed and may be left there"
            await self._abandon(job, f"{what}: {error}")
        memory.learn(cleaned=True)

    async def _abandon(self, job: PdfJob, text: str) -> None:
        """Tell what is given up so that the deletion of a PdfJob goes on."""
        log.warning("storage is given up", job=job_key(job), error=text)
        with contextlib.suppress(KubernetesError):  # a namespace that is being deleted takes no Event
            event = build_event(job, "Warning", Reason.CLEANUP_ABANDONED, text, utc_now())
            await self.cluster.create_event(job.metadata.namespace, event)


def _gone_for_good(job: PdfJob, error: StorageError) -> bool:
    """Whether the deletion of a PdfJob goes on without its storage. For one that lives, storage always comes back."""
    if job.metadata.deletion_timestamp is None:
        return False
    away = (utc_now() - from_wire(job.metadata.deletion_timestamp)).total_seconds()
    return isinstance(error, BucketNotFound) or away > _CLEAN_SECONDS


def job_key(job: PdfJob) -> str:
    """Return ``namespace/name``, the value of the key ``job`` in the log."""
    return f"{job.metadata.namespace}/{job.metadata.name}"
