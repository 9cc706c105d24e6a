"""Every verb of ``kubectl pdfjob`` once on the whole product: what it does to a job, and what the user reads."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

from tests.support import pdfs
from tests.support.cluster import environment, kubectl
from tests.support.product import Job, Storage, run_plugin, submit, throttled, wait_until

CHUNKS: Final = 6
PAGES: Final = 2 * CHUNKS
LINE: Final = re.compile(
    r"\[\d+\] \d\d:\d\d:\d\d \| Status: [A-Z]+ \| Progress: \d+/\d+ \(\d+\.\d%\) \| Failed: \d+ \| "
    r"Rate: \d+\.\d chunks/min"
)


def slow_job(place: str, name: str, storage: Storage, seconds_per_page: float) -> Job:
    """Submit a document of six chunks that are done one after the other."""
    key = f"pdfjob/inbox/{place}/small.pdf"
    storage.put(key, pdfs.text_pdf(PAGES))
    chunking = {"pagesPerChunk": 2, "thresholdPages": 0}
    return submit(
        *(place, name, {"s3": {"key": key}}),
        chunking=chunking,
        parallelism=1,
        runner=throttled(seconds_per_page),
        processor={"local": {"language": "en"}},
    )


def plugin(place: str, *arguments: str, code: int = 0) -> subprocess.CompletedProcess[str]:
    """Run a verb; anything but the expected exit code fails the test with what it said."""
    done = run_plugin(*arguments, "-n", place)
    assert done.returncode == code, f"{arguments} ended with {done.returncode}: {done.stdout}{done.stderr}"
    return done


def succeeded(job: Job) -> int:
    found: int = job.status.get("chunks", {}).get("succeeded", 0)
    return found


def test_a_job_is_watched_paused_read_resumed_retried_and_remembered(
    place: str, product: None, storage: Storage, tmp_path: Path
) -> None:
    job = slow_job(place, "novel", storage, seconds_per_page=2)
    command = [str(Path(sys.executable).with_name("kubectl-pdfjob")), "watch", "-n", place, "--interval", "2"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment()) as watching:
        wait_until(lambda: succeeded(job) >= 1, "a chunk has succeeded")
        paused = plugin(place, "suspend", job.name, "--wait", "--timeout", "60s")
        assert paused.stdout == f"pdfjob.pdfjob.dev/{job.name} suspended\n"
        assert job.running_pods() == []
        assert re.search(r"Held up: +Suspended: Batch processing paused", plugin(place, "status", job.name).stdout)
        done = succeeded(job)
        counts: dict[str, Any] = json.loads(plugin(place, "progress", job.name, "-o", "json").stdout)
        assert (counts["completed_chunks"], counts["pending_chunks"]) == (done, CHUNKS - done)
        pending = plugin(place, "chunks", job.name, "--status", "Pending").stdout.splitlines()[1:]
        assert all("the job is suspended" in line for line in pending)
        first = plugin(place, "chunks", job.name, "--next").stdout.splitlines()[1]
        assert first.split()[0] == pending[0].split()[0]
        partial = plugin(place, "results", job.name, "--partial", "--format", "txt").stdout
        assert partial.count("missing: not done yet]") == 1
        assert pdfs.page_text(1) in partial

        resumed = plugin(place, "resume", job.name)
        assert f"so far:      {done}/{CHUNKS} chunks done" in resumed.stdout
        job.succeed()
        lines, _ = watching.communicate(timeout=60)
    assert watching.returncode == 0
    assert all(LINE.fullmatch(line) for line in lines.splitlines()), lines
    assert {"PROGRESS", "SUSPENDED", "SUCCEEDED"} <= set(re.findall(r"Status: ([A-Z]+)", lines))

    whole = plugin(place, "results", job.name, "--format", "txt").stdout
    assert plugin(place, "results", job.name, "--partial", "--format", "txt").stdout == whole
    again = plugin(place, "retry", job.name, "--chunk", "1", "--chunk", "99", "--force", "--wait")
    assert again.stdout.splitlines()[:2] == ["Retrying 1 chunk", "  again:    1"]
    assert "refused:  99: no such chunk" in again.stdout
    assert plugin(place, "results", job.name, "--format", "txt").stdout == whole
    refused = plugin(place, "retry", job.name, "--chunk", "2", code=1)
    assert "2: has succeeded; force: true processes it again" in refused.stderr

    kubectl("delete", "pdfjob", job.name, "-n", place, "--timeout=60s")
    newest = plugin(place, "history").stdout.splitlines()[1]
    assert newest.split()[:4] == [job.name, "Succeeded", str(PAGES), f"{CHUNKS}/{CHUNKS}"]
    record = json.loads(plugin(place, "history", job.name, "-o", "json").stdout)
    assert [chunk["starts"] for chunk in record["chunks"]][1] >= 2


def test_a_stopped_job_says_who_stopped_it_and_is_for_good(place: str, product: None, storage: Storage) -> None:
    job = slow_job(place, "stopped", storage, seconds_per_page=2)
    wait_until(job.running_pods, "a runner runs")
    user = kubectl("auth", "whoami", "-o", "jsonpath={.status.userInfo.username}").stdout
    assert f"stopped by {user}" in plugin(place, "stop", job.name, "--wait", "--timeout", "60s").stdout
    status = job.status
    assert (status["phase"], status["shutdown"]["requestedBy"], "lastError" in status) == ("Stopped", user, False)
    assert "spec.shutdown is for good" in plugin(place, "resume", job.name, code=3).stderr
    assert "was stopped" in plugin(place, "retry", job.name, code=1).stderr
    assert f'pdfjob "{job.name}" was stopped by {user}' in plugin(place, "watch", job.name, code=1).stderr


def test_a_cancelled_job_leaves_no_pod_behind(place: str, product: None, storage: Storage) -> None:
    job = slow_job(place, "cancelled", storage, seconds_per_page=60)
    wait_until(job.running_pods, "a runner runs")
    plugin(place, "cancel", job.name, "--wait", "--timeout", "30s")
    assert job.status["phase"] == "Cancelled"
    wait_until(lambda: not job.running_pods(), "no pod runs", 5)
    wait_until(lambda: job.status.get("history"), "it is recorded")
    row = next(line for line in plugin(place, "history").stdout.splitlines() if line.startswith(job.name))
    assert row.split()[1] == "Cancelled"
