"""An image's tag follows its sources, and nothing of this machine enters a build."""

from pathlib import Path

import pytest

from devcluster import baseimage
from devcluster.current import load_instructions
from devcluster.errors import DevclusterError
from devcluster.images import (
    KEPT_TAGS,
    OPERATOR,
    PRODUCT_IMAGES,
    RUNNER,
    build_arguments,
    content_tag,
    find_repository,
    read_record,
    recent,
    write_record,
)
from devcluster.paths import Paths

REPOSITORY = Path(__file__).parents[3]


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    for name in ("api/src/a.py", "operator/src/o.py", "chunk_runner/src/c.py"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_text(name)
    for name in ("Dockerfile.operator", "Dockerfile.runner", "requirements.lock", ".dockerignore"):
        (tmp_path / name).write_text(name)
    return tmp_path


def tags(repository: Path, base: str = "base:1") -> dict[str, str]:
    return {image.name: content_tag(repository, image.inputs, base) for image in PRODUCT_IMAGES}


@pytest.mark.parametrize(
    ("changed", "rebuilt"),
    [
        ("operator/src/o.py", {"operator"}),
        ("chunk_runner/src/c.py", {"runner"}),
        ("api/src/a.py", {"operator", "runner"}),
        ("requirements.lock", {"operator", "runner"}),
        ("Dockerfile.runner", {"runner"}),
        ("README.md", set()),
        ("operator/src/__pycache__/o.pyc", set()),
    ],
)
def test_change_of_a_source_changes_the_tags_of_the_images_it_is_in(
    repository: Path, changed: str, rebuilt: set[str]
) -> None:
    before = tags(repository)
    (repository / changed).parent.mkdir(exist_ok=True)
    (repository / changed).write_text("changed")
    after = tags(repository)
    assert {name for name in before if before[name] != after[name]} == rebuilt


def test_renamed_file_changes_the_tag(repository: Path) -> None:
    before = tags(repository)["operator"]
    (repository / "operator/src/o.py").rename(repository / "operator/src/p.py")
    assert tags(repository)["operator"] != before


def test_other_base_image_changes_the_tag(repository: Path) -> None:
    assert tags(repository, "base:1") != tags(repository, "base:2")


def test_every_input_of_the_images_exists_in_the_repository() -> None:
    missing = [name for image in PRODUCT_IMAGES for name in image.inputs if not (REPOSITORY / name).exists()]
    assert missing == []


def test_build_context_lets_every_input_through() -> None:
    ignore = (REPOSITORY / ".dockerignore").read_text().splitlines()
    folders = [name for name in (*OPERATOR.inputs, *RUNNER.inputs) if "/" in name or name.endswith(".lock")]
    assert [name for name in folders if f"!{name}" not in ignore] == []


def test_repository_is_found_from_below(repository: Path) -> None:
    assert find_repository(repository / "operator" / "src") == repository


def test_outside_the_repository_is_said(tmp_path: Path) -> None:
    with pytest.raises(DevclusterError, match="inside the pdfjob repository"):
        find_repository(tmp_path)


def test_only_named_settings_of_this_machine_enter_a_build() -> None:
    environment = {"PIP_FIND_LINKS": "/somewhere", "PIP_INDEX_URL": "https://mirror.example", "HOME": "/h"}
    assert build_arguments("base:1", environment) == {
        "BASE_IMAGE": "base:1",
        "PIP_INDEX_URL": "https://mirror.example",
    }
    assert build_arguments(None, {}) == {}


def test_history_keeps_the_latest_tags_in_order_of_use() -> None:
    history: list[str] = []
    for number in range(KEPT_TAGS + 3):
        history = recent(history, f"t{number}")
    assert len(history) == KEPT_TAGS
    assert history[-1] == f"t{KEPT_TAGS + 2}"
    assert recent(["a", "b", "c"], "a") == ["b", "c", "a"]


def test_record_says_what_was_built_last(tmp_path: Path) -> None:
    paths = Paths(cache=tmp_path, state=tmp_path / "s", run=tmp_path / "r")
    assert read_record(paths) == {}
    write_record(paths, {"operator": "x:1", "versitygw": "v:1"})
    write_record(paths, {"operator": "x:2"})
    assert read_record(paths) == {"operator": "x:2"}


def test_without_a_registry_the_way_to_load_is_given() -> None:
    assert "kind load docker-image localhost/pdfjob-runner:1" in load_instructions(
        "docker", ["localhost/pdfjob-runner:1"]
    )
    assert "kind load image-archive" in load_instructions("podman", ["localhost/pdfjob-runner:1"])


def test_mirror_of_the_machines_own_suite_is_taken() -> None:
    targets = "http://m.example/security/ bookworm-security\nfile:/x bookworm\nhttp://m.example/debian/ bookworm\n"
    assert baseimage.parse_mirror(targets, "bookworm") == "http://m.example/debian/"
    with pytest.raises(DevclusterError, match="no mirror for trixie"):
        baseimage.parse_mirror(targets, "trixie")


def test_machine_that_is_no_debian_is_told_to_name_a_base() -> None:
    assert baseimage.parse_suite('ID=debian\nVERSION_CODENAME="bookworm"\n') == "bookworm"
    with pytest.raises(DevclusterError, match="BASE_IMAGE="):
        baseimage.parse_suite("ID=fedora\n")


def test_base_image_is_another_for_other_packages_and_suites() -> None:
    references = {
        baseimage.PYTHON_BASE.reference("bookworm"),
        baseimage.PYTHON_BASE.reference("trixie"),
        baseimage.BaseImage("pdfjob-base", ("python3",)).reference("bookworm"),
    }
    assert len(references) == 3
