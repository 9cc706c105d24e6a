from __future__ import annotations

import pytest

from gemini_stub import Scenario, Stub
from gemini_stub.scenario import Fate
from tests.unit.gemini_stub.calling import ask, call, text_body

BODY = text_body({1: "One."})


def test_a_key_is_registered_changed_and_forgotten_over_http(stub: Stub) -> None:
    path = "/stub/keys/job-1"
    assert ask(stub, "GET", path).status == 404
    assert ask(stub, "PUT", path, {"script": [{"fault": "cut", "page": 1}]}).status == 200
    assert call(stub, BODY, "job-1").finish == "MAX_TOKENS"
    assert ask(stub, "PUT", path, {}).status == 200
    assert call(stub, BODY, "job-1").finish == "STOP"
    counts = ask(stub, "GET", path).json
    assert (counts["requests"], counts["windows"], counts["faults"]) == (2, {"1": 1}, {"cut": 1, "none": 1})
    brief = ask(stub, "GET", f"{path}?brief").json
    assert brief == {name: value for name, value in counts.items() if name not in {"times", "recent"}}
    assert ask(stub, "DELETE", path).status == 200
    assert call(stub, BODY, "job-1").status == 400


@pytest.mark.parametrize(
    "scenario", [{"latency": 1}, {"rates": {"rate_limt": 1}}, {"script": [{"fault": "no"}]}, {"hints": ["x"]}]
)
def test_a_slip_of_the_pen_in_a_scenario_is_refused(stub: Stub, scenario: dict[str, object]) -> None:
    assert ask(stub, "PUT", "/stub/keys/key", scenario).status == 400


def test_keys_have_counts_of_their_own(stub: Stub) -> None:
    stub.register("other")
    call(stub, BODY)
    other = stub.counts("other")
    assert other is not None
    assert other["requests"] == 0


def test_random_faults_come_at_their_rate_and_the_same_again_with_the_same_seed() -> None:
    scenario = Scenario(seed=7, rates={"rate_limit": 0.2, "cut": 0.1})
    drawn = [Fate(scenario).choose(str(page), [page]) for page in range(2000)]
    assert drawn == [Fate(scenario).choose(str(page), [page]) for page in range(2000)]
    assert 0.17 < drawn.count("rate_limit") / 2000 < 0.23
    assert 0.08 < drawn.count("cut") / 2000 < 0.12


def test_a_window_asked_for_again_has_another_fate() -> None:
    fate = Fate(Scenario(rates={"cut": 0.5}))
    assert len({fate.choose("1-5", [1, 2, 3, 4, 5]) for _ in range(50)}) == 2


def test_it_says_that_it_is_healthy(stub: Stub) -> None:
    assert ask(stub, "GET", "/healthz").status == 200
