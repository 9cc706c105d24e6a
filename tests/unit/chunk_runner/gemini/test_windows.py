"""Which pages go into one request."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from chunk_runner.processors import Window
from chunk_runner.processors.gemini import windows

PAGES = st.sets(st.integers(1, 400), max_size=120).map(sorted)


@given(PAGES, st.integers(1, 100))
def test_every_page_is_in_exactly_one_window_of_neighbours(pages: list[int], size: int) -> None:
    found = list(windows.cut(pages, size))
    assert [page for window in found for page in window] == pages
    assert all(1 <= len(window) <= size for window in found)
    assert all(window == tuple(range(window[0], window[-1] + 1)) for window in found)


@given(st.integers(2, 500).map(lambda last: tuple(range(1, last + 1))))
def test_halves_lose_nothing_and_are_never_empty(window: Window) -> None:
    first, second = windows.halve(window)
    assert first + second == window
    assert 0 <= len(first) - len(second) <= 1
    assert second


def test_a_resumed_chunk_asks_for_the_same_windows() -> None:
    whole = list(windows.cut(range(11, 31), 5))
    assert list(windows.cut(range(21, 31), 5)) == whole[2:]


def test_windows_have_readable_names() -> None:
    assert [windows.name(window) for window in [(7,), (1, 2, 3), (1, 2, 4, 6, 7)]] == ["7", "1-3", "1-2,4,6-7"]
