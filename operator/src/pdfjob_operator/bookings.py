"""How a credit account changes by bookings. Pure.

The account is the ledger: one reservation for each job under way, taken out when its end is written in the job. Every
booking may be made again: what it says is a state, not a change, so that a crash between any two writes books nothing
twice and leaves nothing reserved. In every state the balance is what is available, reserved and charged.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from pdfjob_api.creditaccount import MAX_RESERVATIONS, CreditAccount, CreditAccountStatus, Reservation


@dataclass(frozen=True, slots=True)
class Booking:
    """How a job wants its reservation to be."""

    uid: str
    job: str
    run: int
    delivered: int
    """Tokens of all results that the job has ever had."""
    paid: int = 0
    """Those of them that were charged before this run."""
    reserve: int = 0
    """Tokens that the run wants to have reserved altogether, what it has used included; 0 = as it is."""
    end: bool = False
    """Whether the run has ended: what was not used goes back."""
    remove: bool = False
    """Whether the job has written down how the run ended, or is gone."""
    order: tuple[int, str] = (0, "")
    """Lower comes first where there is not enough for all: the negative priority, and the creation time."""


def book(account: CreditAccount, bookings: Iterable[Booking]) -> CreditAccountStatus:
    """Return the status of an account after these bookings, at most one of each job."""
    ledger = _Ledger(account)
    for booking in sorted(bookings, key=lambda each: each.order):
        ledger.book(booking)
    return ledger.status()


def available(account: CreditAccount) -> int:
    """Return the tokens that can be reserved."""
    return _Ledger(account).available


def reservation_of(account: CreditAccount | None, uid: str) -> Reservation | None:
    """Return the reservation of a job; None when it has none."""
    return entry_of(account.status, uid) if account is not None else None


def entry_of(status: CreditAccountStatus, uid: str) -> Reservation | None:
    """Return the reservation of a job in the status of an account; None when there is none."""
    return next((entry for entry in status.reservations if entry.uid == uid), None)


def orphaned(entry: Reservation) -> Booking:
    """Return the booking that takes out the reservation of a job that is gone without having been let go by us."""
    return Booking(entry.uid, entry.job, entry.run, entry.counted, end=True, remove=True)


class _Ledger:
    """An account while bookings are made."""

    def __init__(self, account: CreditAccount) -> None:
        self._account = account
        self._entries = {entry.uid: entry for entry in account.status.reservations}
        self._charged, self._refunded = account.status.charged, account.status.refunded
        self._settled = account.status.settled_reservations

    @property
    def reserved(self) -> int:
        return sum(_left(entry) for entry in self._entries.values() if not entry.settled)

    @property
    def available(self) -> int:
        return self._account.spec.balance - self._charged - self.reserved

    def book(self, booking: Booking) -> None:
        entry = self._entries.get(booking.uid)
        if entry is not None and entry.run > booking.run:
            return  # the word of an earlier process, late
        if entry is not None and entry.run < booking.run:
            if not entry.settled:
                self._end(self._charge(entry, booking.delivered))
            del self._entries[booking.uid]
            entry = None
        if entry is None:
            entry = self._open(booking)
        elif not entry.settled:
            entry = self._reserve(self._charge(entry, booking.delivered), booking.reserve)
        if entry is None:
            return
        if booking.end and not entry.settled:
            self._end(entry)
        if booking.remove:
            del self._entries[booking.uid]

    def status(self) -> CreditAccountStatus:
        entries = list(self._entries.values())
        return CreditAccountStatus(
            observed_generation=self._account.metadata.generation,
            available=self.available,
            reserved=self.reserved,
            charged=self._charged,
            refunded=self._refunded,
            open_reservations=sum(not entry.settled for entry in entries),
            settled_reservations=self._settled,
            reservations=entries,
        )

    def _open(self, booking: Booking) -> Reservation | None:
        full = len(self._entries) >= MAX_RESERVATIONS
        if full or booking.end or not 0 < booking.reserve <= self.available:
            return None
        entry = Reservation(
            uid=booking.uid,
            job=booking.job,
            run=booking.run,
            reserved=booking.reserve,
            counted=max(booking.delivered, booking.paid),
        )
        self._entries[booking.uid] = entry
        return entry

    def _charge(self, entry: Reservation, delivered_tokens: int) -> Reservation:
        """Charge what has come since the last booking; a PdfChunk that was deleted by hand gives nothing back."""
        more = max(delivered_tokens - entry.counted, 0)
        self._charged += more
        return self._put(entry, charged=entry.charged + more, counted=entry.counted + more)

    def _reserve(self, entry: Reservation, total: int) -> Reservation:
        """Reserve more, if there is so much."""
        if total <= entry.reserved or total - max(entry.reserved, entry.charged) > self.available:
            return entry
        return self._put(entry, reserved=total)

    def _end(self, entry: Reservation) -> None:
        self._refunded += _left(entry)
        self._settled += 1
        self._put(entry, settled=True)

    def _put(self, entry: Reservation, **changes: object) -> Reservation:
        new = entry.model_copy(update=changes)
        self._entries[entry.uid] = new
        return new


def _left(entry: Reservation) -> int:
    return max(entry.reserved - entry.charged, 0)
