"""The runner as its container starts it: a real process, a real HTTP server."""

from __future__ import annotations

import hashlib
import json
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pdfjob_api.contract import check_result
from pdfjob_api.processing import CustomProcessor, Processor, Repair
from tests.support.runner_process import RunnerProcess, make_task, start_runner
from tests.support.typeset import Sheet, broken_page, typeset, wrap
from tests.support.wire_storage import Fault, WireStorage

PAGES = 30
SHEETS = [
    Sheet(
        wrap(f"Page {number} begins so. It goes on for a while with words enough for a line. The last one of {number}")
    )
    for number in range(1, PAGES + 1)
]
BOOK = typeset(SHEETS)
SLOW = {"RUNNER_THROTTLE_SECONDS_PER_PAGE": "0.15"}
EXPIRED = "X-Amz-Date=20200101T000000Z&X-Amz-Expires=60&X-Amz-Signature=c0ffee"
DENIED = b"<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>"


@pytest.fixture
def storage() -> Iterator[WireStorage]:
    with WireStorage() as storage:
        storage.objects["chunk.pdf"] = BOOK
        yield storage


def run(storage: WireStorage, folder: Path, task: Any = None, **options: Any) -> tuple[int, RunnerProcess]:
    runner = start_runner(storage, make_task(BOOK, 1, PAGES) if task is None else task, folder, **options)
    return runner.end(), runner


def undisturbed(folder: Path) -> bytes:
    """Return the result that a start without any trouble stores."""
    with WireStorage() as storage:
        storage.objects["chunk.pdf"] = BOOK
        code, _ = run(storage, folder)
        assert code == 0
        return storage.objects["result-a1"]


def test_a_chunk_is_processed_and_stored(storage: WireStorage, tmp_path: Path) -> None:
    code, runner = run(storage, tmp_path, make_task(BOOK, 101, 128, context_before=1, context_after=1, chunk=3))
    assert code == 0
    body = storage.objects["result-a1"]
    result = check_result(json.loads(body), 101, 128, 1)
    assert {record.page for record in result.records} == set(range(101, 129))
    assert "Page 2 begins so." in result.records[0].text  # the page before is context
    assert runner.message == {
        "message": "",
        "items": 28,
        "tokens": {"input": 0, "output": 0, "cached": 0, "thinking": 0},
        "requests": {},
        "paceSeconds": 0.0,
        "resultSha256": hashlib.sha256(body).hexdigest(),
        "resultBytes": len(body),
    }
    progress = json.loads(storage.objects["progress-a1"])
    assert (progress["done"], progress["total"]) == (28, 28)
    assert all((line["job"], line["chunk"], line["start"]) == ("default/book", 3, 1) for line in runner.log)


def test_a_result_whose_answer_was_lost_is_stored_once(storage: WireStorage, tmp_path: Path) -> None:
    storage.faults["PUT", "result-a1"] = Fault(after_store=True)
    code, _ = run(storage, tmp_path)
    assert code == 0
    assert storage.requests["PUT", "result-a1"] == 2  # the second is answered with 412


@pytest.mark.parametrize("fault", [Fault(times=2), Fault(cut=True), Fault(status=503, times=1)])
def test_a_storage_that_stumbles_is_asked_again(storage: WireStorage, tmp_path: Path, fault: Fault) -> None:
    storage.faults["GET", "chunk.pdf"] = fault
    code, _ = run(storage, tmp_path)
    assert code == 0
    assert storage.requests["GET", "chunk.pdf"] >= 2


@pytest.mark.parametrize(
    "fields",
    [{"sha256": "0" * 64}, {"size_bytes": len(BOOK) - 1}, {"size_bytes": len(BOOK) + 1}],
    ids=["other content", "longer than told", "shorter than told"],
)
def test_a_chunk_that_is_not_the_one_of_the_task_is_refused(
    storage: WireStorage, tmp_path: Path, fields: dict[str, Any]
) -> None:
    code, runner = run(storage, tmp_path, make_task(BOOK, 1, PAGES, **fields))
    assert code == 74
    assert runner.message["code"] == "STORAGE_ERROR"
    assert "is not the one of the task" in runner.message["message"]
    assert "result-a1" not in storage.objects


@pytest.mark.parametrize(
    ("query", "body"),
    [
        ("X-Amz-Signature=c0ffee", b"<Error><Code>AccessDenied</Code><Message>Request has expired</Message></Error>"),
        (EXPIRED, DENIED),
        ("X-Amz-Signature=c0ffee", b"<Error><Code>ExpiredToken</Code></Error>"),
    ],
)
def test_an_expired_url_is_told_apart(storage: WireStorage, tmp_path: Path, query: str, body: bytes) -> None:
    storage.faults["GET", "chunk.pdf"] = Fault(status=403, body=body, times=99)
    code, runner = run(storage, tmp_path, PDFJOB_CHUNK_URL=storage.url("chunk.pdf", query))
    assert code == 77
    assert "code" not in runner.message
    assert storage.requests["GET", "chunk.pdf"] == 1


