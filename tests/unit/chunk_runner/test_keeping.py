"""When things are saved, and what happens when they cannot be."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator

import pytest

from chunk_runner import keeping
from chunk_runner import storage as storage_module
from chunk_runner.failures import RunnerError
from chunk_runner.inputs import Inputs
from chunk_runner.keeping import Keeper
from chunk_runner.ledger import Ledger
from chunk_runner.logs import Log
from chunk_runner.processors import Finished
from chunk_runner.service import ServiceUse
from chunk_runner.stopping import Stop
from chunk_runner.storage import Storage
from pdfjob_api.contract import Record, Tokens
from pdfjob_api.errors import ExitCode
from tests.support.runner_process import make_task
from tests.support.wire_storage import Fault, WireStorage

TASK = make_task(b"pdf", 1, 9)


@pytest.fixture
def wire(monkeypatch: pytest.MonkeyPatch) -> Iterator[WireStorage]:
    monkeypatch.setattr(storage_module, "_FIRST_DELAY", 0.001)
    with WireStorage() as wire:
        yield wire


class Parts:
    """A keeper and what it works for."""

    def __init__(self, wire: WireStorage) -> None:
        inputs = Inputs(
            task=TASK,
            chunk_url=wire.url("chunk.pdf"),
            previous_checkpoint_url=None,
            checkpoint_url=wire.url("checkpoint"),
            progress_url=wire.url("progress"),
            result_url=wire.url("result"),
            api_key_file=None,
            throttle=0,
        )
        self.ledger = Ledger(TASK)
        self.stop = Stop()
        self.service = ServiceUse()
        self.keeper = Keeper(self.ledger, Storage(inputs, lambda: None), self.stop, self.service, Log())

    def finish_page(self, page: int) -> None:
        records = [Record(page=page, end_page=page, text="Text.")]
        self.ledger.add(Finished((page,), records, tokens=Tokens(input=1), paid=True))


def test_what_is_paid_is_on_the_storage_when_saving_returns(wire: WireStorage) -> None:
    parts = Parts(wire)
    parts.finish_page(1)
    parts.keeper.save_now()
    assert json.loads(wire.objects["checkpoint"])["done"] == [1]
    assert parts.keeper.saved == 1


def test_tokens_alone_are_worth_a_checkpoint(wire: WireStorage) -> None:
    parts = Parts(wire)
    parts.ledger.add(Finished((), tokens=Tokens(input=7), paid=True))
    parts.keeper.save_now()
    assert json.loads(wire.objects["checkpoint"])["tokens"]["input"] == 7
    parts.keeper.save_now()
    assert wire.requests["PUT", "checkpoint"] == 1  # nothing new, nothing written


def test_a_storage_that_stumbles_is_asked_again_before_work_goes_on(wire: WireStorage) -> None:
    parts = Parts(wire)
    wire.faults["PUT", "checkpoint"] = Fault(status=503, times=4)
    parts.finish_page(1)
    parts.keeper.save_now()
    assert wire.requests["PUT", "checkpoint"] == 5
    assert parts.keeper.saved == 1


def test_work_goes_on_without_the_storage_for_a_while_and_what_was_paid_is_saved_later(wire: WireStorage) -> None:
    parts = Parts(wire)
    wire.faults["PUT", "checkpoint"] = Fault(status=503, times=5)
    parts.finish_page(1)
    parts.keeper.save_now()
    assert parts.keeper.saved == 0
    parts.finish_page(2)
    parts.keeper.save_now()
    assert parts.keeper.saved == 2


def test_nothing_more_is_paid_for_when_the_storage_stays_away(
    wire: WireStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeping, "UNSAVED_SECONDS", -1.0)
    parts = Parts(wire)
    wire.faults["PUT", "checkpoint"] = Fault(status=403, times=99)
    parts.finish_page(1)
    with pytest.raises(RunnerError, match="nothing more is paid for") as caught:
        parts.keeper.save_now()
    assert caught.value.exit_code is ExitCode.STORAGE_ERROR


def test_an_expired_url_ends_the_work(wire: WireStorage) -> None:
    parts = Parts(wire)
    wire.faults["PUT", "checkpoint"] = Fault(status=403, body=b"Request has expired", times=99)
    parts.finish_page(1)
    parts.keeper.save_now()
    assert parts.stop.reason is ExitCode.URL_EXPIRED


def test_the_heartbeat_goes_on_while_saving_takes_long(wire: WireStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeping, "PROGRESS_SECONDS", 0.05)
    monkeypatch.setattr(keeping, "SAVE_SECONDS", 0.01)
    parts = Parts(wire)
    wire.faults["PUT", "checkpoint"] = Fault(delay=3)
    parts.finish_page(1)
    saving = threading.Thread(target=parts.keeper.save_now)
    saving.start()
    wire.wait_for(lambda: wire.requests["PUT", "checkpoint"] == 1)
    parts.keeper.start()
    wire.wait_for(lambda: wire.requests["PUT", "progress"] >= 5, seconds=2.5)
    assert saving.is_alive()
    saving.join()
    parts.keeper.finish(save=True)


def test_the_first_answer_is_told_at_once(wire: WireStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeping, "PROGRESS_SECONDS", 600)
    parts = Parts(wire)
    parts.keeper.start()
    wire.wait_for(lambda: wire.requests["PUT", "progress"] == 1)
    parts.service.answered = True
    wire.wait_for(lambda: json.loads(wire.objects["progress"])["answered"], seconds=5)
    assert wire.requests["PUT", "progress"] == 2
    parts.keeper.finish(save=False)
