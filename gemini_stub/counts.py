"""What was asked with one API key and what it was answered, in bounded memory."""

from __future__ import annotations

import time
from collections import Counter, deque
from dataclasses import dataclass, field
from typing import Any, Final

from .asking import Asked

KEPT_REQUESTS: Final = 500
KEPT_TIMES: Final = 50_000
KEPT_WINDOWS: Final = 50_000


@dataclass(slots=True)
class Counts:
    """Used under the key's lock."""

    began: float = field(default_factory=time.monotonic)
    requests: int = 0
    first_request: float | None = None
    """When the first request came, in seconds since ``began``."""
    outcomes: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    models: Counter[str] = field(default_factory=Counter)
    windows: Counter[str] = field(default_factory=Counter)
    pages_paid: int = 0
    tokens: Counter[str] = field(default_factory=Counter)
    in_flight: int = 0
    in_flight_most: int = 0
    redirects_followed: int = 0
    times: deque[tuple[float, str]] = field(default_factory=lambda: deque(maxlen=KEPT_TIMES))
    recent: deque[dict[str, Any]] = field(default_factory=lambda: deque(maxlen=KEPT_REQUESTS))

    def begin(self, model: str) -> None:
        """Count a request that has arrived."""
        self.requests += 1
        if self.first_request is None:
            self.first_request = round(time.monotonic() - self.began, 3)
        self.models[model] += 1
        self.in_flight += 1
        self.in_flight_most = max(self.in_flight_most, self.in_flight)

    def end(self, outcome: str, fault: str | None) -> None:
        """Count how it ended: its HTTP status, or ``gone``, ``hang`` and the like when none was sent."""
        self.in_flight -= 1
        self.outcomes[outcome] += 1
        self.faults[fault or "none"] += 1
        self.times.append((round(time.monotonic() - self.began, 3), outcome))

    def sold(self, asked: Asked) -> None:
        """Count a good answer that was sent to a client that was still there."""
        if len(self.windows) < KEPT_WINDOWS or asked.window in self.windows:
            self.windows[asked.window] += 1
        self.pages_paid += len(asked.pages)

    def bill(self, usage: dict[str, Any]) -> None:
        """Add up what an answer that was sent said about tokens."""
        self.tokens["input"] += usage.get("promptTokenCount", 0)
        self.tokens["output"] += usage.get("candidatesTokenCount", 0)
        self.tokens["cached"] += usage.get("cachedContentTokenCount", 0)
        self.tokens["thinking"] += usage.get("thoughtsTokenCount", 0)

    def note(self, asked: Asked | None, **more: Any) -> None:
        """Keep what a test may want to see of a request."""
        entry: dict[str, Any] = {"time": round(time.monotonic() - self.began, 3), **more}
        if asked is not None:
            entry |= {
                "window": asked.window,
                "pages": list(asked.pages),
                "context": list(asked.context),
                "mode": "Pdf" if asked.pdf_bytes else "Text",
                "pdf_bytes": asked.pdf_bytes,
                "pdf_sha256": asked.pdf_sha256,
                "text_characters": asked.text_characters,
                "instruction": asked.instruction[:2000],
                "generation": asked.generation,
                "safety": asked.safety,
            }
        self.recent.append(entry)

    def as_json(self, *, brief: bool) -> dict[str, Any]:
        """Return everything.

        ``by_status`` counts requests by HTTP status, or ``gone`` (the client left before its answer), ``hang``,
        ``drop``, ``reset``; ``windows`` counts good answers by pages, ``{"1-5": 1}``; ``tokens`` sums up what all
        answers that were sent told. ``times`` are ``[seconds since the key was registered, status]`` of the ends of
        requests, ``first_request`` is when the first of them came, in the same seconds; ``recent`` tells more of the
        last 500. ``brief`` leaves the two lists out.
        """
        lists = {} if brief else {"times": [list(entry) for entry in self.times], "recent": list(self.recent)}
        return {
            "requests": self.requests,
            "first_request": self.first_request,
            "by_status": dict(self.outcomes),
            "faults": dict(self.faults),
            "models": dict(self.models),
            "windows": dict(self.windows),
            "windows_paid": self.windows.total(),
            "pages_paid": self.pages_paid,
            "tokens": {name: self.tokens[name] for name in ("input", "output", "cached", "thinking")},
            "in_flight": self.in_flight,
            "in_flight_most": self.in_flight_most,
            "redirects_followed": self.redirects_followed,
            **lists,
        }
