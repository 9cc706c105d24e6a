"""An operator whose CRDs were left behind: the API server drops the fields it does not know, and the job still ends."""

from __future__ import annotations

from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any, Final

import pytest
import yaml
from typing_extensions import override

from pdfjob_api.conditions import JobPhase
from tests.support.api_server import Raw
from tests.support.peace import Peace
from tests.support.simulated_operator import SimulatedOperator
from tests.support.world import World

CRDS: Final = Path(__file__).parents[2] / "fixtures" / "crds-0.1"


@cache
def schema(plural: str) -> dict[str, Any]:
    crd = yaml.safe_load((CRDS / f"pdfjob.dev_{plural}.yaml").read_text(encoding="utf-8"))
    found: dict[str, Any] = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    return found


def pruned(value: Any, known: dict[str, Any]) -> Any:
    """Drop what a structural schema does not name, as the API server does."""
    if known.get("x-kubernetes-preserve-unknown-fields"):
        return value
    if isinstance(value, list):
        return [pruned(item, known.get("items", {})) for item in value]
    if not isinstance(value, dict):
        return value
    if "properties" in known:
        fields = known["properties"]
        return {name: pruned(item, fields[name]) for name, item in value.items() if name in fields}
    others = known.get("additionalProperties")
    return {name: pruned(item, others) for name, item in value.items()} if isinstance(others, dict) else value


class OlderWorld(World):
    """A world whose API server has the CRDs of 0.1."""

    @override
    def _write(self, plural: str, raw: Raw, kind: str) -> Raw:
        if plural in {"pdfjobs", "pdfchunks"}:
            known = schema(plural)["properties"]
            raw = {**raw, **{part: pruned(raw[part], known[part]) for part in ("spec", "status") if part in raw}}
        return super()._write(plural, raw, kind)


@pytest.mark.parametrize("chunks", [1, 6])
def test_a_job_ends_under_the_crds_of_0_1_and_nothing_is_written_for_ever(chunks: int) -> None:
    world = OlderWorld(chunks=chunks, parallelism=2)
    peace = Peace(world, SimulatedOperator(world))
    peace.until_finished()
    job = peace.job()
    assert job is not None
    assert job.status.phase is JobPhase.SUCCEEDED
    peace.until_quiet()
    writes = Counter(world.writes)
    assert writes["create", "jobs"] == writes["delete", "jobs"] == chunks
    assert writes["status", "pdfchunks"] <= 3 * chunks
    peace.until_quiet()
    assert Counter(world.writes) == writes
