"""What the user reads of a retry."""

from __future__ import annotations

from kubectl_pdfjob.control import answer_lines, new_request_id
from pdfjob_api.jobstatus import LastRetry, RefusedChunks

from .builders import NOW


def answer(chunks: list[int], refused: list[tuple[str, str]] | None = None, count: int | None = None) -> LastRetry:
    return LastRetry(
        id="x",
        message=f"Retrying {len(chunks)} chunks",
        retried_count=len(chunks) if count is None else count,
        chunks=chunks,
        refused=[RefusedChunks(chunks=numbers, reason=reason) for numbers, reason in refused or []],
        time="2026-11-22T12:00:00Z",
    )


def test_the_answer_names_the_chunks_taken_and_those_refused_with_the_reason() -> None:
    lines = answer_lines(answer([2, 5], [("3", "it runs"), ("90-99", "there is no such chunk")]))

    assert lines == [
        "Retrying 2 chunks",
        "  again:    2, 5",
        "  refused:  3: it runs",
        "  refused:  90-99: there is no such chunk",
    ]


def test_a_merge_alone_has_no_chunks() -> None:
    assert answer_lines(answer([])) == ["Retrying 0 chunks"]


def test_many_chunks_are_counted() -> None:
    assert answer_lines(answer(list(range(1000)), count=5000))[1].endswith("18, 19 and 4,980 more")


def test_an_id_is_never_used_twice() -> None:
    assert len({new_request_id(NOW) for _ in range(50)}) == 50
    assert new_request_id(NOW).startswith("kubectl-20261122T120000Z-")
