"""The control group that holds every container of the cluster: whatever is inside is ours."""

import os
from pathlib import Path

from .processes import kill_all

CGROUP_ROOT = "pdfjob-devcluster"
_FILESYSTEM = Path("/sys/fs/cgroup")
_V2_CONTROLLERS = ("cpu", "cpuset", "memory", "pids")


def hierarchies(filesystem: Path = _FILESYSTEM) -> list[Path]:
    """Return the folder of every cgroup hierarchy: one for version 2, one per controller for version 1."""
    if (filesystem / "cgroup.controllers").exists():
        return [filesystem]
    return sorted(folder for folder in filesystem.iterdir() if (folder / "cgroup.procs").exists())


def ensure_cgroup_root(filesystem: Path = _FILESYSTEM) -> None:
    """Create the cluster's group in every hierarchy; kubelet refuses to start without it."""
    for hierarchy in hierarchies(filesystem):
        group = hierarchy / CGROUP_ROOT
        control = hierarchy / "cgroup.subtree_control"
        if hierarchy == filesystem:
            wanted = " ".join(f"+{name}" for name in _V2_CONTROLLERS)
            control.write_text(wanted)
            group.mkdir(exist_ok=True)
            (group / "cgroup.subtree_control").write_text(wanted)
            continue
        group.mkdir(exist_ok=True)
        for name in ("cpuset.cpus", "cpuset.mems"):
            # Version 1 gives a new group no processors at all.
            if (group / name).exists() and not (group / name).read_text().strip():
                (group / name).write_text((hierarchy / name).read_text())


def contained_processes(filesystem: Path = _FILESYSTEM) -> list[int]:
    """Return the pids of every process in the cluster's containers."""
    pids: set[int] = set()
    for hierarchy in hierarchies(filesystem):
        for folder, _, files in os.walk(hierarchy / CGROUP_ROOT):
            if "cgroup.procs" in files:
                try:
                    pids.update(map(int, (Path(folder) / "cgroup.procs").read_text().split()))
                except OSError:
                    continue  # the group went away, or (version 2) is a threaded one
    return sorted(pids - {0})


def end_containers() -> int:
    """Kill every process in the cluster's containers and return how many there were."""
    total = 0
    while pids := contained_processes():
        kill_all(pids)
        total += len(pids)
    return total


def remove_groups(filesystem: Path = _FILESYSTEM, *, keep_root: bool) -> None:
    """Remove the empty groups, deepest first."""
    for hierarchy in hierarchies(filesystem):
        root = hierarchy / CGROUP_ROOT
        for folder, _, _ in os.walk(root, topdown=False):
            if keep_root and Path(folder) == root:
                continue
            try:
                Path(folder).rmdir()
            except FileNotFoundError:
                continue
