"""Where sentences end: sentencex, and what it does not know of French."""

from __future__ import annotations

import re
from types import MappingProxyType
from typing import Final

from sentencex import segment

_ABBREVIATIONS: Final = MappingProxyType(
    {
        "fr": frozenset(
            ("M", "Mme", "Mlle", "Mgr", "Dr", "Pr", "Me", "St", "Ste", "Ch", "Th", "Ph", "No", "n", "ch", "t")
        ),
        "en": frozenset(("Dr", "cf", "Cf", "e.g", "i.e", "vs", "vol", "Vol", "Eq", "Sec", "approx")),
    }
)
"""Words before a full stop after which a sentence goes on, where sentencex 1.0 ends it."""
_LAST_WORD: Final = re.compile(r"(?:\A|[\s(\[{«“\"'’-])([\w.]{1,6})\.\s*\Z")
_HYPHENATED: Final = re.compile(r"\b\w\.-(?:\w-)?\w\.\s*\Z")
"""J.-C., c.-à-d."""
_LABEL: Final = re.compile(
    r"\W*(?:\d{1,4}\s+)?(?:(?:Chapter|Section|Figure|Table|Part|Appendix|Chapitre|Tableau|Partie|Annexe)\s+)?"
    r"(?:\d{1,3}(?:\.\d{1,3})*|[A-Za-z]|[ivxIVX]{1,5})[.)]\s*"
)
"""The number of a heading or of an item: what follows belongs to it."""


def split_sentences(text: str, language: str) -> list[str]:
    """Return the sentences of a paragraph, none of them empty, with nothing of the text left out.

    Parameters
    ----------
    text
        One paragraph, white space collapsed.
    language
        ISO 639 code; for one that sentencex does not know, it takes a related language or English.
    """
    return [part for part in (part.strip() for part in _mended(text, language)) if part]


def is_one_sentence(left: str, right: str, language: str) -> bool:
    """Whether no sentence ends between two pieces of text."""
    return any(start < len(left) and end > len(left) + 1 for start, end in _spans(_mended(f"{left} {right}", language)))


def _mended(text: str, language: str) -> list[str]:
    """Segment and put together what belongs together."""
    parts: list[str] = []
    for part in segment(language, text):
        if parts and _goes_on(parts[-1], part, language):
            parts[-1] += part
        else:
            parts.append(part)
    return parts


def _goes_on(before: str, after: str, language: str) -> bool:
    if before.endswith(".") and after[:1] == "-" and after[1:2].isalpha():
        return True  # J.-C., c.-à-d.
    if _LABEL.fullmatch(before):
        return True
    if after[:1].islower() and _HYPHENATED.search(before[-16:]):
        return True
    if not before.rstrip().endswith(".") or not after[:1].isalnum():
        return False
    found = _LAST_WORD.search(before[-16:])
    if found is None:
        return False
    word = found.group(1)
    if language == "fr" and len(word) == 1 and word.isupper():
        return before[-16:][found.start()] != "-"  # J. Dupont, but not Ctrl-C
    return word in _ABBREVIATIONS.get(language, ())


def _spans(parts: list[str]) -> list[tuple[int, int]]:
    spans = []
    start = 0
    for part in parts:
        spans.append((start, start + len(part)))
        start += len(part)
    return spans
