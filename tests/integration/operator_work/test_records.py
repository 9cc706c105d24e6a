"""What stays when a PdfJob is gone: the record of the job, and one of each start that failed or was lost."""

from __future__ import annotations

import json
import tracemalloc
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from pdfjob_api.history import ErrorRecord, JobRecord
from pdfjob_api.names import LABEL_CHUNK, LABEL_JOB, LABEL_JOB_UID, LABEL_START
from pdfjob_api.pdfchunk import PdfChunk, PdfChunkStatus
from pdfjob_api.pdfjob import PdfJob
from pdfjob_operator.clock import to_wire
from pdfjob_operator.observation import Start, WorkKind
from pdfjob_operator.plan import StoredChunk
from pdfjob_operator.planning import ChunkRange
from pdfjob_operator.records import store_error_record, store_job_record
from pdfjob_operator.resources import build_chunk
from pdfjob_operator.views import job_view, pod_view
from tests.support import pdfs
from tests.support.wire_api import WireApi

from .desk import Desk, pdf_job

NOW = datetime(2026, 11, 22, 5, 0, tzinfo=UTC)
TIME = "2026-11-22T05:00:00Z"
SIGNED = (
    "http://s3.pdfjob-system:7070/pdfjob/pdfjob/jobs/books/novel/results/c00002/aaaaaaaa-a3.json"
    "?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=pdfjob%2F20261122%2Fus-east-1&X-Amz-Signature=c0ffee"
)
JOB = pdf_job()
END: dict[str, Any] = {"start": 3, "attempt": 2, "counted": True, "outcome": "Failed", "code": "API_ERROR"}


def a_chunk(index: int = 2, **status: Any) -> PdfChunk:
    pages = ChunkRange(index, 2 * index + 1, 2 * index + 2, 1, 1)
    raw = build_chunk(JOB, pages, StoredChunk(index=index, size_bytes=9, sha256="c"), "s3://bucket/c")
    return PdfChunk.model_validate({**raw, "status": status})


def ended(message: str = "the model did not answer", **end: Any) -> PdfChunkStatus:
    error = {"code": "API_ERROR", "message": message}
    history = [{**END, "finishedAt": TIME, **end}]
    return PdfChunkStatus.model_validate({"phase": "RetryScheduled", "lastError": error, "history": history})


def child(name: str) -> dict[str, Any]:
    labels = {LABEL_JOB: "novel", LABEL_JOB_UID: JOB.metadata.uid, LABEL_CHUNK: "2", LABEL_START: "3"}
    given = {"uid": name, "resourceVersion": "5", "creationTimestamp": TIME, "labels": labels}
    return {"name": name, "namespace": "books", **given}


def a_start(job_failed: str = "", pod_message: str = "") -> Start:
    conditions = [{"type": "Failed", "status": "True", "reason": "PodFailurePolicy", "message": job_failed}]
    terminated = {"exitCode": 71, "reason": "Error", "startedAt": TIME, "message": ""}
    state = {"name": "runner", "state": {"terminated": terminated}}
    status = {"phase": "Failed", "message": pod_message, "containerStatuses": [state]}
    raw = {"metadata": child("novel-c00002-a3-xyz"), "spec": {"nodeName": "node-1"}, "status": status}
    job = job_view({"metadata": child("novel-c00002-a3"), "status": {"conditions": conditions}})
    return Start(3, job, (pod_view(raw),))


async def stored_error(desk: Desk, status: PdfChunkStatus | None = None, start: Start | None = None) -> ErrorRecord:
    keys = desk.keys(JOB)
    await store_error_record(
        desk.store, desk.work.cluster, keys, a_chunk(), status or ended(), start or a_start("exit code 71")
    )
    return ErrorRecord.model_validate_json(await desk.store.get(keys.error(2, 3), 64 * 1024))


