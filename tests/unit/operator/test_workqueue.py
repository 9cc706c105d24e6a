"""The work queue: one reconcile at a time per key, nothing missed, delays, backoff. No test waits."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest

from pdfjob_operator.workqueue import WorkQueue
from tests.support.virtual_time import run_in_virtual_time


async def taken(queue: WorkQueue, within: float) -> str | None:
    """Return the key that is handed out within so many seconds, None when there is none."""
    try:
        return await asyncio.wait_for(queue.get(), within)
    except TimeoutError:
        return None


def test_a_key_added_twice_is_handed_out_once() -> None:
    async def test() -> None:
        queue = WorkQueue()
        queue.add("a")
        queue.add("a")
        assert await taken(queue, 1) == "a"
        queue.done("a")
        assert await taken(queue, 1000) is None
        assert len(queue) == 0

    run_in_virtual_time(test())


def test_a_key_in_hand_is_not_handed_out_again_until_it_is_given_back() -> None:
    async def test() -> None:
        queue = WorkQueue()
        queue.add("a")
        assert await taken(queue, 1) == "a"
        queue.add("a")
        assert await taken(queue, 1000) is None
        queue.done("a")
        assert await taken(queue, 1) == "a"
        queue.done("a")
        assert await taken(queue, 1000) is None

    run_in_virtual_time(test())


def test_of_several_delays_the_earliest_counts() -> None:
    async def test() -> None:
        queue, loop = WorkQueue(), asyncio.get_running_loop()
        queue.add("a", 50)
        queue.add("a", 5)
        queue.add("a", 20)
        assert await queue.get() == "a"
        assert loop.time() == pytest.approx(5, abs=1e-3)
        queue.done("a")
        assert await taken(queue, 1000) is None

    run_in_virtual_time(test())


def test_a_sleeping_worker_is_woken_by_an_earlier_key() -> None:
    async def test() -> None:
        queue, loop = WorkQueue(), asyncio.get_running_loop()
        queue.add("late", 60)
        worker = asyncio.create_task(queue.get())
        await asyncio.sleep(1)
        queue.add("soon", 2)
        assert await worker == "soon"
        assert loop.time() == pytest.approx(3, abs=1e-3)

    run_in_virtual_time(test())


def test_keys_come_in_the_order_they_are_due() -> None:
    async def test() -> None:
        queue = WorkQueue()
        for key, delay in (("c", 3), ("a", 1), ("b", 2)):
            queue.add(key, delay)
        assert [await queue.get() for _ in range(3)] == ["a", "b", "c"]

    run_in_virtual_time(test())


def test_failures_wait_longer_each_time_up_to_a_minute_and_success_forgets_them() -> None:
    async def test() -> None:
        queue = WorkQueue()
        queue.add("a")
        delays = []
        for _ in range(9):
            assert await queue.get() == "a"
            delays.append(queue.failed("a"))
        assert delays == [0.5, 1, 2, 4, 8, 16, 32, 60, 60]
        assert await queue.get() == "a"
        queue.done("a")
        queue.add("a")
        assert await queue.get() == "a"
        assert queue.failed("a") == 0.5

    run_in_virtual_time(test())


def test_a_change_does_not_wait_for_the_backoff_of_its_key() -> None:
    async def test() -> None:
        queue, loop = WorkQueue(), asyncio.get_running_loop()
        queue.add("a")
        await queue.get()
        queue.failed("a")
        began = loop.time()
        queue.add("a", 0.02)
        assert await queue.get() == "a"
        assert loop.time() - began < 0.1

    run_in_virtual_time(test())


def test_closing_wakes_every_worker_with_nothing() -> None:
    async def test() -> None:
        queue = WorkQueue()
        workers = [asyncio.create_task(queue.get()) for _ in range(3)]
        await asyncio.sleep(1)
        queue.close()
        assert await asyncio.gather(*workers) == [None, None, None]
        queue.add("a")
        assert await queue.get() is None

    run_in_virtual_time(test())


def test_the_oldest_age_tells_of_a_key_nobody_takes_and_of_one_nobody_gives_back() -> None:
    async def test() -> None:
        queue = WorkQueue()
        queue.add("later", 100)
        assert queue.oldest_age() == 0
        queue.add("a")
        await asyncio.sleep(7)
        assert queue.oldest_age() == pytest.approx(7, abs=1e-3)
        await queue.get()
        await asyncio.sleep(4)
        assert queue.oldest_age() == pytest.approx(4, abs=1e-3)
        queue.done("a")
        assert queue.oldest_age() == 0

    run_in_virtual_time(test())


def test_many_workers_never_hold_the_same_key_and_miss_no_change() -> None:
    async def test() -> None:
        queue, held, done = WorkQueue(), Counter[str](), Counter[str]()
        wanted: dict[str, int] = dict.fromkeys("abc", 0)
        seen: dict[str, int] = {}

        async def work() -> None:
            while (key := await queue.get()) is not None:
                held[key] += 1
                assert held[key] == 1
                seen[key] = wanted[key]
                await asyncio.sleep(0.7)
                held[key] -= 1
                done[key] += 1
                queue.done(key)

        workers = [asyncio.create_task(work()) for _ in range(4)]
        for turn in range(60):
            key = "abc"[turn % 3]
            wanted[key] += 1
            queue.add(key, 0.1 * (turn % 5))
            await asyncio.sleep(0.1)
        await asyncio.sleep(5)
        queue.close()
        await asyncio.gather(*workers)
        assert seen == wanted
        assert all(1 < count < 20 for count in done.values()), "changes that come together are handled together"

    run_in_virtual_time(test())
