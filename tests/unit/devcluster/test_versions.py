"""Versions stand once, in go.mod; a build's key follows everything that goes into it."""

import re
import shutil
from pathlib import Path

import pytest

from devcluster import versions
from devcluster.errors import DevclusterError
from devcluster.gobuild import go_version
from devcluster.versions import COMPONENTS, KUBERNETES, Component


@pytest.mark.parametrize("component", COMPONENTS, ids=lambda component: component.name)
def test_every_component_has_a_pinned_version_and_checksums(component: Component) -> None:
    assert re.fullmatch(r"v\d+(\.\d+)*", component.version)
    if component.module:
        assert f"{component.module} {component.version} h1:" in (component.folder / "go.sum").read_text()


def test_kubernetes_is_1_35_and_its_staging_modules_match() -> None:
    assert KUBERNETES.version.startswith("v1.35.")
    text = (KUBERNETES.folder / "go.mod").read_text()
    replaced = re.findall(r"^\tk8s\.io/\S+ => k8s\.io/\S+ (v\S+)$", text, re.MULTILINE)
    assert len(replaced) > 25
    assert set(replaced) == {KUBERNETES.version.replace("v1.", "v0.")}


def test_every_program_of_kubernetes_is_in_its_tools_file() -> None:
    tools = (KUBERNETES.folder / "tools.go").read_text()
    assert [package for package in KUBERNETES.packages if f'"{package}"' not in tools] == []


def test_key_changes_with_the_checksums(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(KUBERNETES.folder, tmp_path / "kubernetes")
    monkeypatch.setattr(versions, "GO_FOLDER", tmp_path)
    same = Component(
        "kubernetes", KUBERNETES.module, KUBERNETES.packages, KUBERNETES.version_variables, KUBERNETES.tags
    )
    assert same.key == KUBERNETES.key
    with (tmp_path / "kubernetes" / "go.sum").open("a") as sums:
        sums.write("example.com/x v1.0.0 h1:AAAA\n")
    changed = Component(
        "kubernetes", KUBERNETES.module, KUBERNETES.packages, KUBERNETES.version_variables, KUBERNETES.tags
    )
    assert changed.key != KUBERNETES.key
    assert changed.key.startswith(f"kubernetes-{KUBERNETES.version}-")


def test_version_reaches_the_programs() -> None:
    assert f"-X k8s.io/component-base/version.gitVersion={KUBERNETES.version}" in KUBERNETES.linker_flags
    assert "version.gitMinor=35" in KUBERNETES.linker_flags


def test_module_missing_from_go_mod_is_named() -> None:
    with pytest.raises(DevclusterError, match=r"does not require example\.com/nothing"):
        _ = Component("etcd", "example.com/nothing", (".",)).version


@pytest.mark.parametrize(
    ("text", "version"), [("go1.26.8", (1, 26)), ("go version go1.25 linux/amd64", (1, 25)), ("go1.27rc1", (1, 27))]
)
def test_go_version_is_read(text: str, version: tuple[int, int]) -> None:
    assert go_version(text) == version


def test_text_without_a_go_version_is_refused() -> None:
    with pytest.raises(DevclusterError, match="Cannot read a Go version"):
        go_version("gcc 12")
