"""How a chunk comes back: raised limits, requests, results of an earlier life, probes of a common cause."""

from __future__ import annotations

from typing import Any

import pytest

from pdfjob_api.conditions import ChunkPhase, Reason
from pdfjob_api.errors import ChunkCode
from pdfjob_api.meta import LastError
from pdfjob_api.pdfchunk import PdfChunk
from pdfjob_api.pdfjob import RetryPolicy
from pdfjob_operator.actions import ReadAdopted, ReadEnd, WriteChunk
from pdfjob_operator.chunk_end import cancelled
from pdfjob_operator.intent import Intent
from pdfjob_operator.observation import EndFacts, Merged
from tests.support.builders import NOW, at, pdf_chunk, pdf_job, plan_of, raw_job, raw_pod, terminated
from tests.support.deciding import NOTHING, RESULT, chunk_decided, of_type, record, with_spec, written

ERROR = LastError(code="API_ERROR", message="503")
AN_EARLIER_LIFE = {"plan": plan_of(pdf_job(), 2, adopted=["11112222"])}


def used_up(*, final: bool = False, **status: Any) -> PdfChunk:
    history = [record(4, "API_ERROR", final=final)]
    values = {"phase": ChunkPhase.FAILED, "attempts": 4, "starts": 4, "last_error": ERROR, "history": history}
    return pdf_chunk(0, **{**values, **status})


def failed_with(code: int, start: int = 1) -> list[dict[str, Any]]:
    return [raw_job(start=start), raw_pod(terminated(code), start=start, phase="Failed")]


def test_a_raised_limit_brings_a_failed_chunk_back() -> None:
    assert chunk_decided(used_up()).actions == ()
    status = written(chunk_decided(used_up(), job=pdf_job(retry_policy=RetryPolicy(max_retries=4))))
    assert (status.phase, status.attempts, status.next_retry_time) == (ChunkPhase.RETRY_SCHEDULED, 4, None)
    own = with_spec(used_up(), max_retries=4)
    assert written(chunk_decided(own)).phase is ChunkPhase.RETRY_SCHEDULED


@pytest.mark.parametrize(
    "chunk", [used_up(final=True), used_up(history=[])], ids=["error no start heals", "no start known"]
)
def test_what_no_start_can_heal_stays_failed(chunk: PdfChunk) -> None:
    assert chunk_decided(chunk, job=pdf_job(retry_policy=RetryPolicy(max_retries=9))).actions == ()


def test_after_the_merge_only_a_request_brings_it_back() -> None:
    job = pdf_job(retry_policy=RetryPolicy(max_retries=9))
    assert chunk_decided(used_up(), job=job, facts={"merged": Merged((), (), "x")}).actions == ()


@pytest.mark.parametrize("intent", [Intent.SUSPEND, Intent.STOP, Intent.CANCEL, Intent.TIME_OUT])
def test_nor_does_it_come_back_in_a_job_that_does_not_run(intent: Intent) -> None:
    job = pdf_job(retry_policy=RetryPolicy(max_retries=9))
    assert chunk_decided(used_up(), job=job, intent=intent).status is None


def test_a_chunk_forced_beyond_its_limit_has_one_more_start() -> None:
    again = used_up(phase=ChunkPhase.RETRY_SCHEDULED)
    create = chunk_decided(again).create
    assert create is not None
    assert create.start == 5
    status = written(chunk_decided(again, *failed_with(71, start=5), end=NOTHING))
    assert (status.phase, status.attempts) == (ChunkPhase.FAILED, 5)


def test_a_forced_start_that_is_lost_or_paused_is_not_its_last() -> None:
    again = used_up(phase=ChunkPhase.RETRY_SCHEDULED)
    lost = written(chunk_decided(again, *failed_with(75, start=5), end=NOTHING))
    assert (lost.phase, lost.attempts) == (ChunkPhase.RETRY_SCHEDULED, 4)


def test_the_last_error_stays_over_a_pause_and_goes_with_success() -> None:
    paused = pdf_chunk(0, starts=2, ending={"start": 2, "reason": "Suspended"}, last_error=ERROR, history=[record(1)])
    assert written(chunk_decided(paused, end=NOTHING)).last_error == ERROR
    assert written(chunk_decided(paused, end=EndFacts(RESULT, None, 2))).last_error is None


