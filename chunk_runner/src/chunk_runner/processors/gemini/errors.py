"""What a failed call means: try again, wait, ask for less, or end the start with a code of the contract."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any, Final

import google.auth.exceptions
import httpx2
from google.genai import errors as genai
from pydantic import ValidationError

from chunk_runner.failures import RunnerError
from pdfjob_api.errors import ExitCode

from .key import SecretName

_HEALS: Final = frozenset({408, 425, 499, 500, 502, 503, 504})
_TOO_LARGE: Final = re.compile(
    r"\A(?!.*(?:schema|config|setting)).*(?:token count|payload size|too large|document|\bpages\b|\bpdf\b)",
    re.IGNORECASE | re.DOTALL,
)
"""What the API says of a request that is too large, or of a PDF that it cannot use; not of our settings."""
_MESSAGE_LENGTH: Final = 500
_DAILY_FLOOR: Final = 60.0
"""Seconds; with the quota of a day used up, shorter advice is that of the minute."""
_PACIFIC_MIDNIGHT: Final = 8
"""Hour of the day in UTC at which daily quotas begin anew; an hour late in summer."""


class TransientError(Exception):
    """Another attempt may succeed soon."""


class RefusedError(Exception):
    """The rate limit refused the call.

    ``wait`` is how many seconds the service asks to wait, if it does; ``daily`` tells that the quota of the day is used
    up.
    """

    def __init__(self, message: str, *, wait: float | None, daily: bool) -> None:
        super().__init__(message)
        self.wait = wait
        self.daily = daily


class TooLargeError(Exception):
    """The service cannot take the pages of this request; fewer may pass."""


class NotTheApiError(Exception):
    """Status 200, and nothing in it that an answer of the API has."""


_NOT_THE_API: Final = (
    *(NotTheApiError, json.JSONDecodeError, genai.UnknownApiResponseError, ValidationError),
    *(AttributeError, TypeError, KeyError),
)
"""Raised for answers with status 200 that are of another form; the last three by google-genai itself."""


def status_of(error: Exception) -> str:
    """Return what the call counts as in the statistics: its HTTP status, ``timeout`` or ``network``."""
    if isinstance(error, genai.APIError):
        return str(error.code)
    if isinstance(error, _NOT_THE_API):
        return "200"
    return "timeout" if isinstance(error, httpx2.TimeoutException) else "network"


def meaning_of(error: Exception, secret: SecretName, now: datetime) -> Exception:
    """Return the error that says what to do about a failed call.

    One of `TransientError`, `RefusedError`, `TooLargeError`, `RunnerError`; an exception that is none of the client's
    own is returned as it is.
    """
    if isinstance(error, genai.APIError):
        return _of_status(error, secret, now)
    if isinstance(error, httpx2.TimeoutException):
        return TransientError(f"no answer in time ({type(error).__name__})")
    if isinstance(error, httpx2.UnsupportedProtocol | httpx2.InvalidURL):
        return RunnerError(ExitCode.INVALID_TASK, f"spec.processor.gemini.baseUrl cannot be used: {error}")
    if isinstance(error, httpx2.HTTPError):
        return TransientError(f"{type(error).__name__}: {error}"[:_MESSAGE_LENGTH])
    if isinstance(error, google.auth.exceptions.TransportError):
        return TransientError(f"the token endpoint cannot be reached: {error}"[:_MESSAGE_LENGTH])
    if isinstance(error, google.auth.exceptions.GoogleAuthError):
        if error.retryable:
            return TransientError(f"the token endpoint failed: {error}"[:_MESSAGE_LENGTH])
        return secret.refused(f"no access token for the service account: {error}"[:_MESSAGE_LENGTH])
    if isinstance(error, _NOT_THE_API):
        return TransientError("what answered with status 200 does not speak the Gemini API; check baseUrl")
    if isinstance(error, ValueError):
        return RunnerError(ExitCode.INVALID_TASK, f"google-genai refused the request: {error}"[:_MESSAGE_LENGTH])
    return error


def _of_status(error: genai.APIError, secret: SecretName, now: datetime) -> Exception:
    code = error.code
    said = f"{code} {error.status or ''} {error.message or ''}".strip()[:_MESSAGE_LENGTH]
    if code == 429:
        return RefusedError(said, wait=_wait(error, now), daily=_is_daily(error))
    if code in _HEALS or code > 504:
        return TransientError(said)
    if code in (401, 403) or any(reason.startswith("API_KEY") for reason in _reasons(error)):
        return secret.refused(said)
    if code < 400:
        return RunnerError(
            ExitCode.INVALID_TASK,
            f"spec.processor.gemini.baseUrl answered with status {code}, which is no answer of the Gemini API; "
            f"redirects are not followed, so name the address that it leads to",
        )
    if code == 413 or (code == 400 and _TOO_LARGE.search(str(error.message))):
        return TooLargeError(said)
    return RunnerError(ExitCode.INVALID_TASK, f"the Gemini API refused the request: {said}")


def until_tomorrow(now: datetime) -> float:
    """Return the seconds until daily quotas begin anew."""
    midnight = now.astimezone(UTC).replace(hour=_PACIFIC_MIDNIGHT, minute=0, second=0, microsecond=0)
    if midnight <= now:
        midnight += timedelta(days=1)
    return (midnight - now).total_seconds()


def _wait(error: genai.APIError, now: datetime) -> float | None:
    """Return how long the service asks to wait: the longer of the header and of RetryInfo."""
    waits = [_seconds(detail.get("retryDelay")) for detail in _details(error)]
    headers = getattr(error.response, "headers", None)
    if headers is not None:
        waits.append(_header_seconds(headers.get("retry-after"), now))
    known = [wait for wait in waits if wait is not None]
    wait = max(known) if known else None
    if _is_daily(error) and (wait is None or wait < _DAILY_FLOOR):
        return until_tomorrow(now)
    return wait


def _header_seconds(value: str | None, now: datetime) -> float | None:
    if not value:
        return None
    if value.strip().isdigit():
        return float(value)
    try:
        return max(0.0, (parsedate_to_datetime(value) - now).total_seconds())
    except (ValueError, TypeError):  # no date, or one without a zone
        return None


def _seconds(value: Any) -> float | None:
    """Read a duration of protobuf: ``13.5s``."""
    found = re.fullmatch(r"(\d{1,9}(?:\.\d{1,9})?)s", value) if isinstance(value, str) else None
    return float(found.group(1)) if found else None


def _is_daily(error: genai.APIError) -> bool:
    return any(
        "PerDay" in str(violation.get("quotaId"))
        for detail in _details(error)
        for violation in detail.get("violations") or ()
        if isinstance(violation, Mapping)
    )


def _reasons(error: genai.APIError) -> list[str]:
    return [str(detail.get("reason")) for detail in _details(error)]


def _details(error: genai.APIError) -> Iterator[Mapping[str, Any]]:
    """Yield the details of an error; a gateway may send anything."""
    body = error.details
    inner = body.get("error") if isinstance(body, Mapping) else None
    details = inner.get("details") if isinstance(inner, Mapping) else None
    for detail in details if isinstance(details, list) else ():
        if isinstance(detail, Mapping):
            yield detail
