"""The lease: one holder at a time, hand-over, loss; against an API server on the wire, at a fifth of the real times."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Final

import pytest

from pdfjob_operator.lease import Lease, LeaseLostError, Times, clock, own_identity
from pdfjob_operator.settings import S3Settings
from pdfjob_operator.storage.kubernetes import LEASES
from pdfjob_operator.storage.s3 import ObjectStore
from tests.support.wire_leases import NAMESPACE, WireLeases
from tests.support.wire_storage import Fault, WireStorage

NAME: Final = "pdfjob-operator"
TIMES: Final = Times(duration=2, renew=1.2, retry=0.4, margin=0.2)
CALL_SECONDS: Final = 0.6


@dataclass
class Process:
    """What stands for an operator process: a lease, and what was told of its loss."""

    lease: Lease
    lost: list[str]
    offset: list[float]
    """Added to the clock."""
    holding: list[asyncio.Task[None]] = field(default_factory=list)

    async def lead(self) -> None:
        """Take the lease and renew it from then on."""
        await self.lease.acquire()
        self.holding.append(asyncio.create_task(self.lease.hold()))

    def die(self) -> None:
        """Renew no more, as after kill -9."""
        for task in self.holding:
            task.cancel()


@pytest.fixture
async def server() -> AsyncIterator[WireLeases]:
    async with WireLeases() as server:
        yield server


@pytest.fixture
async def process(server: WireLeases) -> AsyncIterator[Callable[[str], Process]]:
    made: list[Process] = []

    def make(identity: str) -> Process:
        lost: list[str] = []
        offset = [0.0]
        lease = Lease(
            server.cluster(timeout_seconds=CALL_SECONDS),
            NAMESPACE,
            NAME,
            identity,
            lost=lost.append,
            now=lambda: clock() + offset[0],
            times=TIMES,
        )
        made.append(Process(lease, lost, offset))
        return made[-1]

    yield make
    server.trouble = ""
    for each in made:
        each.die()
        await each.lease.release()


Make = Callable[[str], Process]


async def until(condition: Callable[[], object], seconds: float = 5) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        await asyncio.sleep(0.005)


async def test_the_first_takes_the_lease_and_only_it_may_write(server: WireLeases, process: Make) -> None:
    first, second = process("a"), process("b")
    with pytest.raises(LeaseLostError):
        first.lease.check()
    await first.lead()
    first.lease.check()
    waiting = asyncio.create_task(second.lead())
    await asyncio.sleep(1.5 * TIMES.duration)
    assert not waiting.done(), "it is renewed for as long as its holder lives"
    assert (first.lease.held, second.lease.held) == (True, False)
    assert {holder for holder, _ in server.writes} == {"a"}
    with pytest.raises(LeaseLostError):
        second.lease.check()
    assert not second.lost, "who never had it cannot lose it"
    waiting.cancel()


async def test_of_many_that_start_at_once_one_leads(server: WireLeases, process: Make) -> None:
    processes = [process(f"p{number}") for number in range(8)]
    waiting = [asyncio.create_task(each.lead()) for each in processes]
    await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    await asyncio.sleep(TIMES.duration)
    assert [each.lease.held for each in processes].count(True) == 1
    for task in waiting:
        task.cancel()


async def test_a_lease_that_is_released_is_taken_at_once(server: WireLeases, process: Make) -> None:
    first, second = process("a"), process("b")
    await first.lead()
    waiting = asyncio.create_task(second.lead())
    await asyncio.sleep(3 * TIMES.retry)
    first.die()
    await first.lease.release()
    released = time.monotonic()
    with pytest.raises(LeaseLostError):
        first.lease.check()
    await waiting
    assert time.monotonic() - released < TIMES.retry, "it is told, not found out by asking now and then"
    second.lease.check()
    assert not first.lost, "an orderly end is no loss"
    assert server.leases[NAME]["spec"]["leaseTransitions"] == 1


async def test_a_holder_that_dies_is_followed_when_its_lease_has_expired(server: WireLeases, process: Make) -> None:
    first, second = process("a"), process("b")
    await first.lead()
    waiting = asyncio.create_task(second.lead())
    await server.wait_for_writes(3)
    first.die()
    last, died = len(server.writes), time.monotonic()
    await waiting
    assert TIMES.duration - 2 * TIMES.retry < time.monotonic() - died < 1.5 * TIMES.duration
    assert server.writes[last:] == [("b", "update")]
    assert not first.lease.held, "it expired for its holder before it expired for others"


async def test_clocks_of_two_machines_are_never_compared(server: WireLeases, process: Make) -> None:
    first, second = process("a"), process("b")
    await first.lead()
    first.die()
    await server.edit(NAME, renewTime="2001-01-01T00:00:00.000000Z")
    begun = time.monotonic()
    await second.lead()
    assert time.monotonic() - begun >= 0.95 * TIMES.duration, "whatever time the lease tells, it is waited for"


async def test_the_same_identity_takes_its_lease_back_at_once(server: WireLeases, process: Make) -> None:
    first, again, other = process("a"), process("a"), process("b")
    await first.lead()
    waiting = asyncio.create_task(other.lead())
    first.die()
    begun = time.monotonic()
    await again.lead()
    assert time.monotonic() - begun < TIMES.retry
    assert "leaseTransitions" not in server.leases[NAME]["spec"] or server.leases[NAME]["spec"]["leaseTransitions"] == 0
    await asyncio.sleep(1.5 * TIMES.duration)
    assert not waiting.done()
    waiting.cancel()


async def test_a_lease_that_cannot_be_renewed_is_given_up_before_it_expires(server: WireLeases, process: Make) -> None:
    for trouble in ("hang", "error"):
        first = process("a")
        await first.lead()
        server.trouble = trouble
        begun = time.monotonic()
        await until(partial(bool, first.lost))
        assert TIMES.renew - TIMES.retry < time.monotonic() - begun < TIMES.duration - TIMES.margin
        assert not first.lease.held
        server.trouble = ""


async def test_short_trouble_is_survived(server: WireLeases, process: Make) -> None:
    first = process("a")
    await first.lead()
    for trouble in ("hang", "error", "answer lost"):
        server.trouble = trouble
        before = len(server.writes)
        await asyncio.sleep(1.5 * TIMES.retry)
        server.trouble = ""
        await server.wait_for_writes(before + 2)
    assert first.lease.held
    assert not first.lost


async def test_a_lease_that_somebody_else_holds_is_lost_at_once(server: WireLeases, process: Make) -> None:
    first = process("a")
    await first.lead()
    await server.edit(NAME, holderIdentity="b")
    begun = time.monotonic()
    await until(lambda: first.lost)
    assert time.monotonic() - begun < 2 * TIMES.retry
    assert first.lost == ["it is held by b"]
    before = list(server.writes)
    await asyncio.sleep(3 * TIMES.retry)
    assert server.writes == before, "nothing is tried after the loss"


async def test_a_lease_edited_or_deleted_by_hand_is_kept(server: WireLeases, process: Make) -> None:
    first = process("a")
    await first.lead()
    await server.edit(NAME, strategy="OldestEmulationVersion")
    await asyncio.sleep(1.2 * TIMES.duration)
    await server.delete(NAME)
    await until(lambda: server.holder(NAME) == "a")
    await asyncio.sleep(1.2 * TIMES.duration)
    assert first.lease.held
    assert not first.lost


async def test_a_deleted_lease_is_noticed_by_who_waits(server: WireLeases, process: Make) -> None:
    first, second = process("a"), process("b")
    await first.lead()
    waiting = asyncio.create_task(second.lead())
    await asyncio.sleep(TIMES.retry)
    first.die()
    await server.delete(NAME)
    await asyncio.wait_for(waiting, TIMES.duration / 2)
    assert server.holder(NAME) == "b"


async def test_trouble_of_the_api_server_is_waited_out_by_who_wants_the_lease(
    server: WireLeases, process: Make
) -> None:
    server.trouble = "error"
    waiting = asyncio.create_task(process("a").lead())
    await asyncio.sleep(2 * TIMES.retry)
    assert not waiting.done()
    server.trouble = "hang"
    await asyncio.sleep(2 * TIMES.retry)
    server.trouble = ""
    await asyncio.wait_for(waiting, 5)


async def test_a_blocked_event_loop_is_ended_by_the_thread(server: WireLeases, process: Make) -> None:
    first = process("a")
    await first.lead()
    time.sleep(1.2 * TIMES.duration)  # noqa: ASYNC251 - the loop is blocked on purpose
    assert first.lost == ["it expired and could not be renewed"], "told while the loop was blocked"


async def test_the_first_write_after_a_standstill_ends_the_process(server: WireLeases, process: Make) -> None:
    first = process("a")
    await first.lead()
    first.lease.check()
    first.offset[0] = TIMES.duration  # as after SIGSTOP and SIGCONT: time has passed, and no task or thread ran yet
    with pytest.raises(LeaseLostError):
        first.lease.check()
    assert first.lost == ["it expired before a write"]


async def test_no_write_leaves_the_process_without_the_lease(server: WireLeases) -> None:
    allowed = True

    def guard() -> None:
        if not allowed:
            raise LeaseLostError("not now")

    cluster = server.cluster(guard=guard)
    body = {"metadata": {"name": "x"}, "spec": {"holderIdentity": "a"}}
    made = await cluster.create(LEASES, NAMESPACE, body)
    allowed = False
    with pytest.raises(LeaseLostError):
        await cluster.replace(LEASES, NAMESPACE, "x", made)
    with pytest.raises(LeaseLostError):
        await cluster.create(LEASES, NAMESPACE, {"metadata": {"name": "y"}, "spec": {}})
    assert await cluster.get(LEASES, NAMESPACE, "x") == made, "it may still be read"
    assert server.writes == [("a", "create")]


async def test_no_object_is_stored_without_the_lease_not_even_by_a_repetition(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    asked: list[bool] = []

    def guard() -> None:
        asked.append(len(asked) < 2)
        if not asked[-1]:
            raise LeaseLostError("not now")

    with WireStorage() as wire:
        store = ObjectStore(S3Settings(endpoint=wire.url("", "").rstrip("?/"), bucket="bucket"), guard=guard)
        await store.put("one", b"1")
        wire.faults["PUT", "bucket/two"] = Fault(times=9)
        with pytest.raises(LeaseLostError):
            await store.put("two", b"2")
        (tmp_path / "three").write_bytes(b"3")
        with pytest.raises(LeaseLostError):
            await store.upload(tmp_path / "three", "three", content_type="text/plain")
        assert await store.get("one", 10) == b"1"
        store.close()
    assert wire.requests["PUT", "bucket/two"] == 1, "boto3 repeats what failed; the repetition was stopped"
    assert wire.requests["PUT", "bucket/three"] == 0


def test_the_identity_is_the_pods() -> None:
    pod = {"POD_NAME": "pdfjob-5d5f", "POD_UID": "1234"}
    assert own_identity(pod) == own_identity(pod) == "pdfjob-5d5f_1234"
    assert all(one != other for one, other in pairwise(own_identity({}) for _ in range(3)))
