"""Characters and hyphens: what PDF text needs before it reads like text."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from types import MappingProxyType
from typing import Final

SOFT_HYPHEN: Final = "\u00ad"
"""The mark for "a hyphen stood here at the end of a line" between `clean` and `resolve_hyphens`."""

_LIGATURES: Final = {code: unicodedata.normalize("NFKC", chr(code)) for code in (*range(0xFB00, 0xFB07), 0x132, 0x133)}
"""Only ligatures: NFKC on everything would turn x² into x2."""
_HYPHEN_MARKS: Final = dict.fromkeys((0x02, 0xFFFE), SOFT_HYPHEN)
"""PDFium puts one of these, by its version, for a hyphen at the end of a line, and joins the two lines."""
_CONTROLS: Final[dict[int, str | None]] = {
    code: None
    for code in (*range(0x20), *range(0x7F, 0xA0), 0x200B, 0xFEFF, 0xFFFF, *range(0xD800, 0xE000))
    if chr(code) not in "\t\n\v\f\r\x02\x85"
}
"""Symbol fonts emit control characters; half a surrogate pair is no text and cannot be written as UTF-8."""
_CHARACTERS: Final = MappingProxyType(_CONTROLS | _HYPHEN_MARKS | _LIGATURES)

_LEADER: Final = re.compile(r"(?:\s?[.·_…]){5,}")
_TAIL: Final = 64
"""Characters of a word that are looked at; longer words are none."""
_TECHNICAL: Final = re.compile(r"[/_.@:=<>~+$\\0-9]")
_LEFT: Final = re.compile(r"[^\s(\[{«“\"'’]*\Z")
_RIGHT: Final = re.compile(r"\A[^\s)\]}»”\"'’,;!?]*")
_KEEPS_HYPHEN: Final = frozenset({"non", "self", "ex", "quasi", "well"})
"""Words that are written with a hyphen before another word far more often than they are cut from one."""
_FRENCH_PRONOUNS: Final = frozenset({"elle", "elles", "ils"})

_CJK: Final = re.compile(r"[\u2e80-\u9fff\uac00-\ud7a3\uf900-\ufaff\uff01-\uff60]")


def clean(text: str) -> str:
    """Expand ligatures, unify hyphen marks and drop what is no text; line ends stay."""
    return text.translate(_CHARACTERS)


def has_leader(text: str) -> bool:
    """Whether the line is an entry of a table of contents, with dots up to a page number."""
    return _LEADER.search(text) is not None


def collapse(text: str) -> str:
    """Make every run of white space one space, and every run of leader dots one ellipsis."""
    return " ".join(_LEADER.sub(" … ", text).split()) if len(text) > 1 else text.strip()


def join_lines(left: str, right: str) -> str:
    """Put two lines of one paragraph together; a hyphen at the end of the first becomes a mark."""
    left, right = left.rstrip(), right.lstrip()
    if not left or not right:
        return left + right
    if left.endswith((SOFT_HYPHEN, "-", "\u2010")) and len(left) > 1 and left[-2].isalnum() and right[0].isalnum():
        return f"{left[:-1]}{SOFT_HYPHEN}{right}"
    if _CJK.match(left[-1]) and _CJK.match(right[0]):
        return left + right
    return f"{left} {right}"


def resolve_hyphens(text: str, evidence: str = "") -> str:
    """Replace each hyphen mark by a hyphen or by nothing.

    Parameters
    ----------
    text
        With `SOFT_HYPHEN` marks.
    evidence
        Other text of the same page: a word that stands there in one piece decides how it is written.
    """
    first, *rest = text.split(SOFT_HYPHEN)
    if not rest:
        return text
    pieces = [first]
    tail = first[-_TAIL:]
    for index, part in enumerate(rest):
        # A word may bear several marks; only its last part shows where it ends.
        cut_again = index + 1 < len(rest) and part.isalpha()
        piece = _glue(tail, part.lstrip() if tail and not tail[-1].isspace() else part, evidence, cut_again=cut_again)
        pieces.append(piece)
        tail = (tail + piece)[-_TAIL:]
    return "".join(pieces)


def _glue(before: str, after: str, evidence: str, *, cut_again: bool) -> str:
    """Return ``after`` with or without a hyphen in front."""
    left = _match(_LEFT.search, before)
    right = _match(_RIGHT.search, after[:_TAIL])
    return f"-{after}" if _is_compound(left, right, evidence, cut_again=cut_again) else after


def _match(search: Callable[[str], re.Match[str] | None], text: str) -> str:
    found = search(text)
    return found.group() if found else ""


def _is_compound(left: str, right: str, evidence: str, *, cut_again: bool) -> bool:
    if not left or not right or not left[-1].islower() or not right[0].islower():
        return True  # US-ASCII, Jean-Pierre, x86-64
    word = right.rstrip(".:")
    if f"{left}-{word}" in evidence:
        return True
    if f"{left}{word}" in evidence:
        return False
    if _TECHNICAL.search(left) or _TECHNICAL.search(word):
        return True  # /run/reboot-required, apt-cache.conf
    if (len(word) < 3 and not cut_again) or left.lower() in _KEEPS_HYPHEN:
        return True  # est-il: no hyphenation leaves two letters
    if word in _FRENCH_PRONOUNS and left[-1] in "td":
        return True  # dit-elle; no syllable ends so before a vowel
    if left.lower() == "peut" and word == "être":
        return True
    return "-" in left and len(left.rpartition("-")[2]) <= 3  # state-of-the-art, c'est-à-dire
