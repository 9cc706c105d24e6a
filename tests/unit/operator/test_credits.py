"""What a job does about its credit account, at each step of its life."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

import pytest

from pdfjob_api.conditions import ChunkPhase, JobCondition, JobPhase, Reason
from pdfjob_api.contract import Tokens
from pdfjob_api.creditaccount import (
    CreditAccount,
    CreditAccountRef,
    CreditAccountSpec,
    CreditAccountStatus,
    Reservation,
)
from pdfjob_api.jobstatus import Credits, LastRetry, PdfJobStatus
from pdfjob_api.meta import Condition, ObjectMeta
from pdfjob_api.pdfchunk import PdfChunk
from pdfjob_api.pdfjob import PdfJob, RetryRequest
from pdfjob_api.processing import CustomProcessor, LocalProcessor, Processor
from pdfjob_operator.actions import Book, CreateJob, Decision, DeleteChunks, ReadAdopted
from pdfjob_operator.bookings import Booking
from pdfjob_operator.credits import delivered
from pdfjob_operator.decide_chunk import reopened
from pdfjob_operator.observation import Facts, Merged
from pdfjob_operator.plan import merge_inputs
from tests.support.builders import JOB_UID, NOW, at, gemini_job, pdf_chunk, pdf_job, split_facts, succeeded
from tests.support.deciding import condition, decided, of_type, started, with_spec, with_status

REF: Final = CreditAccountRef(name="team", estimated_tokens=1000)


def account(balance: int = 5000, *entries: Reservation, charged: int = 0) -> CreditAccount:
    return CreditAccount(
        metadata=ObjectMeta(name="team", namespace="books", uid="account", generation=1),
        spec=CreditAccountSpec(balance=balance),
        status=CreditAccountStatus(reservations=list(entries), charged=charged),
    )


def entry(**values: Any) -> Reservation:
    return Reservation(**{"uid": JOB_UID, "job": "novel", "run": 1, "reserved": 1000, **values})


def paid_job(**spec: Any) -> PdfJob:
    return gemini_job(**{"credit_account_ref": REF, **spec})


def look(job: PdfJob, chunks: list[PdfChunk], bank: CreditAccount | None, *, tokens: int = 0, **known: Any) -> Decision:
    """Decide about a split document of five two-page chunks whose service has answered."""
    facts = split_facts(job, 10, 5, answered=True)
    return decided(job, chunks, facts, account=bank, delivered=tokens, **known)


def booked(decision: Decision) -> Booking | None:
    bookings = of_type(decision, Book)
    assert len(bookings) <= 1
    return bookings[0].booking if bookings else None


def chunks(count: int = 5) -> list[PdfChunk]:
    return [pdf_chunk(index) for index in range(count)]


def used(index: int, tokens: int, **result: Any) -> PdfChunk:
    return succeeded(index, tokens=Tokens(input=tokens), **result)


def test_the_estimate_is_reserved_before_the_first_chunk_starts() -> None:
    decision = look(paid_job(), chunks(), account())
    booking = booked(decision)
    assert booking is not None
    assert (booking.reserve, booking.run, booking.delivered, booking.end) == (1000, 1, 0, False)
    assert started(decision) == []
    assert started(look(paid_job(), chunks(), account(5000, entry()))) == [0, 1, 2, 3]


def test_without_a_number_of_the_user_the_estimate_of_the_text_is_reserved() -> None:
    job = with_status(paid_job(credit_account_ref=CreditAccountRef(name="team")), estimated_tokens=777)
    booking = booked(look(job, chunks(), account()))
    assert booking is not None
    assert booking.reserve == 777


def test_a_job_whose_account_has_too_little_waits_and_says_what_to_do() -> None:
    decision = look(paid_job(), chunks(), account(5000, entry(uid="other", reserved=4200)))
    told = condition(decision.status, JobCondition.CREDITS_RESERVED)
    assert (told.status, told.reason) == ("False", Reason.INSUFFICIENT_CREDITS)
    assert "1000 tokens" in told.message
    assert "800 available" in told.message
    assert "kubectl pdfjob credits team -n books --add 200" in told.message
    assert (booked(decision), started(decision)) == (None, [])
    assert decision.status is not None
    assert decision.status.current_step == "Waiting: InsufficientCredits"
    assert decision.status.phase is JobPhase.RUNNING


def test_a_job_whose_account_does_not_exist_waits_for_it() -> None:
    decision = look(paid_job(), chunks(), None)
    told = condition(decision.status, JobCondition.CREDITS_RESERVED)
    assert (told.status, told.reason) == ("False", Reason.CREDIT_ACCOUNT_NOT_FOUND)
    assert "kubectl pdfjob credits team -n books --create 1000" in told.message
    assert started(decision) == []


def test_a_job_that_needs_no_tokens_any_more_does_not_say_that_it_waits_for_them() -> None:
    held = look(paid_job(), chunks(), account(0)).status
    job = paid_job().model_copy(update={"status": held})
    found = [used(index, 0, cached=True) for index in range(5)]
    assert condition(look(job, found, account(0)).status, JobCondition.CREDITS_RESERVED).status == "Unknown"
    paused = with_spec(job, suspend=True)
    assert condition(look(paused, chunks(), account(0)).status, JobCondition.CREDITS_RESERVED).status == "Unknown"


def test_the_reservation_is_told() -> None:
    decision = look(paid_job(), chunks(), account(5000, entry(charged=30)))
    told = condition(decision.status, JobCondition.CREDITS_RESERVED)
    assert (told.status, told.reason) == ("True", Reason.TOKENS_RESERVED)
    assert decision.status is not None
    assert decision.status.credits == Credits(run=1, reserved=1000, charged=30)


def test_each_result_is_charged_when_it_is_there() -> None:
    own = [used(0, 120), *chunks()[1:]]
    booking = booked(look(paid_job(), own, account(5000, entry()), tokens=120))
    assert booking is not None
    assert (booking.delivered, booking.reserve, booking.end) == (120, 0, False)
    assert booked(look(paid_job(), own, account(5000, entry(charged=120, counted=120)), tokens=120)) is None


def test_a_job_that_has_used_up_its_reservation_reserves_for_what_is_left() -> None:
    own = [used(0, 600), used(1, 500), *chunks()[2:]]
    spent = entry(charged=1100, counted=1100)
    decision = look(paid_job(), own, account(5000, spent, charged=1100), tokens=1100)
    booking = booked(decision)
    assert booking is not None
    assert (booking.reserve, started(decision)) == (1100 + 600, [])
    poor = look(paid_job(), own, account(1600, spent, charged=1100), tokens=1100)
    assert condition(poor.status, JobCondition.CREDITS_RESERVED).reason == Reason.INSUFFICIENT_CREDITS
    assert started(poor) == []
    more = entry(reserved=1700, charged=1100, counted=1100)
    assert started(look(paid_job(), own, account(5000, more, charged=1100), tokens=1100)) == [2, 3, 4]


def test_what_is_in_the_cache_is_looked_for_before_anything_is_reserved() -> None:
    decision = look(paid_job(), chunks(), account(), caching=True)
    assert len(of_type(decision, ReadAdopted)) == 5
    assert (booked(decision), of_type(decision, CreateJob)) == (None, [])


def test_a_job_that_finds_all_its_results_reserves_nothing_and_is_not_held_up_by_an_empty_account() -> None:
    own = [used(index, 0, cached=True) for index in range(5)]
    decision = look(paid_job(), own, account(0))
    assert booked(decision) is None
    assert decision.status is not None
    assert JobCondition.CREDITS_RESERVED not in {item.type for item in decision.status.conditions}


def test_local_work_costs_nothing_and_reserves_only_what_the_user_names() -> None:
    job = pdf_job(processor=Processor(local=LocalProcessor()), credit_account_ref=CreditAccountRef(name="team"))
    assert started(look(job, chunks(), account(0))) == [0, 1, 2, 3]
    booking = booked(look(with_spec(job, credit_account_ref=REF), chunks(), account()))
    assert booking is not None
    assert booking.reserve == 1000


def test_a_custom_image_is_taken_to_read_and_write_the_text_once() -> None:
    processor = Processor(custom=CustomProcessor(image="mine:1"))
    job = pdf_job(processor=processor, credit_account_ref=CreditAccountRef(name="team"))
    booking = booked(look(job, chunks(), account(100_000)))
    assert booking is not None
    assert 10 * 650 < booking.reserve < 10 * 650 * 3


def test_a_job_without_an_account_does_not_ask_for_one() -> None:
    assert started(look(gemini_job(), chunks(), None)) == [0, 1, 2, 3]


@pytest.mark.parametrize("spec", [{"suspend": True}, {"shutdown": "Cancel"}])
def test_a_job_that_is_paused_or_ended_reserves_nothing(spec: dict[str, Any]) -> None:
    assert booked(look(paid_job(**spec), chunks(), account())) is None


def ended(job: PdfJob, **status: Any) -> PdfJob:
    item = Condition(type="Finished", status="True", reason="Completed", last_transition_time=at(0))
    known = {"phase": JobPhase.SUCCEEDED, "conditions": [item], "completion_time": at(0), **status}
    return job.model_copy(update={"status": PdfJobStatus(**known)})


def test_at_its_end_the_rest_goes_back_then_the_job_says_so_then_the_reservation_goes() -> None:
    job, own = ended(paid_job()), [used(index, 100) for index in range(5)]
    open_one, closed = entry(charged=400, counted=400), entry(charged=500, counted=500, settled=True)
    first = booked(look(job, own, account(5000, open_one), tokens=500))
    assert first is not None
    assert (first.delivered, first.end, first.remove) == (500, True, False)
    second = look(job, own, account(5000, closed), tokens=500)
    assert second.actions == ()
    assert second.status is not None
    assert second.status.credits == Credits(run=1, reserved=1000, charged=500, refunded=500)
    told = condition(second.status, JobCondition.CREDITS_SETTLED)
    assert (told.status, told.reason) == ("True", Reason.TOKENS_REFUNDED)
    assert "500 of the 1000 tokens" in told.message
    job = job.model_copy(update={"status": second.status})
    third = booked(look(job, own, account(5000, closed), tokens=500))
    assert third is not None
    assert third.remove
    assert booked(look(job, own, account(5000, charged=500), tokens=500)) is None


def test_what_a_job_held_in_an_account_that_is_gone_is_told_once() -> None:
    job = ended(paid_job(), credits=Credits(reserved=1000, charged=200))
    decision = look(job, [used(0, 200)], None, tokens=200)
    told = condition(decision.status, JobCondition.CREDITS_SETTLED)
    assert (told.status, told.reason) == ("False", Reason.CREDIT_ACCOUNT_NOT_FOUND)
    assert decision.status is not None
    again = look(job.model_copy(update={"status": decision.status}), [used(0, 200)], None, tokens=200)
    assert again.status is None or again.status.credits == decision.status.credits
    assert again.actions != ()  # it goes on with what else is left to do


def test_a_job_that_ends_without_a_reservation_says_that_nothing_was() -> None:
    decision = look(paid_job(shutdown="Cancel"), chunks(), account())
    assert condition(decision.status, JobCondition.FINISHED).status == "True"
    told = condition(decision.status, JobCondition.CREDITS_SETTLED)
    assert (told.status, told.message) == ("True", "nothing was reserved")


def test_a_retry_that_only_merges_reserves_nothing_and_says_so() -> None:
    known = Credits(run=2, charged_earlier=500)
    chunk_states = [used(index, 100) for index in range(5)]
    facts = split_facts(paid_job(), 10, 5, answered=True)
    merged = Merged((), (), merge_inputs(chunk.status for chunk in chunk_states))
    facts = replace(facts, merged=merged)
    job = with_status(paid_job(), credits=known)
    decision = decided(job, chunk_states, facts, account=account(5000, charged=500), delivered=500)
    assert booked(decision) is None
    assert condition(decision.status, JobCondition.FINISHED).status == "True"
    told = condition(decision.status, JobCondition.CREDITS_SETTLED)
    assert (told.status, told.message) == ("True", "nothing was reserved")
    assert decision.status is not None
    assert decision.status.credits == known


def test_a_deleted_job_gives_back_before_its_chunks_go() -> None:
    job = paid_job(shutdown=None).model_copy(update={"metadata": pdf_job(deleted=True).metadata})
    booking = booked(decided(job, [used(0, 120)], Facts(), account=account(5000, entry()), delivered=120))
    assert booking is not None
    assert (booking.delivered, booking.end, booking.remove) == (120, True, True)
    decision = decided(job, [used(0, 120)], Facts(recorded="s3://r"), account=account(), delivered=120)
    assert decision.actions == (DeleteChunks(),)


def test_a_retry_is_a_new_run() -> None:
    settled = Condition(type="CreditsSettled", status="True", reason="TokensRefunded", last_transition_time=at(0))
    finished = Condition(type="Finished", status="True", reason="Completed", last_transition_time=at(0))
    job = ended(
        paid_job(retry_request=RetryRequest(id="again", chunks=[0], force=True)),
        conditions=[finished, settled],
        credits=Credits(run=2, reserved=900, charged=300, refunded=600, charged_earlier=250),
    )
    decision = look(job, [used(index, 110) for index in range(5)], account(), tokens=550)
    assert decision.status is not None
    assert decision.status.credits == Credits(run=3, charged_earlier=550)
    assert condition(decision.status, JobCondition.CREDITS_SETTLED).status == "Unknown"
    job = job.model_copy(update={"status": decision.status})
    own = [with_status(used(0, 110), **reopened(used(0, 110), NOW).__dict__), *[used(n, 110) for n in range(1, 5)]]
    assert delivered(own) == 550
    reserves = booked(
        look(
            with_status(job, last_retry=LastRetry(id="again", message="Retrying 1 chunk", time=at(0))),
            own,
            account(),
            tokens=550,
        )
    )
    assert reserves is not None
    assert (reserves.run, reserves.reserve, reserves.paid) == (3, 200, 550)


def test_a_result_that_was_made_anew_has_cost_twice() -> None:
    chunk = used(0, 110)
    again = with_status(chunk, **reopened(chunk, NOW).__dict__)
    assert (again.status.phase, again.status.tokens_before, again.status.result) == (
        ChunkPhase.RETRY_SCHEDULED,
        110,
        None,
    )
    assert delivered([with_status(again, result=used(0, 130).status.result)]) == 240
