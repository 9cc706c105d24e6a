"""What came of it, against what must have come: jobs, starts, and the operator's metrics. Each returns differences."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

from bench.soaking.fates import FATES, ExpectedChunk, ExpectedJob, ExpectedStart
from bench.soaking.operator import Samples

Raw = Mapping[str, Any]
PHASES: Final = ("pending", "running", "retryScheduled", "succeeded", "failed", "cancelled")


def job_differences(expected: ExpectedJob, job: Raw, chunks: Sequence[Raw]) -> list[str]:
    """Compare a finished PdfJob and its PdfChunks with the prediction."""
    name, status = job["metadata"]["name"], job["status"]
    conditions = {item["type"]: item["status"] for item in status["conditions"]}
    files = {item["format"]: item["sha256"] for item in (status.get("result") or {}).get("files", [])}
    counts = Counter(chunk.phase.lower() for chunk in expected.chunks)
    told = {phase: status["chunks"].get(phase, 0) for phase in PHASES}
    pairs: list[tuple[str, object, object]] = [
        ("phase", expected.phase, status["phase"]),
        ("condition Succeeded", "True" if expected.phase == "Succeeded" else "False", conditions.get("Succeeded")),
        ("failed chunks", expected.failed, numbers(status.get("failedChunks") or "")),
        ("retries", expected.retries, status.get("retries", 0)),
        ("chunks by phase", {phase: counts[phase] for phase in PHASES}, told),
        ("total", len(expected.chunks), status["chunks"]["total"]),
        ("merged result", expected.result_sha256, files.get("jsonl")),
        ("partial", expected.phase == "Succeeded" and bool(expected.failed), _partial(status)),
        ("PdfChunks", list(range(len(expected.chunks))), sorted(chunk["spec"]["index"] for chunk in chunks)),
    ]
    found = [f"{name}: {what} is {seen!r}, not {wanted!r}" for what, wanted, seen in pairs if wanted != seen]
    for chunk in chunks:
        index = chunk["spec"]["index"]
        if index < len(expected.chunks) and (seen := seen_chunk(chunk)) != expected.chunks[index]:
            found.append(f"{name}: chunk {index} is {seen}, not {expected.chunks[index]}")
    return found


def _partial(status: Raw) -> bool:
    return bool((status.get("result") or {}).get("partial", False))


def numbers(text: str) -> tuple[int, ...]:
    """Read numbers as people write them, ``3,7-9``."""
    found: list[int] = []
    for part in filter(None, text.split(",")):
        first, _, last = part.partition("-")
        found.extend(range(int(first), int(last or first) + 1))
    return tuple(found)


def seen_chunk(chunk: Raw) -> ExpectedChunk:
    """Read how a PdfChunk has ended."""
    status = chunk["status"]
    history = tuple(
        ExpectedStart(item["start"], item["outcome"], item.get("code"), item["counted"])
        for item in status.get("history", [])
    )
    return ExpectedChunk(status["phase"], status.get("attempts", 0), status.get("starts", 0), history)


def played_differences(lives: Path, expected: Mapping[str, ExpectedJob]) -> tuple[int, list[str]]:
    """Compare what the simulated node played with the prediction; returns the pods as well.

    Each start of each chunk runs once, none that is not foreseen, and never two of a chunk at a time.
    """
    told = [json.loads(line) for line in lives.read_text().splitlines()]
    found = [f"pod of {life['job']} chunk {life['chunk']}: {life['error']}" for life in told if "error" in life]
    wanted = {
        (job, index, start)
        for job, prediction in expected.items()
        for index, chunk in enumerate(prediction.chunks)
        for start in range(1, chunk.starts + 1)
    }
    played = Counter((life["job"], life["chunk"], life["start"]) for life in told)
    found += [f"start {start} was played {times} times" for start, times in played.items() if times > 1]
    found += [f"start {start} was played and was not foreseen" for start in sorted(set(played) - wanted)]
    found += [f"start {start} was never played" for start in sorted(wanted - set(played))]
    for life in told:
        if "exitCode" in life and life["exitCode"] != FATES[life["fate"]].exit_code:
            found.append(f"{life['job']} chunk {life['chunk']} start {life['start']} was ended by the cluster")
    by_chunk: dict[tuple[str, int], list[dict[str, Any]]] = {}
    for life in told:
        by_chunk.setdefault((life["job"], life["chunk"]), []).append(life)
    for chunk, own in by_chunk.items():
        own.sort(key=lambda life: life["began"])
        beside = sum(other["began"] < one["ended"] for one, other in pairwise(own))
        found += [f"two pods of {chunk} ran at a time"] * beside
    return len(told), found


def gauge_differences(samples: Samples, jobs: Iterable[Raw], chunks: Iterable[Raw]) -> list[str]:
    """Compare the gauges with the PdfJobs' statuses, and with the PdfChunks themselves."""
    jobs = list(jobs)
    phases = Counter(job["status"]["phase"] for job in jobs)
    sums = Counter({phase: sum(job["status"]["chunks"].get(phase, 0) for job in jobs) for phase in PHASES})
    own = Counter(chunk["status"]["phase"] for chunk in chunks)
    found = []
    for (name, labels), value in samples.items():
        phase = dict(labels).get("phase", "")
        if name == "pdfjob_jobs" and value != phases[phase]:
            found.append(f"pdfjob_jobs {phase} is {value:.0f}, there are {phases[phase]}")
        elif name == "pdfjob_chunks":
            summed = sums[phase[:1].lower() + phase[1:]]
            if not value == summed == own[phase]:
                found.append(f"pdfjob_chunks {phase} is {value:.0f}, PdfJobs say {summed}, PdfChunks {own[phase]}")
    if not any(name == "pdfjob_chunks" for name, _ in samples):
        found.append("pdfjob_chunks is not told")
    return found


def counter_differences(samples: Samples, chunks: Sequence[Raw]) -> list[str]:
    """Compare the counters of one life of the operator with the PdfChunks that began and ended in it."""
    ends = [chunk["status"] for chunk in chunks]
    starts = [item for status in ends for item in status["history"]]
    wanted: Counter[tuple[str, tuple[tuple[str, str], ...]]] = Counter()
    for status in ends:
        wanted["pdfjob_chunks_finished_total", (("outcome", status["phase"]),)] += 1
        wanted["pdfjob_items_total", (("outcome", "Succeeded"),)] += status["history"][-1].get("items", 0)
        wanted["pdfjob_chunk_attempts_sum", ()] += status["attempts"]
    for item in starts:
        code = item.get("code") or ""
        wanted["pdfjob_chunk_starts_ended_total", (("code", code), ("outcome", item["outcome"]))] += 1
        if code:
            wanted["pdfjob_chunk_errors_total", (("code", code),)] += 1
    wanted["pdfjob_chunk_attempts_count", ()] = len(ends)
    wanted["pdfjob_queue_wait_seconds_count", ()] = len(ends)
    wanted["pdfjob_chunk_duration_seconds_count", ()] = sum(status["phase"] == "Succeeded" for status in ends)
    names = {name for name, _ in wanted}
    seen = {key: value for key, value in samples.items() if key[0] in names}
    return [
        f"{name} {dict(labels)} is {seen.get((name, labels), 0):.0f}, the resources say {wanted[name, labels]}"
        for name, labels in sorted(set(wanted) | set(seen))
        if seen.get((name, labels), 0) != wanted[name, labels]
    ]
