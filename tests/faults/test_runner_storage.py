"""The object store answers runner pods badly: what heals within a start costs no further start."""

from __future__ import annotations

from typing import Final

import pytest

from tests.support.fault_effects import Gate, answer, cut, lose_answer, slow
from tests.support.fault_lab import Lab
from tests.support.fault_proxy import Effect, Rule, matches
from tests.support.fault_requests import RUNNER, S3
from tests.support.fault_verdict import Reference, verdict

QUICK: Final = {"backoff": {"initialSeconds": 1, "maxSeconds": 1}}
SLOW: Final = {"env": [{"name": "RUNNER_THROTTLE_SECONDS_PER_PAGE", "value": "1"}]}
EFFECTS: Final[dict[str, Effect]] = {
    "409": answer(409),
    "429": answer(429),
    "500": answer(500),
    "503": answer(503),
    "connection cut": cut(),
    "answer lost": lose_answer(),
    "slow": slow(2),
}
POINTS: Final = {"get chunk": "its PDF", "put chunk_result": "its result"}
RUNS: Final = [
    pytest.param(
        point,
        effect,
        id=f"{point.replace(' ', '-')}-{effect.replace(' ', '-')}",
        marks=pytest.mark.fault(f"S3 to a runner, {POINTS[point]}: {effect}", "run"),
    )
    for point in POINTS
    for effect in EFFECTS
]


@pytest.mark.parametrize(("point", "effect"), RUNS)
def test_store_answers_a_runner_badly_twice(point: str, effect: str, lab: Lab, reference: Reference) -> None:
    rule = Rule(matches(point, caller=RUNNER, name="c00001"), EFFECTS[effect], times=2)
    with lab.proxy.rule(rule):
        verdict(lab, lab.submit(), reference)
    assert rule.hits > 0


@pytest.mark.fault("S3 refuses a runner its PDF once", "run")
def test_store_refuses_a_runner_once(lab: Lab, reference: Reference) -> None:
    with lab.proxy.rule(Rule(matches("get chunk", caller=RUNNER, name="c00001"), answer(403))):
        verdict(lab, lab.submit(retryPolicy=QUICK), reference, starts={1: 2})


@pytest.mark.worst
@pytest.mark.fault("S3 away from all runners until every chunk has failed once", "run")
def test_store_away_from_all_runners(lab: Lab, reference: Reference) -> None:
    """All runners together lose the store for longer than they try: each chunk starts once more."""
    gate = Gate()
    away = Rule(lambda request: request.server == S3 and request.caller == RUNNER, gate.cut(), times=None)
    with lab.hold(away, gate):
        job = lab.submit(retryPolicy=QUICK, runner=SLOW)
        lab.wait(job.all_running, "every chunk runs, so that they fail together")
        gate.released.set()
        lab.wait(lambda: all(chunk["status"].get("history") for chunk in job.chunks()), "every chunk has failed once")
    lab.wait(job.finished, "it has ended", 240)
    starts = {index: chunk["status"]["starts"] for index, chunk in enumerate(job.chunks())}
    verdict(lab, job, reference, starts=starts)
    assert all(1 < number <= 4 for number in starts.values()), starts
