"""Which answers can be used, and what becomes of them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from chunk_runner.processors.gemini.answer import PageAnswer, UnusableAnswerError, check_fullness, read_answer, records
from pdfjob_api.errors import ItemCode


def page(number: int, *sentences: str) -> dict[str, Any]:
    return {"page": number, "sentences": list(sentences), "continues": False}


def text(*pages: dict[str, Any]) -> str:
    return json.dumps({"pages": pages})


GOOD = text(page(1, "One."), page(2, "Two."))


@pytest.mark.parametrize("finish", ["STOP", "", "A_NEW_REASON", "OTHER"])
def test_a_whole_answer_is_taken_whatever_new_reason_it_ends_for(finish: str) -> None:
    assert [found.sentences for found in read_answer(GOOD, finish, "", (1, 2))] == [["One."], ["Two."]]


def test_pages_in_another_order_are_put_in_order() -> None:
    assert [found.page for found in read_answer(text(page(2), page(1)), "STOP", "", (1, 2))] == [1, 2]


@pytest.mark.parametrize(
    ("answer", "finish", "blocked", "code"),
    [
        (GOOD, "MAX_TOKENS", "", ItemCode.CUT_OFF),
        (GOOD, "CONTINUATION", "", ItemCode.CUT_OFF),
        ("", "RECITATION", "", ItemCode.RECITATION),
        ("", "SAFETY", "", ItemCode.BLOCKED),
        ("", "PROHIBITED_CONTENT", "", ItemCode.BLOCKED),
        ("", "", "PROHIBITED_CONTENT", ItemCode.BLOCKED),
        ("", "", "A_NEW_REASON", ItemCode.BLOCKED),
        ("", "A_NEW_REASON", "", ItemCode.INVALID_ANSWER),
        ("", "", "", ItemCode.INVALID_ANSWER),
        ("Here are the sentences:", "STOP", "", ItemCode.INVALID_ANSWER),
        (GOOD[:-5], "STOP", "", ItemCode.INVALID_ANSWER),
        ("[]", "STOP", "", ItemCode.INVALID_ANSWER),
        ('{"pages": null}', "STOP", "", ItemCode.INVALID_ANSWER),
        ('{"pages": [{"page": 1, "sentences": ["\\ud800"], "continues": false}]}', "STOP", "", ItemCode.INVALID_ANSWER),
        (text({"page": 1, "text": "One."}, page(2)), "STOP", "", ItemCode.INVALID_ANSWER),
        (text(), "STOP", "", ItemCode.INVALID_ANSWER),
        (text(page(1)), "STOP", "", ItemCode.INVALID_ANSWER),
        (text(page(1), page(2), page(3)), "STOP", "", ItemCode.INVALID_ANSWER),
        (text(page(1), page(2), page(2)), "STOP", "", ItemCode.INVALID_ANSWER),
        (text(page(2), page(3)), "STOP", "", ItemCode.INVALID_ANSWER),
    ],
)
def test_an_answer_that_cannot_be_used_says_why(answer: str, finish: str, blocked: str, code: ItemCode) -> None:
    with pytest.raises(UnusableAnswerError) as caught:
        read_answer(answer, finish, blocked, (1, 2))
    assert caught.value.code is code
    assert "One." not in str(caught.value)  # the text of a document is not for logs


def test_a_sentence_that_goes_on_ends_on_the_next_page() -> None:
    pages = [
        PageAnswer(page=3, sentences=["A.", "B goes"], continues=True),
        PageAnswer(page=4, sentences=[], continues=True),
        PageAnswer(page=5, sentences=["C goes"], continues=True),
    ]
    assert [(found.page, found.end_page) for found in records(pages, 6)] == [(3, 3), (3, 4), (5, 6)]
    assert records(pages, 5)[-1].end_page == 5  # nothing is known of a page after the last one


def test_sentences_are_single_lines_without_control_characters() -> None:
    pages = [PageAnswer(page=1, sentences=["  A\n new\tline. ", "\x00\x1b[31mred", " \n ", ""], continues=True)]
    found = records(pages, 9)
    assert [record.text for record in found] == ["A new line.", "[31mred"]
    assert [record.end_page for record in found] == [1, 2]  # the last sentence that is one


def test_a_page_full_of_text_cannot_be_without_sentences() -> None:
    empty = [PageAnswer(page=1, sentences=[" "], continues=False)]
    full = "The end of one. And a second one. And a third that goes on for a while. " * 4
    with pytest.raises(UnusableAnswerError, match="page 1 has text and no sentence"):
        check_fullness(empty, {1: full})
    check_fullness([PageAnswer(page=1, sentences=["Two."], continues=False)], {1: full})
    check_fullness(empty, {1: "only the end of a sentence that began on the page before " * 9 + "and ends here."})
    check_fullness(empty, {1: "12 Chapter 2. The Archive. Vol. 3."})
    check_fullness(empty, {})  # in mode Pdf nobody knows
