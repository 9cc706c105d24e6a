"""One call of the service and what may have to happen until it is answered: pauses, waits, further attempts."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

import tenacity
from google import genai
from google.genai import types

from chunk_runner.failures import RunnerError
from chunk_runner.processors import Surroundings
from pdfjob_api.contract import Tokens
from pdfjob_api.errors import ExitCode

from .errors import NotTheApiError, RefusedError, TransientError, meaning_of, status_of
from .key import SecretName
from .pace import Pace

_ATTEMPTS: Final = 3
_FIRST_DELAY: Final = 1.0
_LONGEST_DELAY: Final = 10.0
PATIENCE: Final = 65.0
"""Seconds after a refusal in which the service must have answered: the quota of a minute is waited out here. Longer
waits are the operator's: meanwhile others can use the node."""
_FIRST_WAIT: Final = 2.0
"""When the service refuses and does not say for how long; doubled each time. When it does say, and refuses again after
that, this is the least from then on: some say 0 each time."""


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer of the service, good or not."""

    text: str
    """Of the first candidate, thoughts left out."""
    finish: str
    """Why the model stopped; empty when it did not say."""
    blocked: str
    """Why the prompt was blocked; empty when it was not."""
    tokens: Tokens


class Caller:
    """Asks the model.

    Parameters
    ----------
    client
        The connection.
    model
        Its name.
    config
        The same for every request.
    secret
        Where the key is from, for messages.
    surroundings
        Of the start.
    """

    def __init__(
        self,
        client: genai.Client,
        *,
        model: str,
        config: types.GenerateContentConfig,
        secret: SecretName,
        surroundings: Surroundings,
    ) -> None:
        self._client = client
        self._model = model
        self._config = config
        self._secret = secret
        self._around = surroundings
        self._pace = Pace(surroundings.service.pace_seconds)
        self._rested_until = 0.0

    def ask(self, parts: Sequence[types.Part]) -> Reply:
        """Return the answer to a request.

        Raises
        ------
        TooLargeError
            When the service does not take the request for its size or its pages.
        RunnerError
            `ExitCode.API_ERROR` after three attempts, `ExitCode.RATE_LIMIT` when the wait is too long,
            `ExitCode.AUTH_ERROR`, `ExitCode.INVALID_TASK`, or that of the stop that was asked for.
        """
        contents = types.Content(role="user", parts=list(parts))
        attempts = tenacity.Retrying(
            retry=tenacity.retry_if_exception_type(TransientError),
            stop=tenacity.stop_after_attempt(_ATTEMPTS),
            wait=tenacity.wait_exponential_jitter(initial=_FIRST_DELAY, max=_LONGEST_DELAY, jitter=_FIRST_DELAY),
            sleep=self._rest,
            before_sleep=self._note_retry,
            reraise=True,
        )
        refused_since, wait, least = math.inf, _FIRST_WAIT, 0.0
        while True:
            try:
                return attempts(self._call, contents)
            except TransientError as error:
                raise RunnerError(
                    ExitCode.API_ERROR, f"Gemini API error: {_ATTEMPTS} attempts failed, the last one: {error}"
                ) from error
            except RefusedError as error:
                refused_since = min(refused_since, time.monotonic())
                self._wait_out(error, wait if error.wait is None else max(error.wait, least), refused_since)
                least, wait = wait, 2 * wait

    def _call(self, contents: types.Content) -> Reply:
        self._rest(self._rested_until - time.monotonic())
        service = self._around.service
        began = time.monotonic()
        try:
            response = self._generate(contents)
        except Exception as error:
            meaning = meaning_of(error, self._secret, datetime.now(tz=UTC))
            if meaning is error:
                raise
            service.requests[status_of(error)] += 1
            if isinstance(meaning, RefusedError) and not meaning.daily:
                self._pace.refused(meaning.wait)
            raise meaning from error
        else:
            self._pace.succeeded(time.monotonic() - began)
            service.requests["200"] += 1
            service.answered = True
        finally:
            self._set_pause()
        return _reply(response)

    def _generate(self, contents: types.Content) -> types.GenerateContentResponse:
        response = self._client.models.generate_content(model=self._model, contents=contents, config=self._config)
        if not (response.candidates or response.prompt_feedback or response.usage_metadata):
            raise NotTheApiError
        return response

    def _set_pause(self) -> None:
        """Rest from now on for the pause, a little more or less: runners that began together shall drift apart."""
        self._around.service.pace_seconds = self._pace.seconds
        self._rested_until = time.monotonic() + self._pace.seconds * random.uniform(0.85, 1.15)

    def _wait_out(self, error: RefusedError, wait: float, refused_since: float) -> None:
        """Wait as long as the service asks, or end the start."""
        until = time.monotonic() + wait
        if error.daily or until > min(refused_since + PATIENCE, self._around.deadline):
            what = "the daily quota is used up" if error.daily else "API rate limit exceeded"
            raise RunnerError(
                ExitCode.RATE_LIMIT,
                f"{what}: {error}; it may be asked again in {wait:.0f} s",
                retry_after=round(wait, 3),
            )
        self._around.log.info("waiting for the rate limit", seconds=round(wait, 3), pace_seconds=self._pace.seconds)
        self._rest(wait + random.uniform(0.0, 0.1 * wait))

    def _note_retry(self, state: tenacity.RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome else None
        self._around.log.warning("the language service failed, trying again", reason=str(error))

    def _rest(self, seconds: float) -> None:
        """Rest, but end at once when the start is asked to end."""
        self._around.stop.wait(seconds)
        self._around.stop.check()


def _reply(response: types.GenerateContentResponse) -> Reply:
    candidate = response.candidates[0] if response.candidates else None
    parts = candidate.content.parts if candidate and candidate.content and candidate.content.parts else []
    feedback = response.prompt_feedback
    return Reply(
        text="".join(part.text for part in parts if part.text and not part.thought),
        finish=_name(candidate.finish_reason) if candidate else "",
        blocked=_name(feedback.block_reason) if feedback and not parts else "",
        tokens=_tokens(response.usage_metadata),
    )


def _name(value: object) -> str:
    """Return the name of an enumeration's value, also of one that google-genai does not know yet."""
    name = str(getattr(value, "value", value) or "")
    return "" if name.endswith("_UNSPECIFIED") else name


def _tokens(usage: types.GenerateContentResponseUsageMetadata | None) -> Tokens:
    """Every field may be absent."""
    if usage is None:
        return Tokens()
    return Tokens(
        input=max(0, usage.prompt_token_count or 0),
        output=max(0, usage.candidates_token_count or 0),
        cached=max(0, usage.cached_content_token_count or 0),
        thinking=max(0, usage.thoughts_token_count or 0),
    )
