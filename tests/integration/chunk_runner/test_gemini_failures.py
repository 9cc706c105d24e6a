"""The Gemini processor against the stand-in of the API: every way in which a call may fail."""

from __future__ import annotations

import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from typing_extensions import override

from chunk_runner.processors.gemini import calls
from chunk_runner.processors.gemini import client as client_module
from gemini_stub import Scenario, ScriptLine, Stub
from pdfjob_api.errors import ExitCode
from tests.support.gemini_work import counts, fails, fault, work, work_at


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Attempts follow each other quickly; what decides about them stays as it is."""
    monkeypatch.setattr(calls, "_FIRST_DELAY", 0.001)
    monkeypatch.setattr(calls, "_LONGEST_DELAY", 0.002)


def test_what_cannot_be_read_as_an_answer_of_the_api_is_tried_again(stub: Stub, key: str, tmp_path: Path) -> None:
    stub.register(key, fault("html", times=2))
    assert work(stub, key, tmp_path, pages=5).run().done == 5
    stub.register(key, fault("html"))
    error = fails(work(stub, key, tmp_path, pages=5))
    assert error.exit_code is ExitCode.API_ERROR
    assert "check baseUrl" in str(error)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"5",
        b"null",
        b"{}",
        b"\xff\xfe",
        b'{"error": {"code": 500}}',
        b'{"candidates": [5]}',
        b'{"candidates": [{"finishReason": 7}]}',
        b'{"candidates": [{"content": {"parts": "text"}}]}',
    ],
)
def test_json_that_is_no_answer_of_the_api_spoils_no_page(tmp_path: Path, body: bytes) -> None:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(200)
            self.end_headers()
            self.wfile.write(body)

        @override
        def log_message(self, format: str, *args: object) -> None:
            """Stay silent."""

    with HTTPServer(("127.0.0.1", 0), Handler) as gateway:
        threading.Thread(target=gateway.serve_forever, args=(0.05,), daemon=True).start()
        start = work_at(f"http://127.0.0.1:{gateway.server_port}", "some-key", tmp_path, pages=1)
        error = fails(start)
        gateway.shutdown()
    assert error.exit_code is ExitCode.API_ERROR
    assert start.service.requests == {"200": 3}
    assert not start.service.answered


@pytest.mark.parametrize(
    ("name", "status"),
    [
        ("error_500", "500"),
        ("error_502", "502"),
        ("error_503", "503"),
        ("error_504", "504"),
        ("html_502", "502"),
        ("drop", "network"),
        ("reset", "network"),
        ("oversized", "network"),
        ("oversized_gzip", "network"),
        ("hang", "timeout"),
    ],
)
def test_a_failure_that_may_pass_is_tried_three_times(
    stub: Stub, key: str, tmp_path: Path, name: str, status: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_module, "MAX_ANSWER_BYTES", 1_000_000)
    seconds = 2 if name == "hang" else 20
    stub.register(key, fault(name, times=2))
    start = work(stub, key, tmp_path, pages=5, item_timeout_seconds=seconds)
    assert start.run().done == 5
    assert start.service.requests == {status: 2, "200": 1}
    stub.register(key, fault(name))
    start = work(stub, key, tmp_path, pages=5, item_timeout_seconds=seconds)
    error = fails(start)
    assert error.exit_code is ExitCode.API_ERROR
    assert start.service.requests == {status: 3}
    assert not start.service.answered


def test_an_answer_that_drips_is_given_up_when_the_call_has_lasted_long_enough(
    stub: Stub, key: str, tmp_path: Path
) -> None:
    stub.register(key, fault("trickle", times=1))
    start = work(stub, key, tmp_path, pages=5, item_timeout_seconds=2)
    began = time.monotonic()
    assert start.run().done == 5
    assert time.monotonic() - began < 20, "it drips for minutes"
    assert start.service.requests == {"timeout": 1, "200": 1}


@pytest.mark.parametrize("name", ["bad_key", "unauthorized", "forbidden"])
def test_a_refused_key_ends_it_at_once_and_is_named(stub: Stub, key: str, tmp_path: Path, name: str) -> None:
    stub.register(key, fault(name))
    start = work(stub, key, tmp_path)
    error = fails(start)
    assert error.exit_code is ExitCode.AUTH_ERROR
    assert "key 'api-key' of Secret 'gemini'" in str(error)
    assert sum(start.service.requests.values()) == 1
    assert not start.service.answered


def test_a_key_nobody_knows_is_refused(stub: Stub, tmp_path: Path) -> None:
    assert fails(work(stub, "unknown", tmp_path)).exit_code is ExitCode.AUTH_ERROR


@pytest.mark.parametrize(
    ("name", "reason"), [("model_not_found", "model is not found"), ("invalid_argument", "invalid argument")]
)
def test_a_request_that_is_refused_for_good_ends_it_with_what_was_said(
    stub: Stub, key: str, tmp_path: Path, name: str, reason: str
) -> None:
    stub.register(key, fault(name))
    error = fails(work(stub, key, tmp_path))
    assert error.exit_code is ExitCode.INVALID_TASK
    assert reason in str(error)
    assert counts(stub, key)["requests"] == 1


def test_a_redirect_does_not_get_the_key(stub: Stub, key: str, tmp_path: Path) -> None:
    stub.register(key, fault("redirect"))
    error = fails(work(stub, key, tmp_path))
    assert error.exit_code is ExitCode.INVALID_TASK
    assert "baseUrl" in str(error)
    assert counts(stub, key)["redirects_followed"] == 0


@pytest.mark.parametrize("name", ["too_many_pages", "no_pages"])
def test_a_window_that_is_too_large_is_halved_without_asking_twice(
    stub: Stub, key: str, tmp_path: Path, name: str
) -> None:
    stub.register(key, fault(name, min_pages=3))
    result = work(stub, key, tmp_path, pages=5).run().result()
    assert not result.missing
    assert counts(stub, key)["windows"] == {"1-2": 1, "3": 1, "4-5": 1}
    assert [request["window"] for request in counts(stub, key)["recent"]] == ["1-5", "1-3", "1-2", "3", "4-5"]


def test_a_single_page_that_the_service_cannot_take_is_missing(stub: Stub, key: str, tmp_path: Path) -> None:
    stub.register(key, fault("no_pages", page=3))
    result = work(stub, key, tmp_path, pages=5).run().result()
    assert [(page.page, page.code) for page in result.missing] == [(3, "TOO_LARGE")]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("GOOGLE_API_KEY", "wrong"),
        ("GEMINI_API_KEY", "wrong"),
        ("GOOGLE_GEMINI_BASE_URL", "http://127.0.0.1:9"),
        ("GOOGLE_GENAI_USE_VERTEXAI", "true"),
        ("GOOGLE_GENAI_USE_ENTERPRISE", "true"),
        ("GOOGLE_GENAI_API_VERSION", "v9"),
        ("GOOGLE_GENAI_HTTP_CLIENT", "httpx"),
        ("GOOGLE_GENAI_CLIENT_MODE", "replay"),
        ("GOOGLE_CLOUD_PROJECT", "wrong"),
        ("GOOGLE_APPLICATION_CREDENTIALS", "/nowhere"),
    ],
)
def test_the_environment_does_not_matter(
    stub: Stub, key: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    assert work(stub, key, tmp_path, pages=1).run().done == 1
    (request,) = counts(stub, key)["recent"]
    assert (request["version"], request["bearer"]) == ("v1beta", False)
    assert request["server_timeout"] == "300"


def test_the_key_is_never_written(stub: Stub, key: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("bad_key", "error_500", "html", "drop", "rate_limit"):
        stub.register(key, Scenario(script=(ScriptLine(name),), retry_after_seconds=99))
        start = work(stub, key, tmp_path)
        assert key not in str(fails(start))
    captured = capsys.readouterr()
    assert key not in captured.out + captured.err
