"""``kubectl pdfjob watch``, ``progress`` and ``chunks --next`` against a real API server."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import time
from contextlib import suppress

from tests.support.cluster import kubectl

from .installation import KEYS, PLUGIN, pdfjob, plugin_environment
from .operator_role import OperatorRole, condition
from .test_views import submitted

LINE = re.compile(
    r"\[(\d+)\] \d\d:\d\d:\d\d \| Status: ([A-Z]+) \| Progress: (\d+)/(\d+) \((\d+\.\d)%\) \| Failed: (\d+) \| "
    r"Rate: \d+\.\d chunks/min\n"
)


def watching(namespace: str, *arguments: str) -> subprocess.Popen[str]:
    command = [str(PLUGIN), "watch", *arguments, "-n", namespace]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=plugin_environment(KEYS)
    )


def next_line(process: subprocess.Popen[str]) -> tuple[str, ...]:
    assert process.stdout
    line = process.stdout.readline()
    found = LINE.fullmatch(line)
    assert found, line
    return found.groups()


def ended(operator: OperatorRole, phase: str, succeeded: str) -> None:
    conditions = [condition("Finished", "True", phase), condition("Succeeded", succeeded, phase, "that was it")]
    operator.status(phase=phase, conditions=conditions)


def test_a_line_for_each_change_until_the_job_has_succeeded(namespace: str) -> None:
    operator = submitted(namespace)
    with watching(namespace, "novel", "--interval", "600") as process:
        first = next_line(process)
        operator.running(2)
        second = next_line(process)
        operator.running(4, failed=1)
        third = next_line(process)
        ended(operator, "Succeeded", "True")
        last = next_line(process)

        assert process.wait(timeout=30) == 0
    assert first == ("1", "PENDING", "0", "0", "0.0", "0")
    assert second == ("2", "PROGRESS", "2", "10", "20.0", "0")
    assert third == ("3", "PROGRESS", "4", "10", "40.0", "1")
    assert last == ("4", "SUCCEEDED", "4", "10", "40.0", "1")


def test_a_job_that_fails_ends_the_watch_with_exit_code_one_and_the_reason(namespace: str) -> None:
    operator = submitted(namespace)
    with watching(namespace, "novel") as process:
        next_line(process)
        operator.refused("EmptyPdf", "the document has no pages")
        stdout, stderr = process.communicate(timeout=30)

    assert process.returncode == 1
    assert "Status: FAILED" in stdout
    assert "INVALID_SOURCE/EmptyPdf: the document has no pages" in stderr


def test_a_cancelled_job_ends_it_with_exit_code_one_and_no_talk_of_failure(namespace: str) -> None:
    operator = submitted(namespace)
    by = {"requestedAt": "2026-11-22T11:00:00Z", "requestedBy": "ada"}
    operator.status(shutdown=by)
    ended(operator, "Cancelled", "False")
    done = pdfjob("watch", "novel", "-n", namespace)

    assert done.returncode == 1
    assert 'error: pdfjob "novel" was cancelled by ada' in done.stderr


def test_on_a_terminal_it_is_the_live_view_and_ends_with_the_same_exit_codes(namespace: str) -> None:
    operator = submitted(namespace)
    operator.running(4)
    terminal, other_end = pty.openpty()
    environment = plugin_environment({**KEYS, "TERM": "xterm", "COLUMNS": "100", "LINES": "50"})
    command = [str(PLUGIN), "watch", "novel", "-n", namespace]
    with subprocess.Popen(command, stdout=other_end, stderr=subprocess.PIPE, text=True, env=environment) as process:
        os.close(other_end)
        seen = b""
        while b"Processing chunk 4/10 (40%)" not in seen:
            seen += os.read(terminal, 65536)
        ended(operator, "Failed", "False")
        with suppress(OSError):  # that is the end; what nobody reads would fill the terminal and stop the plugin
            while os.read(terminal, 65536):
                pass
        _, stderr = process.communicate(timeout=60)
    os.close(terminal)

    assert process.returncode == 1
    assert 'error: pdfjob "novel" failed' in stderr


def test_without_changes_a_line_comes_after_each_interval(namespace: str) -> None:
    submitted(namespace).running(4)
    with watching(namespace, "novel", "--interval", "1") as process:
        next_line(process)
        begun = time.monotonic()
        ticks = [next_line(process)[0] for _ in range(3)]
        took = time.monotonic() - begun
        process.terminate()

    assert ticks == ["2", "3", "4"]
    assert 2 < took < 10


def test_without_a_name_the_latest_job_is_watched(namespace: str) -> None:
    assert "there are no PdfJobs" in pdfjob("watch", "-n", namespace).stderr
    ended(submitted(namespace, "a-later-name"), "Failed", "False")
    time.sleep(1.1)  # the API server gives times in whole seconds
    ended(submitted(namespace, "a-later-job"), "Succeeded", "True")

    assert pdfjob("watch", "-n", namespace).returncode == 0


def test_a_job_that_is_deleted_ends_the_watch(namespace: str) -> None:
    submitted(namespace)
    with watching(namespace, "novel") as process:
        next_line(process)
        kubectl("delete", "pdfjob", "novel", "-n", namespace)
        _, stderr = process.communicate(timeout=30)

    assert process.returncode == 1
    assert stderr == 'error: pdfjob "novel" was deleted\n'


def test_progress_as_json_and_as_text(namespace: str) -> None:
    operator = submitted(namespace, chunks=5)
    assert pdfjob("progress", "novel", "-n", namespace, "-o", "json").stdout == "{}\n"
    operator.running(2)
    found = json.loads(pdfjob("progress", "novel", "-n", namespace, "-o", "json").stdout)

    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", found.pop("timestamp"))
    assert found == {
        "job_id": "novel",
        "total_chunks": 5,
        "pending_chunks": 2,
        "processing_chunks": 1,
        "completed_chunks": 2,
        "failed_chunks": 0,
        "completion_percentage": 40.0,
        "is_complete": False,
    }
    text = pdfjob("progress", "novel", "-n", namespace).stdout
    assert text.startswith("2/5 chunks done (40.0%), 1 at work, 2 waiting, 0 failed")


def test_the_next_chunk_is_the_one_with_the_highest_priority(namespace: str) -> None:
    operator = submitted(namespace)
    operator.running(1)
    operator.chunk(0, "Succeeded", attempts=1)
    for index in (1, 2, 3):
        operator.chunk(index, "Pending")
    kubectl(
        *("patch", "pdfchunk", "novel-c00002", "-n", namespace, "--type=merge", "-p", '{"spec":{"priority":9}}'),
    )
    rows = [line.split() for line in pdfjob("chunks", "novel", "-n", namespace, "--next").stdout.splitlines()]

    assert rows[0][-1] == "WHY"
    assert [row[:3] for row in rows[1:]] == [["2", "101-150", "Pending"]]
    operator.status(phase="Running")
    for index in (1, 2, 3):
        kubectl("delete", "pdfchunk", f"novel-c{index:05d}", "-n", namespace)
    none = pdfjob("chunks", "novel", "-n", namespace, "--next")
    assert (none.returncode, none.stdout) == (0, "")
    assert "no chunk that waits to be started" in none.stderr
