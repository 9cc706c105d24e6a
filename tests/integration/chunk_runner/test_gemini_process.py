"""The runner as its container starts it, with the Gemini processor: what is paid is kept, whatever happens."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from gemini_stub import Scenario, ScriptLine, Stub
from pdfjob_api.contract import Checkpoint, Tokens, check_result
from tests.support.gemini_work import book, gemini
from tests.support.runner_process import RunnerProcess, make_task, start_runner
from tests.support.wire_storage import Fault, WireStorage

PAGES = 20
BOOK = book(PAGES)


@pytest.fixture
def storage() -> Iterator[WireStorage]:
    with WireStorage() as storage:
        storage.objects["chunk.pdf"] = BOOK
        yield storage


class Bench:
    """Starts runners on the book and knows what they asked for."""

    def __init__(self, stub: Stub, key: str, storage: WireStorage, folder: Path) -> None:
        self.stub, self.key, self.storage, self.folder = stub, key, storage, folder
        self.key_file = folder / "api-key"
        self.key_file.write_text(key)

    def start(self, number: int = 1, *, previous: str | None = None, **fields: Any) -> RunnerProcess:
        processor = fields.pop("processor", None) or gemini(self.stub.url, **fields.pop("settings", {}))
        environment = {"PDFJOB_API_KEY_FILE": str(self.key_file), **fields.pop("environment", {})}
        task = make_task(BOOK, 1, PAGES, start=number, processor=processor, **fields)
        return start_runner(self.storage, task, self.folder, previous=previous, **environment)

    def run(self, number: int = 1, **options: Any) -> tuple[int, RunnerProcess]:
        runner = self.start(number, **options)
        return runner.end(), runner

    @property
    def counts(self) -> dict[str, Any]:
        found = self.stub.counts(self.key)
        assert found is not None
        return found

    def has_saved(self, number: int) -> bool:
        return f"checkpoint-a{number}" in self.storage.objects

    def checkpoint(self, number: int = 1) -> Checkpoint:
        return Checkpoint.model_validate_json(self.storage.objects[f"checkpoint-a{number}"])


@pytest.fixture
def bench(stub: Stub, key: str, storage: WireStorage, tmp_path: Path) -> Bench:
    return Bench(stub, key, storage, tmp_path)


def paid_tokens(bench: Bench) -> Tokens:
    return Tokens(**bench.counts["tokens"])


def test_a_chunk_is_processed_and_told(bench: Bench) -> None:
    bench.stub.register(bench.key, Scenario(thinking_tokens=7, cached_share=0.1))
    code, runner = bench.run()
    assert code == 0
    result = check_result(json.loads(bench.storage.objects["result-a1"]), 1, PAGES, 0)
    assert {record.page for record in result.records} == set(range(1, PAGES + 1))
    assert result.tokens == paid_tokens(bench)
    assert runner.message["requests"] == {"200": 4}
    assert runner.message["tokens"] == result.tokens.wire()
    assert runner.message["paceSeconds"] == 0
    assert "retryAfterSeconds" not in runner.message
    assert bench.key not in runner.output + runner.termination_log.read_text()


def test_every_window_is_saved_before_the_next_one_is_asked_for(bench: Bench) -> None:
    bench.stub.register(bench.key, Scenario(script=(ScriptLine("cut", page=8, times=1),)))
    code, _ = bench.run()
    assert code == 0
    saved = [
        Checkpoint.model_validate_json(body)
        for method, path, body in bench.storage.history
        if (method, path) == ("PUT", "checkpoint-a1")
    ]
    assert [len(checkpoint.done) for checkpoint in saved] == [5, 5, 10, 15, 20]
    assert saved[1].tokens.input > saved[0].tokens.input  # the answer that was thrown away
    assert saved[-1].tokens == paid_tokens(bench)


def test_progress_tells_at_once_that_the_key_is_good(bench: Bench) -> None:
    bench.stub.register(bench.key, Scenario(script=(ScriptLine("hang", page=6),)))
    runner = bench.start()
    bench.storage.wait_for(lambda: bench.counts["requests"] == 2)
    bench.storage.wait_for(lambda: b'"answered":true' in bench.storage.objects.get("progress-a1", b""), seconds=8)
    runner.process.kill()
    runner.end()
    told = [json.loads(body)["answered"] for _, path, body in bench.storage.history if path == "progress-a1"]
    assert told[0] is False


def test_a_killed_start_pays_nothing_twice(bench: Bench) -> None:
    bench.stub.register(bench.key, Scenario(latency_seconds=2))
    for number in range(1, 4):
        runner = bench.start(number, previous=f"checkpoint-a{number - 1}" if number > 1 else None)
        bench.storage.wait_for(partial(bench.has_saved, number))
        bench.storage.wait_for(lambda: bench.counts["in_flight"] == 1)  # the next call
        runner.process.kill()
        assert runner.end() == -signal.SIGKILL
    code, _ = bench.run(4, previous="checkpoint-a3")
    assert code == 0
    assert bench.counts["windows"] == {"1-5": 1, "6-10": 1, "11-15": 1, "16-20": 1}
    result = check_result(json.loads(bench.storage.objects["result-a4"]), 1, PAGES, 0)
    assert {record.page for record in result.records} == set(range(1, PAGES + 1))
    assert result.tokens == paid_tokens(bench)


def test_sigterm_lets_the_call_in_hand_finish_and_saves_it(bench: Bench) -> None:
    bench.stub.register(bench.key, Scenario(latency_seconds=1.5))
    runner = bench.start()
    bench.storage.wait_for(lambda: bench.counts["in_flight"] == 1)
    runner.process.send_signal(signal.SIGTERM)
    assert runner.end(timeout=10) == 75
    assert bench.checkpoint().done == [1, 2, 3, 4, 5]
    assert runner.message["items"] == 5
    assert bench.counts["requests"] == 1
    code, _ = bench.run(2, previous="checkpoint-a1")
    assert code == 0
    assert set(bench.counts["windows"].values()) == {1}


def test_sigterm_gives_a_call_up_that_outlasts_the_grace_period(bench: Bench) -> None:
    bench.stub.register(bench.key, Scenario(script=(ScriptLine("hang", page=6),)))
    runner = bench.start(grace_seconds=7)
    bench.storage.wait_for(lambda: bench.counts["requests"] == 2)
    began = time.monotonic()
    runner.process.send_signal(signal.SIGTERM)
    assert runner.end(timeout=10) == 75
    assert time.monotonic() - began < 7
    assert bench.checkpoint().done == [1, 2, 3, 4, 5]


def test_sigterm_ends_a_wait_for_the_rate_limit_at_once(bench: Bench) -> None:
    bench.stub.register(
        bench.key, Scenario(latency_seconds=0.3, script=(ScriptLine("rate_limit", page=6),), retry_after_seconds=25)
    )
    runner = bench.start()
    bench.storage.wait_for(lambda: bench.counts["by_status"].get("429") == 1)
    time.sleep(1)  # for the answer to arrive
    runner.process.send_signal(signal.SIGTERM)
    assert runner.end(timeout=15) == 75, "it did not wait for the 25 seconds to pass"
    assert runner.message["requests"] == {"200": 1, "429": 1}
    assert runner.message["paceSeconds"] > 0


def test_the_soft_timeout_saves_what_was_paid(bench: Bench) -> None:
    bench.stub.register(bench.key, Scenario(latency_seconds=5))
    code, runner = bench.run(soft_timeout_seconds=12)
    assert code == 76
    assert runner.message["code"] == "TIMEOUT"
    assert set(bench.counts["windows"].values()) == {1}
    assert len(bench.checkpoint().done) == 5 * bench.counts["windows_paid"] == runner.message["items"]


def test_a_long_rate_limit_is_told_with_what_is_saved(bench: Bench) -> None:
    bench.stub.register(bench.key, Scenario(script=(ScriptLine("rate_limit", page=6),), retry_after_seconds=77))
    code, runner = bench.run()
    assert code == 72
    message = runner.message
    assert (message["code"], message["items"], message["retryAfterSeconds"]) == ("RATE_LIMIT", 5, 77)
    assert message["requests"] == {"200": 1, "429": 1}
    assert bench.checkpoint().done == [1, 2, 3, 4, 5]


def test_a_storage_that_stumbles_does_not_stop_the_work_and_is_asked_again_before_the_next_call(bench: Bench) -> None:
    bench.storage.faults["PUT", "checkpoint-a1"] = Fault(status=503, times=2)
    code, runner = bench.run()
    assert code == 0
    assert bench.counts["requests"] == 4
    order = [line["event"] for line in runner.log if line["event"] in {"answered", "checkpoint saved"}]
    assert order == ["answered", "checkpoint saved"] * 4


def test_a_missing_key_is_told_with_the_way_out(bench: Bench) -> None:
    bench.key_file.unlink()
    code, runner = bench.run()
    assert code == 73
    assert runner.message["code"] == "AUTH_ERROR"
    assert "kubectl create secret generic gemini -n default" in runner.message["message"]
    assert bench.counts["requests"] == 0


def test_a_refused_key_is_told_and_never_shown(bench: Bench) -> None:
    bench.key_file.write_text("AIzaSomeOtherKey-123")
    code, runner = bench.run()
    assert code == 73
    assert runner.message["requests"] == {"400": 1}
    assert "AIzaSomeOtherKey-123" not in runner.output + runner.termination_log.read_text()


def test_no_key_file_is_a_wrong_task(bench: Bench) -> None:
    code, runner = bench.run(environment={"PDFJOB_API_KEY_FILE": ""})
    assert (code, "PDFJOB_API_KEY_FILE" in runner.message["message"]) == (64, True)


def test_a_chunk_without_text_is_said_to_have_none(bench: Bench, stub: Stub) -> None:
    blank = book(3, blank=[1, 2, 3])
    bench.storage.objects["chunk.pdf"] = blank
    task = make_task(blank, 1, 3, processor=gemini(stub.url))
    runner = start_runner(bench.storage, task, bench.folder, PDFJOB_API_KEY_FILE=str(bench.key_file))
    assert runner.end() == 66
    assert bench.counts["requests"] == 0


def test_what_libraries_warn_of_is_in_the_log_and_in_its_form(bench: Bench) -> None:
    bench.stub.register(bench.key, Scenario(script=(ScriptLine("unknown_finish", times=1),)))
    code, runner = bench.run()
    assert code == 0
    assert "A_NEW_REASON" in runner.event("a library warns")["reason"]


def test_the_local_processor_does_not_import_what_only_gemini_needs(tmp_path: Path) -> None:
    program = (
        "import sys\n"
        "import chunk_runner.start, chunk_runner.processors.local\n"
        "print({name.split('.')[0] for name in sys.modules} & {'google', 'httpx2', 'tenacity', 'websockets'})\n"
    )
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert found.stdout.strip() == "set()"
