"""Writes bookings into credit accounts: each write on the version that was read, one after the other for an account.

Bookings that come while a write is under way go into the next one together: fifty jobs that end at once cost an
account a few writes. A write that fails is nobody's loss: each job decides anew what it has to book.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

import structlog

from pdfjob_api.conditions import JobCondition
from pdfjob_api.creditaccount import CreditAccount
from pdfjob_api.pdfjob import PdfJob

from .bookings import Booking, available, book, orphaned, reservation_of
from .cache import Cache
from .conditions import is_true
from .storage.kubernetes import CREDITACCOUNTS, PDFJOBS, Cluster, ConflictError, NotFoundError

log = structlog.get_logger(__name__)

_Key = tuple[str, str]
"""Namespace and name of an account."""


@dataclass(slots=True)
class Ledger:
    """All credit accounts."""

    cluster: Cluster
    cache: Cache
    wake: Callable[[str], None]
    _pending: dict[_Key, dict[str, Booking]] = field(default_factory=dict)
    _locks: dict[_Key, asyncio.Lock] = field(default_factory=dict)

    async def book(self, namespace: str, name: str, booking: Booking) -> None:
        """Book, with whatever else waits for the same account.

        Raises
        ------
        KubernetesError
        """
        key = (namespace, name)
        self._pending.setdefault(key, {})[booking.uid] = booking
        async with self._locks.setdefault(key, asyncio.Lock()):
            if self._pending.get(key, {}).get(booking.uid) is booking:  # else it went with another's
                await self._write(key, list(self._pending.pop(key).values()))

    async def refresh(self, account: CreditAccount) -> None:
        """Compute an account's status anew after its balance was changed, and wake the jobs that it concerns."""
        meta = account.metadata
        if account.status.observed_generation != meta.generation:
            async with self._locks.setdefault((meta.namespace, meta.name), asyncio.Lock()):
                await self._write((meta.namespace, meta.name), [])
        self.wake_jobs(meta.namespace, meta.name)
        for entry in account.status.reservations:
            if self.cache.job(entry.uid) is None:
                self.wake(entry.uid)

    async def release(self, uid: str) -> None:
        """Give back what a PdfJob has reserved that is gone without its finalizer; the API server itself is asked."""
        for account in self.cache.accounts():
            entry = reservation_of(account, uid)
            if entry is None:
                continue
            meta = account.metadata
            try:
                found = await self.cluster.get(PDFJOBS, meta.namespace, entry.job)
            except NotFoundError:
                found = None
            if found is None or found["metadata"]["uid"] != uid:
                log.warning("a PdfJob is gone, its reservation goes back", account=meta.name, job=entry.job)
                await self.book(meta.namespace, meta.name, orphaned(entry))

    def wake_jobs(self, namespace: str, name: str, *, waiting: bool = False) -> None:
        """Wake the jobs that name an account, or only those that wait for its tokens."""
        for job in map(self.cache.job, self.cache.uids()):
            if job is not None and _names(job, namespace, name) and (not waiting or not _is_paid(job)):
                self.wake(job.metadata.uid)

    async def _write(self, key: _Key, bookings: list[Booking]) -> None:
        account = self.cache.account(*key)
        if account is None:
            return
        status, meta = book(account, bookings), account.metadata
        if status != account.status:
            version = meta.resource_version
            try:
                raw = await self.cluster.replace_status(CREDITACCOUNTS, *key, version, status.wire())
            except ConflictError:
                self.cache.apply(CREDITACCOUNTS.plural, await self.cluster.get(CREDITACCOUNTS, *key))
                raise
            except NotFoundError:  # a ghost: its DELETED event was lost
                self.cache.forget(CREDITACCOUNTS.plural, meta.uid, meta.uid)
                self.wake(meta.uid)  # who names it is told
                raise
            self.cache.apply(CREDITACCOUNTS.plural, raw)
            more = status.available > available(account)
            log.info("credits", account="/".join(key), available=status.available, bookings=len(bookings))
            if more:
                self.wake_jobs(*key, waiting=True)
        for booking in bookings:
            self.wake(booking.uid)


def _names(job: PdfJob, namespace: str, name: str) -> bool:
    ref = job.spec.credit_account_ref
    return ref is not None and (job.metadata.namespace, ref.name) == (namespace, name)


def _is_paid(job: PdfJob) -> bool:
    return is_true(job, JobCondition.CREDITS_RESERVED) or is_true(job, JobCondition.FINISHED)
