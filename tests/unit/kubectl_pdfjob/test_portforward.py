"""The tunnel is a child process; here another program says what kubectl would say."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from kubectl_pdfjob.errors import StorageError
from kubectl_pdfjob.portforward import forwarded

READY = "echo 'Forwarding from 127.0.0.1:40123 -> 7070'"


def test_the_port_is_read_and_the_process_ends_with_the_block() -> None:
    with forwarded(["sh", "-c", f"echo $$ >&2; {READY}; exec sleep 60"]) as port:
        assert port == 40123
        children = _children()
        assert len(children) == 1
    assert not _alive(children[0])


def test_the_process_ends_when_the_block_fails() -> None:
    children = []

    def fail() -> None:
        with forwarded(["sh", "-c", f"{READY}; exec sleep 60"]):
            children.extend(_children())
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert len(children) == 1
    assert not _alive(children[0])


def test_a_process_that_does_not_want_to_end_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kubectl_pdfjob.portforward._END_SECONDS", 0.3)
    script = f"trap '' TERM; {READY}; while :; do sleep 0.05; done"
    with forwarded(["sh", "-c", script]):
        children = _children()
    assert not _alive(children[0])


def test_what_a_wrapper_around_kubectl_runs_ends_too() -> None:
    with forwarded(["sh", "-c", f"{READY}; sleep 60; true"]):
        children = _children()
        deadline = time.monotonic() + 10
        while not (grandchildren := _children_of(children[0])):
            assert time.monotonic() < deadline
            time.sleep(0.01)
    deadline = time.monotonic() + 5
    while _alive(grandchildren[0]):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_much_output_does_not_stop_the_tunnel() -> None:
    script = f"{READY}; yes 'Handling connection for 40123' | head -n 20000; echo done >&2; sleep 60"
    with forwarded(["sh", "-c", script]):
        children = _children()
        deadline = time.monotonic() + 10
        while _descendants(children[0]) != ["sleep"]:
            assert time.monotonic() < deadline, "the pipe is full and nobody reads it"
            time.sleep(0.05)


def test_what_kubectl_complains_of_is_the_message() -> None:
    script = "echo 'error: unable to forward port because pod is not running' >&2; exit 1"
    with (
        pytest.raises(StorageError, match="S3 server: unable to forward port because pod"),
        forwarded(["sh", "-c", script]),
    ):
        pytest.fail("there is no tunnel")


def test_a_silent_kubectl_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kubectl_pdfjob.portforward._START_SECONDS", 0.3)
    with pytest.raises(StorageError, match="no answer"), forwarded(["sleep", "60"]):
        pytest.fail("there is no tunnel")


def test_a_missing_kubectl_is_said() -> None:
    with pytest.raises(StorageError, match="not on PATH"), forwarded(["no-such-kubectl", "port-forward"]):
        pytest.fail("there is no tunnel")


def _children() -> list[int]:
    """Return the children of this process that are tunnels: each leads a session of its own."""
    return [pid for pid in _children_of(os.getpid()) if os.getsid(pid) == pid]


def _descendants(pid: int) -> list[str]:
    return [Path(f"/proc/{child}/comm").read_text().strip() for child in _children_of(pid)]


def _children_of(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def _alive(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()
