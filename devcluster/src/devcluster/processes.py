"""Starts, recognises and ends the cluster's processes.

A process is known by its pid together with its start time and the machine's boot id: a pid
alone may belong to somebody else by the time it is looked at.
"""

import hashlib
import json
import os
import resource
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from .errors import DevclusterError
from .logs import tail
from .paths import Paths

MARKER = "PDFJOB_DEVCLUSTER"
"""Environment variable in every process of the cluster; its value is the state folder.
It finds processes whose record was lost, and containerd's shims, which inherit it."""

_OPEN_FILES = 1_048_576
_PATIENCE = 3.0
"""Seconds between SIGTERM and SIGKILL. The API server would wait a minute for its watchers; etcd ends at once."""


@dataclass(frozen=True)
class Part:
    """A long-running program of the cluster: what to run."""

    name: str
    argv: tuple[str, ...]
    inputs: tuple[Path, ...] = ()
    """Files the program reads at start; when one changes, the part is restarted."""

    @property
    def digest(self) -> str:
        """Changes when the command line, the program or an input file changes."""
        digest = hashlib.sha256(repr(self.argv).encode())
        program = Path(self.argv[0]).stat()
        digest.update(f"{program.st_size} {program.st_mtime_ns}".encode())
        for file in self.inputs:
            digest.update(hashlib.sha256(file.read_bytes()).digest())
        return digest.hexdigest()[:16]


@dataclass(frozen=True)
class Record:
    """A started process, as kept on disk."""

    name: str
    pid: int
    start_ticks: int
    """Field 22 of ``/proc/PID/stat``: clock ticks since boot."""
    boot_id: str
    digest: str
    log: str
    started: float
    """Wall clock, seconds since the epoch."""


def boot_id(proc: Path = Path("/proc")) -> str:
    """Return the kernel's random id of this boot."""
    return (proc / "sys/kernel/random/boot_id").read_text().strip()


