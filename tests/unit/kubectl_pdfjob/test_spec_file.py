"""Settings from a file, and options that go over them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from kubectl_pdfjob.errors import UsageError
from kubectl_pdfjob.sources import WebDocument
from kubectl_pdfjob.spec_file import read_spec
from kubectl_pdfjob.submit import JobSettings, build_manifest

EXAMPLES = Path(__file__).parents[3] / "examples"
SOURCE = WebDocument("https://example.com/a.pdf")
GEMINI = {"model": "gemini-test", "apiKeySecretRef": {"name": "gemini"}}


def spec_of(settings: JobSettings) -> dict[str, Any]:
    spec: dict[str, Any] = build_manifest("a", "lib", SOURCE, settings)["spec"]
    return spec


@pytest.mark.parametrize("indent", ["", "whole"])
def test_a_whole_pdfjob_and_its_spec_alone_say_the_same(tmp_path: Path, indent: str) -> None:
    path = tmp_path / "spec.yaml"
    spec = "parallelism: 2\nsource: {http: {url: x}}\n"
    whole = "kind: PdfJob\nspec:\n  parallelism: 2\n  source: {http: {url: x}}\n"
    path.write_text(whole if indent else spec)
    assert read_spec(path) == {"parallelism": 2}


def test_the_example_of_a_language_model_can_be_given_as_it_is() -> None:
    settings = JobSettings(spec=read_spec(EXAMPLES / "pdfjob-gemini.yaml"))
    spec = spec_of(settings)
    assert spec["source"] == {"http": {"url": SOURCE.url}}
    assert spec["processor"]["gemini"]["apiKeySecretRef"]["name"] == "gemini"


def test_options_win_over_the_file_and_leave_the_rest_of_it() -> None:
    from_file = {"parallelism": 2, "chunking": {"pagesPerChunk": 10, "overlapPages": 2}, "priority": 7}
    spec = spec_of(JobSettings(parallelism=8, pages_per_chunk=20, spec=from_file))
    assert spec == {
        "source": {"http": {"url": SOURCE.url}},
        "parallelism": 8,
        "chunking": {"pagesPerChunk": 20, "overlapPages": 2},
        "priority": 7,
    }


def test_the_language_goes_to_the_language_model_of_the_file() -> None:
    spec = spec_of(JobSettings(language="en", spec={"processor": {"gemini": GEMINI}}))
    assert spec["processor"] == {"gemini": {**GEMINI, "language": "en"}}


def test_the_account_that_pays_is_named_by_an_option_and_what_to_reserve_by_another() -> None:
    spec = spec_of(JobSettings(credit_account="books", estimated_tokens=400_000))
    assert spec["creditAccountRef"] == {"name": "books", "estimatedTokens": 400_000}
    from_file = {"creditAccountRef": {"name": "books"}}
    assert spec_of(JobSettings(estimated_tokens=9, spec=from_file))["creditAccountRef"]["name"] == "books"
    assert "creditAccountRef" not in spec_of(JobSettings())


@pytest.mark.parametrize(
    ("text", "message"),
    [("kind: Secret\n", "is a Secret"), ("a: [\n", "is no YAML"), ("- a\n", "does not hold the spec")],
)
def test_another_file_is_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "spec.yaml"
    path.write_text(text)
    with pytest.raises(UsageError, match=message):
        read_spec(path)
