"""Carries out what was decided: calls to the API server and to S3, and nothing else.

Every action may be repeated. Each object that the API server returns goes into the cache at once, so that the next
decision knows of it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

import structlog

from pdfjob_api.jobstatus import PdfJobStatus
from pdfjob_api.keys import JobKeys
from pdfjob_api.names import FINALIZER, LABEL_CHUNK, LABEL_JOB_UID
from pdfjob_api.pdfchunk import PdfChunk
from pdfjob_api.pdfjob import PdfJob

from .actions import (
    Action,
    AddFinalizer,
    Book,
    CreateJob,
    DeleteChunks,
    DeleteJob,
    DeletePod,
    DeleteSelf,
    ReadAdopted,
    ReadEnd,
    ReadProgress,
    RemoveFinalizer,
    RestoreChunk,
    StartWork,
    StopWork,
    WriteChunk,
)
from .cache import Cache
from .clock import utc_now
from .decide_chunk import refused_for_good
from .ends import newest_checkpoint, read_adopted, read_end, read_progress
from .events import events_of
from .jobspec import Urls, build_job, build_task, grace_seconds
from .kept_results import keep_result, take_kept
from .ledger import Ledger
from .memory import JobMemory
from .metrics import Metrics
from .observation import WorkKind
from .records import store_error_record
from .resources import build_event
from .result_cache import result_name, uses_cache
from .settings import Settings
from .storage.errors import StorageError
from .storage.kubernetes import (
    JOBS,
    PDFCHUNKS,
    PDFJOBS,
    PODS,
    AlreadyExistsError,
    Cluster,
    ConflictError,
    ForbiddenError,
    InvalidError,
    Kind,
    KubernetesError,
    NotFoundError,
)
from .storage.s3 import ObjectStore
from .stored import read_plan
from .work import Work, job_key

_CALLS: Final = 16
"""Calls to the API server at once, over all PdfJobs."""
_ENDS: Final = 2
"""Chunk results in memory at once: each may have 32 MiB, and several times that while it is checked."""
_RECORDS: Final = 8
"""Logs of pods read, and records of errors stored, at once: a kubelet that does not answer holds up only those."""
_HEARTBEATS: Final = 16
"""Heartbeats read at once: as many as there are threads for S3."""
_HEARTBEAT_TIMEOUT_SECONDS: Final = 10.0
_URL_MARGIN_SECONDS: Final = 900
_MAX_URL_SECONDS: Final = 7 * 86400

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class Actor:
    """Carries out actions for any PdfJob."""

    settings: Settings
    cluster: Cluster
    store: ObjectStore
    cache: Cache
    work: Work
    metrics: Metrics
    calls: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(_CALLS))
    ends: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(_ENDS))
    records: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(_RECORDS))
    heartbeats: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(_HEARTBEATS))
    ledger: Ledger = field(init=False)

    def __post_init__(self) -> None:
        self.ledger = Ledger(self.cluster, self.cache, self.work.wake)

    async def perform(self, job: PdfJob, memory: JobMemory, actions: Iterable[Action]) -> None:
        """Carry out actions that do not depend on each other, side by side.

        Raises
        ------
        KubernetesError, StorageError
            The first that occurred, after all have ended.
        """
        tasks = [asyncio.create_task(self._one(job, memory, action)) for action in actions]
        results = await asyncio.gather(*tasks, return_exceptions=True)
        for result in results:
            if isinstance(result, BaseException):
                raise result

    async def write_status(self, job: PdfJob, status: PdfJobStatus) -> None:
        """Replace the status of the PdfJob, then tell what has changed as Events."""
        meta = job.metadata
        events = events_of(job, job.status, status)
        raw = await self._replace_status(PDFJOBS, meta.namespace, meta.name, meta.resource_version, status.wire())
        self.cache.apply(PDFJOBS.plural, raw)
        self.metrics.job_written(job.status, status)
        log.info("status", job=job_key(job), phase=status.phase.value, step=status.current_step)
        for kind, reason, message in events:
            await self._event(job, kind, reason, message)

    def keys(self, job: PdfJob) -> JobKeys:
        """Return the object keys of a PdfJob."""
        return self.work.keys(job)

    def _room(self, action: Action) -> asyncio.Semaphore:
        """Return what bounds actions of this kind; those that only ask S3 take no place of the calls to the API server.

        A storage that is slow, or a hundred results to check, must not hold up the end of another job's runners.
        """
        match action:
            case ReadEnd() | ReadAdopted():
                return self.ends
            case ReadProgress():
                return self.heartbeats
        return self.calls

    async def _one(self, job: PdfJob, memory: JobMemory, action: Action) -> None:
        if isinstance(action, WriteChunk) and action.ended is not None:
            async with self.records:
                keys, chunk = self.keys(job), action.chunk
                await store_error_record(self.store, self.cluster, keys, chunk, action.status, action.ended)
        if isinstance(action, WriteChunk) and action.keep:
            async with self.records:
                await self._keep_result(job, memory, action)
        if isinstance(action, Book):  # takes its turn at the account, and no place of the other calls meanwhile
            await self._book(job, action)
            return
        async with self._room(action):
            match action:
                case AddFinalizer():
                    await self._finalizers(job, [*job.metadata.finalizers, FINALIZER])
                case RemoveFinalizer():
                    await self._ensure_nothing_runs(job)
                    await self._finalizers(job, [name for name in job.metadata.finalizers if name != FINALIZER])
                case StartWork():
                    if action.kind is WorkKind.CLEAN:
                        await self._ensure_nothing_runs(job)
                    self.work.start(job, memory, action.kind)
                case StopWork():
                    await self.work.stop(memory)
                case DeleteChunks():
                    await self._delete_chunks(job)
                case RestoreChunk():
                    await self._restore(job, memory, action.index)
                case ReadEnd():
                    runs = _adopted(memory)
                    end = await read_end(self.store, self.keys(job), action.chunk, action.start, runs)
                    memory.learn_end(action.chunk.metadata.uid, action.start, replace(end, pods=action.pods))
                case ReadAdopted():
                    await self._look_for_result(job, memory, action.chunk)
                case ReadProgress():
                    await self._read_progress(job, memory, action)
                case WriteChunk():
                    await self._write_chunk(job, memory, action)
                case CreateJob():
                    await self._create_job(job, memory, action)
                case DeleteJob():
                    await self.cluster.delete(JOBS, job.metadata.namespace, action.name, action.uid)
                    self.cache.forget(JOBS.plural, job.metadata.uid, action.uid)
                case DeletePod():
                    namespace, grace = job.metadata.namespace, action.grace_seconds
                    there = await self.cluster.delete(PODS, namespace, action.name, action.uid, grace_seconds=grace)
                    if not there:  # a ghost: its DELETED event was lost
                        self.cache.forget(PODS.plural, job.metadata.uid, action.uid)
                        self.work.wake(job.metadata.uid)
                case DeleteSelf():
                    meta = job.metadata
                    if not await self.cluster.delete(PDFJOBS, meta.namespace, meta.name, meta.uid):  # a ghost, as above
                        self.cache.forget(PDFJOBS.plural, meta.uid, meta.uid)
                        self.work.wake(meta.uid)

    async def _book(self, job: PdfJob, action: Book) -> None:
        ref = job.spec.credit_account_ref
        if ref is not None:
            await self.ledger.book(job.metadata.namespace, ref.name, action.booking)

    async def _finalizers(self, job: PdfJob, names: list[str]) -> None:
        meta = job.metadata
        try:
            raw = await self.cluster.set_finalizers(PDFJOBS, meta.namespace, meta.name, meta.resource_version, names)
        except NotFoundError:
            return
        except ConflictError:
            await self._refresh(PDFJOBS, meta.namespace, meta.name)
            raise
        self.cache.apply(PDFJOBS.plural, raw)

    async def _ensure_nothing_runs(self, job: PdfJob) -> None:
        """Ask the API server itself before objects are removed: a pod may be there that no event has told of yet.

        Raises
        ------
        ConflictError
            When something was found; it is in the cache now, and the next decision ends it.
        """
        meta, selector = job.metadata, f"{LABEL_JOB_UID}={job.metadata.uid}"
        jobs, _ = await self.cluster.list_all(JOBS, meta.namespace, selector)
        for raw in jobs:
            self.cache.apply(JOBS.plural, raw)
        if await self._live_pods(job, selector) or jobs:
            raise ConflictError(f"Jobs or pods of {meta.name} are left that the cache did not know")

    async def _delete_chunks(self, job: PdfJob) -> None:
        meta = job.metadata
        await self.cluster.delete_all(PDFCHUNKS, meta.namespace, f"{LABEL_JOB_UID}={meta.uid}")
        for chunk in self.cache.chunks(meta.uid).values():
            self.cache.forget(PDFCHUNKS.plural, meta.uid, chunk.metadata.uid)

    async def _restore(self, job: PdfJob, memory: JobMemory, index: int) -> None:
        plan, manifest = memory.facts.plan, memory.facts.manifest
        if plan is None or manifest is None:
            return
        log.warning("a PdfChunk is missing and is made again", job=job_key(job), chunk=index)
        await self.work.create_chunk(job, plan.ranges(job.spec)[index], manifest.chunks[index])

    async def _look_for_result(self, job: PdfJob, memory: JobMemory, chunk: PdfChunk) -> None:
        """Look for the result of a chunk in earlier lives of the PdfJob first, then in the cache."""
        keys, runs, plan = self.keys(job), _adopted(memory), memory.facts.plan
        found = await read_adopted(self.store, keys, chunk, runs) if runs else None
        if found is None and plan is not None and uses_cache(job) and self.settings.cache.max_age_days:
            found = await take_kept(self.store, keys, chunk, result_name(job, chunk, plan))
        memory.learn_adopted(chunk.metadata.uid, found)

    async def _keep_result(self, job: PdfJob, memory: JobMemory, action: WriteChunk) -> None:
        """Keep the result of a chunk for other jobs; a storage that gives no plan, or takes no copy, is no trouble."""
        keys, result = self.keys(job), action.status.result
        try:
            plan = memory.facts.plan or await read_plan(self.store, keys)
        except StorageError as error:
            log.warning("result not kept in the cache", job=job_key(job), error=str(error))
            return
        if plan is not None and result is not None:
            await keep_result(self.store, keys, result_name(job, action.chunk, plan), result)

    async def _read_progress(self, job: PdfJob, memory: JobMemory, action: ReadProgress) -> None:
        """Read a heartbeat, not too often; a storage that does not answer says nothing about the runner."""
        key = (action.chunk.metadata.uid, action.start)
        now = asyncio.get_running_loop().time()
        if now - memory.progress_read.get(key, float("-inf")) < 0.9 * action.every_seconds:
            return
        memory.progress_read[key] = now
        try:
            async with asyncio.timeout(_HEARTBEAT_TIMEOUT_SECONDS):  # nobody shall wait for what is for show
                progress = await read_progress(self.store, self.keys(job), action.chunk, action.start)
        except (StorageError, TimeoutError) as error:
            log.warning("heartbeat not read", job=job_key(job), chunk=action.chunk.spec.index, error=str(error))
            memory.forgive_silence(*key, utc_now())
            return
        memory.learn_progress(*key, progress, utc_now())
        self.work.wake(job.metadata.uid)

    async def _write_chunk(self, job: PdfJob, memory: JobMemory, action: WriteChunk) -> None:
        meta, status = action.chunk.metadata, action.status
        try:
            raw = await self._replace_status(PDFCHUNKS, meta.namespace, meta.name, meta.resource_version, status.wire())
        except NotFoundError:  # a ghost: its DELETED event was lost, and the next decision makes it again
            self.cache.forget(PDFCHUNKS.plural, job.metadata.uid, meta.uid)
            raise
        self.cache.apply(PDFCHUNKS.plural, raw)
        log.info(
            "chunk",
            job=job_key(job),
            chunk=action.chunk.spec.index,
            start=status.starts,
            phase=status.phase.value,
            code=status.last_error.code if status.last_error else None,
        )
        if len(status.history) and status.history[-1].start == status.starts:
            memory.forget_ended(meta.uid, status.starts)
        self.metrics.chunk_written(action.chunk, status)
        if action.said is not None:
            memory.learn_said(action.said)
            invalid = refused_for_good(job, memory.facts, status)
            if invalid is not None:
                memory.learn(invalid=invalid)
            self.metrics.runner_said(action.said)
        if action.event is not None:
            await self._event(job, *action.event)

    async def _create_job(self, job: PdfJob, memory: JobMemory, action: CreateJob) -> None:
        chunk, start, namespace = action.chunk, action.start, job.metadata.namespace
        selector = f"{LABEL_JOB_UID}={job.metadata.uid},{LABEL_CHUNK}={chunk.spec.index}"
        if start > 1 and await self._live_pods(job, selector):
            raise ConflictError(f"chunk {chunk.spec.index} has a live pod that the cache did not know")
        urls = await self._urls(job, chunk, start, _adopted(memory))
        plan = memory.facts.plan
        task = build_task(job, chunk, start, plan.empty_pages if plan else (), memory.pace_seconds)
        body = build_job(job, chunk, task, urls, self.settings.runner)
        try:
            raw = await self.cluster.create(JOBS, namespace, body)
        except InvalidError as error:
            memory.learn(invalid=f"the API server refuses the Job of a chunk, correct spec.runner: {error}"[:1024])
            return
        except ForbiddenError as error:
            memory.learn(refused=str(error)[:500])
            raise
        except AlreadyExistsError:
            raw = await self.cluster.get(JOBS, namespace, body["metadata"]["name"])
            owners = {owner["uid"] for owner in raw["metadata"].get("ownerReferences") or []}
            if chunk.metadata.uid not in owners:
                raise
        memory.learn(refused=None)
        self.cache.apply(JOBS.plural, raw)

    async def _live_pods(self, job: PdfJob, selector: str) -> bool:
        """Ask the API server itself, as before a chunk starts again: watches of Jobs and pods are not in step."""
        raws, _ = await self.cluster.list_all(PODS, job.metadata.namespace, selector)
        for raw in raws:
            self.cache.apply(PODS.plural, raw)
        known = {raw["metadata"]["uid"] for raw in raws}
        stuck = job.spec.limits.stuck_timeout_seconds
        pods = [pod for pod in self.cache.pods(job.metadata.uid) if pod.meta.uid in known]
        return any(pod.live(utc_now(), stuck) for pod in pods)

    async def _urls(self, job: PdfJob, chunk: PdfChunk, start: int, runs: Sequence[str]) -> Urls:
        keys, index = self.keys(job), chunk.spec.index
        seconds = (
            job.spec.limits.pending_timeout_seconds
            + job.spec.limits.chunk_timeout_seconds
            + grace_seconds(job)
            + _URL_MARGIN_SECONDS
        )
        expires = min(seconds, _MAX_URL_SECONDS)
        earlier = None
        if start > 1 or runs:
            earlier = await newest_checkpoint(self.store, keys, index, runs=runs, after=chunk.status.fresh_after)
        previous = self.store.presign_get(earlier, expires) if earlier is not None else None
        return Urls(
            chunk=self.store.presign_get(keys.chunk(index), expires),
            checkpoint=self.store.presign_put(keys.checkpoint(index, start), expires),
            progress=self.store.presign_put(keys.progress(index, start), expires),
            result=self.store.presign_put(keys.chunk_result(index, start), expires, if_absent=True),
            previous_checkpoint=previous,
        )

    async def _replace_status(
        self, kind: Kind, namespace: str, name: str, version: str, status: dict[str, Any]
    ) -> dict[str, Any]:
        """Write a status on the version it was computed from; otherwise read anew, and the reconcile is redone."""
        try:
            return await self.cluster.replace_status(kind, namespace, name, version, status)
        except ConflictError:
            await self._refresh(kind, namespace, name)
            raise

    async def _refresh(self, kind: Kind, namespace: str, name: str) -> None:
        try:
            self.cache.apply(kind.plural, await self.cluster.get(kind, namespace, name))
        except NotFoundError:
            return  # its DELETED event is on the way

    async def _event(self, job: PdfJob, kind: str, reason: Any, message: str) -> None:
        """Record an Event; one that is lost is no reason to redo anything."""
        try:
            await self.cluster.create_event(job.metadata.namespace, build_event(job, kind, reason, message, utc_now()))
        except KubernetesError as error:
            log.warning("event not recorded", job=job_key(job), reason=str(reason), error=str(error))


def _adopted(memory: JobMemory) -> Sequence[str]:
    """Return the earlier lives whose results and checkpoints are this one's too."""
    return memory.facts.plan.adopted if memory.facts.plan is not None else ()