async def test_an_error_record_says_what_happened_where_and_ends_with_the_log(desk: Desk, api: WireApi) -> None:
    api.logs["novel-c00002-a3-xyz"] = "".join(f"line {number}\n" for number in range(200))
    record = await stored_error(desk)
    assert (record.namespace, record.job, record.uid) == ("books", "novel", JOB.metadata.uid)
    assert (record.chunk, record.start_page, record.end_page) == (2, 5, 6)
    assert (record.start, record.attempt, record.counted, record.outcome.value) == (3, 2, True, "Failed")
    assert (record.code, record.message, record.time) == ("API_ERROR", "the model did not answer", TIME)
    assert (record.job_name, record.job_failed) == ("novel-c00002-a3", "exit code 71")
    assert record.pod is not None
    assert record.pod.wire() == {
        "name": "novel-c00002-a3-xyz",
        "node": "node-1",
        "phase": "Failed",
        "reason": "",
        "message": "",
        "exitCode": 71,
        "exitReason": "Error",
        "started": TIME,
    }
    assert record.log_tail.splitlines() == [f"line {number}" for number in range(150, 200)]
    assert api.asked[0]["container"] == "runner"


async def test_of_long_lines_the_end_is_kept(desk: Desk, api: WireApi) -> None:
    api.logs["novel-c00002-a3-xyz"] = "".join(f"{number} é{'x' * 9000}\n" for number in range(60)) + "the last word\n"
    record = await stored_error(desk)
    assert len(record.log_tail.encode()) <= 16 * 1024
    assert record.log_tail.endswith("the last word")


@pytest.mark.parametrize("where", ["log", "json log", "message", "job", "pod"])
async def test_no_presigned_url_is_stored(desk: Desk, api: WireApi, where: str) -> None:
    text = f"PUT {SIGNED} gave 503"
    api.logs["novel-c00002-a3-xyz"] = {"log": text, "json log": json.dumps({"u": SIGNED.replace("&", r"\u0026")})}.get(
        where, ""
    )
    status = ended(text if where == "message" else "")
    start = a_start(text if where == "job" else "", text if where == "pod" else "")
    record = (await stored_error(desk, status, start)).model_dump_json()
    assert "c0ffee" not in record
    assert "X-Amz" not in record
    assert "/results/c00002/aaaaaaaa-a3.json?[redacted]" in record


async def test_a_signature_without_its_url_is_not_stored(desk: Desk, api: WireApi) -> None:
    api.logs["novel-c00002-a3-xyz"] = "GET /pdfjob/c.pdf x-amz-credential=pdfjob/2026 X-Amz-Signature=c0ffee HTTP/1.1"
    tail = (await stored_error(desk)).log_tail
    assert tail == "GET /pdfjob/c.pdf x-amz-credential=[redacted] X-Amz-Signature=[redacted] HTTP/1.1"


async def test_a_pod_that_is_gone_or_never_started_has_no_log(desk: Desk, api: WireApi) -> None:
    assert (await stored_error(desk)).log_tail == ""
    api.starting.add("novel-c00002-a3-xyz")
    assert (await stored_error(desk)).log_tail == ""
    lost = ended("the pod was evicted", outcome="Lost", counted=False, code=None)
    record = await stored_error(desk, lost, Start(3, None, ()))
    assert (record.pod, record.job_name, record.outcome.value) == (None, "novel-c00002-a3", "Lost")


async def test_trouble_with_the_log_leaves_the_rest_of_the_record(desk: Desk, api: WireApi) -> None:
    api.broken = True
    record = await stored_error(desk)
    assert (record.code, record.log_tail) == ("API_ERROR", "")


async def test_trouble_with_the_storage_does_not_stop_the_operator(desk: Desk) -> None:
    await desk.store.delete_prefix("", keep=lambda _: False)
    await desk.remove_bucket()
    await store_error_record(desk.store, desk.work.cluster, desk.keys(JOB), a_chunk(), ended(), a_start())