def test_when_a_start_began_is_known_though_only_its_end_was_seen() -> None:
    status = written(chunk_decided(pdf_chunk(0), *failed_with(71), end=NOTHING))
    assert (status.started_at, status.history[-1].started_at) == (at(-10), at(-10))
    gone = pdf_chunk(0, phase=ChunkPhase.RUNNING, attempts=1, starts=1, started_at=at(-99))
    assert written(chunk_decided(gone, end=NOTHING)).history[-1].started_at == at(-99)


def test_a_chunk_that_is_processed_again_does_not_count_on_earlier_pages() -> None:
    """Pages that starts up to `freshAfter` saved are not used, so the first one saved again is new."""
    history = [record(1, items=2)]
    fresh = pdf_chunk(0, phase=ChunkPhase.RUNNING, attempts=1, starts=2, history=history, fresh_after=1)
    later = pdf_chunk(0, phase=ChunkPhase.RUNNING, attempts=1, starts=2, history=history)
    end = EndFacts(None, None, 1)
    timeout = failed_with(76, start=2)
    assert written(chunk_decided(fresh, *timeout, end=end)).history[-1].counted is False
    assert written(chunk_decided(fresh, *timeout, end=end)).history[-1].items == 1
    assert written(chunk_decided(later, *timeout, end=end)).history[-1].counted is True


def test_a_result_of_an_earlier_life_is_looked_for_before_the_first_start() -> None:
    chunk = pdf_chunk(0)
    decision = chunk_decided(chunk, facts=AN_EARLIER_LIFE)
    assert (decision.actions, decision.create) == ((ReadAdopted(chunk),), None)


def test_a_result_of_an_earlier_life_is_this_ones() -> None:
    status = written(chunk_decided(pdf_chunk(0), facts={**AN_EARLIER_LIFE, "adopted": {"chunk-0": RESULT}}))
    assert (status.phase, status.attempts, status.starts, status.result) == (ChunkPhase.SUCCEEDED, 1, 0, RESULT)
    assert status.processed_at == at(0)


def test_without_one_the_chunk_starts() -> None:
    decision = chunk_decided(pdf_chunk(0), facts={**AN_EARLIER_LIFE, "adopted": {"chunk-0": None}})
    assert decision.actions == ()
    assert decision.create is not None


@pytest.mark.parametrize(
    "chunk",
    [
        pdf_chunk(0, starts=1, history=[record(1)]),
        pdf_chunk(0, phase=ChunkPhase.RETRY_SCHEDULED, fresh_after=1),
        pdf_chunk(0, fresh_after=1),
    ],
    ids=["started before", "to be processed again", "to be processed again and cancelled"],
)
def test_a_chunk_that_has_begun_in_this_life_adopts_nothing(chunk: PdfChunk) -> None:
    decision = chunk_decided(chunk, facts={**AN_EARLIER_LIFE, "adopted": {"chunk-0": RESULT}})
    assert (decision.actions, decision.create is not None) == ((), True)


def test_a_clean_start_looks_for_nothing() -> None:
    assert chunk_decided(pdf_chunk(0)).actions == ()


@pytest.mark.parametrize(
    ("code", "error", "held", "counted"),
    [
        (71, "API_ERROR", None, True),
        (71, "API_ERROR", ChunkCode.API_ERROR, False),
        (74, "STORAGE_ERROR", ChunkCode.API_ERROR, True),
        (73, "AUTH_ERROR", None, False),
        (72, "RATE_LIMIT", None, False),
    ],
)
def test_a_probe_that_meets_the_common_cause_again_burns_no_attempt(
    code: int, error: str, held: ChunkCode | None, *, counted: bool
) -> None:
    status = written(chunk_decided(pdf_chunk(0), *failed_with(code), end=NOTHING, held=held))
    assert (status.attempts, status.history[-1].counted, status.history[-1].code) == (int(counted), counted, error)
    assert status.phase is ChunkPhase.RETRY_SCHEDULED


def test_even_the_last_attempt_is_not_burnt_by_a_probe() -> None:
    chunk = pdf_chunk(0, phase=ChunkPhase.RUNNING, attempts=4, starts=1)
    assert written(chunk_decided(chunk, *failed_with(71), end=NOTHING)).phase is ChunkPhase.FAILED
    status = written(chunk_decided(chunk, *failed_with(71), end=NOTHING, held=ChunkCode.API_ERROR))
    assert (status.phase, status.attempts) == (ChunkPhase.RETRY_SCHEDULED, 3)


