"""A credit account of the simulated world, with the rules that must hold at each of its writes."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from typing import Any, Final

from pdfjob_api.creditaccount import CreditAccount, CreditAccountStatus
from pdfjob_operator.bookings import Booking, book, entry_of
from pdfjob_operator.storage.kubernetes import ConflictError

from .api_server import Raw

ACCOUNT: Final = "team"
_STRANGER: Final = "somebody-else"


class BrokenRuleError(AssertionError):
    """What must never happen to an account."""


@dataclass(slots=True)
class Bank:
    """One account, as it truly is."""

    balance: int
    charged: dict[str, int] = field(default_factory=dict)
    """Tokens charged to each PdfJob, by UID, over all its runs."""
    news: bool = False
    """Whether a watch has something to tell."""
    raw: Raw = field(init=False)
    _version: int = 500

    def __post_init__(self) -> None:
        meta = {"name": ACCOUNT, "namespace": "books", "uid": "the-account", "generation": 1, "resourceVersion": "500"}
        self.raw = {"metadata": meta, "spec": {"balance": self.balance}}

    def account(self) -> CreditAccount:
        """Return the account."""
        return CreditAccount.model_validate(self.raw)

    def replace_status(self, version: str, status: dict[str, Any]) -> Raw:
        """Write the status at this version, as the operator does."""
        if self.raw["metadata"]["resourceVersion"] != version:
            raise ConflictError(ACCOUNT)
        before, after = self.account().status, CreditAccountStatus.model_validate(status)
        self._check(before, after)
        for entry in after.reservations:
            known = entry_of(before, entry.uid)
            earlier = known.charged if known is not None and known.run == entry.run else 0
            self.charged[entry.uid] = self.charged.get(entry.uid, 0) + entry.charged - earlier
        left_out = after.charged - before.charged - (sum(self.charged.values()) - before.charged)
        if left_out:  # charged in the very write that took the reservation out
            (gone,) = {entry.uid for entry in before.reservations} - {entry.uid for entry in after.reservations}
            self.charged[gone] = self.charged.get(gone, 0) + left_out
        return self._write(status=copy.deepcopy(status))

    def top_up(self, tokens: int) -> None:
        """Let a person change the balance; the status follows when the operator hears of it."""
        self.balance += tokens
        self._write(spec={"balance": self.balance}, generation=self.raw["metadata"]["generation"] + 1)

    def let_another_job_book(self, tokens: int) -> None:
        """Let another PdfJob reserve tokens, or give all back with 0."""
        account = self.account()
        known = entry_of(account.status, _STRANGER)
        wanted = Booking(_STRANGER, "another", 1, 0, reserve=tokens, end=not tokens, remove=not tokens)
        status = book(account, [wanted])
        if status != account.status and (known is not None or tokens):
            self.replace_status(account.metadata.resource_version, status.wire())

    def _check(self, before: CreditAccountStatus, after: CreditAccountStatus) -> None:
        left = sum(max(each.reserved - each.charged, 0) for each in after.reservations if not each.settled)
        _must(after.reserved == left, f"reserved {after.reserved}, and the reservations hold {left}")
        total = after.available + after.reserved + after.charged
        _must(total == self.balance, f"the balance is {self.balance} and the sum {total}")
        _must(after.charged >= before.charged, "something charged was given back")
        _must(after.refunded >= before.refunded, "a refund was taken back")
        settled = sum(
            not each.settled and ((new := entry_of(after, each.uid)) is None or new.settled or new.run != each.run)
            for each in before.reservations
        )
        more = after.settled_reservations - before.settled_reservations
        _must(more == settled, f"{settled} reservations end and {more} are counted")

    def _write(self, generation: int | None = None, **parts: Any) -> Raw:
        self._version += 1
        meta = {**self.raw["metadata"], "resourceVersion": str(self._version)}
        self.raw = {**self.raw, **parts, "metadata": meta | ({"generation": generation} if generation else {})}
        self.news = True
        return self.raw


def _must(holds: bool, message: str) -> None:
    if not holds:
        raise BrokenRuleError(message)
