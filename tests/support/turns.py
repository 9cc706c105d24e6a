"""Tests in several processes that must not meet."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO

import pytest

from devcluster.paths import Paths


@contextmanager
def one_at_a_time(what: str) -> Iterator[None]:
    """Wait until no other process of this machine does the same."""
    with _file(what) as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@pytest.fixture(autouse=True)
def turn(request: pytest.FixtureRequest) -> Iterator[None]:
    """Let a test that is ``alone`` run when no other one does; those that come later wait for it."""
    alone = request.node.get_closest_marker("alone") is not None
    with _file("door") as door, _file("room") as room:
        fcntl.flock(door, fcntl.LOCK_EX)
        fcntl.flock(room, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
        fcntl.flock(door, fcntl.LOCK_UN)
        yield


def _file(name: str) -> IO[str]:
    folder = Paths.from_environment().cache
    folder.mkdir(parents=True, exist_ok=True)
    return (folder / f"tests.{name}").open("w")
