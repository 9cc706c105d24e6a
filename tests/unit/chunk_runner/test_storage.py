"""The presigned storage: what is tried again, how often, and what is told."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from chunk_runner import storage as module
from chunk_runner.failures import RunnerError
from chunk_runner.inputs import Inputs
from chunk_runner.storage import Storage
from pdfjob_api.errors import ExitCode
from tests.support.runner_process import make_task
from tests.support.wire_storage import Fault, WireStorage


@pytest.fixture
def wire(monkeypatch: pytest.MonkeyPatch) -> Iterator[WireStorage]:
    monkeypatch.setattr(module, "_FIRST_DELAY", 0.001)
    with WireStorage() as wire:
        yield wire


def client(wire: WireStorage, *, chunk_url: str | None = None) -> Storage:
    inputs = Inputs(
        task=make_task(b"pdf", 1, 1),
        chunk_url=chunk_url or wire.url("chunk.pdf"),
        previous_checkpoint_url=wire.url("previous"),
        checkpoint_url=wire.url("checkpoint"),
        progress_url=wire.url("progress"),
        result_url=wire.url("result"),
        api_key_file=None,
        throttle=0,
    )
    return Storage(inputs, lambda: None)


def test_a_storage_that_stays_broken_is_given_up_after_six_attempts(wire: WireStorage, tmp_path: Path) -> None:
    wire.faults["GET", "chunk.pdf"] = Fault(times=99)
    with pytest.raises(RunnerError, match=r"reading the chunk PDF failed 6 times.*HTTP 500 InternalError") as caught:
        client(wire).download_chunk(tmp_path / "chunk.pdf")
    assert caught.value.exit_code is ExitCode.STORAGE_ERROR
    assert wire.requests["GET", "chunk.pdf"] == 6


def test_a_storage_nobody_answers_for_is_told_without_its_signature(wire: WireStorage, tmp_path: Path) -> None:
    storage = client(wire, chunk_url="http://127.0.0.1:9/chunk.pdf?X-Amz-Signature=c0ffee")
    with pytest.raises(RunnerError, match="Connection refused") as caught:
        storage.download_chunk(tmp_path / "chunk.pdf")
    assert caught.value.exit_code is ExitCode.STORAGE_ERROR
    assert "c0ffee" not in str(caught.value)


@pytest.mark.parametrize("status", [409, 429, 502, 503])
def test_answers_that_heal_are_tried_again(wire: WireStorage, status: int) -> None:
    wire.faults["PUT", "result"] = Fault(status=status, times=3)
    client(wire).put_result(b"{}")
    assert wire.objects["result"] == b"{}"


def test_a_result_is_never_written_over(wire: WireStorage) -> None:
    wire.objects["result"] = b"first"
    client(wire).put_result(b"second")
    assert wire.objects["result"] == b"first"


def test_a_checkpoint_is_written_again_and_again(wire: WireStorage) -> None:
    for body in (b"1", b"2"):
        client(wire).put_checkpoint(body, attempts=1)
    assert wire.objects["checkpoint"] == b"2"


def test_a_412_on_a_checkpoint_is_an_error(wire: WireStorage) -> None:
    wire.faults["PUT", "checkpoint"] = Fault(status=412, times=9)
    with pytest.raises(RunnerError, match="HTTP 412"):
        client(wire).put_checkpoint(b"1", attempts=3)


def test_an_absent_checkpoint_is_none_and_a_broken_storage_is_an_error(wire: WireStorage) -> None:
    assert client(wire).previous_checkpoint() is None
    wire.objects["previous"] = b"{}"
    assert client(wire).previous_checkpoint() == b"{}"
    wire.faults["GET", "previous"] = Fault(times=99)
    with pytest.raises(RunnerError) as caught:
        client(wire).previous_checkpoint()
    assert caught.value.exit_code is ExitCode.STORAGE_ERROR
