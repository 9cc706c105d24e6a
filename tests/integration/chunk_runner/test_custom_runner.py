"""The example runner of shell and curl keeps to the contract."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from pdfjob_api.contract import Task, check_result
from tests.support.runner_process import make_task
from tests.support.typeset import Sheet, typeset
from tests.support.wire_storage import Fault, WireStorage

SCRIPT = Path(__file__).parents[3] / "examples" / "custom-runner.sh"
TOOLS = ("sh", "curl", "sed", "tr", "mktemp", "rm", "mv", "sha256sum", "grep", "date", "paste", "printf")
BOOK = typeset([Sheet([f'Page {number} says "a\\b" to you.']) for number in range(1, 6)])


@pytest.fixture
def storage() -> Iterator[WireStorage]:
    with WireStorage() as storage:
        storage.objects["chunk.pdf"] = BOOK
        yield storage


def run(storage: WireStorage, folder: Path, task: Task, path: str | None = None) -> tuple[int, dict[str, str]]:
    log = folder / "termination"
    done = subprocess.run(
        ["sh", str(SCRIPT)],
        check=False,
        capture_output=True,
        timeout=60,
        env={
            "PATH": path or os.environ["PATH"],
            "TMPDIR": str(folder),
            "PDFJOB_TASK": json.dumps(task.wire(), separators=(",", ":")),
            "PDFJOB_TERMINATION_LOG": str(log),
            "PDFJOB_CHUNK_URL": storage.url("chunk.pdf"),
            "PDFJOB_CHECKPOINT_URL": storage.url("checkpoint"),
            "PDFJOB_PROGRESS_URL": storage.url("progress"),
            "PDFJOB_RESULT_URL": storage.url("result"),
        },
    )
    return done.returncode, json.loads(log.read_text())


def without_pdftotext(folder: Path) -> str:
    """Return a PATH with only the tools that every image has."""
    tools = folder / "bin"
    tools.mkdir()
    for name in TOOLS:
        found = shutil.which(name)
        assert found, f"this machine has no {name}"
        (tools / name).symlink_to(found)
    return str(tools)


def test_it_stores_a_result_that_the_operator_accepts(storage: WireStorage, tmp_path: Path) -> None:
    task = make_task(BOOK, 11, 13, context_before=1, context_after=1)
    code, message = run(storage, tmp_path, task, without_pdftotext(tmp_path))
    assert (code, message) == (0, {"message": ""})
    result = check_result(json.loads(storage.objects["result"]), 11, 13, 1)
    assert [(record.page, record.text) for record in result.records] == [
        (11, "This is page 2 of the chunk."),
        (12, "This is page 3 of the chunk."),
        (13, "This is page 4 of the chunk."),
    ]
    assert json.loads(storage.objects["progress"])["total"] == 3


def test_text_with_quotes_and_backslashes_is_still_json(storage: WireStorage, tmp_path: Path) -> None:
    tools = without_pdftotext(tmp_path)
    fake = Path(tools) / "pdftotext"
    fake.write_text("#!/bin/sh\nfor text; do :; done\nprintf 'says \"a\\\\b\"\\n\\f' >$text\n")
    fake.chmod(0o755)
    code, _ = run(storage, tmp_path, make_task(BOOK, 1, 5), tools)
    assert code == 0
    assert json.loads(storage.objects["result"])["records"][0]["text"] == 'says "a\\b"'


def test_a_page_that_cannot_be_read_ends_it_with_the_code_for_it(storage: WireStorage, tmp_path: Path) -> None:
    tools = without_pdftotext(tmp_path)
    fake = Path(tools) / "pdftotext"
    fake.write_text("#!/bin/sh\nexit 3\n")
    fake.chmod(0o755)
    code, message = run(storage, tmp_path, make_task(BOOK, 1, 5), tools)
    assert (code, message["code"]) == (65, "INVALID_PDF")


def test_a_result_that_is_already_stored_is_fine(storage: WireStorage, tmp_path: Path) -> None:
    storage.objects["result"] = b"{}"
    code, _ = run(storage, tmp_path, make_task(BOOK, 1, 5))
    assert code == 0
    assert storage.objects["result"] == b"{}"


def test_its_failures_use_the_exit_codes_of_the_contract(storage: WireStorage, tmp_path: Path) -> None:
    code, message = run(storage, tmp_path, make_task(BOOK, 1, 5, sha256="0" * 64))
    assert (code, message["code"]) == (74, "STORAGE_ERROR")
    storage.faults["GET", "chunk.pdf"] = Fault(status=403, body=b"Request has expired")
    assert run(storage, tmp_path, make_task(BOOK, 1, 5))[0] == 77
    storage.faults["GET", "chunk.pdf"] = Fault(status=404, times=1)
    code, message = run(storage, tmp_path, make_task(BOOK, 1, 5))
    assert (code, message["message"]) == (74, "reading the chunk: HTTP 404")