async def test_the_record_of_a_job_has_every_chunk_and_is_replaced_by_a_later_one(desk: Desk) -> None:
    keys = desk.keys(JOB)
    status = {
        "phase": "Failed",
        "startTime": TIME,
        "completionTime": TIME,
        "processingSeconds": 7,
        "retries": 2,
        "failedChunks": "2",
        "chunks": {"total": 3, "succeeded": 2, "failed": 1},
        "lastError": {"code": "CHUNK_PROCESSING_ERROR", "message": "1 chunk failed"},
    }
    job = pdf_job(status=status)
    chunks = [a_chunk(2, phase="Failed", attempts=4, starts=5, history=[END]), a_chunk(0), a_chunk(1)]
    for moment in (NOW, NOW + timedelta(hours=1)):
        uri = await store_job_record(desk.store, keys, job, chunks, moment)
        assert uri == desk.store.uri(f"pdfjob/history/books/novel/{JOB.metadata.uid[:8]}/job.json")
        record = JobRecord.model_validate_json(await desk.store.get(keys.history_record, 10**6))
        assert record.recorded == to_wire(moment)
    assert record.model_dump(include={"phase", "completed", "processing_seconds", "retries", "failed_chunks"}) == {
        "phase": "Failed",
        "completed": TIME,
        "processing_seconds": 7,
        "retries": 2,
        "failed_chunks": "2",
    }
    assert record.counts is not None
    assert record.counts.failed == 1
    assert [chunk.index for chunk in record.chunks] == [0, 1, 2]
    last = record.chunks[-1]
    assert (last.start_page, last.end_page, last.attempts, last.starts) == (5, 6, 4, 5)
    assert last.history[0].code == "API_ERROR"


async def test_the_record_of_ten_thousand_chunks_is_whole_and_takes_little_memory(desk: Desk) -> None:
    history = [{**END, "node": "node-1", "startedAt": TIME, "finishedAt": TIME} for _ in range(10)]
    one = a_chunk(0, phase="Failed", attempts=10, starts=10, history=history)
    chunks = [one.model_copy(update={"spec": one.spec.model_copy(update={"index": index})}) for index in range(10_000)]
    tracemalloc.start()
    try:
        await store_job_record(desk.store, desk.keys(JOB), JOB, chunks, NOW)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    data = await desk.store.get(desk.keys(JOB).history_record, 64 * 1024**2)
    assert [each["index"] for each in json.loads(data)["chunks"]] == [*range(10_000)]
    assert peak < 3 * len(data)
    assert len(data) < 32 * 1024**2


async def recorded(desk: Desk, job: PdfJob) -> JobRecord:
    desk.work.cache.apply("pdfjobs", job.wire())
    facts = await desk.do(job, WorkKind.RECORD)
    assert facts.errors == {}
    return JobRecord.model_validate_json(await desk.store.get(desk.keys(job).history_record, 10**6))


async def test_chunks_that_went_before_the_record_are_in_it_as_they_were_last_seen(desk: Desk) -> None:
    """As with their namespace: the garbage collector does not wait for the operator."""
    source = {"sha256": "a", "sizeBytes": 9, "pages": 6, "fileName": "n.pdf"}
    job = pdf_job(status={"chunks": {"total": 3, "pending": 3}, "source": source})
    desk.work.cache.apply("pdfjobs", job.wire())
    states: list[dict[str, Any]] = [{"phase": "Succeeded", "attempts": 2}, {"phase": "Failed", "history": [END]}, {}]
    for index, status in enumerate(states):
        raw = a_chunk(index, **status).wire()
        raw["metadata"] |= {"uid": f"chunk-{index}", "resourceVersion": "5", "creationTimestamp": TIME}
        raw["metadata"]["ownerReferences"][0]["uid"] = job.metadata.uid
        desk.work.cache.apply("pdfchunks", raw)
        if index < 2:
            desk.work.cache.remove("pdfchunks", raw)
    record = await recorded(desk, job)
    assert [(each.index, each.phase.value) for each in record.chunks] == [
        (0, "Succeeded"),
        (1, "Failed"),
        (2, "Pending"),
    ]
    assert (record.chunks[0].attempts, record.chunks[1].history[0].code) == (2, "API_ERROR")
    assert record.counts is not None
    assert (record.counts.succeeded, record.counts.failed, record.counts.pending) == (1, 1, 1)


