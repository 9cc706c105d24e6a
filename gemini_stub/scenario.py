"""How the stub treats one API key: how fast it is, what it refuses, what it gets wrong."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Final

ERRORS: Final = {
    "rate_limit": (429, "RESOURCE_EXHAUSTED", "You exceeded your current quota, please check your plan."),
    "daily_quota": (429, "RESOURCE_EXHAUSTED", "You exceeded your current quota, please check your plan."),
    "error_500": (500, "INTERNAL", "An internal error has occurred. Please retry."),
    "error_502": (502, "UNAVAILABLE", "Bad gateway."),
    "error_503": (503, "UNAVAILABLE", "The model is overloaded. Please try again later."),
    "error_504": (504, "DEADLINE_EXCEEDED", "The request timed out. Please try again."),
    "bad_key": (400, "INVALID_ARGUMENT", "API key not valid. Please pass a valid API key."),
    "unauthorized": (401, "UNAUTHENTICATED", "Request had invalid authentication credentials."),
    "forbidden": (403, "PERMISSION_DENIED", "Generative Language API has not been used in this project before."),
    "model_not_found": (404, "NOT_FOUND", "The model is not found for API version v1beta."),
    "invalid_argument": (400, "INVALID_ARGUMENT", "Request contains an invalid argument."),
    "too_many_pages": (400, "INVALID_ARGUMENT", "The document has too many pages: more than the supported limit."),
    "no_pages": (400, "INVALID_ARGUMENT", "The document has no pages."),
}
"""Faults answered with an error of the API: HTTP status, the API's status, message."""
SPOILED: Final = (
    "cut",
    "continuation",
    "runaway",
    "not_json",
    "wrong_type",
    "wrong_pages",
    "missing_page",
    "invented_page",
    "double_page",
    "empty_page",
    "safety",
    "recitation",
    "prompt_blocked",
    "unknown_finish",
    "no_candidates",
)
"""Faults answered with 200, billed, and of no use. ``cut`` and ``continuation`` end at 60 %, the latter
with a token to go on with; ``runaway`` only at the limit of output tokens; ``empty_page`` has no sentence for the last
page."""
CONNECTION_FAULTS: Final = ("hang", "drop", "reset", "redirect", "oversized", "oversized_gzip", "html", "html_502")
"""Faults of what lies between: no answer at all, half of one, one of another kind."""
ANSWERED_WELL: Final = ("no_usage", "partial_usage", "trickle")
"""Oddities of a good answer: without token counts, with one of them only, a byte at a time."""
FAULTS: Final = (*ERRORS, *SPOILED, *CONNECTION_FAULTS, *ANSWERED_WELL)
HINTS: Final = ("retry_after", "retry_info", "quota")
"""What may come with 429: the header Retry-After, and the details RetryInfo and QuotaFailure."""


@dataclass(frozen=True, slots=True)
class ScriptLine:
    """One exact instruction; the first line that applies to a request decides about it."""

    fault: str
    """One of `FAULTS`, or ``none`` for a good answer whatever the rates say."""
    page: int | None = None
    """Only requests that ask for this page; None = every request."""
    min_pages: int = 1
    """Only requests that ask for at least so many pages."""
    after: int = 0
    """Let so many requests that fit pass first."""
    times: int | None = None
    """Apply so often; None = for ever."""

    def fits(self, pages: Sequence[int]) -> bool:
        """Whether it is about a request for these pages."""
        return len(pages) >= self.min_pages and (self.page is None or self.page in pages)


@dataclass(frozen=True, slots=True)
class Scenario:
    """How requests with one API key are answered. All are answered well and at once unless told otherwise."""

    latency_seconds: float = 0
    """Before the first token of an answer; errors come at once."""
    seconds_per_token: float = 0
    """For each token of output and thinking."""
    seed: int = 0
    """Of the random faults: what happens to a request depends on it, its pages and how often they were asked for."""
    rates: Mapping[str, float] = field(default_factory=dict)
    """Share of requests, 0 to 1, by fault."""
    script: tuple[ScriptLine, ...] = ()
    """What happens to certain requests; goes before ``rates``."""
    models: tuple[str, ...] | None = None
    """Models there are, others answer 404; None = every model."""
    limit_requests: int | None = None
    """Requests allowed in any ``limit_seconds``; None = no limit. Refused ones do not count."""
    limit_seconds: float = 60
    retry_after_seconds: float = 2
    """What ``rate_limit`` asks for. A refusal by ``limit_requests`` says how long it really takes."""
    hints: tuple[str, ...] = HINTS
    """Which of `HINTS` come with 429."""
    max_output_tokens: int = 65536
    """Limit of one answer, thinking included; a request may ask for a lower one. Longer answers are cut."""
    thinking_tokens: int | None = None
    """Tokens of thinking in each answer; None = the field is absent."""
    cached_share: float | None = None
    """Share of the input that is told to come from the cache; None = the field is absent."""
    pdf_sentences: int = 3
    """Sentences for each page in mode Pdf."""
    hang_seconds: float = 3600
    """How long ``hang`` keeps the connection open."""
    oversized_bytes: int = 256 * 1024**2

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Scenario:
        """Read a scenario.

        Raises
        ------
        ValueError
            A field or a fault is not known: a scenario with a slip of the pen would be one without faults.
        """
        unknown = set(data) - {item.name for item in fields(cls)}
        if unknown:
            raise ValueError(f"a scenario has no {', '.join(sorted(unknown))}")
        values: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in data.items()
        }
        values["script"] = tuple(ScriptLine(**line) for line in values.get("script", ()))
        return cls(**values).checked()

    def checked(self) -> Scenario:
        """Return itself if all faults and hints are known, else raise ValueError."""
        named = {*self.rates, *(line.fault for line in self.script)} - {"none"}
        if wrong := named - set(FAULTS):
            raise ValueError(f"no such fault: {', '.join(sorted(wrong))}")
        if wrong := set(self.hints) - set(HINTS):
            raise ValueError(f"no such hint: {', '.join(sorted(wrong))}")
        return self


@dataclass(slots=True)
class Fate:
    """Decides what happens to each request of a key; used under the key's lock."""

    scenario: Scenario
    _fitted: list[int] = field(default_factory=list)
    """How many requests each line of the script has fitted."""
    _asked: dict[str, int] = field(default_factory=dict)
    """How often each window was asked for."""

    def choose(self, window: str, pages: Sequence[int]) -> str | None:
        """Return the fault of a request, None for none."""
        self._fitted = self._fitted or [0] * len(self.scenario.script)
        chosen: str | None = None
        for number, line in enumerate(self.scenario.script):
            if not line.fits(pages):
                continue
            seen = self._fitted[number] - line.after
            if line.times is None or seen < line.times:
                self._fitted[number] += 1
                if seen >= 0:
                    chosen = line.fault
                    break
        asked = self._asked[window] = self._asked.get(window, 0) + 1
        if chosen is not None:
            return None if chosen == "none" else chosen
        return self._drawn(f"{self.scenario.seed} {window} {asked}")

    def _drawn(self, seed: str) -> str | None:
        drawn = random.Random(seed).random()
        for fault, share in self.scenario.rates.items():
            if drawn < share:
                return fault
            drawn -= share
        return None
