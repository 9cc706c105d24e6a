"""CLUSTER=current builds by the user's own tool and pushes only where the user said."""

from pathlib import Path

import pytest

from devcluster import current
from devcluster.errors import DevclusterError
from devcluster.images import PRODUCT_IMAGES, read_record
from devcluster.paths import Paths
from devcluster.progress import complain, note

REPOSITORY = Path(__file__).parents[3]


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    return Paths(cache=tmp_path / "cache", state=tmp_path / "s", run=tmp_path / "r")


@pytest.fixture
def calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A program named docker that writes down how it was called; the only program there is."""
    log = tmp_path / "calls"
    program = tmp_path / "bin" / "docker"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\necho "$@" >> {log}\n[ -z "$FAIL" ] || exit 3\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.parent))
    for name in ("IMAGE_REGISTRY", "BASE_IMAGE", "FAIL"):
        monkeypatch.delenv(name, raising=False)
    return log


def test_with_a_registry_images_are_built_and_pushed_there(
    paths: Paths, calls: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("IMAGE_REGISTRY", "registry.example/team/")
    built = current.build_images(paths, REPOSITORY)
    assert set(built) == {image.name for image in PRODUCT_IMAGES}
    assert all(reference.startswith("registry.example/team/pdfjob-") for reference in built.values())
    lines = calls.read_text().splitlines()
    assert [line.split()[0] for line in lines] == ["build", "push"] * len(PRODUCT_IMAGES)
    assert [line.split()[1] for line in lines if line.startswith("push")] == list(built.values())
    assert read_record(paths) == built


def test_without_a_registry_nothing_is_pushed_and_the_way_to_load_is_said(
    paths: Paths, calls: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    built = current.build_images(paths, REPOSITORY)
    assert "push" not in calls.read_text()
    assert f"kind load docker-image {built['operator']}" in capfd.readouterr().err


def test_chosen_base_image_reaches_the_build_and_the_tag(
    paths: Paths, calls: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = current.build_images(paths, REPOSITORY)
    assert "BASE_IMAGE" not in calls.read_text()
    monkeypatch.setenv("BASE_IMAGE", "python:3.12-slim")
    assert current.build_images(paths, REPOSITORY)["runner"] != before["runner"]
    assert "--build-arg BASE_IMAGE=python:3.12-slim" in calls.read_text()


@pytest.mark.usefixtures("calls")
def test_failed_build_says_which_command(paths: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAIL", "1")
    with pytest.raises(DevclusterError, match=r"docker build -f Dockerfile.operator .*exit 3"):
        current.build_images(paths, REPOSITORY)


def test_without_a_builder_the_choice_is_named(paths: Paths, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(DevclusterError, match="docker, podman, buildah"):
        current.build_images(paths, REPOSITORY)


def test_kubeconfig_is_what_kubectl_would_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBECONFIG", "/a:/b")
    assert current.kubeconfig() == "/a:/b"
    monkeypatch.delenv("KUBECONFIG")
    assert current.kubeconfig() == str(Path.home() / ".kube" / "config")


def test_messages_with_brackets_are_printed_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    complain("listen tcp [::]:443: bind [/broken] [red]")
    note("[/x] and [y]")
    printed = capsys.readouterr().err
    assert "[::]:443: bind [/broken] [red]" in printed
    assert "[/x] and [y]" in printed
