"""The Dockerfiles as users build them."""

import json
import re
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[3]
FILES = {"Dockerfile.operator": "pdfjob_operator", "Dockerfile.runner": "chunk_runner"}


@pytest.fixture(params=FILES)
def dockerfile(request: pytest.FixtureRequest) -> str:
    return (REPOSITORY / str(request.param)).read_text()


def test_base_image_can_be_chosen_and_has_a_public_default(dockerfile: str) -> None:
    assert "ARG BASE_IMAGE=python:3.13-slim" in dockerfile
    assert set(re.findall(r"^FROM (\S+)", dockerfile, re.MULTILINE)) == {"${BASE_IMAGE}", "dependencies"}


def test_final_stage_runs_as_a_numeric_user(dockerfile: str) -> None:
    assert re.findall(r"^USER (\S+)", dockerfile.rpartition("FROM ")[2], re.MULTILINE) == ["65532:65532"]


@pytest.mark.parametrize(("name", "module"), FILES.items())
def test_entry_point_is_the_component_itself(name: str, module: str) -> None:
    text = (REPOSITORY / name).read_text()
    match = re.search(r"^ENTRYPOINT (\[.*\])$", text, re.MULTILINE)
    assert match is not None
    assert json.loads(match.group(1)) == ["/opt/venv/bin/python", "-m", module]


def test_dependencies_come_before_our_code(dockerfile: str) -> None:
    assert dockerfile.index("--constraints requirements.lock") < dockerfile.index("COPY api/ api/")


def test_uv_is_the_one_that_the_makefile_uses(dockerfile: str) -> None:
    used = re.search(r"^UV_VERSION := (\S+)$", (REPOSITORY / "Makefile").read_text(), re.MULTILINE)
    assert used is not None
    assert f"ARG UV_VERSION={used.group(1)}\n" in dockerfile
