"""Manual retry, by editing the PdfJob or one PdfChunk: what is taken, what is refused and why, and that it heals."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, Final

import pytest

from tests.support import pdfs
from tests.support.audit import job_creations
from tests.support.cluster import environment, kubectl, kubectl_json
from tests.support.product import Job, Storage, run_plugin, submit, wait_until
from tests.support.puppets import Puppets

PAGES: Final = 6
ONCE: Final[dict[str, Any]] = {"retryPolicy": {"maxRetries": 0}}
FINE: Final = 'store "page $first"'
FORCED: Final = (2, 5)
"""The chunks that the editor of the test forces."""


@pytest.fixture(scope="module")
def jobs(place: str, stage: Puppets) -> dict[str, Job]:
    """The jobs of all tests, under way together; those that need no work of their own before they fail."""
    source = Storage.connect().source(place, "small.pdf", pdfs.text_pdf(PAGES))
    fails = 'say PROCESSING_ERROR "no luck"; exit 70'
    specs: dict[str, dict[str, Any]] = {
        "broken": {**stage.job("broken", PAGES, FINE), **ONCE},
        "edited": stage.job("edited", PAGES, FINE),
        "healed": {**stage.job("healed", PAGES, FINE), **ONCE},
        "single": {**stage.job("single", PAGES, FINE), **ONCE},
        "stopped": {"suspend": True, "shutdown": "Stop"},
        "cancelled": {"suspend": True, "shutdown": "Cancel"},
        "flight": {**stage.job("flight", PAGES, FINE), **ONCE, "parallelism": PAGES},
    }
    stage.tell("broken", [4], f"door damage; {FINE}")
    stage.tell("healed", [0], "exit 66")
    stage.tell("healed", [3], fails)
    stage.tell("single", [1], fails)
    specs["flight"]["retryPolicy"] = {"maxRetries": 0, "backoff": {"initialSeconds": 600, "maxSeconds": 600}}
    stage.tell("flight", [0], fails)
    stage.tell("flight", [1], f"door one; {FINE}")
    stage.tell("flight", [2], "exit 72")
    return {name: submit(place, name, source, **spec) for name, spec in specs.items()}


def reasons(answer: dict[str, Any]) -> dict[str, str]:
    return {item["chunks"]: item["reason"] for item in answer.get("refused", [])}


def test_a_request_while_the_job_runs_is_answered_chunk_by_chunk(
    jobs: dict[str, Job], stage: Puppets, product: None
) -> None:
    job = jobs["flight"]
    job.wait_for_phases("Failed", "Running", "RetryScheduled", *["Succeeded"] * 3, timeout=180)
    stage.tell(job.name, [0, 2], FINE)
    answer = job.retry("first", chunks=[0, 1, 2, 3, 9])
    assert (answer["message"], answer["retriedCount"], answer["chunks"]) == ("Retrying 1 chunk", 1, [2])
    assert reasons(answer) == {
        "0": "has used its 1 attempt; force: true or a higher maxRetries goes on",
        "1": "runs already",
        "3": "has succeeded; force: true processes it again",
        "9": "no such chunk: they are numbered 0 to 5",
    }
    job.wait_for_phases("Failed", "Running", *["Succeeded"] * 4)
    job.wait_for_event("RetryRequested", "Retrying 1 chunk; not 0: has used its 1 attempt")

    again = job.retry("second", force=True)
    assert (again["message"], again["chunks"], again.get("refused", [])) == ("Retrying 1 chunk", [0], [])
    job.wait_for_phases("Succeeded", "Running", *["Succeeded"] * 4)
    job.edit(retryRequest={"id": "second", "chunks": [3], "force": True})
    stage.open(job.name, "one")
    status = job.succeed()
    assert status["lastRetry"] == again, "a request that was answered is not acted on again, whatever it says"
    assert stage.starts(job.name, PAGES) == [2, 1, 2, 1, 1, 1]
    assert (status["chunks"]["succeeded"], "failedChunks" in status) == (PAGES, False)


def test_kubectl_edit_forces_two_chunks_of_a_finished_job_and_the_result_is_the_same(
    jobs: dict[str, Job], stage: Puppets, product: None, storage: Storage, place: str, tmp_path: Path
) -> None:
    job = jobs["edited"]
    first_end = job.succeed()
    results = {fmt: job.result(storage, fmt) for fmt in ("jsonl", "txt", "csv")}
    stage.tell(job.name, [*FORCED], f"door again; {FINE}")
    edit(job, tmp_path, {"id": "by-hand", "chunks": [*FORCED], "force": True})
    job.wait_for(phase="Running")
    job.wait_for_phases(*("Running" if index in FORCED else "Succeeded" for index in range(PAGES)))
    assert len(job.running_pods()) == len(FORCED)
    assert {item["metadata"]["labels"]["pdfjob.dev/retry"] for item in job.children("jobs")} == {"by-hand"}
    job.wait_for(summary={"progress": "66%", "chunks": "4/6"}, progressPercent=55)
    stage.open(job.name, "again")
    job.wait_for(phase="Succeeded")
    status = job.succeed()
    assert status["lastRetry"]["message"] == "Retrying 2 chunks"
    assert status["lastRetry"]["chunks"] == [*FORCED]
    assert status["completionTime"] > first_end["completionTime"]
    made = job_creations(place)
    assert [made[chunk["metadata"]["name"]] for chunk in job.chunks()] == [1, 1, 2, 1, 1, 2]
    assert stage.starts(job.name, PAGES) == [1, 1, 2, 1, 1, 2]
    assert {fmt: job.result(storage, fmt) for fmt in ("jsonl", "txt", "csv")} == results
    assert [chunk["status"]["attempts"] for chunk in job.chunks()] == [1] * PAGES


def edit(job: Job, folder: Path, request: dict[str, Any]) -> None:
    """Do what a user does in the editor that ``kubectl edit`` opens: add a retryRequest."""
    editor = folder / "editor.py"
    editor.write_text(
        "import sys, yaml\n"
        "text = open(sys.argv[1]).read()\n"
        "found = yaml.safe_load(text)\n"
        f"found['spec']['retryRequest'] = {request!r}\n"
        "open(sys.argv[1], 'w').write(yaml.safe_dump(found))\n"
    )
    with_editor = {**environment(), "KUBE_EDITOR": f"{sys.executable} {editor}"}
    done = kubectl("edit", "pdfjob", job.name, "-n", job.namespace, env=with_editor)
    assert "edited" in done.stdout


def test_a_failed_job_whose_cause_is_gone_ends_well(jobs: dict[str, Job], stage: Puppets, product: None) -> None:
    job = jobs["healed"]
    assert job.wait()["phase"] == "Failed"
    plain = run_plugin("retry", job.name, "-n", job.namespace, "--chunk", "0", "--chunk", "3", "--chunk", "5")
    assert plain.returncode == 1
    assert "refused:  0: failed for good with NO_TEXT; force: true tries it all the same" in plain.stderr
    assert "refused:  3: has used its 1 attempt; force: true or a higher maxRetries goes on" in plain.stderr
    assert "refused:  5: has succeeded; force: true processes it again" in plain.stderr
    assert job.status["phase"] == "Failed", "a request that takes nothing leaves a finished job as it is"
    stage.tell(job.name, [0, 3], FINE)
    done = run_plugin("retry", job.name, "-n", job.namespace, "--force", "--wait")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[:2] == ["Retrying 2 chunks", "  again:    0, 3"]
    status = job.succeed()
    assert "lastError" not in status
    assert "failedChunks" not in status
    assert (status["progressPercent"], status["summary"]["chunks"]) == (100, "6/6")
    assert stage.starts(job.name, PAGES) == [2, 1, 1, 2, 1, 1]


def test_one_pdfchunk_is_retried_by_its_own_field(jobs: dict[str, Job], stage: Puppets, product: None) -> None:
    job = jobs["single"]
    assert job.wait()["phase"] == "Failed"
    assert ask_chunk(job, 1, "too-often") == {
        "accepted": False,
        "message": "has used its 1 attempt; force: true or a higher maxRetries goes on",
    }
    assert ask_chunk(job, 4, "done-already") == {
        "accepted": False,
        "message": "has succeeded; force: true processes it again",
    }
    assert job.status["phase"] == "Failed"
    stage.tell(job.name, [1], f"door single; {FINE}")
    assert ask_chunk(job, 1, "all the same!", force=True) == {"accepted": True, "message": ""}
    wait_until(lambda: job.phases()[1] == "Running", "it runs")
    (child,) = job.children("jobs")
    label = child["metadata"]["labels"]["pdfjob.dev/retry"]
    assert label.isalnum(), "an id that is no label value is shown by its hash"
    assert ask_chunk(job, 1, "while-it-runs", force=True) == {"accepted": False, "message": "runs already"}
    stage.open(job.name, "single")
    job.succeed()
    assert stage.starts(job.name, PAGES) == [1, 2, 1, 1, 1, 1]
    job.wait_for_event("Retrying chunk 1")
    job.wait_for_event("chunk 4 is not retried: has succeeded")


def ask_chunk(job: Job, index: int, request: str, *, force: bool = False) -> dict[str, Any]:
    """Request the retry of one PdfChunk by its own spec; return the answer."""
    name = f"{job.name}-c{index:05d}"
    patch = json.dumps({"spec": {"retryRequest": {"id": request, "force": force}}})
    kubectl("patch", "pdfchunk", name, "-n", job.namespace, "--type=merge", "-p", patch)

    def answer() -> dict[str, Any] | None:
        found = kubectl_json("get", "pdfchunk", name, "-n", job.namespace)["status"].get("lastRetry") or {}
        return found if found.get("id") == request else None

    found = wait_until(answer, f"request {request} is answered", 30)
    return {"accepted": found["accepted"], "message": found.get("message", "")}


@pytest.mark.parametrize(("name", "phase"), [("stopped", "Stopped"), ("cancelled", "Cancelled")])
def test_a_stopped_or_cancelled_job_refuses_with_the_reason(
    jobs: dict[str, Job], product: None, name: str, phase: str
) -> None:
    job = jobs[name]
    assert job.wait()["phase"] == phase
    answer = job.retry("please", force=True)
    assert answer["message"] == (f"Refused: the PdfJob was {name} and stays so; delete it and create it again to go on")
    assert job.status["phase"] == phase
    job.wait_for_event(answer["message"])


def test_a_failed_merge_is_retried_without_running_any_chunk(
    jobs: dict[str, Job], stage: Puppets, product: None, storage: Storage, place: str
) -> None:
    job = jobs["broken"]
    wait_until(lambda: job.phases().count("Succeeded") == PAGES - 1, "all but one are done")
    key = job.chunks()[2]["status"]["result"]["uri"].removeprefix(f"s3://{storage.bucket}/")
    sound = storage.read(key)
    storage.put(key, b'{"version":1}')
    stage.open(job.name, "damage")
    status = job.wait()
    assert (status["phase"], status["lastError"]["code"]) == ("Failed", "MERGE_ERROR")
    merged = job.condition("Merged")
    assert (merged["status"], merged["reason"]) == ("False", "MergeFailed")
    assert status["chunks"]["succeeded"] == PAGES
    assert len(storage.keys(f"pdfjob/jobs/{place}/{job.name}/results/")) == PAGES, "chunk results are kept"
    storage.put(key, sound)
    answer = job.retry("merge-again")
    assert (answer["retriedCount"], answer["chunks"]) == (0, [])
    assert answer["message"] == "Retrying 0 chunks; what is there is merged again"
    job.wait_for(phase="Succeeded")
    assert job.result(storage, "txt").decode().split() == " ".join(f"page {n}" for n in range(1, PAGES + 1)).split()
    assert stage.starts(job.name, PAGES) == [1] * PAGES
    assert {job_creations(place)[chunk["metadata"]["name"]] for chunk in job.chunks()} == {1}
