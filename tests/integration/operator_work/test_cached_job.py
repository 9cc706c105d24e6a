"""A job whose chunks were all done before, by the loop that runs in the operator: no pod, no request, and quickly."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, Final

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from kubernetes.aio import client

from pdfjob_api.conditions import ChunkPhase
from pdfjob_api.contract import ChunkResult, Record, Tokens
from pdfjob_api.keys import JobKeys
from pdfjob_api.pdfchunk import PdfChunk
from pdfjob_api.pdfjob import CacheUse, PdfJob
from pdfjob_operator.act import Actor
from pdfjob_operator.cache import Cache
from pdfjob_operator.dispatch import Dispatcher
from pdfjob_operator.documents import Documents
from pdfjob_operator.memory import JobMemory
from pdfjob_operator.metrics import Metrics
from pdfjob_operator.reconcile import Reconciler
from pdfjob_operator.result_cache import result_name
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
    plan_of,
    raw_job,
    raw_pod,
    split_facts,
    terminated,
)
from tests.support.object_store import S3Server

MANY: Final = 1000
SECONDS: Final = 60.0
"""For so many, on a machine that is busy with other things; alone it takes a tenth."""


def a_job(**spec: Any) -> PdfJob:
    return gemini_job(parallelism=4, **spec)


class Loop:
    """The operator's loop on a real S3 server, and an API server on the wire that takes what it writes."""

    def __init__(self, s3: S3Settings, folder: Path) -> None:
        self.settings = Settings(s3=s3, runner=RunnerSettings(image="runner"), work_dir=folder)
        self.store = ObjectStore(s3)
        self.made: list[str] = []
        """Names of the Jobs that were made."""
        self.events: list[str] = []
        self.version = 1000

    async def answer(self, request: web.Request) -> web.Response:
        """Take an object, or a status."""
        body: Any = await request.json() if request.can_read_body else None
        kind = request.path.split("/")[-2 if request.method == "DELETE" else -1]
        if request.method == "POST" and kind == "jobs":
            self.made.append(body["metadata"]["name"])
            given = {"uid": body["metadata"]["name"], "resourceVersion": "1", "creationTimestamp": at(0)}
            body["metadata"] |= given
        if request.method == "POST" and kind == "events":
            self.events.append(body["message"])
        if request.method != "PATCH":
            return web.json_response({**(body or {}), "status": {}})
        self.version += 1
        plural, name, _ = request.path.split("/")[-3:]
        found = {chunk.metadata.name: chunk for chunk in self.cache.chunks(JOB_UID).values()}
        raw = found[name].wire() if plural == "pdfchunks" else self.job.wire()
        raw["metadata"] |= {"resourceVersion": str(self.version), "labels": {"pdfjob.dev/job-uid": JOB_UID}}
        return web.json_response({**raw, "status": body[1]["value"]})

    def start(self, cluster: Cluster) -> None:
        """Put the parts together."""
        self.cache, queue, metrics = Cache(), WorkQueue(), Metrics()
        work = Work(self.settings, cluster, self.store, Documents(self.settings.documents), self.cache, wake=queue.add)
        actor = Actor(self.settings, cluster, self.store, self.cache, work, metrics)
        self.reconciler = Reconciler(self.cache, queue, actor, Dispatcher(0), metrics)

    @property
    def job(self) -> PdfJob:
        """The PdfJob as it is."""
        job = self.cache.job(JOB_UID)
        assert job is not None
        return job

    def take(self, job: PdfJob, *chunks: PdfChunk) -> None:
        """Let a PdfJob be there that has been split."""
        self.cache.apply("pdfjobs", job.wire())
        for chunk in chunks:
            raw = chunk.wire()
            raw["metadata"]["labels"] = {"pdfjob.dev/job-uid": JOB_UID}
            self.cache.apply("pdfchunks", raw)
        facts = split_facts(job, 2 * len(chunks), len(chunks))
        self.reconciler.memories[JOB_UID] = JobMemory(facts=facts)

    async def keep(self, job: PdfJob, chunks: list[PdfChunk], total: int) -> None:
        """Let results of chunks be in the cache."""
        keys, plan = JobKeys("pdfjob", "books", "novel", JOB_UID), plan_of(job, 2 * total)
        for first in range(0, len(chunks), 16):
            puts = []
            for chunk in chunks[first : first + 16]:
                data = result_of(chunk)
                key, digest = keys.cached(result_name(job, chunk, plan)), hashlib.sha256(data).hexdigest()
                puts.append(self.store.put(key, data, metadata={"sha256": digest}))
            await asyncio.gather(*puts)

    def at(self, step: str) -> Callable[[], bool]:
        """Return a test whether the job has reached a step."""
        return lambda: self.job.status.current_step == step

    async def run(self, until: Callable[[], bool], *, more: float = 0.0) -> float:
        """Run the loop until something holds, and for some seconds more; return the seconds it took."""
        began = time.monotonic()
        self.reconciler.wake(JOB_UID)
        running = asyncio.create_task(self.reconciler.run())
        while time.monotonic() - began < SECONDS and not until():  # noqa: ASYNC110 - no event tells
            await asyncio.sleep(0.01)
        took = time.monotonic() - began
        await asyncio.sleep(more)
        self.reconciler.queue.close()
        await running
        await self.reconciler.stop_work()
        return took