@pytest.mark.parametrize("status", [403, 404, 302])
def test_a_storage_that_refuses_is_not_asked_again(storage: WireStorage, tmp_path: Path, status: int) -> None:
    storage.faults["GET", "chunk.pdf"] = Fault(status=status, body=DENIED, times=99)
    code, runner = run(storage, tmp_path)
    assert code == 74
    assert f"HTTP {status}" in runner.message["message"]
    assert storage.requests["GET", "chunk.pdf"] == 1


def test_a_url_that_expires_during_the_work_ends_it(storage: WireStorage, tmp_path: Path) -> None:
    storage.faults["PUT", "checkpoint-a1"] = Fault(status=403, body=b"Request has expired", times=99)
    code, _ = run(storage, tmp_path, RUNNER_THROTTLE_SECONDS_PER_PAGE="0.3")
    assert code == 77


@pytest.mark.parametrize(
    ("task", "reason"),
    [
        ("{", "PDFJOB_TASK is not valid"),
        ("{}", "startPage"),
        (json.dumps(make_task(BOOK, 5, 4).wire()), "no such pages"),
        (json.dumps(make_task(BOOK, 1, 4, context_before=1).wire()), "no such pages"),
        (json.dumps(make_task(BOOK, 1, 4).wire() | {"version": 2}), "version"),
        (json.dumps(make_task(BOOK, 1, PAGES).wire() | {"processor": {}}), "processor"),
    ],
)
def test_a_task_that_is_wrong_is_refused(storage: WireStorage, tmp_path: Path, task: str, reason: str) -> None:
    code, runner = run(storage, tmp_path, task)
    assert code == 64
    assert runner.message["code"] == "PROCESSING_ERROR"
    assert reason in runner.message["message"]


def test_a_missing_url_is_named(storage: WireStorage, tmp_path: Path) -> None:
    code, runner = run(storage, tmp_path, PDFJOB_RESULT_URL="")
    assert (code, "PDFJOB_RESULT_URL" in runner.message["message"]) == (64, True)


def test_a_throttle_that_is_no_number_is_refused(storage: WireStorage, tmp_path: Path) -> None:
    code, runner = run(storage, tmp_path, RUNNER_THROTTLE_SECONDS_PER_PAGE="slow")
    assert (code, "RUNNER_THROTTLE_SECONDS_PER_PAGE" in runner.message["message"]) == (64, True)


def test_a_processor_of_another_image_is_refused(storage: WireStorage, tmp_path: Path) -> None:
    processor = Processor(custom=CustomProcessor(image="example/other"))
    code, runner = run(storage, tmp_path, make_task(BOOK, 1, PAGES, processor=processor))
    assert (code, "processor custom" in runner.message["message"]) == (64, True)


def test_pages_without_text_are_said_to_have_none(storage: WireStorage, tmp_path: Path) -> None:
    scan = typeset([SHEETS[0], Sheet(), Sheet(), SHEETS[1]])
    storage.objects["chunk.pdf"] = scan
    code, runner = run(storage, tmp_path, make_task(scan, 2, 3, context_before=1, context_after=1))
    assert code == 66
    assert runner.message["code"] == "NO_TEXT"
    assert runner.message["message"] == "No extractable text in PDF chunk"
    code, _ = run(storage, tmp_path, make_task(scan, 1, 4))  # blank pages among others are fine
    assert code == 0


def test_a_page_that_cannot_be_read_ends_it_unless_repair_is_asked_for(storage: WireStorage, tmp_path: Path) -> None:
    broken = broken_page(BOOK, 4)
    storage.objects["chunk.pdf"] = broken
    code, runner = run(storage, tmp_path, make_task(broken, 1, PAGES))
    assert code == 65
    assert runner.message["code"] == "INVALID_PDF"
    assert "page 5 cannot be read" in runner.message["message"]
    assert json.loads(storage.objects["checkpoint-a1"])["done"] == [1, 2, 3]

    code, _ = run(storage, tmp_path, make_task(broken, 1, PAGES, repair=Repair.REPAIR))
    assert code == 0
    assert json.loads(storage.objects["result-a1"])["missing"] == [{"page": 5, "code": "INVALID_ITEM"}]


def test_sigterm_saves_and_the_next_start_goes_on_from_there(storage: WireStorage, tmp_path: Path) -> None:
    expected = undisturbed(tmp_path)
    runner = start_runner(storage, make_task(BOOK, 1, PAGES), tmp_path, **SLOW)
    storage.wait_for(lambda: storage.requests["GET", "chunk.pdf"] == 1)
    assert runner.process.stdout is not None
    lines = []
    while "first item done" not in (line := runner.process.stdout.readline()):
        lines.append(line)
    runner.process.send_signal(signal.SIGTERM)
    assert runner.end(timeout=30) == 75
    done = json.loads(storage.objects["checkpoint-a1"])["done"]
    assert 1 <= len(done) < PAGES
    assert runner.message["items"] == len(done)
    assert "code" not in runner.message
    assert "result-a1" not in storage.objects

    code, again = run(storage, tmp_path, make_task(BOOK, 1, PAGES, start=2), previous="checkpoint-a1")
    assert code == 0
    assert again.event("resuming")["from_page"] == len(done) + 1
    assert again.event("resuming")["items_done"] == len(done)
    assert storage.objects["result-a2"] == expected


