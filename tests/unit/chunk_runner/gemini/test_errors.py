"""What a failed call means."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import google.auth.exceptions
import httpx2
import pytest
from google.genai import errors as genai

from chunk_runner.failures import RunnerError
from chunk_runner.processors.gemini.errors import (
    RefusedError,
    TooLargeError,
    TransientError,
    meaning_of,
    status_of,
    until_tomorrow,
)
from chunk_runner.processors.gemini.key import SecretName
from pdfjob_api.errors import ExitCode

SECRET = SecretName("books", "gemini", "api-key")
NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)


def api_error(code: int, message: str = "said", *details: dict[str, Any], **headers: str) -> genai.APIError:
    """Return what google-genai raises for an answer."""
    body = {"error": {"code": code, "message": message, "status": "STATUS", "details": list(details)}}
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    response = httpx2.Response(code, json=body, headers=named)
    try:
        genai.APIError.raise_for_response(response)
    except genai.APIError as error:
        return error
    raise AssertionError("no error")


def meaning(error: Exception) -> Exception:
    return meaning_of(error, SECRET, NOW)


@pytest.mark.parametrize("code", [408, 425, 499, 500, 502, 503, 504, 524, 529])
def test_what_heals_is_tried_again(code: int) -> None:
    assert isinstance(meaning(api_error(code)), TransientError)


@pytest.mark.parametrize(
    "error",
    [
        httpx2.ReadTimeout("x"),
        httpx2.ConnectTimeout("x"),
        httpx2.ConnectError("x"),
        httpx2.RemoteProtocolError("x"),
        httpx2.ReadError("x"),
        httpx2.DecodingError("x"),
        google.auth.exceptions.TransportError("x"),
        google.auth.exceptions.RefreshError("x", retryable=True),
    ],
)
def test_a_network_that_stumbles_is_tried_again(error: Exception) -> None:
    assert isinstance(meaning(error), TransientError)


@pytest.mark.parametrize(
    "error",
    [
        api_error(401),
        api_error(403),
        api_error(400, "API key not valid.", {"@type": "ErrorInfo", "reason": "API_KEY_INVALID"}),
        google.auth.exceptions.RefreshError("invalid_grant"),
    ],
)
def test_a_key_that_is_refused_is_named_with_the_way_out(error: Exception) -> None:
    found = meaning(error)
    assert isinstance(found, RunnerError)
    assert found.exit_code is ExitCode.AUTH_ERROR
    assert "the key 'api-key' of Secret 'gemini'" in str(found)
    assert "kubectl create secret generic gemini -n books" in str(found)
    assert ".." not in str(found), "what the service says may end with a full stop"


@pytest.mark.parametrize(
    "message",
    [
        "The document has no pages.",
        "The document contains 1200 pages which exceeds the supported page limit of 1000.",
        "The input token count (1200000) exceeds the maximum number of tokens allowed (1048576).",
        "Request payload size exceeds the limit: 20971520 bytes.",
    ],
)
def test_what_is_too_large_is_cut_further(message: str) -> None:
    assert isinstance(meaning(api_error(400, message)), TooLargeError)
    assert isinstance(meaning(api_error(413)), TooLargeError)


@pytest.mark.parametrize(
    ("code", "message"),
    [
        (404, "models/gemini-0 is not found for API version v1beta."),
        (400, "Invalid value at 'generation_config.response_schema.properties[pages]'"),
        (400, "User location is not supported for the API use."),
        (400, "Unable to submit request because maxOutputTokens exceeds the supported range."),
        (402, "Payment required"),
        (307, "moved"),
    ],
)
def test_what_no_further_attempt_can_heal_ends_the_start_with_what_was_said(code: int, message: str) -> None:
    found = meaning(api_error(code, message))
    assert isinstance(found, RunnerError)
    assert found.exit_code is ExitCode.INVALID_TASK
    assert message in str(found) or code < 400


RETRY: dict[str, Any] = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "12.5s"}
MINUTE = {"@type": "QuotaFailure", "violations": [{"quotaId": "GenerateRequestsPerMinutePerProjectPerModel"}]}
DAY = {"@type": "QuotaFailure", "violations": [{"quotaId": "GenerateRequestsPerDayPerProjectPerModel-FreeTier"}]}


@pytest.mark.parametrize(
    ("details", "headers", "wait", "daily"),
    [
        ([], {}, None, False),
        ([RETRY, MINUTE], {}, 12.5, False),
        ([], {"retry_after": "7"}, 7, False),
        ([RETRY], {"retry_after": "20"}, 20, False),
        ([], {"retry_after": "Sun, 22 Nov 2026 12:00:40 GMT"}, 40, False),
        ([], {"retry_after": "Sun, 22 Nov 2026 11:00:00 GMT"}, 0, False),
        ([], {"retry_after": "soon"}, None, False),
        ([{**RETRY, "retryDelay": 5}], {}, None, False),
        ([RETRY, DAY], {}, 20 * 3600, True),
        ([{**RETRY, "retryDelay": "3600s"}, DAY], {}, 3600, True),
        (["text", None, {"violations": "none"}], {}, None, False),
    ],
)
def test_a_refusal_tells_how_long_to_wait(
    details: list[Any], headers: dict[str, str], wait: float | None, daily: bool
) -> None:
    found = meaning(api_error(429, "slow down", *details, **headers))
    assert isinstance(found, RefusedError)
    assert (found.wait, found.daily) == (wait, daily)


def test_daily_quotas_begin_anew_at_midnight_on_the_west_coast() -> None:
    assert until_tomorrow(datetime(2026, 11, 22, 7, 59, tzinfo=UTC)) == 60
    assert until_tomorrow(datetime(2026, 11, 22, 8, tzinfo=UTC)) == 24 * 3600


@pytest.mark.parametrize("body", ["", "[]", "[1]", '"text"', "null", '{"error": "text"}', '{"error": {"details": 5}}'])
def test_an_error_of_a_gateway_may_have_any_form(body: str) -> None:
    with pytest.raises(genai.APIError) as caught:
        genai.APIError.raise_for_response(httpx2.Response(429, text=body))
    assert isinstance(meaning(caught.value), RefusedError)


def test_an_address_that_is_none_is_told() -> None:
    found = meaning(httpx2.UnsupportedProtocol("x"))
    assert isinstance(found, RunnerError)
    assert found.exit_code is ExitCode.INVALID_TASK


def test_what_is_no_failure_of_the_call_stays_what_it_is() -> None:
    error = RuntimeError("a mistake of ours")
    assert meaning(error) is error


def test_settings_that_the_client_refuses_end_the_start() -> None:
    found = meaning(ValueError("media_resolution is not supported"))
    assert isinstance(found, RunnerError)
    assert found.exit_code is ExitCode.INVALID_TASK
    assert "media_resolution is not supported" in str(found)


def test_calls_are_counted_by_status_timeout_or_network() -> None:
    found = [status_of(error) for error in (api_error(503), httpx2.ReadTimeout("x"), httpx2.ReadError("x"))]
    assert found == ["503", "timeout", "network"]
