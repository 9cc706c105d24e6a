"""The installed operator at rest while tests run operators of their own, in however many processes."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from devcluster.paths import Paths
from tests.support.cluster import environment, kubectl, kubectl_json
from tests.support.product import SYSTEM, operator_pods, wait_until
from tests.support.turns import one_at_a_time

_DEPLOYMENT: Final = ("deployment/pdfjob", "-n", SYSTEM)
_GUARD: Final = """
exec 9>"$LOCK"; flock -s 9; echo ready; cat > /dev/null
flock -n -x 9 && exec kubectl scale deployment/pdfjob -n "$SYSTEM" --replicas="$REPLICAS"
"""
"""Brings the installed operator back when the last of the processes that want it at rest has ended, however it did."""


@contextmanager
def installed_operator_at_rest(prepare: Callable[[], None] | None = None) -> Iterator[None]:
    """Scale the installed operator to nothing until the last process that asked for it has left or was killed.

    Parameters
    ----------
    prepare
        What is done before, by the first of them.
    """
    lock = Paths.from_environment().cache / "faults.lock"
    lock.parent.mkdir(parents=True, exist_ok=True)
    with one_at_a_time("install"):
        if prepare is not None and not _rests():
            prepare()
        before = _replicas_before(lock.with_suffix(".replicas"))
        guard = subprocess.Popen(
            ["sh", "-c", _GUARD],
            env={**environment(), "LOCK": str(lock), "SYSTEM": SYSTEM, "REPLICAS": str(before)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        assert guard.stdout is not None
        assert guard.stdin is not None
        assert guard.stdout.readline() == "ready\n"
        kubectl("scale", *_DEPLOYMENT, "--replicas=0")
        wait_until(lambda: not operator_pods(), "the installed operator has ended")
    try:
        yield
    finally:
        guard.stdin.close()
        guard.wait(60)


def see_that_it_rests() -> None:
    """Scale the installed operator to nothing again, should somebody have brought it back meanwhile."""
    if not _rests():
        kubectl("scale", *_DEPLOYMENT, "--replicas=0")
        wait_until(lambda: not operator_pods(), "the installed operator has ended")


def _replicas_before(note: Path) -> int:
    """Return how many operators the installation has; once they rest, as the process that stopped them noted."""
    now: int = kubectl_json("get", *_DEPLOYMENT)["spec"]["replicas"]
    if now > 0:
        note.write_text(str(now))
    return now or (int(note.read_text()) if note.exists() else 1)


def _rests() -> bool:
    found = kubectl("get", *_DEPLOYMENT, "-o", "jsonpath={.spec.replicas}", check=False)
    return found.stdout.strip() == "0"
