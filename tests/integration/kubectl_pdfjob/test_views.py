"""``kubectl pdfjob status`` and ``chunks`` against a real API server."""

from __future__ import annotations

import json
import os
import pty
import select
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from tests.support.cluster import kubectl

from .installation import KEYS, PLUGIN, pdfjob, plugin_environment, user_kubeconfig
from .operator_role import OperatorRole, now

ERROR = {"code": "OUT_OF_MEMORY", "message": "The runner was killed for memory"}


def submitted(namespace: str, name: str = "novel", chunks: int = 10) -> OperatorRole:
    spec = {"source": {"http": {"url": f"https://example.org/{name}.pdf"}}}
    manifest = {"apiVersion": "pdfjob.dev/v1alpha1", "kind": "PdfJob", "metadata": {"name": name}, "spec": spec}
    kubectl("create", "-n", namespace, "-f", "-", stdin=json.dumps(manifest))
    return OperatorRole(namespace, name, chunks)


def test_without_a_name_all_jobs_are_listed(namespace: str) -> None:
    assert f"No PdfJobs in namespace {namespace}." in pdfjob("status", "-n", namespace).stderr
    submitted(namespace, "first")
    submitted(namespace, "second").running(5)
    lines = pdfjob("status", "-n", namespace).stdout.splitlines()

    assert lines[0].split() == ["NAME", "PHASE", "PROGRESS", "CHUNKS", "FAILED", "AGE", "STEP"]
    rows = {line.split()[0]: line for line in lines[1:]}
    assert rows["second"].split()[1:5] == ["Running", "50%", "5/10", "0"]
    assert rows["second"].endswith("Processing chunk 5/10")
    assert rows["first"].split()[1:5] == ["Pending", "-", "-", "-"]


def test_one_job_in_full(namespace: str) -> None:
    operator = submitted(namespace)
    operator.running(2, failed=1)
    result = {"uri": "s3://documents/r", "sha256": "0" * 64, "bytes": 10, "sentences": 321}
    operator.chunk(0, "Succeeded", attempts=1, startedAt=now(), processedAt=now(), result=result)
    operator.chunk(1, "Failed", attempts=4, lastError=ERROR)
    operator.chunk(2, "RetryScheduled", attempts=1, lastError={"code": "TIMEOUT", "message": "too slow"})
    text = pdfjob("status", "novel", "-n", namespace).stdout

    assert "Processing chunk 2/10 (20%)" in text
    assert "novel.pdf, 500 pages, 1.2 MB" in text
    assert "10 in all: 2 succeeded, 1 running, 6 pending, 1 failed" in text
    assert "100 of 500 done" in text
    assert "chunk 1800 s (soft 1500 s)" in text
    sections = text.split("\n\n")
    recent = next(part for part in sections if part.startswith("Recently finished:"))
    failed = next(part for part in sections if part.startswith("Failed:"))
    retry = next(part for part in sections if part.startswith("Waiting for a retry:"))
    assert recent.splitlines()[2].split()[:3] == ["0", "1-50", "321"]
    assert failed.splitlines()[2].split(maxsplit=3) == ["1", "51-100", "4", f"{ERROR['code']}: {ERROR['message']}"]
    assert "TIMEOUT: too slow" in retry
    assert f"kubectl pdfjob status novel --watch -n {namespace}" in text


def test_the_workers_are_shown_from_their_pods(namespace: str) -> None:
    operator = submitted(namespace)
    operator.running(0)
    labels = {"pdfjob.dev/job": "novel", "pdfjob.dev/job-uid": operator.uid, "pdfjob.dev/start": "1"}
    hardened = {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "runAsNonRoot": True,
        "runAsUser": 65532,
        "seccompProfile": {"type": "RuntimeDefault"},
    }

    def pod(chunk: int, **extra: object) -> None:
        container = {"name": "runner", "image": "localhost/not-there:1", "imagePullPolicy": "Never"}
        manifest = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": f"novel-c{chunk:05d}-a1-x", "labels": {**labels, "pdfjob.dev/chunk": str(chunk)}},
            "spec": {"containers": [{**container, "securityContext": hardened}], **extra},
        }
        kubectl("create", "-n", namespace, "-f", "-", stdin=json.dumps(manifest))

    pod(0)
    pod(1, nodeSelector={"no-node": "has-this"})
    text = _until(
        lambda: pdfjob("status", "novel", "-n", namespace).stdout,
        lambda seen: "ErrImageNeverPull" in seen and "Unschedulable" in seen,
    )
    workers = next(part for part in text.split("\n\n") if part.startswith("Workers:")).splitlines()

    assert workers[2].split()[:3] == ["0", "1", "ImagePull"]
    assert workers[3].split()[:3] == ["1", "1", "Unschedulable"]
    assert "didn't match Pod's node affinity/selector" in workers[3]


