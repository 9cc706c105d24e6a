"""The loop: take a PdfJob off the queue, observe, decide, act, write its status once."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, replace
from typing import Final

import structlog

from pdfjob_api.conditions import JobCondition
from pdfjob_api.jobstatus import PdfJobStatus
from pdfjob_api.pdfjob import PdfJob

from .act import Actor
from .actions import (
    CreateJob,
    Decision,
    DeleteJob,
    DeletePod,
    DeleteSelf,
    ReadAdopted,
    ReadEnd,
    ReadProgress,
    WriteChunk,
)
from .cache import Cache
from .clock import utc_now
from .conditions import is_true
from .credits import delivered
from .decide import decide
from .dispatch import Demand, Dispatcher
from .memory import JobMemory
from .metrics import Metrics
from .observation import Observation, group_starts
from .storage.errors import StorageError
from .storage.kubernetes import ConflictError, KubernetesError, NotFoundError
from .workqueue import WorkQueue

_STATUS_SECONDS: Final = 1.0
"""At least so long between two writes of a PdfJob's status."""
_SETTLE_SECONDS: Final = 0.02
"""Events of one change come in a burst; waiting this long handles them together."""

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class Reconciler:
    """Reconciles PdfJobs until the queue is closed."""

    cache: Cache
    queue: WorkQueue
    actor: Actor
    dispatcher: Dispatcher
    metrics: Metrics
    memories: dict[str, JobMemory] = field(default_factory=dict)
    _accounts: dict[str, tuple[str, str]] = field(default_factory=dict)
    """Namespace and name of the credit accounts that were seen, by UID: who named one is told when it is gone."""

    def wake(self, uid: str) -> None:
        """Ask for a reconcile of a PdfJob or a credit account, soon; of a large one later, since events cost time."""
        memory = self.memories.get(uid)
        self.queue.add(uid, max(_SETTLE_SECONDS, 2 * memory.reconcile_seconds if memory else 0.0))

    async def run(self) -> None:
        """Reconcile one PdfJob after the other; run several of these for parallelism."""
        while (uid := await self.queue.get()) is not None:
            self.metrics.queue_depth.set(len(self.queue))
            try:
                with self.metrics.reconcile_seconds.time():
                    await self._reconcile(uid)
            except (ConflictError, NotFoundError) as error:
                log.info("changed meanwhile, reconcile again", uid=uid, error=str(error))
                self._failed(uid, "conflict")
            except (KubernetesError, StorageError) as error:
                log.warning("reconcile failed", uid=uid, error=str(error), retry_seconds=self._failed(uid, "error"))
            except Exception:
                # One PdfJob that meets a defect must not end the operator for all others.
                log.exception("reconcile met a defect", uid=uid, retry_seconds=self._failed(uid, "defect"))
            else:
                self.metrics.reconciles.labels(result="ok").inc()
                self.queue.done(uid)

    async def stop_work(self) -> None:
        """End all background work; it is taken up again after the next start."""
        await asyncio.gather(*(self.actor.work.stop(memory) for memory in self.memories.values()))

    def _failed(self, uid: str, result: str) -> float:
        self.metrics.reconciles.labels(result=result).inc()
        return self.queue.failed(uid)

    async def _reconcile(self, uid: str) -> None:
        job = self.cache.job(uid)
        account = self.cache.account_of_uid(uid)
        if account is not None:
            self._accounts[uid] = account.metadata.namespace, account.metadata.name
            await self.actor.ledger.refresh(account)
            return
        if job is None:
            await self._forget(uid)
            return
        memory = self.memories.setdefault(uid, JobMemory())
        memory.look(utc_now())
        if is_true(job, JobCondition.FINISHED) and memory.task is None:
            memory.forget_run()
        elif job.metadata.deletion_timestamp is None and memory.facts.recorded is not None:
            memory.learn(recorded=None)  # a retry opened it again; it is recorded anew at its end
        loop = asyncio.get_running_loop()
        began = loop.time()
        decision = self._decide(job, memory)
        decided = loop.time() - began
        memory.reconcile_seconds = decided
        reads = [action for action in decision.actions if isinstance(action, ReadEnd | ReadAdopted)]
        away: StorageError | None = None
        if reads:
            try:
                await self.actor.perform(job, memory, reads)
            except StorageError as error:
                away = error
            job = self.cache.job(uid) or job
            decision = self._decide(job, memory)
        if away is not None:  # what needs no storage goes on, above all the end of runners by the user's word
            decision = _without_storage(decision)
        await self._act(job, memory, decision)
        if decision.requeue_seconds is not None:
            # Not at once: a status that is due in a second would be decided again and again until then.
            self.queue.add(uid, max(decision.requeue_seconds, _SETTLE_SECONDS, 2 * decided))
        if away is not None:
            raise away

    def _decide(self, job: PdfJob, memory: JobMemory) -> Decision:
        uid = job.metadata.uid
        starts = group_starts(self.cache.child_jobs(uid), self.cache.pods(uid), self.cache.newest_starts(uid))
        obs = Observation(
            job,
            self.cache.chunks(uid),
            starts,
            memory.facts,
            caching=self.actor.settings.cache.max_age_days > 0,
            torn_away=self.cache.torn_away(uid),
        )
        ref = job.spec.credit_account_ref
        if ref is not None:
            account = self.cache.account(job.metadata.namespace, ref.name)
            known = self.cache.last_known_chunks(uid).values()
            obs = replace(obs, account=account, delivered=delivered(known))
        return decide(obs, utc_now())

    async def _act(self, job: PdfJob, memory: JobMemory, decision: Decision) -> None:
        """Write first, then start new Jobs, then delete old ones: a place that is free is filled at once."""
        creates = [action for action in decision.actions if isinstance(action, CreateJob)]
        kills = [action for action in decision.actions if isinstance(action, DeletePod)]
        deletes = [action for action in decision.actions if isinstance(action, DeleteJob)]
        writes = [action for action in decision.actions if isinstance(action, WriteChunk)]
        others = [
            action
            for action in decision.actions
            if not isinstance(action, WriteChunk | CreateJob | DeleteJob | DeletePod)
        ]
        await self.actor.perform(job, memory, writes)
        await self.actor.perform(job, memory, kills)  # before their Jobs: those would give them their whole grace
        await self.actor.perform(job, memory, others)
        if decision.status is not None:  # before the new Jobs: a quota may refuse those for a long time
            await self._write_status(job, memory, decision.status)
        granted = self._grant(job, decision, creates)
        memory.learn(capped=len(granted) < len(creates))
        try:
            await self.actor.perform(job, memory, granted)
        except (KubernetesError, StorageError):
            self._give_back(job, decision, granted)
            raise
        finally:  # a quota may refuse new Jobs until the old ones are deleted
            await self.actor.perform(job, memory, deletes)
        if any(not isinstance(action, ReadProgress | DeleteSelf) for action in [*writes, *others, *granted, *deletes]):
            # Own writes are in the cache already, no event will tell of them; the end of a pod comes as an event, and
            # so does the deletion of the PdfJob.
            self.wake(job.metadata.uid)

    def _grant(self, job: PdfJob, decision: Decision, creates: list[CreateJob]) -> list[CreateJob]:
        uid = job.metadata.uid
        demand = Demand(
            created=job.metadata.creation_timestamp,
            in_flight=decision.in_flight,
            waiting=tuple(create.priority for create in creates),
        )
        granted, freed = self.dispatcher.grant(uid, demand)
        if freed:
            self._wake_waiting(uid)
        return creates[:granted]

    def _give_back(self, job: PdfJob, decision: Decision, granted: list[CreateJob]) -> None:
        """Leave places to other jobs that this one could not use, since its Jobs could not be made."""
        uid = job.metadata.uid
        there = {(start.meta.chunk, start.meta.start) for start in self.cache.child_jobs(uid)}
        made = sum((create.chunk.spec.index, create.start) in there for create in granted)
        self.dispatcher.grant(uid, Demand(job.metadata.creation_timestamp, decision.in_flight + made, ()))
        self._wake_waiting(uid)

    def _wake_waiting(self, uid: str) -> None:
        for other in self.dispatcher.waiting():
            if other != uid:
                self.wake(other)

    async def _write_status(self, job: PdfJob, memory: JobMemory, status: PdfJobStatus) -> None:
        current = self.cache.job(job.metadata.uid)
        if current is None or current.status == status:
            return
        if current.metadata.resource_version != job.metadata.resource_version:
            self.wake(job.metadata.uid)  # decided on a spec that the user has changed meanwhile
            return
        now = asyncio.get_running_loop().time()
        wait = memory.status_written + _STATUS_SECONDS - now
        if wait > 0:
            self.queue.add(job.metadata.uid, wait)
            return
        try:
            await self.actor.write_status(current, status)
        finally:  # counted from its end: a slow answer does not bring the next write closer
            memory.status_written = asyncio.get_running_loop().time()

    async def _forget(self, uid: str) -> None:
        memory = self.memories.pop(uid, None)
        if memory is not None:
            await self.actor.work.stop(memory)
        self.dispatcher.forget(uid)
        self._wake_waiting(uid)
        account = self._accounts.pop(uid, None)
        if account is not None:
            self.actor.ledger.wake_jobs(*account)
        await self.actor.ledger.release(uid)


def _without_storage(decision: Decision) -> Decision:
    """Leave out what needs the storage, which has just failed: how starts ended, and new starts, which would fail."""
    needs = ReadEnd | ReadAdopted | CreateJob
    kept = tuple(action for action in decision.actions if not isinstance(action, needs))
    return replace(decision, actions=kept)
