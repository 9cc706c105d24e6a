"""A cluster and its storage in memory: the truth behind the stale caches that decisions are made on.

It behaves as the API server, the Job controller, the garbage collector and the kubelet do where the operator can see
it, one small move at a time; what must never happen is refused (tests/support/world_rules.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from pdfjob_api.contract import Progress
from pdfjob_api.errors import ExitCode
from pdfjob_api.names import LABEL_CHUNK, RUNNER_CONTAINER
from pdfjob_api.pdfchunk import PdfChunk
from pdfjob_api.pdfjob import RetryRequest
from pdfjob_operator.clock import to_wire
from pdfjob_operator.views import JobView, PodView, job_view, pod_view

from .api_server import Raw
from .world_rules import NAMESPACE, RunnerState, WorldRules

Move = Callable[[], None]


class World(WorldRules):
    """One PdfJob and what happens around it: its runners, its user, its cluster, and everything that goes wrong."""

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

    def heartbeat(self, chunk: PdfChunk, start: int) -> Progress | None:
        """Return the progress object of a start: its time stands still when its runner hangs."""
        pods = [pod for pod in self.pods() if (pod.meta.chunk, pod.meta.start) == (chunk.spec.index, start)]
        if not pods:
            return None
        runner = self._runners[pods[0].meta.uid]
        time = runner.hung_at or self.now
        return Progress(done=runner.items, total=self.pages_per_chunk, time=to_wire(time))