def test_chunks_are_chosen_by_phase(namespace: str) -> None:
    operator = submitted(namespace)
    operator.chunk(0, "Succeeded", attempts=1)
    operator.chunk(1, "Failed", attempts=4, lastError=ERROR)
    every = pdfjob("chunks", "novel", "-n", namespace).stdout.splitlines()
    failed = pdfjob("chunks", "novel", "-n", namespace, "--status", "failed").stdout.splitlines()
    wrong = pdfjob("chunks", "novel", "-n", namespace, "--status", "Broken")

    assert [line.split()[:3] for line in every[1:]] == [["0", "1-50", "Succeeded"], ["1", "51-100", "Failed"]]
    assert [line.split()[0] for line in failed[1:]] == ["1"]
    assert failed[1].endswith("OUT_OF_MEMORY: The runner was killed for memory")
    assert wrong.returncode == 2
    assert "Pending, Running, RetryScheduled, Succeeded, Failed, Cancelled" in wrong.stderr


def test_an_unknown_job_is_one_clear_line(namespace: str) -> None:
    done = pdfjob("status", "nothing", "-n", namespace)

    assert done.returncode == 3
    assert done.stderr == f'error: pdfjobs.pdfjob.dev "nothing" not found in namespace "{namespace}"\n'


def test_a_user_without_rights_reads_which_right_is_missing(namespace: str, tmp_path: Path) -> None:
    config = user_kubeconfig(namespace, tmp_path / "kubeconfig")
    done = pdfjob("status", "-n", namespace, "--kubeconfig", str(config))

    assert done.returncode == 3
    assert "cannot list PdfJobs: pdfjobs.pdfjob.dev is forbidden" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_watching_in_a_pipe_is_a_line_for_each_change_and_ends_with_the_job(namespace: str) -> None:
    operator = submitted(namespace)
    with _watching(namespace, stdout=subprocess.PIPE) as process:
        assert process.stdout
        first = process.stdout.readline()
        operator.running(1)
        second = process.stdout.readline()
        operator.running(2)
        third = process.stdout.readline()
        operator.refused("InvalidFormat", "not a PDF")
        rest = process.stdout.read().decode()

    assert first == b"novel  Pending  0%  Waiting for the operator\n"
    assert second == b"novel  Running  21%  Processing chunk 1/10 (10%)\n"
    assert third == b"novel  Running  27%  Processing chunk 2/10 (20%)\n"
    assert process.returncode == 0
    assert "INVALID_SOURCE: not a PDF" in rest


def test_watching_on_a_terminal_draws_in_place_within_two_seconds(namespace: str) -> None:
    operator = submitted(namespace)
    operator.running(1)
    terminal, other_end = pty.openpty()
    with _watching(namespace, stdout=other_end, TERM="xterm", COLUMNS="80", LINES="50") as process:
        os.close(other_end)
        _read_until(terminal, "Processing chunk 1/10 (10%)", 30)
        operator.running(6)
        changed = time.monotonic()
        _read_until(terminal, "Processing chunk 6/10 (60%)", 30)
        seen_after = time.monotonic() - changed
        process.terminate()
    os.close(terminal)

    assert seen_after < 2
    assert process.returncode == 143


def _watching(namespace: str, stdout: int, **extra: str) -> subprocess.Popen[bytes]:
    environment = plugin_environment({**KEYS, **extra})
    return subprocess.Popen(
        [str(PLUGIN), "status", "novel", "--watch", "-n", namespace], stdout=stdout, env=environment
    )


def _read_until(terminal: int, text: str, seconds: float) -> None:
    seen, deadline = b"", time.monotonic() + seconds
    while text.encode() not in seen:
        left = deadline - time.monotonic()
        assert left > 0, f"{text!r} was not shown within {seconds} s: {seen[-2000:]!r}"
        if select.select([terminal], [], [], left)[0]:
            seen += os.read(terminal, 65536)


def _until(read: Callable[[], str], good: Callable[[str], bool]) -> str:
    deadline = time.monotonic() + 120
    while True:
        seen = read()
        if good(seen):
            return seen
        assert time.monotonic() < deadline, seen
        time.sleep(1)
