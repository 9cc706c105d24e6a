"""`decide` in a simulated world: crashes between any two actions, stale caches, lost events, a cluster that takes away.

What must hold at every write is asserted by the world itself (tests/support/world_rules.py). Each run ends in peace:
the faults stop, time goes on, and the job must come to its end, and after it is deleted to nothing.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Final

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import initialize, precondition, rule
from typing_extensions import override

from pdfjob_api.errors import ExitCode
from pdfjob_operator.decide_chunk import TERMINAL
from pdfjob_operator.observation import WorkKind
from pdfjob_operator.views import PodView
from tests.support.api_server import KINDS
from tests.support.job_end import check_end
from tests.support.peace import Peace
from tests.support.simulated_operator import SimulatedOperator
from tests.support.simulated_work import WorkFailedError
from tests.support.user_rules import UserOfAJob, choose, picks
from tests.support.world import World

_CODES: Final = [0, 1, 139, *(code.value for code in ExitCode if code is not ExitCode.DONE)]
_FAULTS: Final = [
    "crash",
    "saved, no time left",
    "Job deleted",
    "done, and all traces lost",
    "pod deleted",
    "evicted",
    "node lost",
]
kinds = st.sampled_from(KINDS)


class JobLife(UserOfAJob):
    """One PdfJob from apply to its end and its deletion, with everything going wrong on the way."""

    @initialize(
        chunks=st.integers(1, 3),
        pages=st.integers(1, 3),
        max_retries=st.integers(0, 2),
        parallelism=st.integers(1, 2),
        retain=st.booleans(),
        ahead=st.integers(0, 24),
        damage_at=st.sampled_from([None, None, None, 1, 3, 4, 5, 6]),
        may_fail=st.sampled_from([0, 0, 1, "50%", "100%"]),
        job_timeout=st.sampled_from([None, None, None, 2, 30]),
        ttl=st.sampled_from([-1, -1, 0, 100]),
        balance=st.sampled_from([None, 0, 200, 1000, 100_000]),
        troubles=st.lists(
            st.tuples(st.sampled_from([1, 2, 3, 11]), st.sampled_from(_FAULTS), st.booleans()), max_size=2
        ),
    )
    def apply(
        self,
        chunks: int,
        pages: int,
        max_retries: int,
        parallelism: int,
        ahead: int,
        damage_at: int | None,
        may_fail: int | str,
        job_timeout: int | None,
        ttl: int,
        balance: int | None,
        troubles: list[tuple[int, str, bool]],
        *,
        retain: bool,
    ) -> None:
        self.world = World(
            chunks=chunks,
            pages_per_chunk=pages,
            max_retries=max_retries,
            parallelism=parallelism,
            retain=retain,
            balance=balance,
            failurePolicy={"maxFailedChunks": may_fail},
            limits={"jobTimeoutSeconds": job_timeout},
            ttlSecondsAfterFinished={"succeeded": ttl, "failed": ttl, "stopped": ttl, "cancelled": ttl},
        )
        self.operator = SimulatedOperator(self.world)
        self.peace = Peace(self.world, self.operator)
        self.operator.damage_at = damage_at
        self.final = {WorkKind.SPLIT} if damage_at else set()
        self.meddled = self.policy_edited = False
        self.go_on(ahead)
        for times, fault, early in troubles:
            self.same_again(times, fault, early=early)

    # The operator.

    @rule(pick=picks)
    def operator_step(self, pick: int) -> None:
        self.operator.step(pick)

    @rule(pick=picks)
    def operator_reconcile(self, pick: int) -> None:
        self.operator.reconcile(pick)

    @rule()
    def operator_crash(self) -> None:
        self.operator.crash()

    @precondition(lambda self: self.operator.working)
    @rule()
    def operator_work(self) -> None:
        self.operator.work_step()

    @precondition(lambda self: self.operator.working)
    @rule(final=st.sampled_from([False, False, True]))
    def operator_work_fails(self, *, final: bool) -> None:
        kind = self.operator.memory.facts.working
        if kind is WorkKind.SPLIT and self.world.storage.manifest is not None:
            final = False  # only plan and manifest are read, and storage that fails may come back
        if final and kind is not None:
            self.final.add(kind)
        self.operator.work_fails = WorkFailedError(final=final)
        self.operator.work_step()

    @rule(fault=st.sampled_from(["before", "after"]))
    def api_server_fails(self, fault: str) -> None:
        self.operator.failing = fault

    @rule()
    def storage_fails(self) -> None:
        self.operator.reads_fail = True

    # What it hears.

    @precondition(lambda self: any(self.world.events.values()))
    @rule(plural=kinds, pick=picks, keep=st.booleans())
    def event_arrives(self, plural: str, pick: int, *, keep: bool) -> None:
        events = self.world.events[plural]
        if events:
            self.operator.deliver(plural, pick % len(events), keep=keep)

    @precondition(lambda self: any(self.world.events.values()))
    @rule(plural=kinds)
    def events_arrive(self, plural: str) -> None:
        while self.world.events[plural]:
            self.operator.deliver(plural, 0)

    @precondition(lambda self: any(self.world.events.values()))
    @rule(plural=kinds)
    def events_are_lost(self, plural: str) -> None:
        self.world.events[plural].clear()

    @rule()
    def resync(self) -> None:
        self.operator.resync()

    # The credit account.

    @precondition(lambda self: self.world.bank is not None)
    @rule(tokens=st.sampled_from([-500, 50, 200, 1000]))
    def balance_is_changed(self, tokens: int) -> None:
        bank = self.world.bank
        if bank is not None and bank.balance + tokens >= 0:
            bank.top_up(tokens)

    @precondition(lambda self: self.world.bank is not None)
    @rule(tokens=st.sampled_from([0, 60, 150]))
    def another_job_books(self, tokens: int) -> None:
        bank = self.world.bank
        if bank is not None:
            bank.let_another_job_book(tokens)

    @precondition(lambda self: self.world.bank is not None)
    @rule()
    def news_of_the_account_arrives(self) -> None:
        self.operator.hear_of_the_account()

    # What happens.

    @precondition(lambda self: self.world.moves())
    @rule(pick=st.integers(0, 20))
    def cluster_moves(self, pick: int) -> None:
        move = choose(self.world.moves(), pick)
        if move is not None:
            move()

    @precondition(lambda self: self.world.runner_moves())
    @rule(pick=picks)
    def runner_moves(self, pick: int) -> None:
        move = choose(self.world.runner_moves(), pick)
        if move is not None:
            move()

    @rule(seconds=st.sampled_from([1, 20, 60, 301, 700]))
    def time_passes(self, seconds: int) -> None:
        self.world.now += timedelta(seconds=seconds)

    # What goes wrong.

    @rule(times=st.integers(1, 12), fault=st.sampled_from(_FAULTS), early=st.booleans())
    def same_again(self, times: int, fault: str, *, early: bool) -> None:
        """Let the same thing happen to whatever runs, or is about to (``early``), again and again."""
        for _ in range(times):
            for pod in self.next_pods(early=early):
                if pod.meta.uid in self.world.objects["pods"]:
                    self.befall(pod, fault)

    def next_pods(self, *, early: bool) -> list[PodView]:
        """Go on until there are pods that run, or wait to."""
        for _ in range(40):
            pods = self.world.waiting() if early else self.world.running()
            if pods or self.peace.finished():
                return pods
            if not self.peace.round():
                self.peace.wait()
        return []

    def befall(self, pod: PodView, fault: str) -> None:
        world = self.world
        match fault:
            case "crash":
                world.end_pod(pod, 70)
            case "saved, no time left":
                world.save_page(pod)
                world.end_pod(pod, 76)
            case "Job deleted":
                for job in world.jobs():
                    world.delete_job_by_hand(job)
            case "done, and all traces lost":
                for plural in KINDS:
                    self.events_arrive(plural)
                self.operator.reconcile()
                world.store_result(pod)
                world.end_pod(pod, 0)
                for job in world.jobs():
                    world.delete_job_by_hand(job)
                for _ in range(3):
                    for move in world.moves():
                        move()
                self.operator.crash()
            case _:
                world.take_pod(pod, disrupted=fault == "evicted", lost=fault == "node lost")

    @precondition(lambda self: self.world.running())
    @rule(pick=picks, code=st.sampled_from(_CODES))
    def runner_ends(self, pick: int, code: int) -> None:
        pod = choose(self.world.running(), pick)
        if pod is not None:
            self.world.end_pod(pod, code)

    @precondition(lambda self: self.world.running())
    @rule(pick=picks, kind=st.sampled_from(["OOMKilled", "DeadlineExceeded", "Evicted"]))
    def kubelet_ends(self, pick: int, kind: str) -> None:
        pod = choose(self.world.running(), pick)
        if pod is None:
            return
        if kind == "OOMKilled":
            self.world.end_pod(pod, 71, reason=kind)
        else:
            self.world.end_pod(pod, 75, pod_reason=kind)

    @precondition(lambda self: self.world.running())
    @rule(pick=picks)
    def runner_stores_nonsense(self, pick: int) -> None:
        pod = choose(self.world.running(), pick)
        if pod is not None:
            self.world.store_result(pod, valid=False)
            self.world.end_pod(pod, 0)

    @precondition(lambda self: self.world.pods())
    @rule(pick=picks, kind=st.sampled_from(["by hand", "evicted", "node lost"]))
    def pod_is_taken(self, pick: int, kind: str) -> None:
        pod = choose([pod for pod in self.world.pods() if pod.meta.deleted is None], pick)
        if pod is not None:
            self.world.take_pod(pod, disrupted=kind == "evicted", lost=kind == "node lost")

    @rule(missing=st.booleans())
    def registry_changes(self, *, missing: bool) -> None:
        self.world.image_missing = missing

    @precondition(lambda self: self.world.jobs())
    @rule(pick=picks)
    def job_is_deleted(self, pick: int) -> None:
        job = choose(self.world.jobs(), pick)
        if job is not None:
            self.world.delete_job_by_hand(job)

    @precondition(lambda self: self.world.objects["pdfchunks"])
    @rule(pick=picks)
    def chunk_is_deleted(self, pick: int) -> None:
        chunk = choose(self.peace.chunks(), pick)
        if chunk is not None:
            self.meddled = True
            self.world.delete_chunk_by_hand(chunk.spec.index)

    @precondition(lambda self: self.world.jobs())
    @rule(pick=picks)
    def queueing_system_holds(self, pick: int) -> None:
        over = {(pod.meta.chunk, pod.meta.start) for pod in self.world.pods() if pod.ended}
        jobs = [job for job in self.world.jobs() if not job.finished and not job.suspended]
        job = choose([job for job in jobs if (job.meta.chunk, job.meta.start) not in over], pick)
        if job is not None:
            self.world.hold_job(job)

    @precondition(lambda self: self.world.running())
    @rule(pick=picks)
    def runner_hangs(self, pick: int) -> None:
        pod = choose(self.world.running(), pick)
        if pod is not None:
            self.world.hang(pod)

    # How it ends.

    @override
    def teardown(self) -> None:
        if not hasattr(self, "peace") or self.world.violation is not None:
            return
        job = self.peace.job()
        if job is not None and job.metadata.deletion_timestamp is None:
            self.world.edit(suspend=False)
        self.world.image_missing = False
        if self.world.bank is not None:
            self.world.bank.top_up(10_000)
        self.peace.until_finished()
        self.peace.until_quiet()  # a request that came at the very end opens it again
        self.peace.until_finished()
        self.peace.until_quiet()
        job = self.peace.job()
        if job is not None and job.metadata.deletion_timestamp is None:
            check_end(self.peace, job, final=self.final, meddled=self.meddled, policy_edited=self.policy_edited)
            phases = {chunk.status.phase for chunk in self.peace.chunks()}
            assert phases <= TERMINAL, f"chunks are left {phases}"
            assert not self.world.jobs(), "Jobs are left when the PdfJob has ended"
            assert not [pod for pod in self.world.pods() if self.world.live(pod)], "pods are left that run"
            self.world.delete("pdfjobs", self.world.uid)
        self.peace.until_gone()


JobLife.TestCase.settings = settings(
    max_examples=400,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large],
)
TestJobLife = JobLife.TestCase
