"""The soak's verdict: it agrees with what was foreseen, and finds every kind of deviation."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bench.soaking.fates import FATES, ExpectedJob, fate_of, plan_of, predict
from bench.soaking.operator import Samples
from bench.soaking.verdict import (
    counter_differences,
    gauge_differences,
    job_differences,
    numbers,
    played_differences,
)

SEED = 4
PLAN = next(
    plan
    for plan in (plan_of(number, 5) for number in range(1000))
    if predict(SEED, plan).phase == "Succeeded" and predict(SEED, plan).failed
)
"""A job that succeeds although a chunk of it fails."""
EXPECTED = predict(SEED, PLAN)


def chunks_of(expected: ExpectedJob) -> list[dict[str, Any]]:
    """Return the PdfChunks as they are when everything went as foreseen."""
    return [
        {
            "metadata": {"labels": {"pdfjob.dev/job": PLAN.name}},
            "spec": {"index": index},
            "status": {
                "phase": chunk.phase,
                "attempts": chunk.attempts,
                "starts": chunk.starts,
                "history": [
                    {
                        "start": item.start,
                        "outcome": item.outcome,
                        "counted": item.counted,
                        "items": 2 if item.outcome == "Succeeded" else 0,
                        **({"code": item.code} if item.code else {}),
                    }
                    for item in chunk.history
                ],
            },
        }
        for index, chunk in enumerate(expected.chunks)
    ]


def job_of(expected: ExpectedJob) -> dict[str, Any]:
    """Return the PdfJob as it is when everything went as foreseen."""
    failed = len(expected.failed)
    return {
        "metadata": {"name": PLAN.name},
        "status": {
            "phase": expected.phase,
            "conditions": [{"type": "Succeeded", "status": "True"}],
            "failedChunks": ",".join(str(index) for index in expected.failed),
            "retries": expected.retries,
            "chunks": {"total": 5, "succeeded": 5 - failed, "failed": failed},
            "result": {"partial": True, "files": [{"format": "jsonl", "sha256": expected.result_sha256}]},
        },
    }


def test_what_was_foreseen_shows_no_difference() -> None:
    assert job_differences(EXPECTED, job_of(EXPECTED), chunks_of(EXPECTED)) == []


def _other_hash(job: dict[str, Any], _: list[dict[str, Any]]) -> None:
    job["status"]["result"]["files"][0]["sha256"] = "0"


def _lost_failure(job: dict[str, Any], _: list[dict[str, Any]]) -> None:
    del job["status"]["failedChunks"]


def _one_more_start(_: dict[str, Any], chunks: list[dict[str, Any]]) -> None:
    chunks[0]["status"]["starts"] += 1


def _counted_otherwise(_: dict[str, Any], chunks: list[dict[str, Any]]) -> None:
    chunks[0]["status"]["history"][0]["counted"] ^= True


def _missing_chunk(_: dict[str, Any], chunks: list[dict[str, Any]]) -> None:
    del chunks[3]


def _wrong_sum(job: dict[str, Any], _: list[dict[str, Any]]) -> None:
    job["status"]["chunks"]["running"] = 1


@pytest.mark.parametrize(
    "spoil", [_other_hash, _lost_failure, _one_more_start, _counted_otherwise, _missing_chunk, _wrong_sum]
)
def test_each_deviation_is_found(spoil: Callable[[dict[str, Any], list[dict[str, Any]]], None]) -> None:
    job, chunks = job_of(EXPECTED), chunks_of(EXPECTED)
    spoil(job, chunks)
    assert len(job_differences(EXPECTED, job, chunks)) == 1


def test_numbers_are_read_as_people_write_them() -> None:
    assert numbers("3,7-9") == (3, 7, 8, 9)
    assert numbers("") == ()


def lives_of(expected: ExpectedJob) -> list[dict[str, Any]]:
    """Return what the simulated node writes when everything went as foreseen."""
    lives = []
    for index, chunk in enumerate(expected.chunks):
        for start in range(1, chunk.starts + 1):
            fate = fate_of(SEED, PLAN.name, index, start)
            life = {"job": PLAN.name, "chunk": index, "start": start, "fate": fate.name}
            lives.append({**life, "exitCode": fate.exit_code, "began": 10.0 * start, "ended": 10.0 * start + 2})
    return lives


def played(path: Path, lives: list[dict[str, Any]]) -> list[str]:
    path.write_text("".join(json.dumps(life) + "\n" for life in lives))
    return played_differences(path, {PLAN.name: EXPECTED})[1]


def test_every_start_played_once_is_right(tmp_path: Path) -> None:
    assert played(tmp_path / "lives", lives_of(EXPECTED)) == []


def test_a_start_that_ran_twice_is_found(tmp_path: Path) -> None:
    lives = lives_of(EXPECTED)
    again = {**lives[0], "began": 500.0, "ended": 502.0}
    assert played(tmp_path / "lives", [*lives, again]) == [f"start {(PLAN.name, 0, 1)} was played 2 times"]


def test_a_start_that_nobody_foresaw_is_found_and_one_that_never_ran(tmp_path: Path) -> None:
    lives = lives_of(EXPECTED)
    lives[0]["start"] = 9
    assert len(played(tmp_path / "lives", lives)) == 2


def test_two_pods_of_a_chunk_at_a_time_are_found(tmp_path: Path) -> None:
    retried = next(index for index, chunk in enumerate(EXPECTED.chunks) if chunk.starts > 1)
    lives = lives_of(EXPECTED)
    first = next(life for life in lives if life["chunk"] == retried)
    first["ended"] = 25.0
    assert played(tmp_path / "lives", lives) == [f"two pods of {(PLAN.name, retried)} ran at a time"]


def test_a_pod_that_the_cluster_ended_is_found(tmp_path: Path) -> None:
    lives = lives_of(EXPECTED)
    lives[0]["exitCode"] = next(fate.exit_code for fate in FATES.values() if fate.exit_code != lives[0]["exitCode"])
    assert len(played(tmp_path / "lives", lives)) == 1


def samples() -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """Return metrics that agree with the resources."""
    failed, starts = len(EXPECTED.failed), [item for chunk in EXPECTED.chunks for item in chunk.history]
    told: dict[tuple[str, tuple[tuple[str, str], ...]], float] = {
        ("pdfjob_jobs", (("phase", "Succeeded"),)): 1,
        ("pdfjob_chunks", (("phase", "Succeeded"),)): 5 - failed,
        ("pdfjob_chunks", (("phase", "Failed"),)): failed,
        ("pdfjob_chunks", (("phase", "RetryScheduled"),)): 0,
        ("pdfjob_chunks_finished_total", (("outcome", "Succeeded"),)): 5 - failed,
        ("pdfjob_chunks_finished_total", (("outcome", "Failed"),)): failed,
        ("pdfjob_chunks_finished_total", (("outcome", "Cancelled"),)): 0,
        ("pdfjob_items_total", (("outcome", "Succeeded"),)): 2 * (5 - failed),
        ("pdfjob_chunk_attempts_sum", ()): sum(chunk.attempts for chunk in EXPECTED.chunks),
        ("pdfjob_chunk_attempts_count", ()): 5,
        ("pdfjob_queue_wait_seconds_count", ()): 5,
        ("pdfjob_chunk_duration_seconds_count", ()): 5 - failed,
    }
    for item in starts:
        key = ("pdfjob_chunk_starts_ended_total", (("code", item.code or ""), ("outcome", item.outcome)))
        told[key] = told.get(key, 0) + 1
        if item.code:
            error = ("pdfjob_chunk_errors_total", (("code", item.code),))
            told[error] = told.get(error, 0) + 1
    return told


def test_metrics_that_agree_show_no_difference() -> None:
    told: Samples = samples()
    assert gauge_differences(told, [job_of(EXPECTED)], chunks_of(EXPECTED)) == []
    assert counter_differences(told, chunks_of(EXPECTED)) == []


@pytest.mark.parametrize("key", [key for key in samples() if key[0] in {"pdfjob_jobs", "pdfjob_chunks"}])
def test_a_gauge_that_is_wrong_is_found(key: tuple[str, tuple[tuple[str, str], ...]]) -> None:
    told = copy.copy(samples())
    told[key] += 1
    assert len(gauge_differences(told, [job_of(EXPECTED)], chunks_of(EXPECTED))) == 1


@pytest.mark.parametrize("key", [key for key in samples() if key[0] not in {"pdfjob_jobs", "pdfjob_chunks"}])
def test_a_counter_that_is_wrong_is_found(key: tuple[str, tuple[tuple[str, str], ...]]) -> None:
    told = copy.copy(samples())
    told[key] += 1
    assert len(counter_differences(told, chunks_of(EXPECTED))) == 1


def test_gauges_that_are_not_told_are_found() -> None:
    assert gauge_differences({}, [job_of(EXPECTED)], chunks_of(EXPECTED)) == ["pdfjob_chunks is not told"]
