"""``kubectl pdfjob`` against the product itself, as a user types it."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Final

from tests.support import pdfs
from tests.support.cluster import kubectl
from tests.support.corpora import manual
from tests.support.product import Job, Storage, run_plugin

FAILED: Final = 1
USAGE: Final = 2
TIMEOUT: Final = 5


def test_submit_waits_shows_progress_and_sentences_and_the_other_verbs_follow(
    namespace: str, storage: Storage, tmp_path: Path
) -> None:
    source = pdfs.write(tmp_path / "My Novel (2nd).pdf", pdfs.text_pdf(60))
    done = run_plugin("submit", str(source), "-n", namespace, "--wait", "--pages-per-chunk", "10")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[0].startswith(pdfs.page_text(1))
    assert "pdfjob.pdfjob.dev/my-novel-2nd created" in done.stderr
    assert "Completed" in done.stderr
    assert "held up" not in done.stderr
    job = Job(namespace, "my-novel-2nd")
    assert job.status["source"]["fileName"] == source.name

    status = run_plugin("status", job.name, "-n", namespace)
    assert status.returncode == 0, status.stderr
    assert "Succeeded" in status.stdout
    assert "6 in all: 6 succeeded" in status.stdout
    listed = run_plugin("status", "-n", namespace)
    assert [line.split()[:4] for line in listed.stdout.splitlines()[1:]] == [[job.name, "Succeeded", "100%", "6/6"]]

    chunks = run_plugin("chunks", job.name, "-n", namespace)
    assert [line.split()[:3] for line in chunks.stdout.splitlines()[1:]] == [
        [str(index), f"{10 * index + 1}-{10 * index + 10}", "Succeeded"] for index in range(6)
    ]
    none = run_plugin("chunks", job.name, "-n", namespace, "--status", "Failed")
    assert none.returncode == 0
    assert "Succeeded" not in none.stdout

    for suffix in ("jsonl", "txt", "csv"):
        target = tmp_path / f"novel.{suffix}"
        fetched = run_plugin("results", job.name, "-n", namespace, "-o", str(target))
        assert fetched.returncode == 0, fetched.stderr
        assert target.read_bytes() == job.result(storage, suffix)
    printed = run_plugin("results", job.name, "-n", namespace, "--format", "txt")
    assert hashlib.sha256(printed.stdout.encode()).hexdigest() == _sha256(job, "txt")


def test_a_bad_document_ends_with_exit_code_1_the_reason_and_what_to_do(namespace: str, tmp_path: Path) -> None:
    locked = pdfs.write(tmp_path / "locked.pdf", pdfs.encrypted_pdf(2, user=pdfs.USER_PASSWORD, owner="boss"))
    done = run_plugin("submit", str(locked), "-n", namespace, "--wait")
    assert done.returncode == FAILED
    assert 'error: pdfjob "locked" failed: INVALID_SOURCE/Encrypted' in done.stderr
    assert "qpdf --decrypt" in done.stderr
    assert "Traceback" not in done.stderr
    status = run_plugin("status", "locked", "-n", namespace)
    assert (status.returncode, "Encrypted" in status.stdout) == (0, True)
    results = run_plugin("results", "locked", "-n", namespace)
    assert results.returncode == FAILED
    assert "Encrypted" in results.stderr


def test_a_damaged_document_goes_through_with_repair(namespace: str, tmp_path: Path) -> None:
    damaged = pdfs.write(tmp_path / "damaged.pdf", pdfs.cut(0.8))
    refused = run_plugin("submit", str(damaged), "-n", namespace, "--wait")
    assert refused.returncode == FAILED
    assert "source.repair: Repair" in refused.stderr
    taken = run_plugin("submit", str(damaged), "-n", namespace, "--wait", "--repair", "--name", "repaired")
    assert taken.returncode == 0, taken.stderr
    assert pdfs.page_text(1) in taken.stdout
    assert "the result is partial; missing pages: 48-60" in taken.stderr
    printed = run_plugin("results", "repaired", "-n", namespace, "--format", "txt")
    assert "[pages 48-60 missing: INVALID_ITEM]" in printed.stdout
    assert "missing pages: 48-60" in printed.stderr


def test_a_file_that_is_no_pdf_is_refused_before_anything_is_stored(namespace: str, tmp_path: Path) -> None:
    page = pdfs.write(tmp_path / "page.pdf", b"<html></html>")
    done = run_plugin("submit", str(page), "-n", namespace, "--wait")
    assert done.returncode == USAGE
    assert "PDF" in done.stderr
    assert kubectl("get", "pdfjobs", "-n", namespace, "-o", "name").stdout == ""


def test_wait_gives_up_in_time_and_the_job_goes_on(namespace: str) -> None:
    path = str(manual("debian-policy"))
    done = run_plugin("submit", path, "-n", namespace, "--name", "policy", "--wait", "--timeout", "1s")
    assert done.returncode == TIMEOUT
    assert "it goes on" in done.stderr
    followed = run_plugin("status", "policy", "-n", namespace, "--watch")
    assert followed.returncode == 0, followed.stderr
    assert "Succeeded" in followed.stdout
    waited = run_plugin("results", "policy", "-n", namespace, "--wait")
    assert waited.returncode == 0, waited.stderr
    lines = [json.loads(line) for line in waited.stdout.splitlines()]
    assert lines[0]["n"] == 0


def _sha256(job: Job, fmt: str) -> str:
    found: str = next(item["sha256"] for item in job.status["result"]["files"] if item["format"] == fmt)
    return found
