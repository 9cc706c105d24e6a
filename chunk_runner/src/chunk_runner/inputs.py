"""What a start is given: the environment of the contract, read once and checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from pydantic import ValidationError

from pdfjob_api import contract
from pdfjob_api.contract import Task
from pdfjob_api.errors import ExitCode

from .failures import RunnerError

ENV_THROTTLE: Final = "RUNNER_THROTTLE_SECONDS_PER_PAGE"
"""Seconds to rest after each page, to be kind to a busy node; set by ``spec.runner.env``."""


@dataclass(frozen=True, slots=True)
class Inputs:
    """Task, URLs and settings of one start."""

    task: Task
    chunk_url: str = field(repr=False)
    previous_checkpoint_url: str | None = field(repr=False)
    checkpoint_url: str = field(repr=False)
    progress_url: str = field(repr=False)
    result_url: str = field(repr=False)
    api_key_file: Path | None
    """Of the processor; none when it needs no key."""
    throttle: float
    """Seconds of rest after each page."""


def read_inputs(environment: Mapping[str, str]) -> Inputs:
    """Read and check the environment.

    Raises
    ------
    RunnerError
        `ExitCode.INVALID_TASK` with the variable and what is wrong with it.
    """
    return Inputs(
        task=_read_task(_required(environment, contract.ENV_TASK)),
        chunk_url=_required(environment, contract.ENV_CHUNK_URL),
        previous_checkpoint_url=environment.get(contract.ENV_PREVIOUS_CHECKPOINT_URL) or None,
        checkpoint_url=_required(environment, contract.ENV_CHECKPOINT_URL),
        progress_url=_required(environment, contract.ENV_PROGRESS_URL),
        result_url=_required(environment, contract.ENV_RESULT_URL),
        api_key_file=_read_path(environment.get(contract.ENV_API_KEY_FILE)),
        throttle=_read_throttle(environment.get(ENV_THROTTLE, "0")),
    )


def termination_log(environment: Mapping[str, str]) -> Path:
    """Return where the last word goes, whatever else is wrong with the environment."""
    return Path(environment.get(contract.ENV_TERMINATION_LOG) or contract.TERMINATION_MESSAGE_PATH)


def _required(environment: Mapping[str, str], name: str) -> str:
    value = environment.get(name)
    if not value:
        raise RunnerError(
            ExitCode.INVALID_TASK, f"{name} is not set; the operator sets it, see docs/runner-contract.md"
        )
    return value


def _read_path(text: str | None) -> Path | None:
    return Path(text) if text else None


def _read_task(text: str) -> Task:
    try:
        task = Task.model_validate_json(text)
    except ValidationError as error:
        found = "; ".join(f"{'.'.join(map(str, part['loc'])) or 'task'}: {part['msg']}" for part in error.errors()[:5])
        raise RunnerError(ExitCode.INVALID_TASK, f"{contract.ENV_TASK} is not valid: {found}") from error
    if task.end_page < task.start_page or task.context_before >= task.start_page:
        pages = f"{task.start_page}-{task.end_page} with {task.context_before} before"
        raise RunnerError(ExitCode.INVALID_TASK, f"{contract.ENV_TASK} is not valid: no such pages: {pages}")
    return task


def _read_throttle(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds <= 3600:
        raise RunnerError(ExitCode.INVALID_TASK, f"{ENV_THROTTLE} must be seconds from 0 to 3600, not {text!r}")
    return seconds