@pytest.mark.parametrize(("before", "least", "most"), [(0, 8, 10), (1, 16, 20), (4, 128, 160), (9, 240, 300)])
def test_what_is_not_counted_waits_longer_each_time_in_a_row(before: int, least: int, most: int) -> None:
    history = [record(start, ChunkCode.AUTH_ERROR, counted=False) for start in range(1, before + 1)]
    chunk = pdf_chunk(0, phase=ChunkPhase.RETRY_SCHEDULED, starts=before, history=history)
    status = written(chunk_decided(chunk, *failed_with(73, start=before + 1), end=NOTHING))
    assert status.next_retry_time is not None
    assert at(least) <= status.next_retry_time <= at(most)


def test_what_is_counted_waits_by_its_attempts_whatever_their_causes() -> None:
    chunk = pdf_chunk(0, phase=ChunkPhase.RUNNING, attempts=3, starts=3, history=[record(2, ChunkCode.TIMEOUT)])
    status = written(chunk_decided(chunk, *failed_with(71, start=3), end=NOTHING))
    assert status.next_retry_time is not None
    assert at(32) <= status.next_retry_time <= at(40)


def test_a_row_of_such_failures_ends_with_another_cause() -> None:
    history = [record(1, ChunkCode.AUTH_ERROR, counted=False), record(2, ChunkCode.TIMEOUT)]
    chunk = pdf_chunk(0, phase=ChunkPhase.RETRY_SCHEDULED, starts=2, attempts=1, history=history)
    status = written(chunk_decided(chunk, *failed_with(73, start=3), end=NOTHING))
    assert status.next_retry_time is not None
    assert status.next_retry_time <= at(10)


def test_the_start_that_failed_is_named_for_its_record_and_others_are_not() -> None:
    (failed,) = of_type(chunk_decided(pdf_chunk(0), *failed_with(71), end=NOTHING), WriteChunk)
    assert failed.ended is not None
    assert failed.ended.number == 1
    good = raw_job(), raw_pod(terminated(0), phase="Succeeded")
    (done,) = of_type(chunk_decided(pdf_chunk(0), *good, end=EndFacts(RESULT, None, 2)), WriteChunk)
    assert (done.ended, done.event) == (None, None)


@pytest.mark.parametrize(
    ("code", "reason", "words"),
    [
        (71, Reason.CHUNK_RETRY, "chunk 0 (pages 1-2) failed, retry 1 at 2026-"),
        (73, Reason.CHUNK_RETRY, "chunk 0 (pages 1-2) failed, tried again at"),
        (75, Reason.CHUNK_RESTARTED, "chunk 0 (pages 1-2) starts again from its checkpoint"),
    ],
)
def test_each_end_that_is_not_the_last_is_told(code: int, reason: Reason, words: str) -> None:
    (write,) = of_type(chunk_decided(pdf_chunk(0), *failed_with(code), end=NOTHING), WriteChunk)
    assert write.event is not None
    assert write.event[1] is reason
    assert write.event[2].startswith(words)


def test_an_end_of_our_own_is_no_event_of_its_own() -> None:
    chunk = pdf_chunk(0, phase=ChunkPhase.RUNNING, attempts=1, starts=1, ending={"start": 1, "reason": "Suspended"})
    (write,) = of_type(chunk_decided(chunk, end=NOTHING), WriteChunk)
    assert (write.event, write.ended) == (None, None)


@pytest.mark.parametrize(
    ("phase", "attempts", "left"),
    [(ChunkPhase.RUNNING, 3, 2), (ChunkPhase.RETRY_SCHEDULED, 3, 3), (ChunkPhase.PENDING, 0, 0)],
)
def test_a_chunk_whose_job_ended_without_it_keeps_its_failures(phase: ChunkPhase, attempts: int, left: int) -> None:
    chunk = pdf_chunk(0, phase=phase, attempts=attempts, starts=3, next_retry_time=at(5), last_error=ERROR)
    status = cancelled(chunk, NOW)
    assert (status.phase, status.attempts, status.starts) == (ChunkPhase.CANCELLED, left, 3)
    assert (status.next_retry_time, status.ending, status.last_error) == (None, None, ERROR)


def test_the_end_of_a_start_is_read_although_a_result_of_an_earlier_life_may_be_there() -> None:
    chunk = pdf_chunk(0)
    decision = chunk_decided(chunk, *failed_with(71), facts=AN_EARLIER_LIFE)
    assert decision.actions == (ReadEnd(chunk, 1),)
