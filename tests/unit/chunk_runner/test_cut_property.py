"""The cut does not show: whatever the document, the chunk size and the overlap."""

from __future__ import annotations

import io
import random
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pikepdf
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.cutting import process
from tests.support.typeset import Sheet, typeset, wrap

KINDS = ("prose", "prose", "prose", "blank", "no stop", "short", "table", "heading")
WORDS = (
    *("the", "of", "to", "and", "is", "was", "over", "under", "river", "fox", "window", "farmer", "être"),
    *("distribution", "processing", "unbelievable", "consideration", "well-known", "naïve"),
    *("Paris", "Debian", "e.g.", "Mr.", "42", "3.5"),
)


def sentences(source: random.Random) -> Iterator[str]:
    while True:
        words = [source.choice(WORDS) for _ in range(source.randint(2, 30))]
        yield " ".join([words[0].capitalize(), *words[1:]]) + source.choice(
            [".", ".", ".", "?", "!", " …", ":", ";", ""]
        )


def book(kinds: list[str], seed: int, *, furniture: bool) -> list[Sheet]:
    """Set a text that flows over the pages, with whatever else books have."""
    source = random.Random(seed)
    flow = sentences(source)
    rest = ""
    sheets = []
    for number, kind in enumerate(kinds, start=1):
        lines: list[str] = []
        if kind == "no stop":
            lines = wrap(" ".join(source.choices(["alpha", "beta", "gamma"], k=source.randint(5, 120))))
        elif kind == "table":
            lines = [
                f"item {row} {source.randint(1, 99)} {source.choice(WORDS)}" for row in range(source.randint(1, 6))
            ]
        elif kind != "blank":
            wanted = 1 if kind == "short" else source.randint(2, 12)
            while len(wrap(rest)) <= wanted:
                rest = f"{rest} {next(flow)}"
            lines = wrap(rest)
            rest = " ".join(lines[wanted:])
            lines = lines[:wanted]
            word = rest.split()[0]
            if len(word) > 7 and source.random() < 0.5:  # the last word of the page is cut
                lines[-1] += f" {word[:5]}-"
                rest = rest.replace(word, word[5:], 1)
        if kind == "heading":
            lines = ["2.5 Of Foxes", "", *lines]
        notes = [f"{number} A note in small print about this."] if furniture and source.random() < 0.3 else []
        has_head = furniture and kind != "blank"
        sheets.append(
            Sheet(
                lines,
                head="The Manual of Foxes" if has_head else "",
                foot=(f"{number} Chapter 1. Foxes" if number % 2 else f"1.2. Of Foxes {number}") if has_head else "",
                notes=notes,
            )
        )
    return sheets


def letters(text: str) -> Counter[str]:
    """Count the letters: white space and the hyphen of a cut word are what processing may change."""
    return Counter(text.replace("-", "").replace(" ", ""))


@settings(max_examples=40, deadline=None)
@given(
    kinds=st.lists(st.sampled_from(KINDS), min_size=2, max_size=12),
    seed=st.integers(0, 2**32),
    furniture=st.booleans(),
    cuts=st.lists(st.tuples(st.integers(1, 7), st.integers(1, 5)), min_size=2, max_size=4),
)
def test_the_cut_does_not_show(kinds: list[str], seed: int, furniture: bool, cuts: list[tuple[int, int]]) -> None:
    sheets = book(kinds, seed, furniture=furniture)
    with tempfile.TemporaryDirectory() as name, pikepdf.open(io.BytesIO(typeset(sheets))) as pdf:
        whole = process(pdf, Path(name), len(sheets), 1)
        for size, overlap in cuts:
            assert process(pdf, Path(name), size, overlap) == whole

    assert all(record.text and record.end_page - record.page in (0, 1) for record in whole)
    pages_with_text = {
        number for number, sheet in enumerate(sheets, 1) if any((*sheet.lines, sheet.head, *sheet.notes))
    }
    assert {record.page for record in whole} == pages_with_text
    printed = " ".join(line for sheet in sheets for line in (sheet.head, *sheet.lines, *sheet.notes, sheet.foot))
    assert letters(" ".join(record.text for record in whole)) == letters(printed)


def test_sentences_do_span_pages_in_the_generated_books() -> None:
    with tempfile.TemporaryDirectory() as name:
        sheets = book(["prose"] * 12, 7, furniture=True)
        with pikepdf.open(io.BytesIO(typeset(sheets))) as pdf:
            records = process(pdf, Path(name), 5, 1)
    assert sum(record.end_page > record.page for record in records) >= 3
