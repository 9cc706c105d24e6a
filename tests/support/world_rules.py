"""The state of a simulated cluster and its storage, and the rules that must hold at every write of the operator.

What must never happen is refused: every rule that holds at all times is asserted at the write that would break it.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from typing_extensions import override

from pdfjob_api.conditions import ChunkPhase, JobCondition
from pdfjob_api.jobstatus import PdfJobStatus
from pdfjob_api.names import FINALIZER, LABEL_CHUNK, LABEL_START
from pdfjob_api.pdfchunk import EndReason, Outcome, PdfChunk, PdfChunkStatus
from pdfjob_api.pdfjob import PdfJob, RetryRequest
from pdfjob_operator.bookings import reservation_of
from pdfjob_operator.chunk_end import MAX_UNCOUNTED
from pdfjob_operator.clock import from_wire
from pdfjob_operator.conditions import is_true
from pdfjob_operator.decide_chunk import TERMINAL
from pdfjob_operator.views import JobView, PodView, job_view, pod_view

from .api_server import ApiServer, Raw
from .bank import ACCOUNT, Bank
from .simulated_storage import Storage

NAMESPACE: Final = "books"
STUCK: Final = 600
_AGAIN: Final = {ChunkPhase.PENDING, ChunkPhase.RETRY_SCHEDULED}
"""Phases of a chunk that a request for a retry has opened again."""


@dataclass(slots=True)
class RunnerState:
    """What nobody but the node knows of a pod."""

    items: int
    """Pages that its start knows to be done, earlier starts included."""
    lost: bool = False
    """Its node is gone: it never ends and is never removed."""
    hung_at: datetime | None = None
    """Since when it does nothing any more, not even a heartbeat."""


class WorldRules(ApiServer):
    """One PdfJob, everything that is made for it as it truly is, and the rules that must hold."""

    def __init__(
        self,
        *,
        chunks: int,
        pages_per_chunk: int = 2,
        max_retries: int = 1,
        parallelism: int = 2,
        retain: bool = False,
        balance: int | None = None,
        **spec: Any,
    ) -> None:
        super().__init__(datetime(2026, 11, 22, 5, 0, tzinfo=UTC))
        self.pages, self.pages_per_chunk = chunks * pages_per_chunk, pages_per_chunk
        self.max_retries, self.most_parallel = max_retries, parallelism
        self.made: set[tuple[str, str]] = set()
        """Jobs that the present operator process has made, by UID of the PdfChunk and name."""
        self.storage = Storage()
        self.image_missing = False
        """Whether the registry lacks the runner's image at present."""
        self.bank: Bank | None = Bank(balance) if balance is not None else None
        """The credit account that pays, if the PdfJob names one."""
        self.delivered: dict[tuple[int, int], int] = {}
        """Tokens of each result that was written down, by chunk and start."""
        self.violation: str | None = None
        """The first rule that was broken."""
        self._runners: dict[str, RunnerState] = {}
        self._with_pod: set[str] = set()
        self._forced: dict[int, int] = {}
        """The start up to which results of a chunk count no more, since it was forced to be processed again."""
        self._held: set[str] = set()
        """Jobs that a queueing system held back once: one may be admitted again just before it is deleted."""
        self._idle: dict[str, int] = {}
        """Starts in a row, by PdfChunk, that saved nothing and were not counted."""
        self.requests: dict[str, RetryRequest] = {}
        """Every request for a retry that was ever made, by its id."""
        self._answered: set[tuple[str, str]] = set()
        """Request and PdfChunk: each is acted on once."""
        self._reopened: dict[str, int] = {}
        """How often each PdfChunk was opened again after its end."""
        self._late: set[tuple[int, int]] = set()
        """Results that were stored after their Job was deleted: they may come too late to be seen."""
        self._taken: set[tuple[int, int]] = set()
        """Starts that infrastructure or a person ended before they had ended by themselves."""
        raw = self._new(
            "pdfjobs",
            {
                "metadata": {"name": "novel", "namespace": NAMESPACE, "labels": {}},
                "spec": {
                    "source": {"s3": {"key": "pdfjob/inbox/books/novel.pdf"}},
                    "chunking": {"pagesPerChunk": pages_per_chunk, "thresholdPages": 0},
                    "parallelism": parallelism,
                    "retryPolicy": {"maxRetries": max_retries},
                    "deletionPolicy": "Retain" if retain else "Delete",
                    **({"creditAccountRef": {"name": ACCOUNT, "estimatedTokens": 150}} if self.bank else {}),
                    **spec,
                },
            },
        )
        self.uid: str = raw["metadata"]["uid"]

    # What runs.

    def jobs(self) -> list[JobView]:
        """Return the child Jobs as they truly are."""
        return [job_view(raw) for raw in self.objects["jobs"].values()]

    def pods(self) -> list[PodView]:
        """Return the runner pods as they truly are."""
        return [pod_view(raw) for raw in self.objects["pods"].values()]

    def live(self, pod: PodView) -> bool:
        """Whether a runner may run in a pod, by the rule of the design."""
        return pod.live(self.now, STUCK)

    def running(self) -> list[PodView]:
        """Return the pods whose runner is at work and not asked to end."""
        return [pod for pod in self.pods() if pod.running_since and not pod.ended and pod.meta.deleted is None]

    def waiting(self) -> list[PodView]:
        """Return the pods whose container has not started and may yet."""
        return [pod for pod in self.pods() if not pod.running_since and not pod.ended and pod.meta.deleted is None]

    # What must hold at every write.

    def must(self, holds: bool, message: str) -> None:
        """Refuse what breaks a rule, and remember it."""
        if not holds:
            self.violation = self.violation or message
            raise AssertionError(message)

    def check_nothing_left(self) -> None:
        """Before objects are removed or the PdfJob goes, nothing of it may run."""
        self.must(not self.objects["jobs"], "a Job is left")
        self.must(not [pod for pod in self.pods() if self.live(pod)], "a pod is left that may run")

    @override
    def before_job(self, body: Raw) -> None:
        labels, name = body["metadata"]["labels"], body["metadata"]["name"]
        index, start = int(labels[LABEL_CHUNK]), int(labels[LABEL_START])
        owner = self.objects["pdfchunks"].get(body["metadata"]["ownerReferences"][0]["uid"])
        if owner is not None:
            chunk = PdfChunk.model_validate(owner)
            self.must(chunk.status.phase not in TERMINAL, f"{name} is made for a chunk that has ended")
            seen = [record.start for record in chunk.status.history]
            self.must(
                start > max([chunk.status.starts, *seen]), f"{name} does not go on from start {chunk.status.starts}"
            )
        made = body["metadata"]["ownerReferences"][0]["uid"], name
        self.must(made not in self.made, f"{name} is made a second time")
        paid = reservation_of(self.bank.account(), self.uid) if self.bank is not None else None
        self.must(self.bank is None or (paid is not None and not paid.settled), f"{name} is made and nobody pays")
        self.made.add(made)
        self._taken.discard((index, start))
        fresh = self._forced.get(index, 0)
        good = [
            old for (at, old), right in self.storage.results.items() if at == index and fresh < old < start and right
        ]
        self.must({(index, old) for old in good} <= self._late, f"{name} is made although {good} have a result")
        kept = {
            uid  # Jobs whose PdfChunk was deleted are collected soon
            for uid, raw in self.objects["jobs"].items()
            if raw["metadata"]["ownerReferences"][0]["uid"] in self.objects["pdfchunks"] and uid not in self._held
        }
        busy = {
            job.meta.chunk for job in self.jobs() if job.meta.uid in kept and not job.finished and not self._over(job)
        }
        busy -= {index}
        self.must(len(busy) < self.most_parallel, f"{name} is made while {busy} are in flight")

    @override
    def before_finalizers(self, job: Raw, names: list[str]) -> None:
        if FINALIZER not in names:
            self.check_nothing_left()
            keep = job["spec"]["deletionPolicy"] == "Retain"
            self.must(keep or self.storage.cleaned, "the PdfJob goes before its objects do")
            self.must(self.storage.recorded is not None, "the PdfJob goes without a record")
            open_one = reservation_of(self.bank.account(), self.uid) if self.bank is not None else None
            self.must(open_one is None, "the PdfJob goes and leaves its reservation")

    def _over(self, job: JobView) -> bool:
        pods = [
            pod_view(raw)
            for raw in self.objects["pods"].values()
            if raw["metadata"]["ownerReferences"][0]["uid"] == job.meta.uid
        ]
        begun = bool(pods) or job.meta.uid in self._with_pod
        return begun and not any(self.live(pod) for pod in pods)

    @override
    def before_chunk_status(self, old: PdfChunk, new: PdfChunk) -> None:
        name, before, after = new.metadata.name, old.status, new.status
        uid = new.metadata.uid
        if before.phase in TERMINAL:
            self._check_reopening(name, before, after)
            self._reopened[uid] = self._reopened.get(uid, 0) + 1
        elif after.phase is ChunkPhase.PENDING and before.phase is not ChunkPhase.PENDING:
            ended = bool(after.history) and after.history[-1].outcome is Outcome.ENDED
            self.must(ended, f"{name} goes from {before.phase} to {after.phase}")
        if _opened_again(before, after):
            self._idle[uid] = 0
        self.must(after.starts >= before.starts, f"{name}: starts go down")
        most = 1 + self.max_retries + self._reopened.get(uid, 0)
        self.must(after.attempts <= most, f"{name} has {after.attempts} attempts")
        starts = [record.start for record in after.history]
        self.must(starts == sorted(set(starts)), f"{name}: a start is recorded twice: {starts}")
        if after.phase is ChunkPhase.SUCCEEDED:
            real = self.storage.result(new.spec.index, after.starts)
            self.must(real is not None, f"{name} succeeded without a result")
            self.must(after.result == real, f"{name} succeeded with a result that is not its own")
            if real is not None:
                self.delivered[new.spec.index, after.starts] = real.tokens.total
        if len(after.history) and after.history[-1:] != before.history[-1:]:
            last = after.history[-1]
            saved = last.items > (before.history[-1].items if before.history else 0)
            lost = last.outcome is Outcome.LOST and not saved
            idle = 0 if last.counted or saved else self._idle.get(uid, 0) + int(lost)
            self._idle[uid] = idle
            self.must(idle < MAX_UNCOUNTED, f"{name}: {idle} starts in a row did nothing and none is counted")
            full = before.uncounted + 1 >= MAX_UNCOUNTED
            taken = (new.spec.index, last.start) in self._taken and last.outcome is not Outcome.SUCCEEDED
            given_up = before.ending is not None and before.ending.reason is EndReason.STUCK
            self.must(
                not (taken and last.counted) or full or given_up, f"{name}: start {last.start} was lost and counted"
            )

    def _check_reopening(self, name: str, before: PdfChunkStatus, after: PdfChunkStatus) -> None:
        """Only a request, or a limit that was raised, leaves an end; an answer may be written to a chunk that stays."""
        if after.phase is before.phase:
            refused = after.last_retry is not None and not after.last_retry.accepted
            self.must(refused and after.last_retry != before.last_retry, f"{name} is written after its end")
            return
        self.must(after.phase in _AGAIN, f"{name} goes from {before.phase} to {after.phase}")
        id_ = None
        if after.last_job_retry_number != before.last_job_retry_number:
            id_ = after.last_job_retry_id
        elif after.last_retry != before.last_retry and after.last_retry is not None:
            id_ = after.last_retry.id
        if id_ is None:
            allowed = before.phase is ChunkPhase.FAILED and before.attempts <= self.max_retries
            self.must(allowed, f"{name} leaves {before.phase}")
            return
        request = self.requests[id_]
        self.must((id_, name) not in self._answered, f"{name}: {id_} is acted on a second time")
        self._answered.add((id_, name))
        index = int(name.rsplit("-c", 1)[1])
        self.must(request.chunks is None or index in request.chunks, f"{name} was not named by {id_}")
        if before.phase is ChunkPhase.SUCCEEDED:
            self.must(request.force and request.chunks is not None, f"{name} had succeeded and is done again")
            self._forced[index] = after.fresh_after

    @override
    def before_job_status(self, old: PdfJob, new: PdfJob) -> None:
        before, after = old.status, new.status
        if is_true(old, JobCondition.FINISHED):
            self._check_after_end(old, before, after)
        else:
            self.must(after.progress_percent >= before.progress_percent, "the progress goes down")
        counts = after.chunks
        if counts is not None:
            parts = counts.pending + counts.running + counts.retry_scheduled
            parts += counts.succeeded + counts.failed + counts.cancelled
            self.must(parts == counts.total == self.pages // self.pages_per_chunk, f"the counts are wrong: {counts}")
        else:
            self.must(before.chunks is None, "the counts vanish")
        if is_true(old, JobCondition.SPLIT):
            self.must(is_true(new, JobCondition.SPLIT), "what was split is not any more")
        if is_true(new, JobCondition.SUCCEEDED) and not is_true(old, JobCondition.SUCCEEDED):
            self.must(self.storage.merged is not None, "a PdfJob succeeds without its merged result")
            phases = [raw.get("status", {}).get("phase") for raw in self.objects["pdfchunks"].values()]
            lacking = phases.count(ChunkPhase.FAILED) + phases.count(ChunkPhase.CANCELLED)
            allowed = new.spec.failure_policy.allowed(len(phases))
            self.must(lacking <= allowed, "a PdfJob succeeds although more chunks failed than may")
            self.must(after.progress_percent == 100, "the end is not 100 %")

    def _check_after_end(self, old: PdfJob, before: PdfJobStatus, after: PdfJobStatus) -> None:
        """A finished PdfJob gets its record and answers; only a request opens it again."""
        told = before.model_copy(update={"history": after.history, "last_retry": after.last_retry})
        settled = after.model_copy(update={"credits": before.credits, "conditions": before.conditions})
        paid = is_true(old, JobCondition.CREDITS_SETTLED)
        if after == told or (self.bank is not None and settled == before and not paid):
            return
        own = old.spec.retry_request
        asked = own is not None and (before.last_retry is None or before.last_retry.id != own.id)
        asked = asked or any(name.startswith("chunk-") for name in self.requests)  # its PdfChunk may be gone by now
        self.must(asked, "the status of a finished PdfJob changes")
        self.must(old.spec.shutdown is None, "a PdfJob that was ended for good is opened again")

    def before_self_deletion(self) -> None:
        """Look at the PdfJob that the operator is about to delete itself."""
        raw = self.objects["pdfjobs"].get(self.uid)
        if raw is None:
            return
        job = PdfJob.model_validate(raw)
        self.must(is_true(job, JobCondition.FINISHED), "a PdfJob under way is deleted")
        ttl = getattr(job.spec.ttl_seconds_after_finished, job.status.phase.value.lower())
        ended = from_wire(job.status.completion_time or "")
        self.must(ttl >= 0 and (self.now - ended).total_seconds() >= ttl, "a PdfJob is deleted before its time")


def _opened_again(before: PdfChunkStatus, after: PdfChunkStatus) -> bool:
    """Whether a request, or a limit that was raised, starts a chunk again: what it took before that is forgiven."""
    own = after.last_retry is not None and after.last_retry.accepted and after.last_retry != before.last_retry
    by_job = after.last_job_retry_number != before.last_job_retry_number
    return own or by_job or (before.phase in TERMINAL and after.phase in _AGAIN)
