"""What a job books in its credit account, and whether its chunks may start. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

from pdfjob_api.conditions import JobCondition, Reason
from pdfjob_api.creditaccount import MAX_RESERVATIONS, CreditAccount, Reservation
from pdfjob_api.jobstatus import Credits, PdfJobStatus
from pdfjob_api.pdfchunk import PdfChunk, PdfChunkStatus
from pdfjob_api.pdfjob import PdfJob

from .bookings import Booking, available, book, entry_of, reservation_of
from .conditions import Conditions
from .decide_chunk import TERMINAL
from .estimate import estimate_of
from .observation import Observation

_NOTHING: Final = Credits()


@dataclass(frozen=True, slots=True)
class Claim:
    """What a job has to do with its account now."""

    booking: Booking | None = None
    held: tuple[Reason, str] | None = None
    """Why no chunk may start; None when nothing is in the way, or the booking may clear it."""
    may_start: bool = True
    """Whether chunks may start now."""


def delivered(chunks: Iterable[PdfChunk]) -> int:
    """Sum the tokens of all results that chunks have ever had, those that were made anew included."""
    statuses = [chunk.status for chunk in chunks]
    return sum(
        status.tokens_before + (status.result.tokens.total if status.result is not None else 0) for status in statuses
    )


def claim(
    obs: Observation, statuses: Mapping[int, PdfChunkStatus], *, wants_start: bool, looking: bool = False
) -> Claim:
    """Say what a job under way books, and whether its chunks may start.

    Parameters
    ----------
    wants_start
        Whether a chunk would start now.
    looking
        Whether results of chunks are being looked for: a job that finds them all reserves nothing.
    """
    ref = obs.job.spec.credit_account_ref
    if ref is None:
        return Claim()
    entry = reserved_by(obs)
    base = _booking(obs)
    uncharged = entry is not None and base.delivered > entry.counted
    spent = entry is None or entry.charged >= entry.reserved
    amount = _amount_left(obs, statuses) if wants_start and spent else 0
    if not amount:
        return Claim(base if uncharged else None)
    if looking:
        return Claim(base if uncharged else None, may_start=False)
    if obs.account is None:
        make = f"kubectl pdfjob credits {ref.name} -n {obs.job.metadata.namespace} --create {amount}"
        text = f"the namespace has no CreditAccount {ref.name} that could pay {amount} tokens; make it: {make}"
        return Claim(held=(Reason.CREDIT_ACCOUNT_NOT_FOUND, text), may_start=False)
    wanted = replace(base, reserve=amount + (entry.charged if entry is not None else 0))
    there = entry_of(book(obs.account, [wanted]), obs.job.metadata.uid)
    if there is None or there.run != wanted.run or there.reserved < wanted.reserve:
        return Claim(base if uncharged else None, _too_little(obs, obs.account, amount), may_start=False)
    return Claim(wanted, may_start=False)


def reserved_by(obs: Observation) -> Reservation | None:
    """Return the reservation of the present run."""
    entry = reservation_of(obs.account, obs.job.metadata.uid)
    return entry if entry is not None and entry.run == (obs.job.status.credits or _NOTHING).run else None


def settlement(obs: Observation) -> Booking | None:
    """Return the booking that ends the run of a job that has ended; None when there is nothing to end."""
    entry = reserved_by(obs)
    return replace(_booking(obs), end=True) if entry is not None and not entry.settled else None


def removal(obs: Observation) -> Booking | None:
    """Return the booking that takes the reservation out, of a job that has written its end down or is deleted."""
    entry = reservation_of(obs.account, obs.job.metadata.uid)
    if entry is None:
        return None
    return replace(_booking(obs), run=entry.run, end=True, remove=True)


def credits_of(obs: Observation) -> Credits | None:
    """Return the numbers for the job's status: as the account has them, else as they were last."""
    entry = reserved_by(obs)
    if entry is None:
        return obs.job.status.credits
    known = obs.job.status.credits or _NOTHING
    refunded = max(entry.reserved - entry.charged, 0) if entry.settled else 0
    return known.model_copy(update={"reserved": entry.reserved, "charged": entry.charged, "refunded": refunded})


