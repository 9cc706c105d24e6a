"""How many chunks a job may have in flight, by how its starts ended: rate limits and common causes."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pdfjob_api.conditions import ChunkPhase
from pdfjob_api.errors import ChunkCode
from pdfjob_api.jobstatus import LastRetry, PdfJobStatus
from pdfjob_api.pdfchunk import ChunkRetry, Outcome, PdfChunkStatus, StartRecord
from pdfjob_api.pdfjob import Backoff, PdfJob, RetryPolicy
from pdfjob_operator.clock import from_wire
from pdfjob_operator.throttle import COMMON, Throttle, throttle_of
from tests.support.builders import NOW, at, pdf_job
from tests.support.deciding import record

AUTH = ChunkCode.AUTH_ERROR
LIMIT = ChunkCode.RATE_LIMIT


def ended(code: ChunkCode | str | None, finished: float, *, start: int = 1, began: float | None = None) -> StartRecord:
    return record(start, code, finished=finished, began=began)


def done(finished: float, *, start: int = 1) -> StartRecord:
    return record(start, outcome=Outcome.SUCCEEDED, finished=finished)


def chunks_of(*histories: list[StartRecord], **status: Any) -> dict[int, PdfChunkStatus]:
    return {
        index: PdfChunkStatus(phase=ChunkPhase.RETRY_SCHEDULED, history=history, **status)
        for index, history in enumerate(histories)
    }


def throttled(job: PdfJob, *histories: list[StartRecord]) -> Throttle:
    return throttle_of(job, chunks_of(*histories))


def same_cause(count: int, code: ChunkCode | str = AUTH) -> list[list[StartRecord]]:
    return [[ended(code, at_second)] for at_second in range(count)]


@pytest.mark.parametrize("code", sorted(COMMON))
def test_a_cause_outside_the_document_holds_the_job_after_three_in_a_row(code: str) -> None:
    job = pdf_job(parallelism=3)
    assert throttled(job, *same_cause(2, code), []).held is None
    throttle = throttled(job, *same_cause(3, code))
    assert (throttle.held, throttle.parallelism) == (code, 1)


@pytest.mark.parametrize("code", sorted(set(ChunkCode) - {ChunkCode(code) for code in COMMON}))
def test_a_cause_in_the_document_never_does(code: ChunkCode) -> None:
    assert throttled(pdf_job(parallelism=3), *same_cause(9, code)) == Throttle(3)


@pytest.mark.parametrize(
    ("parallelism", "chunks", "enough"), [(1, 1, 3), (1, 50, 3), (3, 50, 3), (4, 50, 4), (8, 50, 8), (50, 6, 6)]
)
def test_the_hold_needs_as_many_as_may_be_in_flight_at_once(parallelism: int, chunks: int, enough: int) -> None:
    job = pdf_job(parallelism=parallelism)
    failures = [ended(AUTH, second, start=second + 1) for second in range(enough)]

    def spread(records: list[StartRecord]) -> list[list[StartRecord]]:
        return [records[index::chunks] for index in range(chunks)]

    assert throttled(job, *spread(failures[:-1])).held is None
    assert throttled(job, *spread(failures)).held is AUTH


def test_a_row_of_another_cause_after_common_ones_holds_nothing() -> None:
    later = [[ended(ChunkCode.TIMEOUT, second)] for second in range(10, 14)]
    assert throttled(pdf_job(parallelism=3), *same_cause(3), *later).held is None


def test_another_cause_between_breaks_the_row() -> None:
    histories = [[ended(AUTH, 0)], [ended(ChunkCode.API_ERROR, 1)], [ended(AUTH, 2)], [ended(AUTH, 3)]]
    assert throttled(pdf_job(parallelism=3), *histories).held is None


def test_a_success_breaks_the_hold() -> None:
    job = pdf_job(parallelism=3)
    assert throttled(job, *same_cause(3), [done(3)]).held is None
    at_once = [[ended(AUTH, 2)] for _ in range(3)]
    assert throttled(job, *at_once).held is AUTH
    assert throttled(job, *at_once, [done(2)]).held is None, "in the same second it counts as the later"
    assert throttled(job, *same_cause(3), [done(-1)]).held is AUTH, "what succeeded before the row says nothing"


@pytest.mark.parametrize("outcome", [Outcome.LOST, Outcome.ENDED])
def test_a_start_that_was_lost_or_ended_by_us_says_nothing(outcome: Outcome) -> None:
    job = pdf_job(parallelism=3)
    silent = record(2, outcome=outcome, counted=False, finished=9)
    assert throttled(job, *same_cause(3), [silent]).held is AUTH
    assert throttled(job, *same_cause(2), [silent]).held is None


def test_an_end_without_a_time_says_nothing() -> None:
    assert throttled(pdf_job(parallelism=3), *same_cause(2), [record(1, AUTH)]).held is None


def probes(failures: int) -> float:
    """Return the seconds from the last failure to the next probe, with so many failures in all."""
    job = pdf_job(parallelism=3, retry_policy=RetryPolicy(backoff=Backoff(initial_seconds=10, factor=2)))
    throttle = throttled(job, *same_cause(failures))
    assert throttle.probe_at is not None
    return (throttle.probe_at - NOW - timedelta(seconds=failures - 1)).total_seconds()


@pytest.mark.parametrize(("failures", "least", "most"), [(3, 8, 10), (4, 16, 20), (5, 32, 40), (12, 240, 300)])
def test_the_time_of_the_next_probe_grows_with_each_that_fails(failures: int, least: float, most: float) -> None:
    assert least <= probes(failures) <= most


def test_the_probe_of_a_job_is_at_the_same_time_whenever_it_is_asked() -> None:
    job = pdf_job(parallelism=3)
    assert throttled(job, *same_cause(4)) == throttled(job, *same_cause(4))


@pytest.mark.parametrize(("answered", "held"), [(1, AUTH), (2, None), (60, None)])
@pytest.mark.parametrize("taken", [0, 3])
def test_a_retry_request_forgives_what_failed_before_it(answered: float, held: ChunkCode | None, taken: int) -> None:
    answer = LastRetry(id="x", message="m", retried_count=taken, time=at(answered))
    job = pdf_job(PdfJobStatus(last_retry=answer), parallelism=3)
    histories = [[ended(AUTH, 2)], [ended(AUTH, 2)], [ended(AUTH, 2)]]
    assert throttled(job, *histories).held is held


@pytest.mark.parametrize(("accepted", "held"), [(True, None), (False, AUTH)])
def test_so_does_the_request_of_one_chunk_if_it_is_taken(held: ChunkCode | None, *, accepted: bool) -> None:
    chunks = chunks_of(*same_cause(3))
    answer = ChunkRetry(id="x", accepted=accepted, time=at(30))
    chunks[1] = chunks[1].model_copy(update={"last_retry": answer})
    assert throttle_of(pdf_job(parallelism=3), chunks).held is held


def test_one_rate_limit_halves_the_parallelism() -> None:
    assert throttled(pdf_job(parallelism=8), [ended(LIMIT, 0)], []) == Throttle(4)


def test_all_that_were_under_way_then_halve_it_once_and_a_later_start_again() -> None:
    job = pdf_job(parallelism=8)
    wave = [[ended(LIMIT, second, began=-20)] for second in range(4)]
    assert throttled(job, *wave, [], [], [], []).parallelism == 4
    later = [ended(LIMIT, 50, began=40)]
    assert throttled(job, *wave, later, [], [], []).parallelism == 2


@pytest.mark.parametrize(("waves", "parallelism"), [(1, 4), (2, 2), (3, 1), (7, 1)])
def test_each_wave_halves_it_again_but_never_below_one(waves: int, parallelism: int) -> None:
    histories = [[ended(LIMIT, 10 * wave, began=10 * wave - 5)] for wave in range(waves)]
    throttle = throttled(pdf_job(parallelism=8), *histories, *([] for _ in range(8)))
    assert throttle == Throttle(parallelism)


def test_a_start_of_the_very_second_of_the_cut_belongs_to_the_wave() -> None:
    histories = [[ended(LIMIT, 10, began=0)], [ended(LIMIT, 20, began=10)], [], [], [], []]
    assert throttled(pdf_job(parallelism=8), *histories).parallelism == 4


def test_what_succeeded_before_the_rate_limit_gives_nothing_back() -> None:
    before = [[done(second)] for second in range(12)]
    assert throttled(pdf_job(parallelism=8), [ended(LIMIT, 20)], *before).parallelism == 4


@pytest.mark.parametrize(("successes", "parallelism"), [(0, 4), (3, 4), (5, 5), (10, 6), (40, 8)])
def test_successes_grow_it_back_to_the_spec_and_not_beyond(successes: int, parallelism: int) -> None:
    """From 4: each success gives back one divided by what is allowed, so about a round of chunks gives back one."""
    histories = [[ended(LIMIT, 0)], *([done(second)] for second in range(1, successes + 1))]
    assert throttled(pdf_job(parallelism=8), *histories).parallelism == parallelism


def test_other_failures_change_nothing() -> None:
    job = pdf_job(parallelism=8)
    assert throttled(job, [ended(LIMIT, 0)], [ended(ChunkCode.TIMEOUT, 1)], [ended(AUTH, 2)]).parallelism == 4


def test_a_job_that_never_failed_so_has_all_its_parallelism() -> None:
    assert throttled(pdf_job(parallelism=7), [done(0)], []) == Throttle(7)
    assert throttle_of(pdf_job(parallelism=7), {}) == Throttle(7)


records = st.builds(
    lambda code, finished, lasted, start: (
        done(finished, start=start) if code is None else ended(code, finished, start=start, began=finished - lasted)
    ),
    st.sampled_from([None, LIMIT, AUTH, ChunkCode.TIMEOUT, ChunkCode.API_ERROR]),
    st.integers(0, 60),
    st.integers(0, 30),
    st.integers(1, 9),
)


@given(st.lists(st.lists(records, max_size=6), max_size=12), st.integers(1, 20))
def test_whatever_happened_it_stays_between_one_and_the_spec(
    histories: list[list[StartRecord]], parallelism: int
) -> None:
    throttle = throttled(pdf_job(parallelism=parallelism), *histories)
    assert 1 <= throttle.parallelism <= parallelism
    assert (throttle.held is None) == (throttle.probe_at is None)
    if throttle.held is not None and throttle.probe_at is not None:
        last = max(from_wire(item.finished_at) for history in histories for item in history if item.finished_at)
        assert throttle.probe_at > last
        assert throttle.parallelism == 1
