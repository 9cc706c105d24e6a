"""The examples are what the API server takes."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.cluster import REPOSITORY, kubectl

EXAMPLES = sorted((REPOSITORY / "examples").glob("*.yaml"))


def test_there_are_examples() -> None:
    names = {path.name for path in EXAMPLES}
    assert {"pdfjob.yaml", "pdfjob-gemini.yaml", "pdfjob-credits.yaml", "http.yaml", "custom-processor.yaml"} <= names


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_the_server_takes_it_with_every_field_known(crds: None, path: Path) -> None:
    done = kubectl("create", "--dry-run=server", "--validate=strict", "-f", str(path))

    assert "created (server dry run)" in done.stdout
    assert "Warning" not in done.stderr
