"""What is done with the pages of a chunk: one module for each processor, behind one small Protocol."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from types import MappingProxyType
from typing import Final, Protocol, cast

from chunk_runner.failures import RunnerError
from chunk_runner.logs import Log
from chunk_runner.service import ServiceUse
from chunk_runner.stopping import Stop
from pdfjob_api.contract import MissingPage, Record, Task, Tokens
from pdfjob_api.errors import ExitCode

Window = tuple[int, ...]
"""Pages that are processed together, by their numbers in the document; one item of work."""


@dataclass(frozen=True, slots=True)
class Finished:
    """What came out of a window or a part of it: its pages, by a record, as missing, or as blank.

    One without pages holds the tokens of an answer that was thrown away.
    """

    pages: Window
    records: Sequence[Record] = ()
    missing: Sequence[MissingPage] = ()
    tokens: Tokens = field(default_factory=Tokens)
    paid: bool = False
    """Whether it cost money: then it is saved before anything else is paid for."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a processor needs to know of the start that it works for."""

    stop: Stop
    service: ServiceUse
    log: Log
    api_key_file: Path | None
    deadline: float
    """Value of ``time.monotonic()`` at the soft timeout."""


class Processor(Protocol):
    """Turns pages into records. Made for one chunk, used by one thread, closed at the end.

    The records of a page must not depend on how the document was cut, nor on which pages an earlier start finished.
    """

    def windows(self, remaining: Sequence[int]) -> Iterable[Window]:
        """Divide the pages that remain, ascending but perhaps with gaps, into windows."""
        ...

    def process(self, window: Window) -> Iterable[Finished]:
        """Process one window, piece by piece; every page of it is in exactly one piece.

        What is paid is recorded and saved before the next piece is asked for.

        Raises
        ------
        RunnerError
            With the exit code of the contract.
        """
        ...

    def close(self) -> None:
        """Release the chunk PDF."""
        ...


_FACTORIES: Final = MappingProxyType(
    {
        "local": "chunk_runner.processors.local:open_local",
        "gemini": "chunk_runner.processors.gemini.processor:open_gemini",
    }
)
"""By the field of ``processor`` that is set; imported only when used."""


def open_processor(task: Task, pdf: Path, surroundings: Surroundings) -> Processor:
    """Make the processor that the task names.

    Raises
    ------
    RunnerError
        `ExitCode.INVALID_TASK` when this image has no such processor, `ExitCode.INVALID_PDF` when the chunk cannot
        be opened, `ExitCode.AUTH_ERROR` when the key of a language service is missing.
    """
    named = [name for name in type(task.processor).model_fields if getattr(task.processor, name) is not None]
    if len(named) != 1 or named[0] not in _FACTORIES:
        raise RunnerError(
            ExitCode.INVALID_TASK,
            f"the task names the processor {', '.join(named) or 'none'}; this image has {', '.join(_FACTORIES)}",
        )
    module, _, name = _FACTORIES[named[0]].partition(":")
    factory = cast("Callable[[Task, Path, Surroundings], Processor]", getattr(import_module(module), name))
    return factory(task, pdf, surroundings)
