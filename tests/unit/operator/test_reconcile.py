"""The loop around the decisions: what it does while the storage is away, and that it never turns without need."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from kubernetes.aio import client

from pdfjob_api.conditions import ChunkPhase, JobCondition, JobPhase, Reason
from pdfjob_api.creditaccount import CreditAccount, CreditAccountRef
from pdfjob_api.jobstatus import PdfJobStatus
from pdfjob_api.meta import Condition
from pdfjob_api.pdfchunk import PdfChunk
from pdfjob_api.pdfjob import CacheUse, RetryRequest, Shutdown, TtlSecondsAfterFinished
from pdfjob_operator.act import Actor
from pdfjob_operator.actions import DeleteJob, WriteChunk
from pdfjob_operator.cache import Cache
from pdfjob_operator.dispatch import Dispatcher
from pdfjob_operator.documents import Documents
from pdfjob_operator.memory import JobMemory
from pdfjob_operator.metrics import Metrics
from pdfjob_operator.reconcile import Reconciler
from pdfjob_operator.settings import RunnerSettings, S3Settings, Settings
from pdfjob_operator.storage.kubernetes import Cluster
from pdfjob_operator.storage.s3 import ObjectStore
from pdfjob_operator.work import Work
from pdfjob_operator.workqueue import WorkQueue
from tests.support.builders import (
    JOB_UID,
    at,
    gemini_job,
    pdf_chunk,
    pdf_job,
    raw_job,
    raw_pod,
    running,
    split_facts,
    terminated,
)
from tests.support.deciding import record, starts_of


@dataclass
class LogServer:
    """A kubelet that answers no request for a log until it is told to."""

    asked: asyncio.Event = field(default_factory=asyncio.Event)
    answers: asyncio.Event = field(default_factory=asyncio.Event)

    async def read(self) -> None:
        """Wait for the answer."""
        self.asked.set()
        await self.answers.wait()


@dataclass
class Loop:
    """A reconciler whose storage is where nothing answers, and the calls that it made of the API server."""

    reconciler: Reconciler
    calls: list[tuple[str, str, Any]] = field(default_factory=list)
    """Method, path and body."""
    logs: LogServer = field(default_factory=LogServer)

    def take_in(self, plural: str, *raws: dict[str, Any]) -> None:
        """Put objects into the cache."""
        for raw in raws:
            self.reconciler.cache.apply(plural, raw)

    async def run_for(self, seconds: float) -> int:
        """Wake the PdfJob, let the loop run, and return how many reconciles there were."""
        self.reconciler.wake(JOB_UID)
        running_loop = asyncio.create_task(self.reconciler.run())
        await asyncio.sleep(seconds)
        self.reconciler.queue.close()
        await running_loop
        families = self.reconciler.metrics.reconciles.collect()
        samples = [sample for family in families for sample in family.samples]
        return int(sum(sample.value for sample in samples if sample.name.endswith("_total")))

    def made(self, method: str, kind: str) -> list[tuple[str, Any]]:
        """Return name and body of each call of a method on a kind."""
        return [
            (path.split(f"/{kind}/")[1], body)
            for called, path, body in self.calls
            if called == method and f"/{kind}/" in path
        ]


@asynccontextmanager
async def looping(folder: Path, version: int = 1000) -> AsyncIterator[Loop]:
    calls: list[tuple[str, str, Any]] = []
    logs = LogServer()

    async def answer(request: web.Request) -> web.Response:
        body: Any = await request.json() if request.can_read_body else None
        calls.append((request.method, request.path, body))
        if request.path.endswith("/log"):
            await logs.read()
        if request.method == "POST" and request.path.endswith("/jobs"):
            given = {"uid": f"job-{len(calls)}", "resourceVersion": str(version + len(calls)), "namespace": "books"}
            return web.json_response({**body, "metadata": {**body["metadata"], **given, "creationTimestamp": at(0)}})
        if request.method != "PATCH":
            return web.json_response({})
        kind, name, _ = request.path.split("/")[-3:]
        found: dict[str, PdfChunk | CreditAccount] = {
            chunk.metadata.name: chunk for chunk in cache.chunks(JOB_UID).values()
        }
        found |= {account.metadata.name: account for account in cache.accounts()}
        raw = found[name].wire() if kind != "pdfjobs" else cache.job(JOB_UID).wire()  # type: ignore[union-attr]
        raw["metadata"]["resourceVersion"] = str(version + len(calls))
        raw["metadata"]["labels"] = {"pdfjob.dev/job-uid": JOB_UID}
        return web.json_response({**raw, "status": body[1]["value"]})

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    async with TestServer(app) as server:
        configuration = client.Configuration()
        configuration.host = str(server.make_url("")).rstrip("/")
        cluster, cache, queue = Cluster.using(configuration), Cache(), WorkQueue()
        s3 = S3Settings(bucket="pdfjob", endpoint="http://127.0.0.1:1")
        settings = Settings(s3=s3, runner=RunnerSettings(image="runner"), work_dir=folder)
        store, metrics = ObjectStore(s3), Metrics()
        work = Work(settings, cluster, store, Documents(settings.documents), cache, wake=queue.add)
        actor = Actor(settings, cluster, store, cache, work, metrics)
        yield Loop(Reconciler(cache, queue, actor, Dispatcher(0), metrics), calls, logs)
        logs.answers.set()
        store.close()
        await cluster.close()


@pytest.fixture
async def loop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Loop]:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    async with looping(tmp_path) as made:
        yield made


def finished(**status: Any) -> PdfJobStatus:
    condition = Condition(
        type=JobCondition.FINISHED.value, status="True", reason="Completed", message="", last_transition_time=at(-50)
    )
    values = {"phase": JobPhase.SUCCEEDED, "completion_time": at(-50), "history": "s3://pdfjob/h", **status}
    return PdfJobStatus(conditions=[condition], **values)


def raw_chunk(index: int, **status: Any) -> dict[str, Any]:
    chunk = pdf_chunk(index, **status).wire()
    chunk["metadata"]["labels"] = {"pdfjob.dev/job-uid": JOB_UID}
    return chunk


async def test_a_job_hears_of_its_credit_account_when_it_comes_and_when_it_goes(loop: Loop) -> None:
    job = gemini_job(cache=CacheUse.IGNORE, credit_account_ref=CreditAccountRef(name="team", estimated_tokens=70))
    meta = {"name": "team", "namespace": "books", "uid": "account", "generation": 1, "resourceVersion": "3"}
    account = {"metadata": meta, "spec": {"balance": 100}}
    loop.take_in("pdfjobs", job.wire())
    loop.take_in("pdfchunks", raw_chunk(0), raw_chunk(1))
    loop.reconciler.memories[JOB_UID] = JobMemory(facts=split_facts(job, 4, 2, answered=True))

    async def look(seconds: float, *, wake: str = "") -> Condition:
        if wake:
            loop.reconciler.wake(wake)
        loop.reconciler.memories[JOB_UID].status_written = float("-inf")
        await asyncio.sleep(seconds)
        known = loop.reconciler.cache.job(JOB_UID)
        assert known is not None
        return next(item for item in known.status.conditions if item.type == "CreditsReserved")

    running_loop = asyncio.create_task(loop.reconciler.run())
    assert (await look(0.2, wake=JOB_UID)).reason == Reason.CREDIT_ACCOUNT_NOT_FOUND
    loop.take_in("creditaccounts", account)
    assert (await look(1.5, wake="account")).reason == Reason.TOKENS_RESERVED
    assert [body[1]["value"]["available"] for name, body in loop.made("PATCH", "creditaccounts")] == [100, 30]
    loop.reconciler.cache.remove("creditaccounts", account)
    assert (await look(1.5, wake="account")).reason == Reason.CREDIT_ACCOUNT_NOT_FOUND
    loop.reconciler.queue.close()
    await running_loop


async def test_cancel_ends_runners_while_the_storage_does_not_say_how_another_ended(loop: Loop) -> None:
    job = pdf_job(shutdown=Shutdown.CANCEL)
    loop.take_in("pdfjobs", job.wire())
    loop.take_in("pdfchunks", *(raw_chunk(index, phase=ChunkPhase.RUNNING, starts=1, attempts=1) for index in (0, 1)))
    loop.take_in("jobs", raw_job(chunk=0), raw_job(chunk=1))
    loop.take_in("pods", raw_pod(terminated(0), chunk=0), raw_pod(running(), chunk=1))
    loop.reconciler.memories[JOB_UID] = JobMemory(facts=split_facts(job, 4, 2))
    await loop.run_for(0.1)
    killed = {(name, body["gracePeriodSeconds"]) for name, body in loop.made("DELETE", "pods")}
    assert killed == {("novel-c00001-a1-x", 1)}
    assert "novel-c00001-a1" in [name for name, _ in loop.made("DELETE", "jobs")]


async def test_nothing_is_started_while_the_storage_does_not_say_how_a_start_ended(loop: Loop) -> None:
    job = pdf_job()
    loop.take_in("pdfjobs", job.wire())
    loop.take_in("pdfchunks", raw_chunk(0, phase=ChunkPhase.RUNNING, starts=1, attempts=1), raw_chunk(1))
    loop.take_in("jobs", raw_job(chunk=0))
    loop.take_in("pods", raw_pod(terminated(74), chunk=0))
    loop.reconciler.memories[JOB_UID] = JobMemory(facts=split_facts(job, 4, 2))
    await loop.run_for(0.1)
    assert [path for method, path, _ in loop.calls if method == "POST" and path.endswith("/jobs")] == []


async def test_a_pdfjob_whose_time_is_over_is_deleted_once(loop: Loop) -> None:
    ttl = TtlSecondsAfterFinished(succeeded=0)
    loop.take_in("pdfjobs", pdf_job(finished(), ttl_seconds_after_finished=ttl).wire())
    await loop.run_for(0.5)
    assert [name for name, _ in loop.made("DELETE", "pdfjobs")] == ["novel"]


async def test_a_status_that_may_not_be_written_yet_is_not_decided_all_the_time(loop: Loop) -> None:
    job = pdf_job(finished(), retry_request=RetryRequest(id="again", chunks=[7]))
    loop.take_in("pdfjobs", job.wire())
    memory = JobMemory(status_written=asyncio.get_running_loop().time())
    loop.reconciler.memories[JOB_UID] = memory
    assert await loop.run_for(0.5) < 30


async def test_a_kubelet_that_gives_no_logs_holds_up_no_other_job(loop: Loop) -> None:
    """A node that is going away takes many pods with it, and the log of each is asked for."""
    actor, job = loop.reconciler.actor, pdf_job()
    writes = []
    for index in range(40):
        (start,) = starts_of(raw_job(chunk=index), raw_pod(terminated(71), chunk=index))[index]
        status = pdf_chunk(index, phase=ChunkPhase.RETRY_SCHEDULED, starts=1, history=[record()]).status
        writes.append(WriteChunk(pdf_chunk(index), status, ended=start))
    recording = asyncio.create_task(actor.perform(job, JobMemory(), writes))
    await asyncio.wait_for(loop.logs.asked.wait(), 5)
    await asyncio.wait_for(actor.perform(job, JobMemory(), [DeleteJob("other-c00000-a1", "uid")]), 2)
    recording.cancel()
    await asyncio.gather(recording, return_exceptions=True)
