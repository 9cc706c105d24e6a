"""The Gemini processor against the stand-in of the API: rate limits, waits and the pace."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from chunk_runner.processors.gemini import calls
from gemini_stub import Scenario, ScriptLine, Stub
from pdfjob_api.errors import ExitCode
from tests.support.gemini_work import fails, work


@pytest.mark.parametrize("hints", [("retry_after",), ("retry_info",), ("retry_after", "retry_info", "quota")])
def test_a_short_wait_happens_here(
    stub: Stub, key: str, tmp_path: Path, hints: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calls, "_FIRST_WAIT", 30.0)  # of a refusal that does not say for how long
    once = (ScriptLine("rate_limit", after=1, times=1),)
    stub.register(key, Scenario(latency_seconds=0.2, script=once, hints=hints, retry_after_seconds=1))
    start = work(stub, key, tmp_path, pages=10)
    began = time.monotonic()
    assert start.run().done == 10
    assert 1 <= time.monotonic() - began < 20
    assert start.service.requests == {"429": 1, "200": 2}
    assert start.service.pace_seconds > 0


def test_a_refusal_that_says_nothing_is_waited_out_longer_and_longer(
    stub: Stub, key: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calls, "_FIRST_WAIT", 0.1)
    stub.register(key, Scenario(script=(ScriptLine("rate_limit", times=3),), hints=()))
    began = time.monotonic()
    assert work(stub, key, tmp_path, pages=5).run().done == 5
    assert time.monotonic() - began >= 0.1 + 0.2 + 0.4


def test_a_long_wait_is_left_to_the_operator(stub: Stub, key: str, tmp_path: Path) -> None:
    stub.register(key, Scenario(script=(ScriptLine("rate_limit", after=1),), retry_after_seconds=70))
    start = work(stub, key, tmp_path, pages=10)
    error = fails(start)
    assert error.exit_code is ExitCode.RATE_LIMIT
    assert error.retry_after == 70
    assert "API rate limit exceeded" in str(error)
    assert [page for piece in start.pieces for page in piece.pages] == [1, 2, 3, 4, 5]


def test_waits_in_a_row_add_up(stub: Stub, key: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calls, "PATIENCE", 6.5)
    stub.register(key, Scenario(script=(ScriptLine("rate_limit"),), retry_after_seconds=1))
    start = work(stub, key, tmp_path)
    assert fails(start).exit_code is ExitCode.RATE_LIMIT
    assert start.service.requests == {"429": 3}, "after 1 s, then 2 s, and 4 s would be too long"


def test_refusals_that_ask_for_no_wait_do_not_go_on_for_ever(
    stub: Stub, key: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calls, "PATIENCE", 1.0)
    stub.register(key, Scenario(script=(ScriptLine("rate_limit"),), retry_after_seconds=0))
    start = work(stub, key, tmp_path)
    assert fails(start).exit_code is ExitCode.RATE_LIMIT
    assert start.service.requests["429"] < 10


def test_a_wait_beyond_the_soft_timeout_is_not_begun(stub: Stub, key: str, tmp_path: Path) -> None:
    stub.register(key, Scenario(script=(ScriptLine("rate_limit"),), retry_after_seconds=20))
    error = fails(work(stub, key, tmp_path, seconds=5))
    assert (error.exit_code, error.retry_after) == (ExitCode.RATE_LIMIT, 20)


def test_a_daily_quota_is_told_apart_and_not_waited_for(stub: Stub, key: str, tmp_path: Path) -> None:
    stub.register(key, Scenario(script=(ScriptLine("daily_quota"),), retry_after_seconds=2))
    error = fails(work(stub, key, tmp_path))
    assert error.exit_code is ExitCode.RATE_LIMIT
    assert "daily quota" in str(error)
    assert error.retry_after is not None
    assert 60 < error.retry_after <= 24 * 3600


def test_a_stop_ends_a_wait_at_once(stub: Stub, key: str, tmp_path: Path) -> None:
    stub.register(key, Scenario(script=(ScriptLine("rate_limit"),), retry_after_seconds=25))
    start = work(stub, key, tmp_path)
    threading.Timer(1.0, start.stop.request, [ExitCode.INTERRUPTED]).start()
    began = time.monotonic()
    assert fails(start).exit_code is ExitCode.INTERRUPTED
    assert time.monotonic() - began < 20


def test_the_pace_of_earlier_starts_is_kept(stub: Stub, key: str, tmp_path: Path) -> None:
    start = work(stub, key, tmp_path, pages=15, pace_seconds=0.8)
    began = time.monotonic()
    assert start.run().done == 15
    assert time.monotonic() - began >= 2 * 0.8 * 0.85
    assert 0 < start.service.pace_seconds < 0.8


def test_a_limit_is_found_and_kept(stub: Stub, key: str, tmp_path: Path) -> None:
    stub.register(key, Scenario(limit_requests=10, limit_seconds=1))
    start = work(stub, key, tmp_path, pages=40, window_pages=1)
    assert start.run().done == 40
    assert start.service.requests["200"] == 40
    assert start.service.requests["429"] <= 6
