"""What a user does to a PdfJob at any time: rules for a model of its life."""

from __future__ import annotations

from datetime import timedelta
from typing import Final, TypeVar

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule

from .peace import Peace
from .world import World

_Item = TypeVar("_Item")
_LATER: Final = timedelta(seconds=60)
"""What ends a life for good does not come before this."""

picks = st.integers(0, 5)


def choose(items: list[_Item], pick: int) -> _Item | None:
    """Return one of the items, by a number that may be any; None when there is none."""
    return items[pick % len(items)] if items else None


class UserOfAJob(RuleBasedStateMachine):
    """Waits, edits, asks for retries, shuts down, deletes."""

    world: World
    peace: Peace
    policy_edited: bool

    @rule(rounds=st.integers(1, 12))
    def go_on(self, rounds: int) -> None:
        for _ in range(rounds):
            self.peace.round()

    @precondition(lambda self: self.peace.job() is not None)
    @rule(parallelism=st.integers(1, 3))
    def user_scales(self, parallelism: int) -> None:
        self.world.scale(parallelism)

    @precondition(lambda self: self.peace.job() is not None)
    @rule(suspend=st.booleans(), rounds=st.sampled_from([0, 0, 3]))
    def user_suspends(self, rounds: int, *, suspend: bool) -> None:
        self.world.edit(suspend=suspend)
        self.go_on(rounds)

    @precondition(lambda self: self.peace.job() is not None)
    @rule(chunks=st.none() | st.lists(st.integers(0, 3), max_size=3, unique=True), force=st.booleans())
    def user_retries(self, chunks: list[int] | None, *, force: bool) -> None:
        self.world.ask_retry(chunks, force=force)

    @precondition(lambda self: self.peace.chunks())
    @rule(pick=picks, force=st.booleans())
    def user_retries_one_chunk(self, pick: int, *, force: bool) -> None:
        chunk = choose(self.peace.chunks(), pick)
        if chunk is not None:
            self.world.ask_chunk_retry(chunk, force=force)

    @precondition(lambda self: self.peace.job() is not None)
    @rule(max_retries=st.integers(0, 4))
    def user_changes_the_retry_limit(self, max_retries: int) -> None:
        self.world.allow_retries(max_retries)

    @precondition(lambda self: self.peace.job() is not None)
    @rule(may_fail=st.sampled_from([0, 1, "50%", "100%"]))
    def user_changes_the_failure_policy(self, may_fail: int | str) -> None:
        self.world.edit(failurePolicy={"maxFailedChunks": may_fail})
        self.policy_edited = True

    @precondition(lambda self: self.peace.job() is not None)
    @rule(seconds=st.sampled_from([None, 1, 60]))
    def user_changes_the_time_limit(self, seconds: int | None) -> None:
        self.world.edit(limits={"jobTimeoutSeconds": seconds})

    @precondition(lambda self: self.peace.job() is not None and self.world.now > self.peace.start + _LATER)
    @rule(how=st.sampled_from(["Stop", "Cancel", "Cancel"]))
    def user_shuts_down(self, how: str) -> None:
        job = self.peace.job()
        if job is not None and job.spec.shutdown is None:
            self.world.edit(shutdown=how)
        else:
            self.world.edit(shutdown="Cancel")

    @precondition(lambda self: self.world.now > self.peace.start + _LATER)
    @rule()
    def user_deletes(self) -> None:
        self.world.delete("pdfjobs", self.world.uid)
