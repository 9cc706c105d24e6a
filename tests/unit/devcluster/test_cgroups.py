"""The cluster's own control group, on imitations of both kinds of file system."""

from pathlib import Path

import pytest

from devcluster.cgroups import CGROUP_ROOT, contained_processes, ensure_cgroup_root, hierarchies


@pytest.fixture
def version_1(tmp_path: Path) -> Path:
    for name in ("cpuset", "memory"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "cgroup.procs").write_text("1\n")
    (tmp_path / "cpuset" / "cpuset.cpus").write_text("0-1\n")
    (tmp_path / "unmounted").mkdir()
    return tmp_path


@pytest.fixture
def version_2(tmp_path: Path) -> Path:
    (tmp_path / "cgroup.controllers").write_text("cpu memory\n")
    (tmp_path / "cgroup.procs").write_text("1\n")
    (tmp_path / "cgroup.subtree_control").write_text("")
    return tmp_path


def test_each_mounted_controller_of_version_1_is_a_hierarchy(version_1: Path) -> None:
    assert [folder.name for folder in hierarchies(version_1)] == ["cpuset", "memory"]


def test_version_2_is_one_hierarchy_whose_controllers_are_passed_on(version_2: Path) -> None:
    ensure_cgroup_root(version_2)
    assert hierarchies(version_2) == [version_2]
    for folder in (version_2, version_2 / CGROUP_ROOT):
        assert "+memory" in (folder / "cgroup.subtree_control").read_text()


def test_new_group_of_version_1_gets_its_parents_processors(version_1: Path) -> None:
    group = version_1 / "cpuset" / CGROUP_ROOT
    group.mkdir()
    (group / "cpuset.cpus").write_text("\n")  # as the kernel makes it
    ensure_cgroup_root(version_1)
    assert (group / "cpuset.cpus").read_text() == "0-1\n"
    assert (version_1 / "memory" / CGROUP_ROOT).is_dir()


def test_only_processes_inside_the_group_are_ours(version_1: Path) -> None:
    pod = version_1 / "memory" / CGROUP_ROOT / "kubepods" / "pod1"
    pod.mkdir(parents=True)
    (pod / "cgroup.procs").write_text("41\n42\n0\n")
    (version_1 / "memory" / "kubepods").mkdir()
    (version_1 / "memory" / "kubepods" / "cgroup.procs").write_text("99\n")
    assert contained_processes(version_1) == [41, 42]
