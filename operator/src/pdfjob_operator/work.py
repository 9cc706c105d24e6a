"""Background work of a PdfJob: split, merge, clean. Each can be killed at any point and run again.

At most one piece of work per PdfJob is under way. It reports by changing the facts in the job's memory and asking for
a reconcile; it decides nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import shutil
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import structlog

from pdfjob_api.conditions import Reason
from pdfjob_api.contract import MAX_RESULT_BYTES
from pdfjob_api.keys import JobKeys
from pdfjob_api.names import ANNOTATION_FILE_NAME, run_of
from pdfjob_api.pdfchunk import PdfChunk
from pdfjob_api.pdfjob import PdfJob, ResultFile, ResultFormat, SourceStatus

from .cache import Cache
from .clock import from_wire, utc_now
from .documents import Documents, MergedFile, MergeInput, ResultPart
from .memory import JobMemory
from .observation import Merged, WorkKind
from .plan import Manifest, Plan, StoredChunk, inputs_hash, settings_hash
from .planning import ChunkRange
from .resources import build_chunk, build_event
from .settings import Settings
from .sources import fetch_source
from .storage.errors import BucketNotFound, ObjectNotFound, PreconditionFailed, StorageError
from .storage.kubernetes import PDFCHUNKS, AlreadyExistsError, Cluster, ConflictError, KubernetesError
from .storage.s3 import ObjectStore
from .work_errors import MergeInputError, PlanMismatchError, work_error

_MAX_PLAN_BYTES: Final = 64 * 1024**2
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
        context = {"job": f"{job.metadata.namespace}/{job.metadata.name}", "work": kind.value}
        try:
            await asyncio.to_thread(folder.mkdir, parents=True, exist_ok=True)
            log.info("work begins", **context)
            match kind:
                case WorkKind.SPLIT:
                    await self._split(job, memory, folder)
                case WorkKind.MERGE:
                    await self._merge(job, memory, folder)
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
        keys = self.keys(job)
        plan = await self._stored_plan(job, keys)
        manifest = await self._stored_manifest(keys) if plan is not None else None
        if plan is not None and manifest is not None:
            memory.learn(plan=plan, manifest=manifest, stored=len(manifest.chunks))
            return
        memory.learn(plan=plan, step=Reason.FETCHING)  # chunks that are stored already need not wait for a place
        self.wake(job.metadata.uid)
        async with self.sources:
            await self._split_source(job, memory, folder, plan)

    async def _split_source(self, job: PdfJob, memory: JobMemory, folder: Path, plan: Plan | None) -> None:
        """Fetch the source and split it; what is stored already stays."""
        keys = self.keys(job)
        source = folder / "source.pdf"
        fetched = await fetch_source(
            job.spec.source, job.metadata.namespace, source, settings=self.settings, store=self.store
        )
        memory.learn(step=Reason.SPLITTING)
        self.wake(job.metadata.uid)
        if plan is None:
            file_name = job.metadata.annotations.get(ANNOTATION_FILE_NAME) or fetched.file_name
            found = SourceStatus(sha256=fetched.sha256, size_bytes=fetched.size_bytes, file_name=file_name[:255])
            plan = await self._make_plan(job, keys, source, found)
        elif plan.source.sha256 != fetched.sha256:
            raise PlanMismatchError("the source changed while it was being split; create a new PdfJob for the new one")
        memory.learn(plan=plan)
        self.wake(job.metadata.uid)
        stored = await self._store_chunks(job, memory, source, plan.ranges(job.spec))
        manifest = Manifest(run=run_of(job.metadata.uid), chunks=stored)
        await self.store.put(keys.manifest, manifest.model_dump_json(by_alias=True).encode())
        memory.learn(manifest=manifest)

    async def _stored_plan(self, job: PdfJob, keys: JobKeys) -> Plan | None:
        """Return this run's plan; what an earlier life of the same name left is removed, but for its merged result."""
        try:
            data = await self.store.get(keys.plan, _MAX_PLAN_BYTES)
        except ObjectNotFound:
            return None
        plan = Plan.model_validate_json(data)
        if plan.run == run_of(job.metadata.uid):
            # Its settings are immutable; their hash differs all the same when a newer CRD has brought a new default.
            return plan
        await self.store.delete_prefix(keys.root, keep=keys.is_merged_result)
        return None

    async def _stored_manifest(self, keys: JobKeys) -> Manifest | None:
        try:
            return Manifest.model_validate_json(await self.store.get(keys.manifest, _MAX_PLAN_BYTES))
        except ObjectNotFound:
            return None

    async def _make_plan(self, job: PdfJob, keys: JobKeys, source: Path, found: SourceStatus) -> Plan:
        inspection = await self.documents.inspect(source, job.spec.source.repair)
        chunking = job.spec.chunking
        plan = Plan(
            run=run_of(job.metadata.uid),
            source=found.model_copy(update={"pages": inspection.pages}),
            settings_sha256=settings_hash(job.spec),
            pages_per_chunk=chunking.pages_per_chunk,
            threshold_pages=chunking.threshold_pages,
            overlap_pages=chunking.overlap_pages,
            damage=[text[:200] for text in inspection.damage[:20]],
            empty_pages=list(inspection.empty_pages),
        )
        try:
            await self.store.put(keys.plan, plan.model_dump_json(by_alias=True).encode(), if_absent=True)
        except PreconditionFailed:  # an earlier try of this run stored it and did not live to hear so
            stored = await self._stored_plan(job, keys)
            return stored or plan
        return plan

    async def _store_chunks(
        self, job: PdfJob, memory: JobMemory, source: Path, ranges: tuple[ChunkRange, ...]
    ) -> list[StoredChunk]:
        """Store the PDF and make the PdfChunk of every range that has none; return all of them by index."""
        keys = self.keys(job)
        stored = {
            index: StoredChunk(index=index, size_bytes=chunk.spec.size_bytes, sha256=chunk.spec.sha256)
            for index, chunk in self.cache.chunks(job.metadata.uid).items()
        }
        memory.learn(stored=len(stored))
        missing = [pages for pages in ranges if pages.index not in stored]
        out = source.parent / "chunks"
        await asyncio.to_thread(out.mkdir, exist_ok=True)
        async with aclosing(self.documents.split(source, missing, out, job.spec.source.repair)) as files:
            async for file in files:
                entry = StoredChunk(index=file.index, size_bytes=file.size_bytes, sha256=file.sha256)
                await self.store.upload(file.path, keys.chunk(file.index), content_type="application/pdf", metadata={})
                await asyncio.to_thread(file.path.unlink)
                await self.create_chunk(job, ranges[file.index], entry)
                stored[file.index] = entry
                memory.learn(stored=len(stored))
                self.wake(job.metadata.uid)
        return [stored[pages.index] for pages in ranges]

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
        """Merge the chunk results in page order and store the files; the same bytes each time."""
        keys = self.keys(job)
        chunks = [chunk for _, chunk in sorted(self.cache.chunks(job.metadata.uid).items())]
        plan = memory.facts.plan
        planned = [pages.index for pages in plan.ranges(job.spec)] if plan is not None else []
        if [chunk.spec.index for chunk in chunks if chunk.status.result is not None] != planned:
            raise ConflictError("a PdfChunk was deleted; it is made and done again before the merge")
        inputs = inputs_hash(chunk.status.result.sha256 if chunk.status.result else "" for chunk in chunks)
        out = folder / "merged"
        await asyncio.to_thread(out.mkdir, exist_ok=True)
        async with aclosing(self._results(chunks, folder)) as results:
            merged = await self.documents.merge(results, out, job.spec.output.formats)
        files = [await self._store_merged(keys, file, inputs) for file in merged.files]
        memory.learn(merged=Merged(tuple(files), tuple(merged.missing)))

    async def _results(self, chunks: list[PdfChunk], folder: Path) -> AsyncGenerator[MergeInput, None]:
        """Bring the chunk results to disk one after the other, the next while the present one is merged."""
        ahead: asyncio.Task[Path] | None = None
        try:
            for number, chunk in enumerate(chunks):
                path = await (ahead or asyncio.create_task(self._fetch_result(chunk, folder)))
                following = chunks[number + 1] if number + 1 < len(chunks) else None
                ahead = asyncio.create_task(self._fetch_result(following, folder)) if following else None
                yield ResultPart(path, chunk.spec.start_page, chunk.spec.end_page)
                await asyncio.to_thread(path.unlink, missing_ok=True)
        finally:
            if ahead is not None:
                ahead.cancel()
                await asyncio.gather(ahead, return_exceptions=True)

    async def _fetch_result(self, chunk: PdfChunk, folder: Path) -> Path:
        result = chunk.status.result
        path = folder / f"{chunk.spec.index}.json"
        if result is None:
            raise MergeInputError(f"chunk {chunk.spec.index} has no result")
        key = result.uri.removeprefix(self.store.uri(""))
        try:
            await self.store.download(key, path, max_bytes=MAX_RESULT_BYTES)
        except ObjectNotFound as error:
            raise MergeInputError(f"the result of chunk {chunk.spec.index} is gone from the storage") from error
        if await asyncio.to_thread(_sha256, path) != result.sha256:
            raise MergeInputError(f"the result of chunk {chunk.spec.index} is not what its runner stored")
        return path

    async def _store_merged(self, keys: JobKeys, file: MergedFile, inputs: str) -> ResultFile:
        """Upload a merged file unless this very one is stored."""
        key = keys.result(file.format.value)
        metadata = {"run": run_of(keys.uid), "inputs": inputs, "sha256": file.sha256}
        known = await self.store.head(key)
        if known is None or known.metadata != metadata or known.size != file.size_bytes:
            await self.store.upload(file.path, key, content_type=_CONTENT_TYPES[file.format], metadata=metadata)
        return ResultFile(format=file.format, uri=self.store.uri(key), bytes=file.size_bytes, sha256=file.sha256)

    async def _clean(self, job: PdfJob, memory: JobMemory) -> None:
        """Remove everything of the job but the merged result; give up on storage that is gone for good."""
        keys = self.keys(job)
        try:
            removed = await self.store.delete_prefix(keys.root, keep=keys.is_merged_result)
            log.info("objects removed", job=job.metadata.name, count=removed)
        except StorageError as error:
            marked = from_wire(job.metadata.deletion_timestamp or "")
            gone = isinstance(error, BucketNotFound) or (utc_now() - marked).total_seconds() > _CLEAN_SECONDS
            if not gone:
                raise
            text = f"objects under {self.store.uri(keys.root)} could not be removed and may be left there: {error}"
            log.warning("objects left behind", job=job.metadata.name, error=text)
            with contextlib.suppress(KubernetesError):  # a namespace that is being deleted takes no Event
                event = build_event(job, "Warning", Reason.CLEANUP_ABANDONED, text, utc_now())
                await self.cluster.create_event(job.metadata.namespace, event)
        memory.learn(cleaned=True)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
