"""``kubectl pdfjob history`` and ``results --partial``: what lies on a real S3 server, read with a real API server."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from pdfjob_api.contract import ChunkResult, MissingPage, Record
from pdfjob_api.history import ErrorRecord, JobRecord
from pdfjob_api.keys import JobKeys

from .installation import BUCKET, S3Server, digest, pdfjob
from .operator_role import OperatorRole
from .test_views import ERROR, submitted


def stored(server: S3Server, namespace: str, name: str, uid: str, **fields: Any) -> JobKeys:
    keys = JobKeys("pdfjob", namespace, name, uid)
    record = JobRecord.model_validate(
        {
            "namespace": namespace,
            "name": name,
            "uid": uid,
            "created": "2026-11-22T08:00:00Z",
            "started": "2026-11-22T08:00:01Z",
            "completed": "2026-11-22T08:01:31Z",
            "recorded": "2026-11-22T08:01:31Z",
            "processingSeconds": 90,
            "phase": "Failed",
            "counts": {"total": 1, "failed": 1},
            "chunks": [{"index": 0, "startPage": 1, "endPage": 50, "phase": "Failed", "attempts": 1, "starts": 1}],
            **fields,
        }
    )
    server.put(keys.history_record, json.dumps(record.wire()).encode())
    return keys


def stored_error(server: S3Server, keys: JobKeys, chunk: int, start: int) -> None:
    error = ErrorRecord.model_validate(
        {
            "namespace": keys.namespace,
            "job": keys.name,
            "uid": keys.uid,
            "chunk": chunk,
            "startPage": 1,
            "endPage": 50,
            "start": start,
            "attempt": start,
            "counted": True,
            "outcome": "Failed",
            **ERROR,
            "time": "2026-11-22T08:01:00Z",
            "jobName": f"{keys.name}-c00000-a{start}",
            "logTail": "the last words of the runner",
        }
    )
    server.put(keys.error(chunk, start), json.dumps(error.wire()).encode())


def history(namespace: str, installed: str, *arguments: str) -> Any:
    return pdfjob("history", *arguments, "-n", namespace, "--install-namespace", installed)


def test_jobs_that_are_gone_are_listed_the_newest_first(namespace: str, installed: str, server: S3Server) -> None:
    assert f"No finished jobs in namespace {namespace}." in history(namespace, installed).stderr
    stored(server, namespace, "older", "11111111-a")
    time.sleep(1.1)  # S3 gives times in whole seconds
    stored_error(server, stored(server, namespace, "newer", "22222222-b", phase="Succeeded"), 0, 1)
    stored(server, f"{namespace}-2", "of-another-namespace", "33333333-c")
    rows = [line.split() for line in history(namespace, installed).stdout.splitlines()]

    assert [row[:2] for row in rows[1:]] == [["newer", "Succeeded"], ["older", "Failed"]]
    assert rows[2][-2:] == ["90s", "11111111"]
    cut = history(namespace, installed, "--limit", "1")
    assert len(cut.stdout.splitlines()) == 2
    assert "... and 1 older ones (--limit 0 shows all)" in cut.stderr
    data = json.loads(history(namespace, installed, "-o", "json").stdout)
    assert [(record["name"], record["phase"]) for record in data] == [("newer", "Succeeded"), ("older", "Failed")]


def test_one_record_has_its_chunks_and_errors(namespace: str, installed: str, server: S3Server) -> None:
    keys = stored(server, namespace, "novel", "11111111-a")
    for start in (1, 2):
        stored_error(server, keys, 0, start)
    done = history(namespace, installed, "novel")

    assert done.returncode == 0, done.stderr
    assert "1 in all: 0 succeeded, 1 failed" in done.stdout
    assert done.stdout.count("OUT_OF_MEMORY") == 2
    data = json.loads(history(namespace, installed, "novel", "-o", "json").stdout)
    assert [chunk["endPage"] for chunk in data["chunks"]] == [50]
    assert [error["logTail"] for error in data["errors"]] == ["the last words of the runner"] * 2


def test_of_several_jobs_of_one_name_the_last_is_shown_and_the_others_are_named(
    namespace: str, installed: str, server: S3Server
) -> None:
    stored(server, namespace, "novel", "11111111-a")
    time.sleep(1.1)  # S3 gives times in whole seconds
    stored(server, namespace, "novel", "22222222-b")
    stored(server, namespace, "novel-2", "33333333-c")
    last = history(namespace, installed, "novel")

    assert "run 22222222)" in last.stdout
    assert "Earlier jobs of this name: --run 11111111\n" in last.stderr
    assert "run 11111111)" in history(namespace, installed, "novel", "--run", "11111111").stdout
    wrong = history(namespace, installed, "novel", "--run", "nothing")
    assert wrong.returncode == 2
    assert '"novel" has no run nothing; it has 22222222, 11111111' in wrong.stderr


def test_a_job_without_a_record_is_one_clear_line(namespace: str, installed: str) -> None:
    done = history(namespace, installed, "nothing")

    assert done.returncode == 4
    assert done.stderr == (
        f'error: there is no record of a job "nothing" in namespace "{namespace}"; one is written when a job ends\n'
    )


@pytest.fixture
def half_done(namespace: str, server: S3Server) -> OperatorRole:
    """A job of 200 pages: chunks 0 and 2 have succeeded, 1 has failed, 3 runs."""
    operator = submitted(namespace, chunks=4)
    operator.running(2, failed=1)
    operator.status(source={"sha256": "0" * 64, "sizeBytes": 1, "pages": 200, "fileName": "novel.pdf"})
    for index, missing in ((0, [40]), (2, [])):
        first = 50 * index + 1
        result = ChunkResult(
            start_page=first,
            end_page=first + 49,
            records=[Record(page=first, end_page=first, text=f"Of chunk {index}.")],
            missing=[MissingPage(page=page, code="INVALID_ITEM") for page in missing],
        )
        data = result.model_dump_json(by_alias=True).encode()
        key = f"pdfjob/jobs/{namespace}/novel/results/c{index:05d}/x-a1.json"
        server.put(key, data)
        found = {"uri": f"s3://{BUCKET}/{key}", "sha256": digest(data), "bytes": len(data), "sentences": 1}
        operator.chunk(index, "Succeeded", attempts=1, result=found)
    operator.chunk(1, "Failed", attempts=4, lastError=ERROR)
    operator.chunk(3, "Running", attempts=1)
    return operator


def partial(namespace: str, installed: str, *arguments: str) -> Any:
    return pdfjob("results", "novel", "--partial", *arguments, "-n", namespace, "--install-namespace", installed)


def test_partial_results_come_in_page_order_with_what_is_missing_in_its_place(
    half_done: OperatorRole, namespace: str, installed: str, tmp_path: Path
) -> None:
    done = partial(namespace, installed, "--format", "txt")

    assert done.returncode == 0, done.stderr
    assert done.stdout == (
        "Of chunk 0.\n\n"
        "[pages 40-40 missing: INVALID_ITEM]\n\n"
        "[pages 51-100 missing: OUT_OF_MEMORY]\n\n"
        "Of chunk 2.\n\n"
        "[pages 151-200 missing: not done yet]\n"
    )
    assert "note: 2/4 chunks done (50.0%)" in done.stderr
    lines = [json.loads(line) for line in partial(namespace, installed).stdout.splitlines()]
    assert [line.get("n", line.get("missing")) for line in lines] == [0, [40, 40], [51, 100], 1, [151, 200]]
    target = tmp_path / "novel.csv"
    assert partial(namespace, installed, "-o", str(target)).returncode == 0
    assert target.read_bytes().count(b"\r\n") == 1 + 5


def test_a_chunk_result_that_was_changed_is_not_passed_on(
    half_done: OperatorRole, namespace: str, installed: str, server: S3Server, tmp_path: Path
) -> None:
    server.put(f"pdfjob/jobs/{namespace}/novel/results/c00002/x-a1.json", b"{}")
    target = tmp_path / "novel.txt"
    done = partial(namespace, installed, "-o", str(target))

    assert done.returncode == 4
    assert "is not what chunk 2 stored" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_without_a_chunk_that_has_succeeded_there_is_no_partial_result(namespace: str, installed: str) -> None:
    submitted(namespace).running(0)
    done = partial(namespace, installed)

    assert (done.returncode, done.stdout) == (1, "")
    assert 'error: pdfjob "novel": no chunk has succeeded yet (Running)' in done.stderr
