"""A process is recognised by pid, start time and boot; a reused pid is never touched."""

import dataclasses
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from devcluster.errors import DevclusterError
from devcluster.paths import Paths
from devcluster.processes import (
    MARKER,
    Part,
    ProcessTable,
    boot_id,
    end_process,
    is_alive,
    marked_processes,
    start_ticks,
)

SLEEPER = (sys.executable, "-c", "import time; time.sleep(60)")


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    return Paths(cache=tmp_path / "cache", state=tmp_path / "state", run=tmp_path / "run")


@pytest.fixture
def table(paths: Paths) -> Iterator[ProcessTable]:
    table = ProcessTable(paths)
    yield table
    for name in ("part", "other"):
        table.stop(name)


def fake_process(proc: Path, pid: int, stat: str, environ: bytes = b"", cmdline: bytes = b"") -> None:
    (proc / str(pid)).mkdir(parents=True)
    (proc / str(pid) / "stat").write_text(stat)
    (proc / str(pid) / "environ").write_bytes(environ)
    (proc / str(pid) / "cmdline").write_bytes(cmdline)


def stat_line(pid: int, command: str, state: str, ticks: int) -> str:
    return f"{pid} ({command}) {state} " + " ".join(["0"] * 18) + f" {ticks} 0 0"


def test_started_part_is_running_until_it_is_stopped(table: ProcessTable) -> None:
    record = table.start(Part("part", SLEEPER))
    assert table.is_running("part")
    assert table.stop("part") is True
    assert start_ticks(record.pid) is None
    assert not table.is_running("part")


def test_record_whose_pid_was_reused_is_dead_and_the_new_owner_survives_stop(table: ProcessTable, paths: Paths) -> None:
    stranger = subprocess.Popen(SLEEPER)
    try:
        record = table.start(Part("part", SLEEPER))
        end_process(record.pid, timeout=5)
        earlier = (start_ticks(stranger.pid) or 0) - 1
        reused = dataclasses.replace(record, pid=stranger.pid, start_ticks=earlier)
        table._write(reused)
        assert not table.is_running("part")
        assert table.stop("part") is False
        assert stranger.poll() is None
        assert not (paths.records / "part.json").exists()
    finally:
        stranger.kill()
        stranger.wait()


def test_record_of_an_earlier_boot_is_dead(table: ProcessTable) -> None:
    record = table.start(Part("part", SLEEPER))
    assert is_alive(record)
    assert not is_alive(dataclasses.replace(record, boot_id="another-boot"))


def test_zombie_counts_as_dead(tmp_path: Path) -> None:
    fake_process(tmp_path, 7, stat_line(7, "etcd", "Z", 1234))
    fake_process(tmp_path, 8, stat_line(8, "etcd", "S", 1234))
    assert start_ticks(7, tmp_path) is None
    assert start_ticks(8, tmp_path) == 1234


def test_command_name_with_blanks_and_parentheses_does_not_shift_the_fields(tmp_path: Path) -> None:
    fake_process(tmp_path, 9, stat_line(9, "a) S (b", "S", 777))
    assert start_ticks(9, tmp_path) == 777


def test_process_killed_from_outside_is_noticed(table: ProcessTable) -> None:
    record = table.start(Part("part", SLEEPER))
    end_process(record.pid, timeout=5)
    assert table.record("part") is not None
    assert not table.is_running("part")


def test_starting_again_ends_the_older_process_even_when_its_record_is_lost(table: ProcessTable, paths: Paths) -> None:
    first = table.start(Part("part", SLEEPER))
    (paths.records / "part.json").unlink()
    second = table.start(Part("part", SLEEPER))
    assert start_ticks(first.pid) is None
    assert start_ticks(second.pid) == second.start_ticks


def test_marker_finds_only_this_clusters_processes(tmp_path: Path) -> None:
    proc, state = tmp_path / "proc", tmp_path / "state"
    mine = f"PATH=/bin\0{MARKER}={state}\0{MARKER}_PART=containerd\0".encode()
    fake_process(proc, 11, "", environ=mine, cmdline=b"/usr/bin/containerd\0--config\0")
    fake_process(proc, 12, "", environ=mine, cmdline=b"/usr/bin/containerd-shim-runc-v2\0-namespace\0")
    fake_process(proc, 13, "", environ=f"{MARKER}=/another/cluster\0".encode())
    fake_process(proc, 14, "", environ=b"PATH=/bin\0")
    (proc / "meminfo").write_text("")
    assert sorted(marked_processes(state, proc=proc)) == [11, 12]
    assert marked_processes(state, "containerd", proc) == [11]


def test_part_is_restarted_when_an_input_or_the_command_line_changes(tmp_path: Path) -> None:
    file = tmp_path / "config"
    file.write_text("a")
    part = Part("part", SLEEPER, inputs=(file,))
    before = part.digest
    assert part.digest == before
    file.write_text("b")
    assert part.digest != before
    assert Part("part", (*SLEEPER, "x")).digest != Part("part", SLEEPER).digest


def test_part_with_changed_input_is_not_current(table: ProcessTable, tmp_path: Path) -> None:
    file = tmp_path / "config"
    file.write_text("a")
    part = Part("part", SLEEPER, inputs=(file,))
    table.start(part)
    assert table.is_current(part)
    file.write_text("b")
    assert not table.is_current(part)


def test_waiting_for_a_part_that_dies_shows_the_end_of_its_log(table: ProcessTable) -> None:
    table.start(Part("part", (sys.executable, "-c", "print('no such database'); raise SystemExit(3)")))
    with pytest.raises(DevclusterError, match=r"part died while starting(.|\n)*no such database"):
        table.wait_until("part", lambda: False, 20, "opening")


def test_waiting_for_a_part_gives_up_after_its_time(table: ProcessTable) -> None:
    table.start(Part("part", SLEEPER))
    with pytest.raises(DevclusterError, match="did not happen within 0 s"):
        table.wait_until("part", lambda: False, 0.2, "opening")


def test_process_that_ignores_sigterm_is_killed() -> None:
    stubborn = subprocess.Popen(
        (
            sys.executable,
            "-c",
            "import signal,time; signal.signal(15, signal.SIG_IGN); print(1,flush=True); time.sleep(60)",
        ),
        stdout=subprocess.PIPE,
    )
    assert stubborn.stdout is not None
    stubborn.stdout.readline()
    start = time.monotonic()
    end_process(stubborn.pid, timeout=0.3)
    assert start_ticks(stubborn.pid) is None
    assert time.monotonic() - start >= 0.3
    stubborn.stdout.close()
    stubborn.wait()


def test_half_written_record_means_not_known(table: ProcessTable, paths: Paths) -> None:
    paths.records.mkdir(parents=True)
    (paths.records / "part.json").write_text('{"name": "part", "pi')
    assert table.record("part") is None


def test_boot_id_is_this_machines() -> None:
    assert boot_id() == Path("/proc/sys/kernel/random/boot_id").read_text().strip()
