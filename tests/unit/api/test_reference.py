"""The API reference names everything a user may meet."""

from __future__ import annotations

import pytest

from pdfjob_api.conditions import JobCondition, Reason
from pdfjob_api.errors import CHUNK_CODES, JOB_CODES, ChunkCode, ExitCode, JobCode
from pdfjob_api.reference import reference


@pytest.fixture(scope="module")
def lines() -> list[str]:
    return reference().splitlines()


@pytest.mark.parametrize("constant", [*JobCondition, *Reason, *ChunkCode, *JobCode])
def test_every_constant_has_a_row_that_explains_it(lines: list[str], constant: str) -> None:
    rows = [line for line in lines if line.startswith(f"| `{constant}` |")]
    assert rows
    for row in rows:
        cells = [cell.strip() for cell in row.strip("|").split("|")]
        assert cells[1]


@pytest.mark.parametrize("code", ExitCode)
def test_every_exit_code_has_a_row(lines: list[str], code: ExitCode) -> None:
    [row] = [line for line in lines if line.startswith(f"| {int(code)} |")]
    assert row.strip("| ").count("|") >= 1


def test_error_rows_say_what_to_do(lines: list[str]) -> None:
    for code, rule in [*CHUNK_CODES.items(), *JOB_CODES.items()]:
        assert any(line.startswith(f"| `{code}` | {rule.message} |") and rule.advice in line for line in lines)


def test_a_field_shows_type_default_bounds_and_description(lines: list[str]) -> None:
    assert "| `chunking.pagesPerChunk` | integer | `50` | 1 to 1000 | Pages of one chunk, 1 to 1000. |" in lines
    assert any(line.startswith("| `source` | object | required |") for line in lines)
