"""The log: one JSON object a line on standard output, always with job, chunk and start.

Written here and not by a library because it is this small, and the library costs a tenth of the start-up time.
"""

from __future__ import annotations

import json
import re
import sys
from datetime import UTC, datetime
from typing import Any, Final

_SIGNED_QUERY: Final = re.compile(r"\?[^\s\"'<>]*X-Amz-[^\s\"'<>]*", re.IGNORECASE)

_SHORTEST_SECRET: Final = 8
"""Characters; to leave out shorter text would take words apart."""


class Log:
    """Writes events with the fields bound to it."""

    def __init__(self, **bound: Any) -> None:
        self._bound = bound
        self._hidden: list[str] = []

    def bind(self, **fields: Any) -> Log:
        """Return a log that adds these fields to every line."""
        log = Log(**self._bound, **fields)
        log._hidden = self._hidden
        return log

    def hide(self, secret: str) -> None:
        """Never write this text from now on, wherever it may come from; one shorter than 8 characters is no secret."""
        if len(secret) >= _SHORTEST_SECRET:
            self._hidden.append(secret)

    def clean(self, text: str) -> str:
        """Leave out every credential: what is hidden, and the query of presigned URLs."""
        for secret in self._hidden:
            text = text.replace(secret, "[secret]")
        return without_signatures(text)

    def info(self, event: str, **fields: Any) -> None:
        """Write what happened."""
        self._write("info", event, fields)

    def warning(self, event: str, **fields: Any) -> None:
        """Write what went wrong without ending the start."""
        self._write("warning", event, fields)

    def failure(self, event: str, **fields: Any) -> None:
        """Write why the start ends."""
        self._write("error", event, fields)

    def _write(self, level: str, event: str, fields: dict[str, Any]) -> None:
        line = {"time": utc_now(), "level": level, "event": event, **self._bound, **fields}
        # One write per line: two threads log.
        sys.stdout.write(self.clean(json.dumps(line, ensure_ascii=False, default=str)) + "\n")
        sys.stdout.flush()


def utc_now() -> str:
    """Return the time as RFC 3339, UTC."""
    return datetime.now(tz=UTC).isoformat().replace("+00:00", "Z")


def without_signatures(text: str) -> str:
    """Leave the query of presigned URLs out: it is a credential."""
    return _SIGNED_QUERY.sub("?[signature]", text)
