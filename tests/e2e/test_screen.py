"""What kubectl shows of PdfJobs: tables that fit, progress as it happens, Events that tell the story."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from statistics import median
from typing import Any, Final

import pytest

from tests.support import pdfs
from tests.support.cluster import fresh_namespace, kubectl, kubectl_json
from tests.support.product import ARCHIVE, Job, Storage, submit, wait_for_operator, wait_until
from tests.support.puppets import Puppets
from tests.support.watching import Seen, watch

pytestmark = pytest.mark.alone

COLUMNS: Final = 100
"""Characters of the terminal that everything must fit into."""
CHUNKS: Final = 10
FINE: Final = 'store "page $first"'
PHASES: Final = ("Pending", "Splitting", "Running", "Merging", "Succeeded")
FRESH_SECONDS: Final = 2.0
JOB_PATH: Final = "{.status.chunks.succeeded}|{.status.progressPercent}|{.status.phase}|{.status.currentStep}"
CHUNK_PATH: Final = "{.spec.index}|{.status.phase}"
POD_PATH: Final = r"{.metadata.labels.pdfjob\.dev/chunk}|{.status.containerStatuses[0].state.terminated.exitCode}"


@dataclass
class Show:
    """A namespace with a PdfJob of ten chunks that was watched from its beginning to its end, and others."""

    namespace: str
    job: Job
    tables: list[str] = field(default_factory=list)
    """What ``kubectl get`` printed while it ran."""
    jobs: Seen = field(default_factory=list)
    chunks: Seen = field(default_factory=list)
    pods: Seen = field(default_factory=list)
    by_phase: str = ""
    """The names with phase Running, taken while it ran."""


@pytest.fixture(scope="module")
def show(installed: None, stage: Puppets) -> Iterator[Show]:
    wait_for_operator()
    storage = Storage.connect()
    with fresh_namespace() as namespace:
        show = Show(namespace, Job(namespace, "debian-reference-fr"))
        locked = f"pdfjob/inbox/{namespace}/locked.pdf"
        storage.put(locked, pdfs.encrypted_pdf(2, user=pdfs.USER_PASSWORD, owner="boss"))
        submit(namespace, "locked-of-a-stranger", {"s3": {"key": locked}}).wait()
        archived = submit(namespace, "from-the-archive", {"s3": {"bucket": ARCHIVE, "key": "novel.pdf"}})
        archived.wait_for(currentStep="Waiting: BucketNotFound")
        key = f"pdfjob/inbox/{namespace}/novel.pdf"
        storage.put(key, pdfs.text_pdf(2 * CHUNKS))
        selector = ("-l", f"pdfjob.dev/job={show.job.name}")
        with (
            watch(namespace, "pdfchunks", CHUNK_PATH, *selector) as show.chunks,
            watch(namespace, "pods", POD_PATH, *selector) as show.pods,
            watch(namespace, "pdfjobs", JOB_PATH, "--field-selector", f"metadata.name={show.job.name}") as show.jobs,
        ):
            _watch_one(show, stage, key)
        yield show


def _watch_one(show: Show, stage: Puppets, key: str) -> None:
    """Let it go through; at the states that the tests look for a chunk waits at its door until they have been seen."""
    name = show.job.name
    spec = stage.job(name, CHUNKS, FINE)
    spec["chunking"] = {"pagesPerChunk": 2, "thresholdPages": 0}
    stage.tell(name, [0, 4, 5], f"door chunk$chunk; {FINE}")
    submit(show.namespace, name, {"s3": {"key": key}}, parallelism=1, **spec)
    wait_until(lambda: show.jobs and "|15|Running|" in show.jobs[-1][1], "all chunks are stored", 120)
    stage.open(name, "chunk0")
    wait_until(lambda: show.jobs[-1][1].startswith("4|"), "four chunks have succeeded", 120)
    show.tables = [kubectl("get", kind, "-n", show.namespace).stdout for kind in ("pdfjobs", "pdfchunks")]
    running = ("get", "pdfjobs", "-n", show.namespace, "--field-selector", "status.phase=Running", "-o", "name")
    show.by_phase = kubectl(*running).stdout
    stage.open(name, "chunk4")
    wait_until(lambda: show.jobs[-1][1].startswith("5|"), "five chunks have succeeded")
    stage.open(name, "chunk5")
    show.job.succeed()
    wait_until(lambda: "|100|Succeeded|" in show.jobs[-1][1], "the watch has seen the end", 10)
    show.tables += [kubectl("get", kind, "-n", show.namespace).stdout for kind in ("pdfjobs", "pdfchunks")]


def test_tables_fit_a_terminal_of_100_columns(show: Show) -> None:
    lines = [line for table in show.tables for line in table.splitlines()]
    print("\n".join(lines))
    assert [line for line in lines if len(line) > COLUMNS] == []


def test_the_columns_say_where_each_job_stands(show: Show) -> None:
    running, ended = ({line.split()[0]: line for line in show.tables[at].splitlines()} for at in (0, 2))
    header = ["NAME", "PHASE", "PROGRESS", "CHUNKS", "FAILED", "STEP", "AGE"]
    assert running["NAME"].split() == header
    assert re.search(r"Running +40% +4/10 +0 +Processing chunk 4/10 ", running[show.job.name])
    assert re.search(r"Failed +Failed: Encrypted ", running["locked-of-a-stranger"])
    assert re.search(r"Splitting +Waiting: BucketNotFound ", running["from-the-archive"])
    assert re.search(r"Succeeded +100% +10/10 +0 +Completed ", ended[show.job.name])
    chunk = next(line for line in show.tables[3].splitlines() if line.startswith(f"{show.job.name}-c00002"))
    assert chunk.split()[1:5] == ["Succeeded", "5", "6", "1"]


def test_wide_tables_add_columns(show: Show) -> None:
    wide = [kubectl("get", kind, "-n", show.namespace, "-o", "wide").stdout for kind in ("pdfjobs", "pdfchunks")]
    assert wide[0].split("\n")[0].split()[-5:] == ["PAGES", "RETRIES", "TOKENS", "CHARGED", "PRIORITY"]
    assert wide[1].split("\n")[0].split()[-6:] == ["STARTS", "JOB", "SENTENCES", "TOKENS", "RETRY-AT", "MESSAGE"]


def test_jobs_are_found_by_phase_and_short_name(show: Show) -> None:
    assert show.by_phase.split() == [f"pdfjob.pdfjob.dev/{show.job.name}"]
    failed = kubectl("get", "pj", "-n", show.namespace, "--field-selector", "status.phase=Failed", "-o", "name").stdout
    assert failed.split() == ["pdfjob.pdfjob.dev/locked-of-a-stranger"]


def test_progress_is_shown_chunk_by_chunk_and_never_goes_down(show: Show) -> None:
    states = [line.split("|") for _, line in show.jobs]
    steps = [step for _, _, _, step in states]
    assert "Processing chunk 5/10" in steps
    percents = [int(percent) for _, percent, _, _ in states if percent]
    assert percents == sorted(percents)
    assert percents[-1] == 100
    assert {10 + 5, 15 + 60 * 5 // 10} <= set(percents)
    phases = list(dict.fromkeys(phase for _, _, phase, _ in states if phase))
    # Two changes within a second are one write of the status, so a short phase may not be seen.
    assert phases == [phase for phase in PHASES if phase in phases]
    assert {"Running", "Succeeded"} <= set(phases)


def test_the_end_of_a_chunk_is_seen_in_the_job_within_two_seconds(show: Show) -> None:
    counts = [(moment, int(line.split("|")[0] or 0)) for moment, line in show.jobs]
    ends = {
        "pod": {line: moment for moment, line in reversed(show.pods) if line.endswith("|0")},
        "PdfChunk": {line: moment for moment, line in reversed(show.chunks) if line.endswith("|Succeeded")},
    }
    delays: dict[str, list[float]] = {}
    for kind, moments in ends.items():
        assert len(moments) == CHUNKS, f"{kind}: {moments}"
        delays[kind] = [
            next(moment for moment, count in counts if count >= number) - end
            for number, end in enumerate(sorted(moments.values()), 1)
        ]
        print(f"{kind} to PdfJob: " + " ".join(f"{delay:.2f}" for delay in delays[kind]))
    assert max(delays["PdfChunk"]) < FRESH_SECONDS
    assert median(delays["pod"]) < FRESH_SECONDS


def test_describe_tells_the_story_in_order(show: Show) -> None:
    text = kubectl("describe", "pdfjob", show.job.name, "-n", show.namespace).stdout
    told = [line.split()[1] for line in text.partition("Events:")[2].splitlines()[3:] if line.strip()]
    print(text.partition("Events:")[2])
    story = ["Accepted", "LargeFileDetected", "AllChunksStored", "ResultStored", "Completed"]
    assert [reason for reason in told if reason in story] == story


def test_wait_returns_at_once_when_a_job_has_failed(show: Show) -> None:
    start = time.monotonic()
    kubectl("wait", "--for=condition=Finished", "pdfjob/locked-of-a-stranger", "-n", show.namespace, "--timeout=60s")
    assert time.monotonic() - start < 10
    waits = kubectl(
        *("wait", "--for=condition=Succeeded", "pdfjob/locked-of-a-stranger", "-n", show.namespace, "--timeout=1s"),
        check=False,
    )
    assert waits.returncode == 1


def test_times_tell_waiting_and_work(show: Show) -> None:
    found = show.job.get()
    status, created = found["status"], found["metadata"]["creationTimestamp"]
    assert created <= status["startTime"] <= status["completionTime"]
    for chunk in show.job.chunks():
        own = chunk["status"]
        assert own["startedAt"] <= own["processedAt"] <= own["updatedAt"] <= status["completionTime"]
    assert 0 < status["processingSeconds"] < 600


@pytest.mark.parametrize("kind", ["pdfjob", "pdfchunk"])
def test_explain_has_words_for_every_field(show: Show, kind: str) -> None:
    crd = kubectl_json("get", "crd", f"{kind}s.pdfjob.dev")
    schema = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]
    fields = {f"{kind}.{part}{path}" for part in ("spec", "status") for path in _silent(schema[part])}
    assert fields == set()
    assert "Pages of one chunk, 1 to 1000" in kubectl("explain", "pdfjob.spec.chunking.pagesPerChunk").stdout


def _silent(schema: Mapping[str, Any], path: str = "") -> list[str]:
    """Return the paths of the fields that have no description."""
    found = []
    for name, part in {**schema.get("properties", {}), **schema.get("items", {}).get("properties", {})}.items():
        if not part.get("description"):
            found.append(f"{path}.{name}")
        found += _silent(part, f"{path}.{name}")
    return found
