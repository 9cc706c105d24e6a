"""The page plan: the vectors of requirement R-11, the page counts of R-90, and what holds for every document."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pdfjob_api.pdfjob import Chunking
from pdfjob_operator.planning import plan_ranges


def ranges(pages: int, size: int, *, threshold: int = 0, overlap: int = 1) -> list[tuple[int, int]]:
    chunking = Chunking(pages_per_chunk=size, threshold_pages=threshold, overlap_pages=overlap)
    return [(each.start_page, each.end_page) for each in plan_ranges(pages, chunking)]


@pytest.mark.parametrize(("pages", "chunks"), [(2500, 5), (250, 1), (1000, 2)])
def test_vectors_of_size_500(pages: int, chunks: int) -> None:
    assert len(ranges(pages, 500)) == chunks


@pytest.mark.parametrize("multiple", [1, 2, 3, 4])
@pytest.mark.parametrize("size", [1, 50, 500])
def test_boundaries_at_multiples_of_the_size(multiple: int, size: int) -> None:
    pages = multiple * size
    assert ranges(pages, size) == [(n * size + 1, (n + 1) * size) for n in range(multiple)]
    assert ranges(pages + 1, size)[multiple:] == [(pages + 1, pages + 1)]
    if pages > 1:
        assert ranges(pages - 1, size)[-1][1] == pages - 1
        assert len(ranges(pages - 1, size)) == (multiple if size > 1 else multiple - 1)


@pytest.mark.parametrize(
    ("pages", "expected"),
    [
        (1, [(1, 1)]),
        (49, [(1, 49)]),
        (50, [(1, 50)]),
        (51, [(1, 50), (51, 51)]),
        (100, [(1, 50), (51, 100)]),
        (200, [(1, 50), (51, 100), (101, 150), (151, 200)]),
        (201, [(1, 50), (51, 100), (101, 150), (151, 200), (201, 201)]),
    ],
)
def test_default_chunking(pages: int, expected: list[tuple[int, int]]) -> None:
    assert [(each.start_page, each.end_page) for each in plan_ranges(pages, Chunking())] == expected


def test_strictly_more_pages_than_the_threshold_are_split() -> None:
    assert ranges(300, 20, threshold=300) == [(1, 300)]
    assert len(ranges(301, 20, threshold=300)) == 16


@pytest.mark.parametrize("pages", [0, -1])
def test_no_pages_are_refused(pages: int) -> None:
    with pytest.raises(ValueError, match="without pages"):
        plan_ranges(pages, Chunking())


@given(
    pages=st.integers(1, 20_000),
    size=st.integers(1, 1000),
    threshold=st.integers(0, 1000),
    overlap=st.integers(1, 5),
)
def test_every_page_is_in_exactly_one_chunk(pages: int, size: int, threshold: int, overlap: int) -> None:
    plan = plan_ranges(pages, Chunking(pages_per_chunk=size, threshold_pages=threshold, overlap_pages=overlap))
    assert [each.index for each in plan] == list(range(len(plan)))
    next_page = 1
    for each in plan:
        assert each.start_page == next_page
        assert each.page_count >= 1
        assert each.page_count <= size or len(plan) == 1
        # Context pages exist, and there are as many as asked for wherever the document has them.
        assert each.context_before == min(overlap, each.start_page - 1)
        assert each.context_after == min(overlap, pages - each.end_page)
        next_page = each.end_page + 1
    assert next_page == pages + 1
    assert sum(each.page_count for each in plan) == pages
