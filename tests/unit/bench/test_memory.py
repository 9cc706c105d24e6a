"""How the soak tells flat memory from growing memory although every process is killed after a minute."""

from __future__ import annotations

from bench.soaking.memory import flatness, life_figures
from bench.soaking.operator import Look

MIB = 2**20
LIVE, KEPT = 8, 16


def life(number: int, resident: float, *, live: int = LIVE, kept: int = KEPT, until: int = 60) -> list[Look]:
    """Return looks at one process, each second; while it starts it is small."""
    born = 1000.0 + 70 * number
    return [
        Look(born + age, born, resident * MIB if age >= 30 else 1.0 * MIB, live, kept) for age in range(1, until + 1)
    ]


def run(sizes: list[float]) -> list[Look]:
    return [look for number, size in enumerate(sizes) for look in life(number, size)]


def figures(looks: list[Look]) -> list[float]:
    return [size / MIB for size in life_figures(looks, life_seconds=60, live=LIVE, kept=KEPT)]


def test_the_figure_of_a_life_is_that_of_its_second_half() -> None:
    assert figures(run([100, 110])) == [100, 110]


def test_lives_with_fewer_jobs_do_not_count() -> None:
    assert figures([*life(0, 50, live=3), *life(1, 60, kept=2), *life(2, 100)]) == [100]


def test_a_life_that_ended_early_does_not_count() -> None:
    assert figures([*life(0, 100, until=33), *life(1, 110)]) == [110]


def test_the_first_tenth_is_compared_with_the_last() -> None:
    found = flatness(run([100, 100, *[500] * 16, 104, 106]), life_seconds=60, live=LIVE, kept=KEPT)
    assert found is not None
    assert (found.first / MIB, found.last / MIB) == (100, 105)
    assert abs(found.change - 0.05) < 1e-9
    assert found.highest == 500 * MIB


def test_growth_shows() -> None:
    found = flatness(run([100 + number for number in range(20)]), life_seconds=60, live=LIVE, kept=KEPT)
    assert found is not None
    assert found.change > 0.10


def test_too_few_lives_say_nothing() -> None:
    assert flatness(run([100, 100, 100]), life_seconds=60, live=LIVE, kept=KEPT) is None
