from __future__ import annotations

import http.client
import json
import socket
import time
from typing import Any

import pytest

from gemini_stub import CONNECTION_FAULTS, ERRORS, SPOILED, Scenario, ScriptLine, Stub
from tests.unit.gemini_stub.calling import PATH, call, pdf_body, text_body

BODY = text_body({4: "One. Two.", 5: "Three."})


def always(fault: str, **fields: object) -> Scenario:
    return Scenario.from_json({"rates": {fault: 1}, **fields})


def counts_of(stub: Stub) -> dict[str, Any]:
    counts = stub.counts("key")
    assert counts is not None
    return counts


@pytest.mark.parametrize("fault", ERRORS)
def test_errors_have_the_status_and_form_of_the_api(stub: Stub, fault: str) -> None:
    stub.register("key", always(fault))
    answer = call(stub, BODY)
    status, name, _ = ERRORS[fault]
    assert answer.status == answer.json["error"]["code"] == status
    assert answer.json["error"]["status"] == name
    counts = counts_of(stub)
    assert (counts["by_status"], counts["windows"]) == ({str(status): 1}, {})


@pytest.mark.parametrize("fault", SPOILED)
def test_spoiled_answers_are_billed_but_not_counted_as_paid_windows(stub: Stub, fault: str) -> None:
    stub.register("key", always(fault))
    answer = call(stub, BODY)
    assert answer.status == 200
    counts = counts_of(stub)
    assert counts["windows"] == {}
    assert counts["tokens"]["input"] > 0
    assert not is_good(answer.body)


def is_good(body: bytes) -> bool:
    candidates = json.loads(body).get("candidates")
    if not candidates or candidates[0]["finishReason"] != "STOP":
        return False
    try:
        pages = json.loads(candidates[0]["content"]["parts"][0]["text"])["pages"]
    except ValueError:
        return False
    return [(page["page"], bool(page.get("sentences"))) for page in pages] == [(4, True), (5, True)]


def test_the_good_answer_is_good(stub: Stub) -> None:
    assert is_good(call(stub, BODY).body)


def test_a_cut_answer_is_no_complete_json(stub: Stub) -> None:
    stub.register("key", always("cut"))
    answer = call(stub, BODY)
    assert answer.finish == "MAX_TOKENS"
    with pytest.raises(json.JSONDecodeError):
        json.loads(answer.text)


def test_a_runaway_answer_is_billed_up_to_the_limit(stub: Stub) -> None:
    stub.register("key", always("runaway", max_output_tokens=1000))
    assert call(stub, BODY).json["usageMetadata"]["candidatesTokenCount"] == 1000


def test_a_rate_limit_says_how_long_in_each_way_it_is_told_to(stub: Stub) -> None:
    stub.register("key", always("rate_limit", retry_after_seconds=1.5))
    answer = call(stub, BODY)
    details = {item["@type"].rpartition(".")[2]: item for item in answer.json["error"]["details"]}
    assert answer.headers["retry-after"] == "2"
    assert details["RetryInfo"]["retryDelay"] == "1.500s"
    assert "PerMinute" in details["QuotaFailure"]["violations"][0]["quotaId"]
    stub.register("key", always("daily_quota", hints=["quota"]))
    answer = call(stub, BODY)
    assert "retry-after" not in answer.headers
    (quota,) = answer.json["error"]["details"]
    assert "PerDay" in quota["violations"][0]["quotaId"]


def test_the_limit_lets_so_many_through_and_says_honestly_when_there_is_more(stub: Stub) -> None:
    stub.register("key", Scenario(limit_requests=2, limit_seconds=1))
    assert [call(stub, BODY).status for _ in range(3)] == [200, 200, 429]
    refused = call(stub, BODY)
    details = {item["@type"].rpartition(".")[2]: item for item in refused.json["error"]["details"]}
    wait = float(details["RetryInfo"]["retryDelay"].removesuffix("s"))
    assert 0 < wait <= 1
    time.sleep(wait + 0.01)
    assert call(stub, BODY).status == 200


def test_a_key_that_nobody_registered_is_refused_as_google_does(stub: Stub) -> None:
    answer = call(stub, BODY, "another")
    assert answer.status == 400
    assert answer.json["error"]["details"][0]["reason"] == "API_KEY_INVALID"


def test_an_unknown_model_is_not_found(stub: Stub) -> None:
    stub.register("key", Scenario(models=("gemini-other",)))
    assert call(stub, BODY).status == 404


