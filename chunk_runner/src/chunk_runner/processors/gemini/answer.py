"""The answer to one request: its form, and whether it can be used."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from pydantic import BaseModel, ValidationError

from chunk_runner.processors import Window
from pdfjob_api.contract import Record
from pdfjob_api.errors import ItemCode

_CUT_OFF: Final = frozenset({"MAX_TOKENS", "CONTINUATION"})
_RECITATION: Final = frozenset({"RECITATION", "IMAGE_RECITATION"})
_BLOCKED: Final = frozenset(
    {
        *("SAFETY", "BLOCKLIST", "PROHIBITED_CONTENT", "SPII", "LANGUAGE", "ESCALATION", "MODEL_ARMOR"),
        *("IMAGE_SAFETY", "IMAGE_PROHIBITED_CONTENT", "PUP_LIMITED_DISABLED"),
    }
)
_SENTENCE_END: Final = re.compile(r"[.!?…。！？][\"'»”’)\]]*(?:\s|\Z)")  # noqa: RUF001 - marks of real text
_FULL_PAGE: Final = 200
"""Characters of a page that cannot be all running heads and numbers."""
_CONTROL: Final = re.compile(r"[\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f\ufeff\uffff]")


class PageAnswer(BaseModel):
    """Sentences of one page."""

    page: int
    sentences: list[str]
    continues: bool
    """Whether the last sentence ends on the next page."""


class Answer(BaseModel):
    """Sentences of the pages asked for."""

    pages: list[PageAnswer]


class UnusableAnswerError(Exception):
    """An answer is no use; ``code`` is what its pages are missing for if no other answer is better."""

    def __init__(self, code: ItemCode, reason: str) -> None:
        super().__init__(reason)
        self.code = code


def read_answer(text: str, finish: str, blocked: str, window: Window) -> list[PageAnswer]:
    """Return the pages of an answer, in order.

    Parameters
    ----------
    text
        Of the first candidate.
    finish
        Why the model stopped, as the API names it; empty when it did not say. A reason that is new to us does not
        spoil an answer that is whole.
    blocked
        Why the prompt was blocked, empty when it was not.
    window
        Pages asked for.

    Raises
    ------
    UnusableAnswerError
        When it was blocked or cut off, is not of the form asked for, or is not for exactly these pages.
    """
    if blocked:
        raise UnusableAnswerError(ItemCode.BLOCKED, f"the prompt was blocked: {blocked}")
    if finish in _RECITATION:
        raise UnusableAnswerError(ItemCode.RECITATION, f"the model stopped: {finish}")
    if finish in _BLOCKED:
        raise UnusableAnswerError(ItemCode.BLOCKED, f"the answer was blocked: {finish}")
    if finish in _CUT_OFF:
        raise UnusableAnswerError(ItemCode.CUT_OFF, f"the answer was cut off: {finish}")
    if not text:
        raise UnusableAnswerError(ItemCode.INVALID_ANSWER, f"the answer is empty: {finish or 'no reason given'}")
    try:
        pages = Answer.model_validate_json(text).pages
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        where = ".".join(map(str, first["loc"])) or "answer"
        raise UnusableAnswerError(ItemCode.INVALID_ANSWER, f"{where}: {first['msg']}") from error
    if sorted(page.page for page in pages) != list(window):
        found = ", ".join(str(page.page) for page in pages[:20])
        raise UnusableAnswerError(ItemCode.INVALID_ANSWER, f"the answer is for the pages {found or 'none'}")
    return sorted(pages, key=lambda page: page.page)


def check_fullness(pages: list[PageAnswer], texts: Mapping[int, str]) -> None:
    """Make sure that no page with text was passed over.

    A page with two ends of sentences has one that starts on it, whatever the page before is like; but one with little
    text may have nothing but running heads.

    Raises
    ------
    UnusableAnswerError
        When such a page has no sentence.
    """
    for page in pages:
        text = texts.get(page.page, "")
        full = len(text) >= _FULL_PAGE and len(_SENTENCE_END.findall(text)) > 1
        if full and not any(map(tidy, page.sentences)):
            raise UnusableAnswerError(ItemCode.INVALID_ANSWER, f"page {page.page} has text and no sentence")


def records(pages: list[PageAnswer], last_page: int) -> list[Record]:
    """Return the sentences as records, none of them empty, each in one line.

    Parameters
    ----------
    pages
        In order.
    last_page
        The last page of the chunk PDF: no sentence is known to end after it.
    """
    found: list[Record] = []
    for page in pages:
        sentences = [sentence for sentence in map(tidy, page.sentences) if sentence]
        end_pages = [page.page] * len(sentences)
        if sentences and page.continues and page.page < last_page:
            end_pages[-1] += 1
        found += [
            Record(page=page.page, end_page=end_page, text=sentence)
            for sentence, end_page in zip(sentences, end_pages, strict=True)
        ]
    return found


def tidy(sentence: str) -> str:
    """Leave out control characters and make every run of white space one space."""
    return " ".join(_CONTROL.sub("", sentence).split())
