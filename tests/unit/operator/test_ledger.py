"""Bookings on the wire: many at once are few writes, nobody's is lost, and what a vanished job held goes back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from kubernetes.aio import client

from pdfjob_api.creditaccount import CreditAccountRef
from pdfjob_api.jobstatus import PdfJobStatus
from pdfjob_api.meta import Condition
from pdfjob_operator.bookings import Booking
from pdfjob_operator.cache import Cache
from pdfjob_operator.ledger import Ledger
from pdfjob_operator.storage.kubernetes import Cluster, ConflictError, NotFoundError
from tests.support.builders import at, pdf_job

META = {"name": "team", "namespace": "books", "uid": "account", "generation": 1, "resourceVersion": "10"}


@dataclass
class AccountServer:
    """An API server that has one account, and PdfJobs by name."""

    account: dict[str, Any] | None = field(default_factory=lambda: {"metadata": {**META}, "spec": {"balance": 1000}})
    jobs: dict[str, str] = field(default_factory=dict)
    """UID by name."""
    writes: list[dict[str, Any]] = field(default_factory=list)

    async def answer(self, request: web.Request) -> web.Response:
        """Answer as the API server does."""
        name = request.match_info["path"].split("/")[-1]
        if "/pdfjobs/" in request.path:
            found = self.jobs.get(name)
            return web.json_response({"metadata": {"uid": found}}) if found else _error(404, "NotFound")
        if self.account is None:
            return _error(404, "NotFound")
        if request.method == "PATCH":
            await asyncio.sleep(0.02)  # time for others to come
            test, change = await request.json()
            if test["value"] != self.account["metadata"]["resourceVersion"]:
                return _error(422, "Invalid", "testing path /metadata/resourceVersion value failed: test failed")
            self.writes.append(change["value"])
            self.edit(status=change["value"])
        return web.json_response(self.account)

    def edit(self, **parts: Any) -> None:
        """Change the account as somebody else does."""
        assert self.account is not None
        version = str(int(self.account["metadata"]["resourceVersion"]) + 1)
        meta = {**self.account["metadata"], "resourceVersion": version, "generation": 1 + ("spec" in parts)}
        self.account = {**self.account, **parts, "metadata": meta}


@dataclass
class Desk:
    """A ledger, what it writes to, and whom it woke."""

    server: AccountServer
    ledger: Ledger
    cache: Cache
    woken: list[str]


def _error(code: int, reason: str, message: str = "no") -> web.Response:
    return web.json_response({"kind": "Status", "reason": reason, "message": message}, status=code)


@asynccontextmanager
async def serving() -> AsyncIterator[Desk]:
    server, woken = AccountServer(), list[str]()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", server.answer)
    async with TestServer(app) as wire:
        configuration = client.Configuration()
        configuration.host = str(wire.make_url("")).rstrip("/")
        cluster, cache = Cluster.using(configuration), Cache()
        assert server.account is not None
        cache.apply("creditaccounts", server.account)
        yield Desk(server, Ledger(cluster, cache, woken.append), cache, woken)
        await cluster.close()


@pytest.fixture
async def desk() -> AsyncIterator[Desk]:
    async with serving() as made:
        yield made


def booking(uid: str, **values: Any) -> Booking:
    return Booking(**{"uid": uid, "job": f"job-{uid}", "run": 1, "delivered": 0, **values})


def job_that_waits(uid: str, *, reserved: str) -> dict[str, Any]:
    """A PdfJob that names the account."""
    told = Condition(type="CreditsReserved", status=reserved, reason="x", last_transition_time=at(0))
    job = pdf_job(PdfJobStatus(conditions=[told]), credit_account_ref=CreditAccountRef(name="team"))
    meta = job.metadata.model_copy(update={"uid": uid, "name": f"job-{uid}"})
    return job.model_copy(update={"metadata": meta}).wire()


async def test_bookings_that_come_while_one_is_written_go_together_into_the_next(desk: Desk) -> None:
    names = [f"{number:02d}" for number in range(50)]
    await asyncio.gather(*(desk.ledger.book("books", "team", booking(name, reserve=20)) for name in names))
    assert len(desk.server.writes) == 2
    last = desk.server.writes[-1]
    assert (len(last["reservations"]), last["available"]) == (50, 0)
    assert sorted(set(desk.woken)) == names, "each of them has to look at what came of it"


async def test_of_two_bookings_of_one_job_the_later_counts(desk: Desk) -> None:
    first = desk.ledger.book("books", "team", booking("other", reserve=1))
    calls = [desk.ledger.book("books", "team", booking("a", reserve=5, delivered=each)) for each in (0, 7)]
    await asyncio.gather(first, *calls)
    await desk.ledger.book("books", "team", booking("a", delivered=9))
    charged = {entry["uid"]: entry["charged"] for entry in desk.server.writes[-1]["reservations"]}
    assert charged == {"other": 0, "a": 2}


async def test_what_changes_nothing_is_not_written(desk: Desk) -> None:
    await desk.ledger.book("books", "team", booking("a", reserve=20))
    await desk.ledger.book("books", "team", booking("a", reserve=20))
    assert len(desk.server.writes) == 1


async def test_an_account_that_somebody_has_changed_is_read_anew_before_the_next_try(desk: Desk) -> None:
    desk.server.edit(spec={"balance": 50})
    with pytest.raises(ConflictError):
        await desk.ledger.book("books", "team", booking("a", reserve=60))
    assert desk.server.writes == []
    await desk.ledger.book("books", "team", booking("a", reserve=60))
    assert desk.server.writes[-1].get("reservations") == [], "the balance that is there now counts"
    await desk.ledger.book("books", "team", booking("a", reserve=40))
    assert desk.server.writes[-1]["available"] == 10


async def test_an_account_that_is_gone_without_an_event_is_forgotten(desk: Desk) -> None:
    desk.server.account = None
    with pytest.raises(NotFoundError):
        await desk.ledger.book("books", "team", booking("a", reserve=60))
    assert desk.cache.accounts() == []
    assert desk.woken == ["account"]
    await desk.ledger.book("books", "team", booking("a", reserve=60))  # and its jobs wait


async def test_a_changed_balance_is_told_once_and_wakes_who_names_the_account(desk: Desk) -> None:
    desk.cache.apply("pdfjobs", job_that_waits("poor", reserved="False"))
    desk.cache.apply("pdfjobs", pdf_job().wire())
    (account,) = desk.cache.accounts()
    await desk.ledger.refresh(account)
    assert [each["available"] for each in desk.server.writes] == [1000]
    assert desk.woken == ["poor"]
    (account,) = desk.cache.accounts()
    await desk.ledger.refresh(account)
    assert len(desk.server.writes) == 1


async def test_tokens_that_come_back_wake_those_that_wait_for_them_and_no_others(desk: Desk) -> None:
    await desk.ledger.book("books", "team", booking("rich", reserve=1000))
    for uid, reserved in (("poor", "False"), ("rich", "True")):
        desk.cache.apply("pdfjobs", job_that_waits(uid, reserved=reserved))
    desk.woken.clear()
    await desk.ledger.book("books", "team", booking("rich", delivered=10))
    assert desk.woken == ["rich"]
    desk.woken.clear()
    await desk.ledger.book("books", "team", booking("rich", delivered=10, end=True))
    assert sorted(set(desk.woken)) == ["poor", "rich"]


async def test_what_a_job_held_that_vanished_goes_back_when_the_api_server_does_not_know_it(desk: Desk) -> None:
    await desk.ledger.book("books", "team", booking("a", reserve=100))
    await desk.ledger.book("books", "team", booking("b", reserve=100))
    (account,) = desk.cache.accounts()
    await desk.ledger.refresh(account)
    assert {"a", "b"} <= set(desk.woken), "no PdfJob of theirs is in the cache"
    desk.server.jobs = {"job-a": "a", "job-b": "another life of the name"}
    await desk.ledger.release("a")
    await desk.ledger.release("b")
    await desk.ledger.release("nobody")
    left = desk.server.writes[-1]
    assert [entry["uid"] for entry in left["reservations"]] == ["a"]
    assert (left["available"], left["settledReservations"]) == (900, 1)