def set_credits(conditions: Conditions, obs: Observation, claimed: Claim, *, ended: bool) -> None:
    """Say whether the credit account that the job names pays for it."""
    ref, entry, known = obs.job.spec.credit_account_ref, reserved_by(obs), obs.job.status.credits or _NOTHING
    if ref is None:
        return
    if claimed.held is not None and not ended:
        conditions.set(JobCondition.CREDITS_RESERVED, "False", *claimed.held)
    elif entry is not None and not entry.settled:
        text = f"the credit account {ref.name} has reserved {entry.reserved} tokens"
        conditions.set(JobCondition.CREDITS_RESERVED, "True", Reason.TOKENS_RESERVED, text)
    elif not ended and obs.account is None and known.reserved:
        text = f"the CreditAccount {ref.name} is gone: chunks that run are finished, and none starts"
        conditions.set(JobCondition.CREDITS_RESERVED, "False", Reason.CREDIT_ACCOUNT_NOT_FOUND, text)
    elif claimed.booking is None and conditions.reason_of_false(JobCondition.CREDITS_RESERVED) is not None:
        conditions.set(JobCondition.CREDITS_RESERVED, "Unknown", Reason.WAITING, "no chunk waits for tokens at present")
    if ended and entry is None and known.reserved == 0:
        conditions.set(JobCondition.CREDITS_SETTLED, "True", Reason.TOKENS_REFUNDED, "nothing was reserved")


def settled_status(obs: Observation, now: datetime) -> PdfJobStatus | None:
    """Return the status of a job that has ended, once its credits are settled; None when that is told already.

    An account that is gone takes nothing back; one of the same name that comes later knows nothing of the job.
    """
    job, entry, conditions = obs.job, reserved_by(obs), Conditions(obs.job, now)
    ref, kind = job.spec.credit_account_ref, JobCondition.CREDITS_SETTLED
    if ref is None or conditions.is_true(kind) or (entry is None and (job.status.credits or _NOTHING).reserved == 0):
        return None
    numbers = credits_of(obs)
    if obs.account is None:
        text = f"the namespace has no CreditAccount {ref.name} any more that could take back what was not used"
        conditions.set(kind, "False", Reason.CREDIT_ACCOUNT_NOT_FOUND, text)
    elif entry is None:
        text = f"the credit account {ref.name} knows no reservation of the job"
        conditions.set(kind, "True", Reason.TOKENS_REFUNDED, text)
    elif numbers is not None:
        text = (
            f"{numbers.charged} of the {numbers.reserved} tokens reserved were charged, {numbers.refunded} went back "
            f"to the credit account {ref.name}"
        )
        conditions.set(kind, "True", Reason.TOKENS_REFUNDED, text)
    status = job.status.model_copy(update={"credits": numbers, "conditions": conditions.list()})
    return status if status != job.status else None


def next_run(job: PdfJob) -> Credits | None:
    """Return the numbers of a job that a retry opens again: those of a new run."""
    known = job.status.credits
    if known is None:
        return None
    return Credits(run=known.run + 1, charged_earlier=known.charged_earlier + known.charged)


def _booking(obs: Observation) -> Booking:
    meta, known = obs.job.metadata, obs.job.status.credits or _NOTHING
    return Booking(
        uid=meta.uid,
        job=meta.name,
        run=known.run,
        delivered=obs.delivered,
        paid=known.charged_earlier + known.charged,
        order=(-obs.job.spec.priority, meta.creation_timestamp),
    )


def _amount_left(obs: Observation, statuses: Mapping[int, PdfChunkStatus]) -> int:
    """Return the tokens that what is left of the document is expected to take; 0 for work that costs nothing."""
    job, plan = obs.job, obs.facts.plan
    if plan is None:
        return 0
    ref = job.spec.credit_account_ref
    named = ref.estimated_tokens if ref is not None else None
    whole = named or job.status.estimated_tokens or estimate_of(job.spec, plan)
    ended = sum(obs.chunks[index].spec.page_count for index, each in statuses.items() if each.phase in TERMINAL)
    pages = max(plan.source.pages or 0, 1)
    return math.ceil(whole * max(pages - ended, 1) / pages)


def _too_little(obs: Observation, account: CreditAccount, amount: int) -> tuple[Reason, str]:
    name, there = account.metadata.name, available(account)
    if len(account.status.reservations) >= MAX_RESERVATIONS and there >= amount:
        text = f"the credit account {name} holds {MAX_RESERVATIONS} reservations, which is all it can; the job waits"
        return Reason.INSUFFICIENT_CREDITS, text
    missing = amount - there
    top_up = f"kubectl pdfjob credits {name} -n {obs.job.metadata.namespace} --add {missing}"
    text = (
        f"the job is expected to take {amount} tokens and the credit account {name} has {there} available; it waits "
        f"until other jobs give theirs back or the account is topped up: {top_up}"
    )
    return Reason.INSUFFICIENT_CREDITS, text
