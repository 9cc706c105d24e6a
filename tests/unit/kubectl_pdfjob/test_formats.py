"""Times, sizes and counts as text."""

from __future__ import annotations

import pytest

from kubectl_pdfjob.formats import ago as age
from kubectl_pdfjob.formats import byte_size, clock, counted, duration, parse_duration

from .builders import NOW, ago


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-3, "0s"),
        (0, "0s"),
        (119.9, "119s"),
        (120, "2m"),
        (200, "3m20s"),
        (600, "10m"),
        (10799, "179m"),
        (10800, "3h"),
        (18600, "5h10m"),
        (28800, "8h"),
        (172800, "2d"),
        (180000, "2d2h"),
        (864000, "10d"),
    ],
)
def test_a_duration_is_written_as_kubectl_writes_ages(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90", 90), ("90s", 90), ("1.5m", 90), ("1h30m", 5400), ("5x", None), ("", None), ("-5s", None)],
)
def test_a_duration_is_read(text: str, seconds: float | None) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1200, "1.2 kB"),
        (34_000_000, "34 MB"),
        (2_500_000_000, "2.5 GB"),
        (10**13, "10.0 TB"),
    ],
)
def test_a_size_has_the_unit_that_suits_it(size: int, text: str) -> None:
    assert byte_size(size) == text


def test_absent_and_odd_times_are_dashes() -> None:
    assert (age(None, NOW), age("yesterday", NOW), clock(None)) == ("-", "-", "-")
    assert age(ago(5), NOW) == "5s"
    assert clock("2026-11-22T13:00:05+01:00") == "2026-11-22 12:00:05 UTC"


def test_a_noun_agrees_with_its_number() -> None:
    assert [counted(n, "retry", "retries") for n in (0, 1, 2)] == ["0 retries", "1 retry", "2 retries"]
    assert counted(12_345, "sentence") == "12,345 sentences"
