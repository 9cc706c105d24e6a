"""The arithmetic of a credit account: nothing is booked twice, nothing is lost, whatever comes in whatever order."""

from __future__ import annotations

from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pdfjob_api.creditaccount import (
    MAX_RESERVATIONS,
    CreditAccount,
    CreditAccountSpec,
    CreditAccountStatus,
    Reservation,
)
from pdfjob_api.meta import ObjectMeta
from pdfjob_operator.bookings import Booking, available, book, entry_of, orphaned, reservation_of

META: Final = ObjectMeta(name="team", namespace="books", uid="account", resource_version="3", generation=4)


def account(balance: int, *entries: Reservation, **status: Any) -> CreditAccount:
    known = CreditAccountStatus(reservations=list(entries), **status)
    return CreditAccount(metadata=META, spec=CreditAccountSpec(balance=balance), status=known)


def after(first: CreditAccount, *bookings: Booking) -> CreditAccount:
    """Book one after the other, each in a write of its own."""
    for booking in bookings:
        first = first.model_copy(update={"status": book(first, [booking])})
    return first


def booking(uid: str = "a", **values: Any) -> Booking:
    return Booking(**{"uid": uid, "job": f"job-{uid}", "run": 1, "delivered": 0, **values})


def test_a_job_reserves_is_charged_and_gets_the_rest_back() -> None:
    status = after(account(1000), booking(reserve=300)).status
    assert (status.available, status.reserved, status.charged, status.open_reservations) == (700, 300, 0, 1)
    status = after(account(1000), booking(reserve=300), booking(delivered=120)).status
    assert (status.available, status.reserved, status.charged) == (700, 180, 120)
    status = after(account(1000), booking(reserve=300), booking(delivered=120), booking(delivered=200, end=True)).status
    assert (status.available, status.reserved, status.charged, status.refunded) == (800, 0, 200, 100)
    assert (status.open_reservations, status.settled_reservations) == (0, 1)
    assert status.reservations[0].settled
    assert status.observed_generation == 4


def test_it_stays_until_the_job_has_written_its_end_down() -> None:
    ended = after(account(1000), booking(reserve=300), booking(delivered=200, end=True))
    gone = after(ended, booking(delivered=200, end=True, remove=True)).status
    assert (gone.reservations, gone.available, gone.charged) == ([], 800, 200)
    assert gone.settled_reservations == ended.status.settled_reservations == 1


@pytest.mark.parametrize("again", [booking(reserve=300), booking(delivered=120), booking(delivered=120, end=True)])
def test_what_is_booked_again_changes_nothing(again: Booking) -> None:
    once = after(account(1000), booking(reserve=300), booking(delivered=120), again)
    assert after(once, again, again).status == once.status


def test_nothing_is_reserved_that_is_not_there() -> None:
    status = after(account(1000), booking(reserve=700), booking("b", reserve=301)).status
    assert entry_of(status, "b") is None
    assert after(account(1000), booking(reserve=700), booking("b", reserve=300)).status.available == 0


def test_of_two_that_do_not_both_fit_the_higher_priority_comes_first_and_then_the_older() -> None:
    low = booking("low", reserve=600, order=(-1, "2026-01-01"))
    old = booking("old", reserve=600, order=(-5, "2026-01-01"))
    new = booking("new", reserve=600, order=(-5, "2026-01-02"))
    assert [entry.uid for entry in book(account(1000), [low, new, old]).reservations] == ["old"]
    assert [entry.uid for entry in book(account(1000), [low, new]).reservations] == ["new"]


def test_more_is_reserved_for_a_job_that_has_used_up_what_it_had() -> None:
    used = after(account(1000), booking(reserve=100), booking(delivered=130))
    assert (available(used), used.status.reserved, used.status.charged) == (870, 0, 130)
    more = after(used, booking(delivered=130, reserve=200)).status
    assert (more.available, more.reserved, more.charged) == (800, 70, 130)
    assert after(used, booking(delivered=130, reserve=1001)).status == used.status


def test_a_job_that_used_more_than_there_was_takes_the_account_below_zero_and_gets_nothing_back() -> None:
    status = after(account(100), booking(reserve=100), booking(delivered=150, end=True)).status
    assert (status.available, status.reserved, status.charged, status.refunded) == (-50, 0, 150, 0)


