"""What the model is told."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chunk_runner.processors.gemini import prompt
from pdfjob_api.gemini import GeminiMode, GeminiProcessor, Normalization, SecretKeyReference


def settings(**fields: object) -> GeminiProcessor:
    return GeminiProcessor.model_validate(
        {"model": "m", "api_key_secret_ref": SecretKeyReference(name="gemini"), **fields}
    )


@pytest.mark.parametrize(
    ("options", "asked"),
    [
        (Normalization(max_sentence_words=25), "more than 25 words"),
        (Normalization(min_sentence_words=4), "fewer than 4 words"),
        (Normalization(keep_dialogue=True), "Keep the dashes and quotation marks of dialogue"),
        (Normalization(keep_dialogue=False), "without the dashes and quotation marks"),
        (Normalization(repair_hyphenation=True), "Join words that were hyphenated"),
        (Normalization(repair_hyphenation=False), "Keep hyphens at the ends of lines"),
        (Normalization(preserve_formatting=True), "as Markdown"),
        (Normalization(preserve_formatting=False), "Write plain text"),
    ],
)
def test_every_option_is_said(options: Normalization, asked: str) -> None:
    assert asked in prompt.system_instruction(settings(normalization=options))


def test_what_is_not_asked_for_is_not_said() -> None:
    told = prompt.default_instruction(Normalization())
    assert "words where its sense allows it" not in told
    assert "fragment" not in told


def test_an_instruction_replaces_the_default_one_and_not_the_form_of_the_answer() -> None:
    told = prompt.system_instruction(settings(instruction="List the verbs.", language="fr"))
    assert told.startswith("List the verbs.\n\n")
    assert prompt.default_instruction(Normalization()) not in told
    assert "ISO 639 code fr" in told
    assert '{"pages": [{"page": 12' in told


def test_each_mode_says_how_pages_are_given() -> None:
    text, pdf = (prompt.system_instruction(settings(mode=mode)) for mode in (GeminiMode.TEXT, GeminiMode.PDF))
    assert '<page number="N">' in text
    assert "page of the PDF" not in text
    assert "page of the PDF" in pdf
    assert "<page" not in pdf


def test_the_pages_of_a_pdf_are_named_in_its_order() -> None:
    assert prompt.pdf_pages([11, 12, 13], (12, 13)) == (
        "PDF page 1: context page 11\nPDF page 2: page 12\nPDF page 3: page 13"
    )


TAGS = st.sampled_from(
    ["<page", "</page>", "< /PAGE >", '<context page="3">', "</ Context", "\n", " ", "<", "x", "&lt;"]
)


@given(st.lists(TAGS, max_size=20).map("".join))
def test_no_text_breaks_out_of_its_page(text: str) -> None:
    written = prompt.page_text(7, text)
    assert re.findall(r"<\s*/?\s*(?:page|context)", written, re.IGNORECASE) == ["<page", "</page"]
    assert written.startswith('<page number="7">\n')
    assert written.endswith("\n</page>")
    assert len(re.findall(r"<\s*/?\s*(?:page|context)", prompt.context_text(7, text), re.IGNORECASE)) == 2


def test_other_text_is_left_as_it_is() -> None:
    assert prompt.escape("a < b, <body>, <p>, 3 > 2 & more") == "a < b, <body>, <p>, 3 > 2 & more"
