"""Numbers as people write them: ``3,7-9``."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

_MAX_LENGTH: Final = 1024


def range_texts(spans: Iterable[tuple[int, int]]) -> list[str]:
    """Write sorted inclusive spans as ``3`` and ``7-9``, neighbours joined."""
    joined: list[tuple[int, int]] = []
    for first, last in spans:
        if joined and first <= joined[-1][1] + 1:
            joined[-1] = (joined[-1][0], max(last, joined[-1][1]))
        else:
            joined.append((first, last))
    return [f"{first}" if first == last else f"{first}-{last}" for first, last in joined]


def number_ranges(spans: Iterable[tuple[int, int]]) -> str | None:
    """Write sorted inclusive spans as ``3,7-9``, neighbours joined, cut to 1024 characters; None for no span."""
    text = ",".join(range_texts(spans))
    if not text:
        return None
    if len(text) <= _MAX_LENGTH:
        return text
    return text[: text.rindex(",", 0, _MAX_LENGTH - 4)] + ",..."


def numbers_in(text: str) -> set[int]:
    """Return the numbers that a text of `number_ranges` names; of one that was cut, those that are left."""
    spans = (part.partition("-") for part in text.split(",") if part and part != "...")
    return {number for first, dash, last in spans for number in range(int(first), int(last if dash else first) + 1)}