def test_a_retry_is_a_run_of_its_own_and_pays_nothing_twice() -> None:
    first = after(account(1000), booking(reserve=300), booking(delivered=200, end=True))
    second = after(first, booking(run=2, delivered=200, paid=200, reserve=100))
    entry = reservation_of(second, "a")
    assert entry is not None
    assert (entry.run, entry.reserved, entry.charged, entry.counted) == (2, 100, 0, 200)
    status = after(second, booking(run=2, delivered=260, paid=200, end=True, remove=True)).status
    assert (status.charged, status.available, status.settled_reservations) == (260, 740, 2)


def test_what_was_paid_before_is_not_charged_again_although_nobody_remembers_the_result() -> None:
    status = after(
        account(1000), booking(run=2, delivered=0, paid=200, reserve=100), booking(run=2, delivered=180)
    ).status
    assert status.charged == 0


def test_a_run_that_was_left_open_is_ended_by_the_next() -> None:
    status = after(account(1000), booking(reserve=300), booking(run=2, delivered=50, reserve=100)).status
    (entry,) = status.reservations
    assert (entry.run, entry.counted, status.charged, status.refunded, status.available) == (2, 50, 50, 250, 850)


def test_the_late_word_of_an_earlier_run_is_not_heard() -> None:
    second = after(account(1000), booking(run=2, reserve=100))
    assert after(second, booking(run=1, delivered=99, end=True, remove=True)).status == second.status


def test_nothing_is_given_back_for_a_result_that_is_not_there_any_more() -> None:
    status = after(account(1000), booking(reserve=300), booking(delivered=120), booking(delivered=20)).status
    assert status.charged == 120
    again = after(
        account(1000), booking(reserve=300), booking(delivered=120), booking(delivered=20), booking(delivered=120)
    )
    assert again.status.charged == 120


def test_an_end_without_a_reservation_is_nothing() -> None:
    assert after(account(1000), booking(delivered=70, end=True, remove=True, reserve=5)).status.reservations == []


def test_the_reservation_of_a_job_that_is_gone_goes_back() -> None:
    used = after(account(1000), booking(reserve=300), booking(delivered=120))
    (entry,) = used.status.reservations
    status = after(used, orphaned(entry)).status
    assert (status.reservations, status.available, status.charged, status.refunded) == ([], 880, 120, 180)


def test_the_number_of_reservations_is_bounded() -> None:
    full = account(10**6, *(Reservation(uid=f"{n}", job="j", run=1, reserved=1) for n in range(MAX_RESERVATIONS)))
    assert entry_of(book(full, [booking(reserve=1)]), "a") is None


def test_a_changed_balance_changes_what_is_available_and_nothing_else() -> None:
    first = after(account(1000), booking(reserve=300))
    lower = first.model_copy(update={"spec": CreditAccountSpec(balance=100)})
    status = book(lower, [])
    assert (status.available, status.reserved, status.reservations) == (-200, 300, first.status.reservations)


ANY = st.builds(
    booking,
    uid=st.sampled_from("abc"),
    run=st.integers(1, 3),
    delivered=st.integers(0, 400),
    paid=st.integers(0, 400),
    reserve=st.integers(0, 400),
    end=st.booleans(),
    remove=st.booleans(),
)


@given(st.integers(0, 1000), st.lists(st.lists(ANY, max_size=3, unique_by=lambda each: each.uid), max_size=12))
def test_the_sum_is_always_the_balance_and_no_token_is_charged_that_no_job_was_told_of(
    balance: int, writes: list[list[Booking]]
) -> None:
    now, told = account(balance), dict.fromkeys("abc", 0)
    for batch in writes:
        before = now.status
        now = now.model_copy(update={"status": book(now, batch)})
        status = now.status
        for each in batch:
            told[each.uid] = max(told[each.uid], each.delivered)
        left = sum(max(each.reserved - each.charged, 0) for each in status.reservations if not each.settled)
        assert status.reserved == left
        assert status.available + status.reserved + status.charged == balance
        assert status.charged >= before.charged
        assert status.available >= min(balance - sum(told.values()), before.available, 0)
        assert len({each.uid for each in status.reservations}) == len(status.reservations)
        assert book(now, batch).charged == status.charged or any(each.remove for each in batch)