async def test_of_chunks_that_nobody_remembers_the_storage_tells(desk: Desk) -> None:
    """They went while no operator ran."""
    source = {"sha256": "a", "sizeBytes": 9, "pages": 8, "fileName": "n.pdf"}
    job = pdf_job(status={"chunks": {"total": 4}, "failedChunks": "1", "source": source})
    keys = desk.keys(job)
    await desk.finish(job, 0, start=2)
    await desk.store.put(keys.error(0, 1), b"{}")
    await desk.store.put(keys.error(1, 4), b"{}")
    await desk.store.put(keys.error(2, 1), b"{}")
    record = await recorded(desk, job)
    told = [(each.index, each.start_page, each.end_page, each.phase.value, each.starts) for each in record.chunks]
    assert told == [
        (0, 1, 2, "Succeeded", 2),
        (1, 3, 4, "Failed", 4),
        (2, 5, 6, "Cancelled", 1),
        (3, 7, 8, "Cancelled", 0),
    ]
    assert record.counts is not None
    assert (record.counts.total, record.counts.succeeded, record.counts.failed, record.counts.cancelled) == (4, 1, 1, 2)


async def test_a_job_whose_plan_no_status_tells_of_is_recorded_whole(desk: Desk) -> None:
    """The process that stored the plan died before it wrote the status."""
    job = pdf_job()
    await desk.upload("novel.pdf", pdfs.text_pdf(8))
    await desk.do(job, WorkKind.SPLIT)
    desk.api.chunks.clear()
    desk.restart()
    assert len((await recorded(desk, job)).chunks) == 4


async def test_a_job_without_a_plan_is_recorded_without_chunks(desk: Desk) -> None:
    assert (await recorded(desk, pdf_job())).chunks == []


async def test_the_work_tells_where_the_record_is(desk: Desk) -> None:
    facts = await desk.do(JOB, WorkKind.RECORD)
    assert facts.recorded == desk.store.uri(desk.keys(JOB).history_record)
    assert await desk.store.head(desk.keys(JOB).history_record) is not None


@pytest.mark.parametrize("kind", [WorkKind.RECORD, WorkKind.CLEAN])
async def test_a_deletion_does_not_wait_for_a_bucket_that_is_gone(desk: Desk, api: WireApi, kind: WorkKind) -> None:
    await desk.remove_bucket()
    facts = await desk.do(pdf_job(metadata={"deletionTimestamp": to_wire(datetime.now(UTC))}), kind)
    assert facts.errors == {}
    assert (facts.recorded == "", facts.cleaned) == (kind is WorkKind.RECORD, kind is WorkKind.CLEAN)
    assert api.events[0]["reason"] == "CleanupAbandoned"
    assert desk.store.bucket in api.events[0]["message"]


async def test_a_job_that_lives_waits_for_its_bucket(desk: Desk, api: WireApi) -> None:
    await desk.remove_bucket()
    facts = await desk.do(JOB, WorkKind.RECORD)
    assert facts.recorded is None
    assert facts.errors[WorkKind.RECORD].retry_at is not None
    assert api.events == []


@pytest.mark.parametrize(("minutes", "given_up"), [(5, False), (11, True)])
async def test_a_deletion_waits_ten_minutes_for_storage_that_does_not_answer(
    desk: Desk, minutes: int, *, given_up: bool
) -> None:
    desk.disconnect()
    marked = to_wire(datetime.now(UTC) - timedelta(minutes=minutes))
    job = pdf_job(metadata={"deletionTimestamp": marked})
    facts = await desk.do(job, WorkKind.RECORD)
    assert facts.recorded == ("" if given_up else None)
    facts = await desk.do(job, WorkKind.CLEAN)
    assert facts.cleaned is given_up


async def test_what_is_recorded_survives_the_removal_of_the_job(desk: Desk) -> None:
    keys = desk.keys(JOB)
    await desk.do(JOB, WorkKind.RECORD)
    await stored_error(desk)
    await desk.finish(JOB, 0)
    await desk.store.put(keys.result("txt"), b"merged")
    facts = await desk.do(JOB, WorkKind.CLEAN)
    assert facts.cleaned
    assert await desk.objects(JOB) == {"result.txt"}
    kept = [key async for key in desk.store.list_keys(keys.history)]
    assert kept == [keys.error(2, 3), keys.history_record]
