"""What a job costs the API server when nothing goes wrong (design, section 4, "Writes")."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta

import pytest

from pdfjob_api.conditions import JobPhase
from tests.support.peace import Peace
from tests.support.simulated_operator import SimulatedOperator
from tests.support.world import World


@pytest.mark.parametrize(("chunks", "parallelism"), [(1, 1), (6, 2), (12, 12)])
def test_a_chunk_costs_at_most_five_writes(chunks: int, parallelism: int) -> None:
    world = World(chunks=chunks, parallelism=parallelism)
    peace = Peace(world, SimulatedOperator(world))
    peace.until_finished()
    job = peace.job()
    assert job is not None
    assert job.status.phase is JobPhase.SUCCEEDED
    assert job.status.retries == 0
    peace.until_quiet()
    writes = Counter(world.writes)
    assert writes["create", "pdfchunks"] == writes["create", "jobs"] == writes["delete", "jobs"] == chunks
    assert writes["status", "pdfchunks"] <= 2 * chunks
    assert writes["finalizers", "pdfjobs"] == 1


def test_a_job_that_waits_for_its_pods_costs_nothing() -> None:
    world = World(chunks=3, parallelism=3)
    operator = SimulatedOperator(world)
    peace = Peace(world, operator)
    while len(world.running()) < 3:
        assert peace.round()
    for _ in range(30):  # what was under way settles, the runners do not get on
        operator.reconcile()
        world.now += timedelta(seconds=1)
    before = list(world.writes)
    for _ in range(100):
        operator.reconcile()
        world.now += timedelta(seconds=20)
    assert world.writes == before