def result_of(chunk: PdfChunk) -> bytes:
    spec = chunk.spec
    records = [Record(page=page, end_page=page, text="One.") for page in (spec.start_page, spec.end_page)]
    tokens = Tokens(input=1000, output=900)
    result = ChunkResult(start_page=spec.start_page, end_page=spec.end_page, records=records, tokens=tokens)
    return result.model_dump_json(by_alias=True).encode()


@pytest.fixture
async def loop(server: S3Server, tmp_path: Path) -> AsyncIterator[Loop]:
    s3 = S3Settings(endpoint=server.endpoint, bucket=f"b-{tmp_path.name.replace('_', '-')[:50].lower()}")
    made = Loop(s3, tmp_path / "work")
    await made.store.create_bucket()
    app = web.Application(client_max_size=2**24)
    app.router.add_route("*", "/{path:.*}", made.answer)
    async with TestServer(app) as api:
        configuration = client.Configuration()
        configuration.host = str(api.make_url("")).rstrip("/")
        cluster = Cluster.using(configuration)
        made.start(cluster)
        yield made
        await cluster.close()
    made.store.close()


async def test_a_thousand_chunks_are_taken_from_the_cache_and_no_pod_starts(loop: Loop) -> None:
    job, chunks = a_job(), [pdf_chunk(index) for index in range(MANY)]
    await loop.keep(job, chunks, MANY)
    loop.take(job, *chunks)
    took = await loop.run(loop.at("Merging"))
    print(f"{MANY} chunks in {took:.1f} s")
    assert loop.made == []
    found = loop.cache.chunks(JOB_UID).values()
    assert {chunk.status.phase for chunk in found} == {ChunkPhase.SUCCEEDED}
    assert all(chunk.status.result is not None and chunk.status.result.cached for chunk in found)
    status = loop.job.status
    assert status.chunks is not None
    assert (status.chunks.succeeded, status.chunks.cached, status.tokens) == (MANY, MANY, None)
    assert f"{MANY} of {MANY} chunks were taken from the cache" in loop.events
    assert took < SECONDS


async def test_only_what_is_not_there_starts(loop: Loop) -> None:
    job, chunks = a_job(), [pdf_chunk(index) for index in range(10)]
    await loop.keep(job, [chunk for chunk in chunks if chunk.spec.index != 7], 10)
    loop.take(job, *chunks)
    await loop.run(lambda: bool(loop.made) and loop.at("Processing chunk 9/10")(), more=1.0)
    assert loop.made == ["novel-c00007-a1"]
    assert loop.job.status.chunks is not None
    assert loop.job.status.chunks.cached == 9


async def test_a_job_that_ignores_the_cache_starts(loop: Loop) -> None:
    job, chunks = a_job(), [pdf_chunk(0)]
    await loop.keep(job, chunks, 1)
    loop.take(a_job(cache=CacheUse.IGNORE), *chunks)
    await loop.run(lambda: bool(loop.made), more=0.5)
    assert loop.made == ["novel-c00000-a1"]


@pytest.mark.parametrize("use", list(CacheUse))
async def test_the_result_of_a_runner_is_kept_before_it_is_recorded(loop: Loop, use: CacheUse) -> None:
    job, chunk = a_job(cache=use), pdf_chunk(0, phase=ChunkPhase.RUNNING, starts=1, attempts=1)
    keys = JobKeys("pdfjob", "books", "novel", JOB_UID)
    await loop.store.put(keys.chunk_result(0, 1), result_of(chunk))
    loop.take(job, chunk)
    loop.cache.apply("jobs", raw_job())
    loop.cache.apply("pods", raw_pod(terminated(0), phase="Succeeded"))
    await loop.run(loop.at("Merging"))
    recorded = loop.cache.chunks(JOB_UID)[0].status
    assert recorded.phase is ChunkPhase.SUCCEEDED
    assert recorded.result is not None
    assert (recorded.result.cached, recorded.result.tokens.total) == (False, 1900)
    there = [key async for key in loop.store.list_keys("pdfjob/cache/")]
    assert there == ([keys.cached(result_name(job, chunk, plan_of(job, 2)))] if use is CacheUse.USE else [])
