"""One operator process for tests of its background work: real storage, real document processes, crashes on demand."""

from __future__ import annotations

import asyncio
import hashlib
import json
import shutil
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from pdfjob_api.contract import Checkpoint, ChunkResult, Record
from pdfjob_api.keys import JobKeys
from pdfjob_api.pdfchunk import ChunkResultStatus, PdfChunk
from pdfjob_api.pdfjob import PdfJob
from pdfjob_operator.cache import Cache
from pdfjob_operator.documents import Documents
from pdfjob_operator.memory import JobMemory
from pdfjob_operator.observation import Facts, WorkKind
from pdfjob_operator.settings import RunnerSettings, S3Settings, Settings
from pdfjob_operator.storage.kubernetes import Cluster
from pdfjob_operator.storage.s3 import ObjectStore
from pdfjob_operator.work import Work
from tests.support.wire_api import WireApi

NAMESPACE: Final = "books"
FIRST: Final = "aaaaaaaa-0000-4000-8000-000000000001"
SECOND: Final = "bbbbbbbb-0000-4000-8000-000000000002"
THIRD: Final = "cccccccc-0000-4000-8000-000000000003"


class CrashedError(Exception):
    """The process was killed right before a write."""


def pdf_job(uid: str = FIRST, name: str = "novel", **raw: Any) -> PdfJob:
    """Build a PdfJob of two-page chunks; ``status``, ``metadata`` and fields of the spec by their names on the wire."""
    metadata = {"name": name, "namespace": NAMESPACE, "uid": uid, "resourceVersion": "1", **raw.pop("metadata", {})}
    status = raw.pop("status", {})
    spec = {
        "source": {"s3": {"key": f"pdfjob/inbox/{NAMESPACE}/novel.pdf"}},
        "chunking": {"pagesPerChunk": 2, "thresholdPages": 0},
        **raw,
    }
    return PdfJob.model_validate({"metadata": metadata, "spec": spec, "status": status})


@dataclass
class Desk:
    """What one operator process has. `restart` gives what the next one has after a crash."""

    s3: S3Settings
    api: WireApi
    folder: Path
    buckets: Path
    """Folder of the S3 server: a bucket is a folder in it."""
    writes_left: int | None = None
    """After so many more writes, to S3 and to the API server together, the process is killed; None = never."""
    memory: JobMemory = field(default_factory=JobMemory)
    split: dict[str, bytes] = field(default_factory=dict)
    """What `split_once` stored, by key without the folder of the job."""
    work: Work = field(init=False)

    def __post_init__(self) -> None:
        settings = Settings(s3=self.s3, runner=RunnerSettings(image="runner"), work_dir=self.folder)
        store = ObjectStore(self.s3, guard=self._write)
        cluster = Cluster.using(self.api.configuration, guard=self._write)
        self.work = Work(settings, cluster, store, Documents(settings.documents), Cache(), wake=lambda _: None)

    @property
    def store(self) -> ObjectStore:
        """The storage."""
        return self.work.store

    @property
    def facts(self) -> Facts:
        """What is known of the job."""
        return self.memory.facts

    def restart(self) -> None:
        """Begin a new process, which knows what the API server knows."""
        self.writes_left, self.memory = None, JobMemory()
        self.work = replace(self.work, cache=Cache(), sources=asyncio.Semaphore(4))
        for raw in self.api.chunks.values():
            self.work.cache.apply("pdfchunks", raw)

    async def remove_bucket(self) -> None:
        """Remove the bucket with all that is in it."""
        await self.store.delete_prefix("", keep=lambda _: False)
        shutil.rmtree(self.buckets / self.s3.bucket)

    def disconnect(self) -> None:
        """Let the storage be where nothing answers."""
        store = ObjectStore(self.s3.model_copy(update={"endpoint": "http://127.0.0.1:1"}))
        self.store.close()
        self.work = replace(self.work, store=store)

    async def close(self) -> None:
        """Close all connections."""
        await self.work.cluster.close()
        self.store.close()

    async def do(self, job: PdfJob, kind: WorkKind) -> Facts:
        """Do a piece of work to its end, or until the process is killed, and return what is known then."""
        self.work.start(job, self.memory, kind)
        task = self.memory.task
        assert task is not None
        await task
        return self.facts

    def keys(self, job: PdfJob) -> JobKeys:
        """Return the keys of a PdfJob."""
        return self.work.keys(job)

    def chunks(self, job: PdfJob) -> list[PdfChunk]:
        """Return the PdfChunks of a PdfJob in order, as the cache has them."""
        return [chunk for _, chunk in sorted(self.work.cache.chunks(job.metadata.uid).items())]

    async def objects(self, job: PdfJob) -> set[str]:
        """Return the keys under the folder of a PdfJob, without it."""
        root = self.keys(job).root
        return {key.removeprefix(root) async for key in self.store.list_keys(root)}

    async def upload(self, source: str, data: bytes) -> None:
        """Put a document into the inbox."""
        await self.store.put(f"pdfjob/inbox/{NAMESPACE}/{source}", data)

    async def split_once(self, job: PdfJob) -> None:
        """Split a document; under other names what the first split stored is copied."""
        root = self.keys(job).root
        if not self.split:
            facts = await self.do(job, WorkKind.SPLIT)
            assert facts.errors == {}
            self.split = {key: await self.store.get(root + key, 10**6) for key in await self.objects(job)}
        for key, data in self.split.items():
            await self.store.put(root + key, data)

    async def finish(self, job: PdfJob, index: int, start: int = 1, text: str = "One.") -> ChunkResultStatus:
        """Store the result of a chunk as a runner does."""
        first, last = 2 * index + 1, 2 * index + 2
        records = [Record(page=page, end_page=page, text=text) for page in (first, last)]
        result = ChunkResult(start_page=first, end_page=last, records=records)
        data = result.model_dump_json(by_alias=True).encode()
        key = self.keys(job).chunk_result(index, start)
        await self.store.put(key, data)
        digest = hashlib.sha256(data).hexdigest()
        return ChunkResultStatus(uri=self.store.uri(key), sha256=digest, bytes=len(data), sentences=2)

    async def save(self, job: PdfJob, index: int, start: int, done: int = 1) -> str:
        """Store a checkpoint of a chunk as a runner does; return its key."""
        first = 2 * index + 1
        checkpoint = Checkpoint(start_page=first, end_page=first + 1, done=[*range(first, first + done)], records=[])
        key = self.keys(job).checkpoint(index, start)
        await self.store.put(key, checkpoint.model_dump_json(by_alias=True).encode())
        return key

    def set_status(self, job: PdfJob, index: int, **status: Any) -> None:
        """Write the status of a PdfChunk, as the operator does; fields by their names on the wire."""
        raw = self.api.chunks[f"{job.metadata.name}-c{index:05d}"]
        version = str(int(raw["metadata"]["resourceVersion"]) + 1000)
        raw |= {"metadata": {**raw["metadata"], "resourceVersion": version}, "status": json.loads(json.dumps(status))}
        self.work.cache.apply("pdfchunks", raw)

    def _write(self) -> None:
        if self.writes_left is None:
            return
        if self.writes_left == 0:
            raise CrashedError
        self.writes_left -= 1
