"""A cluster and its storage in memory: the truth behind the stale caches that decisions are made on.

It behaves as the API server, the Job controller, the garbage collector and the kubelet do where the operator can see
it, one small move at a time, and it refuses what must never happen: every rule that holds at all times is asserted at
the write that would break it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final

from typing_extensions import override

from pdfjob_api.conditions import ChunkPhase, JobCondition
from pdfjob_api.contract import Progress
from pdfjob_api.errors import ExitCode
from pdfjob_api.names import FINALIZER, LABEL_CHUNK, LABEL_START, RUNNER_CONTAINER
from pdfjob_api.pdfchunk import EndReason, Outcome, PdfChunk, PdfChunkStatus
from pdfjob_api.pdfjob import PdfJob, PdfJobStatus, RetryRequest
from pdfjob_operator.chunk_end import MAX_UNCOUNTED
from pdfjob_operator.clock import from_wire, to_wire
from pdfjob_operator.conditions import is_true
from pdfjob_operator.decide_chunk import TERMINAL
from pdfjob_operator.views import JobView, PodView, job_view, pod_view

from .api_server import ApiServer, Raw
from .simulated_storage import Storage

Move = Callable[[], None]

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


class World(ApiServer):
    """One PdfJob, everything that is made for it, and the rules that must hold."""

    def __init__(
        self,
        *,
        chunks: int,
        pages_per_chunk: int = 2,
        max_retries: int = 1,
        parallelism: int = 2,
        retain: bool = False,
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

    def run_pod(self, pod: PodView) -> None:
        """Start the container of a pod."""
        state = {"running": {"startedAt": to_wire(self.now)}}
        self._pod_status(pod, phase="Running", containerStatuses=[{"name": RUNNER_CONTAINER, "state": state}])

    def save_page(self, pod: PodView) -> None:
        """Let a runner finish a page and save its checkpoint."""
        state = self._runners[pod.meta.uid]
        state.items = min(state.items + 1, self.pages_per_chunk)
        self.storage.saved[pod.meta.chunk, pod.meta.start] = state.items

    def store_result(self, pod: PodView, *, valid: bool = True) -> None:
        """Let a runner store its result; the first one stays."""
        self._runners[pod.meta.uid].items = self.pages_per_chunk
        key = pod.meta.chunk, pod.meta.start
        self.storage.results.setdefault(key, valid)
        if not any((job.meta.chunk, job.meta.start) == key for job in self.jobs()):
            self._late.add(key)

    def end_pod(self, pod: PodView, code: int, *, reason: str = "", pod_reason: str = "", message: str = "") -> None:
        """Let the container of a pod end."""
        if code in set(ExitCode) - {ExitCode.INTERRUPTED}:
            self._taken.discard((pod.meta.chunk, pod.meta.start))  # its own word stands
        state = {
            "terminated": {
                "exitCode": code,
                "reason": reason or ("Completed" if code == 0 else "Error"),
                "message": message,
                "startedAt": to_wire(pod.running_since or self.now),
            }
        }
        self._pod_status(
            pod,
            phase="Failed" if code else "Succeeded",
            reason=pod_reason,
            containerStatuses=[{"name": RUNNER_CONTAINER, "state": state}],
        )

    def take_pod(self, pod: PodView, *, disrupted: bool = False, lost: bool = False) -> None:
        """Mark a pod for deletion: by hand, by eviction (``disrupted``), or because its node is gone."""
        self._take(pod.meta.chunk, pod.meta.start)
        if lost:
            self._runners[pod.meta.uid].lost = True
        if disrupted or lost:
            self._pod_status(pod, conditions=[{"type": "DisruptionTarget", "status": "True"}])
        self.delete("pods", pod.meta.uid)

    def delete_job_by_hand(self, job: JobView) -> None:
        """Delete a child Job behind the operator's back; its pod lives on for its grace."""
        self._take(job.meta.chunk, job.meta.start)
        self.delete("jobs", job.meta.uid)

    def delete_chunk_by_hand(self, index: int) -> None:
        """Delete a PdfChunk behind the operator's back; its Jobs are collected later."""
        for uid, raw in list(self.objects["pdfchunks"].items()):
            if raw["spec"]["index"] == index:
                self.delete("pdfchunks", uid)
        for job in self.jobs():
            if job.meta.chunk == index:
                self._take(index, job.meta.start)

    def _take(self, index: int, start: int) -> None:
        """Remember that a start was ended from outside, unless its runner had come to an end of its own."""
        if not any(pod.ended for pod in self.pods() if (pod.meta.chunk, pod.meta.start) == (index, start)):
            self._taken.add((index, start))

    def edit(self, **spec: Any) -> None:
        """Let a user change fields of the PdfJob's spec."""
        raw = self.objects["pdfjobs"][self.uid]
        self._change("pdfjobs", raw, lambda new: new["spec"].update(spec))

    def scale(self, parallelism: int) -> None:
        """Let a user change the parallelism."""
        self.most_parallel = max(self.most_parallel, parallelism)
        self.edit(parallelism=parallelism)

    def allow_retries(self, max_retries: int) -> None:
        """Let a user change the limit of retries."""
        self.max_retries = max(self.max_retries, max_retries)
        self.edit(retryPolicy={"maxRetries": max_retries})

    def ask_retry(self, chunks: list[int] | None, *, force: bool) -> None:
        """Let a user ask for a retry of the PdfJob's chunks."""
        request = RetryRequest(id=f"job-{len(self.requests)}", chunks=chunks, force=force)
        self.requests[request.id] = request
        self.edit(retryRequest=request.wire())

    def ask_chunk_retry(self, chunk: PdfChunk, *, force: bool) -> None:
        """Let a user ask for a retry of one PdfChunk."""
        request = RetryRequest(id=f"chunk-{len(self.requests)}", chunks=[chunk.spec.index], force=force)
        self.requests[request.id] = request
        raw = self.objects["pdfchunks"][chunk.metadata.uid]
        asked = {"id": request.id, "force": force}
        self._change("pdfchunks", raw, lambda new: new["spec"].update(retryRequest=asked))

    def hold_job(self, job: JobView) -> None:
        """Let a queueing system suspend a Job: its controller deletes the pod."""
        raw = self.objects["jobs"][job.meta.uid]
        self._change("jobs", raw, lambda new: new.setdefault("spec", {}).update(suspend=True))
        for pod in self.pods():
            if (pod.meta.chunk, pod.meta.start) == (job.meta.chunk, job.meta.start):
                self.take_pod(pod)
        self._with_pod.discard(job.meta.uid)
        self._held.add(job.meta.uid)

    def admit_job(self, uid: str) -> None:
        """Let a queueing system take a Job: it goes on, and gets a pod."""
        self._change("jobs", self.objects["jobs"][uid], lambda new: new["spec"].update(suspend=False))

    def hang(self, pod: PodView) -> None:
        """Let a runner do nothing any more, not even a heartbeat."""
        self._runners[pod.meta.uid].hung_at = self.now

    def moves(self) -> list[Move]:
        """Return what the cluster does next by itself, faults apart: each at most once, on an object of its own."""
        return [*self._kubelet_moves(), *self._controller_moves()]

    def runner_moves(self) -> list[Move]:
        """Return what healthy runners do next: a page, the result, the end."""

        def work(pod: PodView) -> Move:
            if self._runners[pod.meta.uid].items < self.pages_per_chunk:
                return partial(self.save_page, pod)
            if (pod.meta.chunk, pod.meta.start) not in self.storage.results:
                return partial(self.store_result, pod)
            return partial(self.end_pod, pod, 0)

        return [work(pod) for pod in self.running() if self._runners[pod.meta.uid].hung_at is None]

    def _controller_moves(self) -> Iterator[Move]:
        """The Job controller and the garbage collector."""
        pods = {raw["metadata"]["ownerReferences"][0]["uid"]: pod_view(raw) for raw in self.objects["pods"].values()}
        for uid, raw in self.objects["jobs"].items():
            job, pod = job_view(raw), pods.get(uid)
            if raw["metadata"]["ownerReferences"][0]["uid"] not in self.objects["pdfchunks"]:
                yield partial(self.delete, "jobs", uid)
            elif job.suspended:
                yield partial(self.admit_job, uid)
            elif uid not in self._with_pod:
                if pod is None or pod.ended:  # podReplacementPolicy: Failed
                    yield partial(self._make_pod, raw)
            elif not job.finished and (pod is None or pod.ended):
                yield partial(self._finish_job, raw, pod)
        for owner, pod in pods.items():
            if owner not in self.objects["jobs"] and pod.meta.deleted is None:
                yield partial(self.delete, "pods", pod.meta.uid)
        if self.uid not in self.objects["pdfjobs"]:
            for uid in self.objects["pdfchunks"]:
                yield partial(self.delete, "pdfchunks", uid)

    def _kubelet_moves(self) -> Iterator[Move]:
        for pod in self.pods():
            if pod.meta.deleted is None:
                if pod.ended or pod.running_since is not None:
                    continue
                if not self.image_missing:
                    yield partial(self.run_pod, pod)
                elif pod.waiting_reason is None:
                    yield partial(self._break_image, pod)
            elif not self._runners[pod.meta.uid].lost:
                if pod.ended:
                    yield partial(self._remove, "pods", self.objects["pods"][pod.meta.uid])
                else:
                    yield partial(self.end_pod, pod, ExitCode.INTERRUPTED if pod.running_since else 137)

    def _break_image(self, pod: PodView) -> None:
        state = {"waiting": {"reason": "ImagePullBackOff", "message": "no such image"}}
        self._pod_status(pod, containerStatuses=[{"name": RUNNER_CONTAINER, "state": state}])

    def _make_pod(self, job: Raw) -> None:
        meta = job["metadata"]
        chunk = int(meta["labels"][LABEL_CHUNK])
        rivals = [pod.meta.name for pod in self.pods() if pod.meta.chunk == chunk and self.live(pod)]
        self.must(not rivals, f"{meta['name']} gets a pod while {rivals} may still run")
        self._with_pod.add(meta["uid"])
        body = {
            "metadata": {
                "name": f"{meta['name']}-{len(self._with_pod)}",
                "namespace": NAMESPACE,
                "labels": meta["labels"],
                "ownerReferences": [{"uid": meta["uid"]}],
            },
            "spec": {"nodeName": "node"},
            "status": {"phase": "Pending"},
        }
        raw = self._new("pods", body)
        owner = self.objects["pdfchunks"].get(job["metadata"]["ownerReferences"][0]["uid"], {})
        after = owner.get("status", {}).get("freshAfter", 0)
        self._runners[raw["metadata"]["uid"]] = RunnerState(self.storage.newest_checkpoint(chunk, after))

    def _finish_job(self, raw: Raw, pod: PodView | None) -> None:
        if pod is not None and pod.exit_code == 0:
            condition = {"type": "Complete", "status": "True"}
        else:
            reason, message = "BackoffLimitExceeded", "Job has reached the specified backoff limit"
            if pod is not None and pod.disrupted:
                reason, message = "PodFailurePolicy", "Pod x has condition DisruptionTarget matching FailJob rule at 0"
            elif pod is not None and pod.exit_code in set(ExitCode):
                reason = "PodFailurePolicy"
                message = f"Container runner for pod x failed with exit code {pod.exit_code} matching FailJob rule at 1"
            condition = {"type": "Failed", "status": "True", "reason": reason, "message": message}
        self._change("jobs", raw, lambda new: new.update(status={"conditions": [condition]}))

    def _pod_status(self, pod: PodView, **status: Any) -> None:
        raw = self.objects["pods"][pod.meta.uid]
        self._change("pods", raw, lambda new: new["status"].update(status))

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
        self.must(after.starts >= before.starts, f"{name}: starts go down")
        most = 1 + self.max_retries + self._reopened.get(uid, 0)
        self.must(after.attempts <= most, f"{name} has {after.attempts} attempts")
        starts = [record.start for record in after.history]
        self.must(starts == sorted(set(starts)), f"{name}: a start is recorded twice: {starts}")
        if after.phase is ChunkPhase.SUCCEEDED:
            real = self.storage.result(new.spec.index, after.starts)
            self.must(real is not None, f"{name} succeeded without a result")
            self.must(after.result == real, f"{name} succeeded with a result that is not its own")
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
        if after == told:
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

    def heartbeat(self, chunk: PdfChunk, start: int) -> Progress | None:
        """Return the progress object of a start: its time stands still when its runner hangs."""
        pods = [pod for pod in self.pods() if (pod.meta.chunk, pod.meta.start) == (chunk.spec.index, start)]
        if not pods:
            return None
        runner = self._runners[pods[0].meta.uid]
        time = runner.hung_at or self.now
        return Progress(done=runner.items, total=self.pages_per_chunk, time=to_wire(time))
