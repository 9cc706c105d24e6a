"""Checkpoints: what is saved, what is taken over, what is discarded."""

from __future__ import annotations

import json
from typing import Any

import pytest

from chunk_runner.ledger import DamagedCheckpointError, Ledger
from chunk_runner.processors import Finished
from pdfjob_api.contract import Checkpoint, MissingPage, Record, Tokens
from tests.support.runner_process import make_task

TASK = make_task(b"pdf", 11, 14)


def record(page: int, text: str = "Text.", end_page: int | None = None) -> Record:
    return Record(page=page, end_page=end_page or page, text=text)


def saved(ledger: Ledger) -> bytes:
    checkpoint, _ = ledger.checkpoint()
    return checkpoint.model_dump_json(by_alias=True, exclude_none=True).encode()


def half_done() -> Ledger:
    ledger = Ledger(TASK)
    ledger.add(Finished((11,), [record(11, "One.", 12)], tokens=Tokens(input=5, output=2)))
    ledger.add(Finished((13,), missing=[MissingPage(page=13, code="INVALID_ITEM")], tokens=Tokens(input=1)))
    return ledger


def test_a_checkpoint_resumes_exactly_where_it_was_saved() -> None:
    resumed = Ledger(TASK)
    resumed.resume(saved(half_done()))
    assert resumed.remaining() == [12, 14]
    assert resumed.done == 2
    assert resumed.tokens == Tokens(input=6, output=2)
    assert saved(resumed) == saved(half_done())


def test_the_result_does_not_depend_on_the_order_of_work_or_on_restarts() -> None:
    straight, other = Ledger(TASK), Ledger(TASK)
    parts = [Finished((page,), [record(page, f"Page {page}.")]) for page in (11, 12, 13, 14)]
    for part in parts:
        straight.add(part)
    other.add(parts[3])
    other.add(parts[0])
    resumed = Ledger(TASK)
    resumed.resume(saved(other))
    resumed.add(parts[2])
    resumed.add(parts[1])
    assert resumed.result() == straight.result()
    assert [found.page for found in resumed.result().records] == [11, 12, 13, 14]


def test_a_record_without_text_is_never_kept() -> None:
    ledger = Ledger(TASK)
    ledger.add(Finished((11,), [record(11, ""), record(11, "One.")]))
    checkpoint, revision = ledger.checkpoint()
    assert [found.text for found in checkpoint.records] == ["One."]
    assert (checkpoint.done, revision) == ([11], 1)


def test_the_tokens_of_an_answer_that_finished_nothing_are_kept_and_make_the_checkpoint_a_new_one() -> None:
    ledger = half_done()
    before = ledger.revision
    ledger.add(Finished((), tokens=Tokens(input=100, output=7, cached=3, thinking=2), paid=True))
    checkpoint, revision = ledger.checkpoint()
    assert checkpoint.done == [11, 13]
    assert checkpoint.tokens == Tokens(input=106, output=9, cached=3, thinking=2)
    assert revision > before
    resumed = Ledger(TASK)
    resumed.resume(saved(ledger))
    assert resumed.tokens == checkpoint.tokens


def checkpoint(**changes: Any) -> bytes:
    whole = {
        "version": 1,
        "startPage": 11,
        "endPage": 14,
        "done": [11, 12],
        "records": [{"page": 11, "endPage": 11, "text": "One."}, {"page": 12, "endPage": 13, "text": "Two."}],
    }
    return json.dumps(whole | changes).encode()


def test_the_undamaged_example_is_taken() -> None:
    ledger = Ledger(TASK)
    ledger.resume(checkpoint())
    assert ledger.remaining() == [13, 14]


@pytest.mark.parametrize(
    "damaged",
    [
        b"",
        b"{",
        b"null",
        b"[]",
        checkpoint()[:60],
        b"\xff\xfe" + checkpoint(),
        checkpoint(version=2),
        checkpoint(startPage=1),
        checkpoint(endPage=15),
        checkpoint(done=[11, 12, 12]),
        checkpoint(done=[11, 12, 15]),
        checkpoint(done=[11]),
        checkpoint(done="all"),
        checkpoint(records=[{"page": 12, "endPage": 12, "text": "x"}, {"page": 11, "endPage": 11, "text": "y"}]),
        checkpoint(records=[{"page": 12, "endPage": 11, "text": "x"}]),
        checkpoint(records=[{"page": 11, "endPage": 11, "text": ""}]),
        checkpoint(records=[{"page": 11}]),
        checkpoint(missing=[{"page": 14, "code": "INVALID_ITEM"}]),
        checkpoint(tokens={"input": -1}),
    ],
)
def test_a_damaged_checkpoint_changes_nothing(damaged: bytes) -> None:
    ledger = Ledger(TASK)
    with pytest.raises(DamagedCheckpointError):
        ledger.resume(damaged)
    assert ledger.remaining() == [11, 12, 13, 14]
    assert saved(ledger) == saved(Ledger(TASK))


def test_a_checkpoint_may_know_more_than_we_do() -> None:
    ledger = Ledger(TASK)
    ledger.resume(checkpoint(writtenBy="a newer runner"))
    assert ledger.done == 2


def test_the_wire_form_is_the_contract() -> None:
    stored = json.loads(saved(half_done()))
    assert stored == {
        "version": 1,
        "startPage": 11,
        "endPage": 14,
        "done": [11, 13],
        "records": [{"page": 11, "endPage": 12, "text": "One."}],
        "missing": [{"page": 13, "code": "INVALID_ITEM"}],
        "tokens": {"input": 6, "output": 2, "cached": 0, "thinking": 0},
    }
    assert Checkpoint.model_validate(stored) == half_done().checkpoint()[0]
