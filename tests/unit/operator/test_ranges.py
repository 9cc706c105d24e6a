"""Numbers as people write them."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pdfjob_operator.ranges import number_ranges, numbers_in


def spans(*numbers: int) -> list[tuple[int, int]]:
    return [(number, number) for number in numbers]


def parse(text: str) -> list[int]:
    parts = [part.split("-") for part in text.split(",")]
    return [number for part in parts for number in range(int(part[0]), int(part[-1]) + 1)]


def test_neighbours_are_joined() -> None:
    assert number_ranges(spans(3, 7, 8, 9)) == "3,7-9"


def test_spans_that_touch_or_overlap_are_joined() -> None:
    assert number_ranges([(1, 50), (51, 100), (90, 95), (200, 250)]) == "1-100,200-250"


def test_nothing_is_none() -> None:
    assert number_ranges([]) is None


def test_a_long_list_is_cut_between_numbers_and_says_so() -> None:
    text = number_ranges(spans(*range(0, 10_000, 2)))
    assert text is not None
    assert 1000 < len(text) <= 1024
    assert text.endswith(",...")
    assert parse(text.removesuffix(",...")) == list(range(0, 10_000, 2))[: len(parse(text.removesuffix(",...")))]


@given(st.sets(st.integers(0, 300)))
def test_every_number_comes_back(numbers: set[int]) -> None:
    text = number_ranges(spans(*sorted(numbers)))
    assert (parse(text) if text else []) == sorted(numbers)
    assert numbers_in(text or "") == numbers


def test_of_a_list_that_was_cut_the_numbers_that_are_left_come_back() -> None:
    assert numbers_in("3,7-9,...") == {3, 7, 8, 9}