def start_ticks(pid: int, proc: Path = Path("/proc")) -> int | None:
    """Return when the process started, or None when there is none or only its zombie."""
    try:
        stat = (proc / str(pid) / "stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The command name stands in parentheses and may itself hold blanks and parentheses.
    fields = stat.rpartition(")")[2].split()
    state, started = fields[0], int(fields[19])
    return None if state in "ZX" else started


def is_alive(record: Record, proc: Path = Path("/proc")) -> bool:
    """Tell whether the very process of the record still runs."""
    return record.boot_id == boot_id(proc) and start_ticks(record.pid, proc) == record.start_ticks


class ProcessTable:
    """The processes of one cluster."""

    def __init__(self, paths: Paths) -> None:
        self._paths = paths

    def record(self, name: str) -> Record | None:
        """Return what is recorded under the name, alive or not."""
        try:
            return Record(**json.loads((self._paths.records / f"{name}.json").read_text()))
        except (FileNotFoundError, ValueError, TypeError):
            return None  # never started, or a half-written file of a killed run: both mean "not known"

    def is_running(self, name: str) -> bool:
        """Tell whether the named part runs."""
        record = self.record(name)
        return record is not None and is_alive(record)

    def is_current(self, part: Part) -> bool:
        """Tell whether the part runs with this very command line and these inputs."""
        record = self.record(part.name)
        return record is not None and is_alive(record) and record.digest == part.digest

    def start(self, part: Part) -> Record:
        """Start the part in a session of its own; an older process of the same part is ended first."""
        self.stop(part.name)
        for pid in marked_processes(self._paths.state, part.name):
            end_process(pid, timeout=_PATIENCE)
        log = self._paths.logs / f"{part.name}.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        if log.exists():
            log.replace(log.with_suffix(".previous.log"))
        environment = {**os.environ, MARKER: str(self._paths.state), f"{MARKER}_PART": part.name}
        _raise_open_files_limit()
        with log.open("wb") as sink:
            process = subprocess.Popen(
                part.argv,
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=sink,
                env=environment,
                cwd="/",
                start_new_session=True,
            )
        record = Record(
            name=part.name,
            pid=process.pid,
            start_ticks=start_ticks(process.pid) or 0,
            boot_id=boot_id(),
            digest=part.digest,
            log=str(log),
            started=time.time(),
        )
        self._write(record)
        return record

    def stop(self, name: str, timeout: float = _PATIENCE) -> bool:
        """End the part: SIGTERM, then SIGKILL after `timeout` seconds. Tell whether it was running."""
        record = self.record(name)
        running = record is not None and is_alive(record)
        if record is not None and running:
            end_process(record.pid, timeout=timeout)
        (self._paths.records / f"{name}.json").unlink(missing_ok=True)
        return running

    def wait_until(self, name: str, ready: Callable[[], bool], timeout: float, what: str) -> None:
        """Wait for a condition of a part.

        Raises
        ------
        DevclusterError
            The part died first, or `timeout` seconds passed; the message ends with its log.
        """
        deadline = time.monotonic() + timeout
        log = self._paths.logs / f"{name}.log"
        while not ready():
            if not self.is_running(name):
                raise DevclusterError(f"{name} died while starting ({what}).\n{tail(log)}")
            if time.monotonic() > deadline:
                raise DevclusterError(f"{name}: {what} did not happen within {timeout:.0f} s.\n{tail(log)}")
            time.sleep(0.1)

    def _write(self, record: Record) -> None:
        self._paths.records.mkdir(parents=True, exist_ok=True)
        target = self._paths.records / f"{record.name}.json"
        partial = target.with_suffix(".partial")
        partial.write_text(json.dumps(asdict(record)))
        partial.replace(target)


def end_process(pid: int, timeout: float) -> None:
    """SIGTERM, wait, SIGKILL, wait. A process that is gone already is fine."""
    started = start_ticks(pid)
    if started is None:
        return
    for number, patience in ((signal.SIGTERM, timeout), (signal.SIGKILL, 10.0)):
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            return
        deadline = time.monotonic() + patience
        while time.monotonic() < deadline:
            _reap(pid)
            if start_ticks(pid) != started:
                return
            time.sleep(0.02)
    raise DevclusterError(f"Process {pid} does not end, not even by SIGKILL (is its disk stuck?).")


def kill_all(pids: Sequence[int], timeout: float = 10) -> None:
    """SIGKILL several processes at once and wait until all are gone."""
    started = {pid: start_ticks(pid) for pid in pids}
    for pid in pids:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
    deadline = time.monotonic() + timeout
    while any(ticks is not None and start_ticks(pid) == ticks for pid, ticks in started.items()):
        if time.monotonic() > deadline:
            raise DevclusterError(f"Some of the processes {sorted(pids)} do not end by SIGKILL.")
        time.sleep(0.02)


def marked_processes(state: Path, part: str | None = None, proc: Path = Path("/proc")) -> list[int]:
    """Find processes that carry this cluster's marker, whatever the records say.

    Parameters
    ----------
    state
        The cluster's state folder, the marker's value.
    part
        Only processes of this part, and not the shims that inherited its environment.
    """
    found = []
    for pid, environment in _environments(proc):
        if environment.get(MARKER) != str(state):
            continue
        if part is not None and (environment.get(f"{MARKER}_PART") != part or is_shim(pid, proc)):
            continue
        found.append(pid)
    return found


def is_shim(pid: int, proc: Path = Path("/proc")) -> bool:
    """Tell whether the process is one of containerd's shims (they outlive containerd on purpose)."""
    try:
        return b"containerd-shim" in (proc / str(pid) / "cmdline").read_bytes().split(b"\0")[0]
    except (FileNotFoundError, ProcessLookupError):
        return False


def _environments(proc: Path) -> Iterator[tuple[int, Mapping[str, str]]]:
    for entry in proc.iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            raw = (entry / "environ").read_bytes()
        except OSError:
            continue  # gone meanwhile, a kernel thread, or somebody else's
        pairs = (item.partition("=") for item in raw.decode(errors="replace").split("\0"))
        yield int(entry.name), {name: value for name, _, value in pairs}


def _reap(pid: int) -> None:
    """Collect the process if it is our own child, else its zombie would look like a process."""
    try:
        os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        return


def _raise_open_files_limit() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    limit = _OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, _OPEN_FILES)
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