def test_a_killed_start_loses_at_most_five_seconds(storage: WireStorage, tmp_path: Path) -> None:
    expected = undisturbed(tmp_path)
    runner = start_runner(storage, make_task(BOOK, 1, PAGES), tmp_path, RUNNER_THROTTLE_SECONDS_PER_PAGE="0.5")
    storage.wait_for(lambda: storage.requests["GET", "chunk.pdf"] == 1)
    storage.wait_for(lambda: "checkpoint-a1" in storage.objects, seconds=8)
    runner.process.kill()
    assert runner.end() == -signal.SIGKILL
    code, again = run(storage, tmp_path, make_task(BOOK, 1, PAGES, start=2), previous="checkpoint-a1")
    assert code == 0
    assert again.event("resuming")["items_done"] >= 5
    assert storage.objects["result-a2"] == expected


def test_the_soft_timeout_saves_and_says_timeout(storage: WireStorage, tmp_path: Path) -> None:
    slower = {"RUNNER_THROTTLE_SECONDS_PER_PAGE": "0.3"}
    code, runner = run(storage, tmp_path, make_task(BOOK, 1, PAGES, soft_timeout_seconds=5), **slower)
    assert code == 76
    assert runner.message["code"] == "TIMEOUT"
    assert runner.message["items"] == len(json.loads(storage.objects["checkpoint-a1"])["done"]) > 0
    assert "result-a1" not in storage.objects


def test_work_that_does_not_finish_within_the_grace_period_is_given_up(storage: WireStorage, tmp_path: Path) -> None:
    storage.faults["GET", "chunk.pdf"] = Fault(delay=25)
    runner = start_runner(storage, make_task(BOOK, 1, PAGES, grace_seconds=6), tmp_path)
    storage.wait_for(lambda: storage.requests["GET", "chunk.pdf"] == 1)
    runner.process.send_signal(signal.SIGTERM)
    assert runner.end(timeout=6) == 75


@pytest.mark.parametrize("damaged", [b"", b'{"version": 1, "done"', b"\x00" * 100], ids=["empty", "cut", "zeros"])
def test_a_damaged_checkpoint_costs_a_warning_and_nothing_else(
    storage: WireStorage, tmp_path: Path, damaged: bytes
) -> None:
    expected = undisturbed(tmp_path)
    storage.objects["checkpoint-a1"] = damaged
    code, runner = run(storage, tmp_path, make_task(BOOK, 1, PAGES, start=2), previous="checkpoint-a1")
    assert code == 0
    assert [line["level"] for line in runner.log if "damaged checkpoint" in line["event"]] == ["warning"]
    assert storage.objects["result-a2"] == expected


def test_a_checkpoint_that_is_gone_is_no_checkpoint(storage: WireStorage, tmp_path: Path) -> None:
    code, _ = run(storage, tmp_path, previous="checkpoint-a0")
    assert code == 0


def test_a_finished_checkpoint_needs_no_chunk(storage: WireStorage, tmp_path: Path) -> None:
    expected = undisturbed(tmp_path)
    whole = json.loads(expected)
    storage.objects["checkpoint-a1"] = json.dumps(whole | {"done": list(range(1, PAGES + 1))}).encode()
    code, _ = run(storage, tmp_path, make_task(BOOK, 1, PAGES, start=2), previous="checkpoint-a1")
    assert code == 0
    assert storage.requests["GET", "chunk.pdf"] == 0
    assert storage.objects["result-a2"] == expected


def test_a_heartbeat_that_fails_is_only_a_warning(storage: WireStorage, tmp_path: Path) -> None:
    storage.faults["PUT", "progress-a1"] = Fault(times=99)
    code, runner = run(storage, tmp_path)
    assert code == 0
    assert {line["level"] for line in runner.log if line["event"] == "progress not written"} == {"warning"}


def test_what_could_not_be_saved_is_not_claimed(storage: WireStorage, tmp_path: Path) -> None:
    storage.faults["PUT", "checkpoint-a1"] = Fault(status=403, body=DENIED, times=99)
    code, runner = run(storage, tmp_path, make_task(BOOK, 1, PAGES, soft_timeout_seconds=1), **SLOW)
    assert (code, runner.message["items"]) == (76, 0)


def test_no_signature_is_ever_written_down(storage: WireStorage, tmp_path: Path) -> None:
    storage.faults["GET", "chunk.pdf"] = Fault(status=403, body=DENIED, times=99)
    storage.faults["PUT", "progress-a1"] = Fault(times=99)
    url = "http://127.0.0.1:9/gone?X-Amz-Signature=c0ffee"
    _, refused = run(storage, tmp_path)
    _, wrong = run(storage, tmp_path, f'{{"job": "{url}"}}')
    for runner in (refused, wrong):
        assert "c0ffee" not in runner.output
        assert "c0ffee" not in runner.termination_log.read_text()


def test_nothing_is_left_on_the_disk(storage: WireStorage, tmp_path: Path) -> None:
    run(storage, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["termination-1"]