@pytest.mark.parametrize(
    "body",
    [
        {"contents": []},
        text_body({1: "a."}, generationConfigs={}),
        pdf_body([1], data=b"no pdf"),
        pdf_body(list(range(1, 1002))),
        text_body({1: 'a.</page>\n<page number="1">b.'}),
    ],
    ids=["no pages", "unknown field", "no PDF", "too many pages", "page twice"],
)
def test_a_request_the_api_would_refuse_is_refused(stub: Stub, body: dict[str, object]) -> None:
    assert call(stub, body).status == 400
    assert counts_of(stub)["by_status"] == {"400": 1}


@pytest.mark.parametrize("fault", ["drop", "reset"])
def test_a_dropped_connection_leaves_half_an_answer(stub: Stub, fault: str) -> None:
    stub.register("key", always(fault))
    with pytest.raises((http.client.IncompleteRead, ConnectionError)):
        call(stub, BODY)


def test_a_hanging_call_never_answers(stub: Stub) -> None:
    stub.register("key", always("hang"))
    with pytest.raises(TimeoutError):
        call(stub, BODY, timeout=0.3)


def test_a_trickling_answer_outlives_a_timeout_of_single_reads(stub: Stub) -> None:
    stub.register("key", always("trickle"))
    began = time.monotonic()
    connection = http.client.HTTPConnection(stub.host, stub.port, timeout=0.6)
    connection.request("POST", PATH, json.dumps(BODY), {"x-goog-api-key": "key"})
    response = connection.getresponse()
    assert len([response.read(1) for _ in range(5)]) == 5
    connection.close()
    assert time.monotonic() - began > 0.6


def test_a_redirect_tells_whether_it_was_followed(stub: Stub) -> None:
    stub.register("key", always("redirect"))
    answer = call(stub, BODY)
    assert answer.status == 307
    assert counts_of(stub)["redirects_followed"] == 0
    call(stub, {}, path=answer.headers["location"].removeprefix(stub.url))
    assert counts_of(stub)["redirects_followed"] == 1


@pytest.mark.parametrize("fault", ["oversized", "oversized_gzip"])
def test_an_oversized_answer_is_as_large_as_told(stub: Stub, fault: str) -> None:
    stub.register("key", always(fault, oversized_bytes=10 * 2**20))
    answer = call(stub, BODY)
    small = fault == "oversized_gzip"
    assert (len(answer.body) < 2**20) is small
    assert (answer.headers.get("content-encoding") == "gzip") is small


@pytest.mark.parametrize("more", [b"", b"POST"], ids=["after its request", "in the middle of the next one"])
def test_a_client_that_left_has_not_paid(stub: Stub, more: bytes) -> None:
    stub.register("key", Scenario(latency_seconds=0.5))
    with socket.create_connection((stub.host, stub.port)) as connection:
        body = json.dumps(BODY).encode()
        head = f"POST {PATH} HTTP/1.1\r\nHost: x\r\nx-goog-api-key: key\r\nContent-Length: {len(body)}\r\n\r\n"
        connection.sendall(head.encode() + body + more)
        deadline = time.monotonic() + 5
        while counts_of(stub)["requests"] == 0 and time.monotonic() < deadline:
            time.sleep(0.01)
    while counts_of(stub)["in_flight"] and time.monotonic() < deadline:
        time.sleep(0.01)
    counts = counts_of(stub)
    assert counts["by_status"] == {"gone": 1}
    assert counts["windows"] == {}
    assert counts["tokens"]["input"] == 0


def test_every_fault_can_be_named_in_a_scenario() -> None:
    for fault in (*ERRORS, *SPOILED, *CONNECTION_FAULTS):
        assert always(fault).rates == {fault: 1}


def test_a_script_line_strikes_the_page_it_names_so_often_as_it_says(stub: Stub) -> None:
    stub.register("key", Scenario(script=(ScriptLine("error_500", page=5, after=1, times=2),)))
    assert [call(stub, BODY).status for _ in range(5)] == [200, 500, 500, 200, 200]
    assert call(stub, text_body({6: "a."})).status == 200


def test_a_script_line_for_large_windows_leaves_small_ones_alone(stub: Stub) -> None:
    stub.register("key", Scenario(script=(ScriptLine("too_many_pages", min_pages=2),)))
    assert call(stub, BODY).status == 400
    assert call(stub, text_body({4: "One."})).status == 200
