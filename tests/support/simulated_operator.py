"""The operator's side of the simulated world: the real cache, memory and `decide`, and actions one at a time.

What `act`, `work` and `reconcile` do with sockets and threads is done here in small steps that the test drives, so that
anything may happen between any two of them: an event, a fault, the death of the process.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from pdfjob_api.conditions import JobCondition
from pdfjob_api.jobstatus import PdfJobStatus
from pdfjob_api.names import FINALIZER
from pdfjob_api.pdfchunk import PdfChunk
from pdfjob_api.pdfjob import PdfJob
from pdfjob_operator.actions import (
    Action,
    AddFinalizer,
    Book,
    CreateJob,
    Decision,
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
from pdfjob_operator.bookings import Booking, book
from pdfjob_operator.cache import Cache
from pdfjob_operator.conditions import is_true
from pdfjob_operator.credits import delivered
from pdfjob_operator.decide import decide
from pdfjob_operator.jobspec import Urls, build_job, build_task
from pdfjob_operator.memory import JobMemory
from pdfjob_operator.observation import EndFacts, Observation, WorkKind, group_starts
from pdfjob_operator.settings import RunnerSettings
from pdfjob_operator.storage.kubernetes import (
    AlreadyExistsError,
    ConflictError,
    KubernetesError,
    NotFoundError,
    UnavailableError,
)

from .api_server import KINDS
from .bank import ACCOUNT
from .simulated_work import SimulatedWork, Steps

_URLS: Final = Urls(chunk="c", checkpoint="k", progress="p", result="r", previous_checkpoint=None)
_RUNNER: Final = RunnerSettings(image="runner")


@dataclass(slots=True)
class SimulatedOperator(SimulatedWork):
    """One operator process after the other, for one PdfJob."""

    reads_fail: bool = False
    """Whether the next read of an end fails."""
    decisions: int = 0
    _reconcile: Steps | None = None
    _failures: int = 0
    _status_written: datetime | None = None

    def __post_init__(self) -> None:
        self.start()

    # The process.

    def start(self) -> None:
        """Begin with nothing but full listings."""
        self.resync()

    def crash(self) -> None:
        """Die at once and start anew: what was in memory is gone, and what was under way ends where it is."""
        self.cache, self.memory = Cache(), JobMemory()
        self.world.made.clear()
        for events in self.world.events.values():
            events.clear()  # its watches begin where its listings end
        self.due = self._status_written = self._reconcile = self._work = None
        self._failures, self.failing, self.reads_fail, self.work_fails = 0, "", False, None
        self.start()

    def deliver(self, plural: str, number: int, *, keep: bool = False) -> None:
        """Take in one of the events that have not arrived yet; ``keep`` lets it come again."""
        events = self.world.events[plural]
        kind, raw = events[number] if keep else events.pop(number)
        owner = self.cache.remove(plural, raw) if kind == "DELETED" else self.cache.apply(plural, raw)
        if owner:
            self.wake()

    def hear_of_the_account(self) -> None:
        """Take in the credit account as it is; its status follows a changed balance."""
        bank = self.world.bank
        if bank is None:
            return
        bank.news = False
        self.cache.apply("creditaccounts", bank.raw)
        self.wake()
        account = bank.account()
        if account.status.observed_generation != account.metadata.generation:
            bank.replace_status(account.metadata.resource_version, book(account, []).wire())
            self.cache.apply("creditaccounts", bank.raw)

    def resync(self) -> None:
        """Compare the caches with full listings."""
        self.hear_of_the_account()
        for plural in KINDS:
            raws, version = self.world.listing(plural)
            if self.cache.replace(plural, raws, version):
                self.wake()

    # Reconciles.

    @property
    def busy(self) -> bool:
        """Whether a reconcile is under way."""
        return self._reconcile is not None

    @property
    def working(self) -> bool:
        """Whether background work is under way."""
        return self._work is not None

    def step(self, pick: int = 0) -> None:
        """Do the next action of the reconcile in hand, or take the PdfJob off the queue."""
        if self._reconcile is None:
            self.due = None
            self._reconcile = self._reconcile_steps()
            self._advance(next)
        else:
            self._advance(lambda steps: steps.send(pick))

    def reconcile(self, pick: int = 0) -> None:
        """Finish the reconcile in hand, or do a whole one."""
        self.step(pick)
        while self._reconcile is not None:
            self.step(pick)

    def _advance(self, resume: Callable[[Steps], None]) -> None:
        assert self._reconcile is not None
        try:
            resume(self._reconcile)
        except StopIteration:
            self._reconcile, self._failures = None, 0
        except KubernetesError:
            self._reconcile = None
            self.wake(min(0.5 * 2 ** min(self._failures, 7), 60.0))
            self._failures += 1

    def _reconcile_steps(self) -> Steps:
        job = self.cache.job(self.world.uid)
        if job is None:
            self._work = None
            return
        self.memory.look(self.world.now)
        if is_true(job, JobCondition.FINISHED) and self._work is None:
            self.memory.forget_run()
        elif job.metadata.deletion_timestamp is None and self.memory.facts.recorded is not None:
            self.memory.learn(recorded=None)
        decision = self._decide(job)
        reads = [action for action in decision.actions if isinstance(action, ReadEnd | ReadAdopted)]
        if reads:
            yield from self._perform(job, reads)
            job = self.cache.job(self.world.uid) or job
            decision = self._decide(job)
        yield from self._act(job, decision)
        if decision.requeue_seconds is not None:
            self.wake(decision.requeue_seconds)

    def _decide(self, job: PdfJob) -> Decision:
        self.decisions += 1
        uid = self.world.uid
        starts = group_starts(self.cache.child_jobs(uid), self.cache.pods(uid), self.cache.newest_starts(uid))
        account = self.cache.account(job.metadata.namespace, ACCOUNT)
        known = delivered(self.cache.last_known_chunks(uid).values())
        obs = Observation(job, self.cache.chunks(uid), starts, self.memory.facts, account=account, delivered=known)
        return decide(obs, self.world.now)

    def _act(self, job: PdfJob, decision: Decision) -> Steps:
        actions = decision.actions
        creates = [action for action in actions if isinstance(action, CreateJob)]
        kills = [action for action in actions if isinstance(action, DeletePod)]
        deletes = [action for action in actions if isinstance(action, DeleteJob)]
        writes = [action for action in actions if isinstance(action, WriteChunk)]
        others = [action for action in actions if action not in [*creates, *kills, *deletes, *writes]]
        yield from self._perform(job, writes)
        yield from self._perform(job, kills)
        yield from self._perform(job, others)
        yield from self._write_status(job, decision.status)
        try:
            yield from self._perform(job, creates)
        except KubernetesError:
            yield from self._perform(job, deletes)
            raise
        yield from self._perform(job, deletes)
        if any(not isinstance(action, ReadProgress) for action in actions):
            self.wake()

    def _write_status(self, job: PdfJob, status: PdfJobStatus | None) -> Steps:
        """Write the status of the PdfJob, at most once a second."""
        current = self.cache.job(self.world.uid)
        if status is None or current is None or current.status == status:
            return
        if current.metadata.resource_version != job.metadata.resource_version:
            self.wake()
            return
        ready = self._status_written + timedelta(seconds=1) if self._status_written else self.world.now
        if ready > self.world.now:
            self.wake((ready - self.world.now).total_seconds())
            return
        yield
        self._status_written = self.world.now
        self._replace_status("pdfjobs", job, status.wire())

    def _perform(self, job: PdfJob, actions: Iterable[Action]) -> Steps:
        """Carry out actions in any order; the first error comes out when all have ended."""
        left = list(actions)
        errors: list[KubernetesError] = []
        while left:
            pick = yield
            action = left.pop((pick or 0) % len(left))
            try:
                self._one(job, action)
            except KubernetesError as error:
                errors.append(error)
        if errors:
            raise errors[0]

    # Actions, as `act` carries them out.

    def _one(self, job: PdfJob, action: Action) -> None:
        match action:
            case AddFinalizer():
                self._finalizers(job, [*job.metadata.finalizers, FINALIZER])
            case RemoveFinalizer():
                self._ensure_nothing_runs()
                self._finalizers(job, [name for name in job.metadata.finalizers if name != FINALIZER])
            case StartWork():
                if action.kind is WorkKind.CLEAN:
                    self._ensure_nothing_runs()
                self.start_work(job, action.kind)
            case StopWork():
                self.end_work()
            case DeleteChunks():
                self._delete_chunks(job)
            case RestoreChunk():
                self._restore(job, action.index)
            case ReadEnd():
                self._read_end(action)
            case ReadAdopted():
                self.memory.learn_adopted(action.chunk.metadata.uid, None)
            case ReadProgress():
                progress = self.world.heartbeat(action.chunk, action.start)
                self.memory.learn_progress(action.chunk.metadata.uid, action.start, progress, self.world.now)
            case WriteChunk():
                self._write_chunk(action)
            case CreateJob():
                self._create_job(job, action)
            case DeleteJob():
                self.world.writes.append(("delete", "jobs"))
                self.call(lambda: self.world.delete("jobs", action.uid))
                self.cache.forget("jobs", self.world.uid, action.uid)
            case DeletePod():
                self.call(lambda: self.world.delete("pods", action.uid, action.grace_seconds))
            case Book():
                self._book(action.booking)
            case DeleteSelf():
                self.world.before_self_deletion()
                self.call(lambda: self.world.delete("pdfjobs", self.world.uid))

    def _book(self, booking: Booking) -> None:
        account, bank = self.cache.account("books", ACCOUNT), self.world.bank
        if account is None or bank is None:
            return
        status = book(account, [booking])
        if status == account.status:
            return
        try:
            self.call(lambda: bank.replace_status(account.metadata.resource_version, status.wire()))
        except ConflictError:
            self.cache.apply("creditaccounts", bank.raw)
            raise
        self.cache.apply("creditaccounts", bank.raw)

    def _finalizers(self, job: PdfJob, names: list[str]) -> None:
        meta = job.metadata
        with suppress(NotFoundError):
            self._conflicting(
                "pdfjobs", meta.name, lambda: self.world.set_finalizers(meta.name, meta.resource_version, names)
            )

    def _replace_status(self, plural: str, current: PdfJob | PdfChunk, status: dict[str, object]) -> None:
        meta = current.metadata
        self._conflicting(
            plural,
            meta.name,
            lambda: self.world.replace_status(plural, meta.name, meta.resource_version, status),
        )

    def _conflicting(self, plural: str, name: str, call: Callable[[], dict[str, object]]) -> None:
        """Write, and take in what the API server answers; after a conflict read the object anew."""
        answers: list[dict[str, object]] = []
        try:
            self.call(lambda: answers.append(call()))
        except ConflictError:
            found = self.world.find(plural, name)
            if found is not None:
                self.cache.apply(plural, found)
            raise
        self.cache.apply(plural, answers[0])

    def _ensure_nothing_runs(self) -> None:
        for plural in ("jobs", "pods"):
            for raw in self.world.objects[plural].values():
                self.cache.apply(plural, raw)
        if self.world.jobs() or any(self.world.live(pod) for pod in self.world.pods()):
            raise ConflictError("Jobs or pods are left")

    def _delete_chunks(self, job: PdfJob) -> None:
        def delete() -> None:
            for uid in list(self.world.objects["pdfchunks"]):
                self.world.delete("pdfchunks", uid)

        self.call(delete)
        for chunk in self.cache.chunks(job.metadata.uid).values():
            self.cache.forget("pdfchunks", job.metadata.uid, chunk.metadata.uid)

    def _restore(self, job: PdfJob, index: int) -> None:
        manifest = self.memory.facts.manifest
        if manifest is not None:
            self.create_chunk(job, manifest.chunks[index])

    def _read_end(self, action: ReadEnd) -> None:
        if self.reads_fail:
            self.reads_fail = False
            raise UnavailableError("the storage does not answer")
        storage, index = self.world.storage, action.chunk.spec.index
        result = storage.result(index, action.start)
        broken = "the result object is not valid" if storage.results.get((index, action.start)) is False else None
        saved = storage.newest_checkpoint(index, action.chunk.status.fresh_after)
        items = action.chunk.spec.page_count if result else saved
        end = EndFacts(result, broken, items, action.pods)
        self.memory.learn_end(action.chunk.metadata.uid, action.start, end)

    def _write_chunk(self, action: WriteChunk) -> None:
        status = action.status
        self._replace_status("pdfchunks", action.chunk, status.wire())
        if status.history and status.history[-1].start == status.starts:
            self.memory.forget_ended(action.chunk.metadata.uid, status.starts)

    def _create_job(self, job: PdfJob, action: CreateJob) -> None:
        """Make a Job; before a chunk starts again, ask the API server itself for pods that live."""
        index = action.chunk.spec.index
        wanted = job.spec.shutdown is None and not job.spec.suspend
        self.world.must(wanted, "a chunk starts although its job is paused or ended")
        if action.start > 1:
            for raw in self.world.objects["pods"].values():
                self.cache.apply("pods", raw)
            if any(self.world.live(pod) for pod in self.world.pods() if pod.meta.chunk == index):
                raise ConflictError(f"chunk {index} has a live pod")
        body = build_job(job, action.chunk, build_task(job, action.chunk, action.start), _URLS, _RUNNER)
        body.pop("spec")
        try:
            self.call(lambda: self.world.create("jobs", body))
        except UnavailableError:
            self.world.made.discard((action.chunk.metadata.uid, body["metadata"]["name"]))  # nobody told it
            raise
        except AlreadyExistsError:
            pass  # ours, as the next lines make sure
        raw = self.world.get("jobs", body["metadata"]["name"])
        if raw["metadata"]["ownerReferences"][0]["uid"] != action.chunk.metadata.uid:
            raise AlreadyExistsError(body["metadata"]["name"])
        self.cache.apply("jobs", raw)
