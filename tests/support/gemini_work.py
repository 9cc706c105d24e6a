"""The Gemini processor against the stand-in of the API on the wire, within this process."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from chunk_runner.failures import RunnerError
from chunk_runner.ledger import Ledger
from chunk_runner.logs import Log
from chunk_runner.processors import Finished, Surroundings, open_processor
from chunk_runner.service import ServiceUse
from chunk_runner.stopping import Stop
from gemini_stub import Scenario, ScriptLine, Stub
from pdfjob_api.contract import Task
from pdfjob_api.gemini import GeminiProcessor, SecretKeyReference
from pdfjob_api.processing import Processor
from tests.support.runner_process import make_task
from tests.support.typeset import Sheet, typeset, wrap


def gemini(base_url: str | None, **settings: Any) -> Processor:
    """Return a processor of the API."""
    return Processor(
        gemini=GeminiProcessor(
            model=settings.pop("model", "gemini-3.5-flash"),
            api_key_secret_ref=SecretKeyReference(name="gemini"),
            base_url=base_url,
            **settings,
        )
    )


MIDDLE = (
    "It goes on for a while with words enough for several lines, because a page that is as good as empty may well be "
    "answered without any sentence, and this one may not."
)


def page_of(number: int) -> str:
    """Return the text of a page of the book."""
    return f"Page {number} begins so. {MIDDLE} The last one of {number}."


def book(pages: int, blank: Sequence[int] = ()) -> bytes:
    """Return a PDF whose pages name themselves."""
    return typeset([Sheet() if page in blank else Sheet(wrap(page_of(page))) for page in range(1, pages + 1)])


def fault(name: str, **line: Any) -> Scenario:
    """Return a scenario with one fault."""
    return Scenario(script=(ScriptLine(name, **line),))


@dataclass
class Work:
    """One start of the processor: what it yields, and what it tells of the service."""

    task: Task
    folder: Path
    pdf: bytes
    key: str
    seconds: float = 600
    """Until the soft timeout."""
    service: ServiceUse = field(default_factory=ServiceUse)
    stop: Stop = field(default_factory=Stop)
    pieces: list[Finished] = field(default_factory=list)

    def run(self, remaining: Sequence[int] | None = None) -> Ledger:
        """Process the pages and return the ledger."""
        path = self.folder / "chunk.pdf"
        path.write_bytes(self.pdf)
        key_file = self.folder / "api-key"
        key_file.write_text(self.key + "\n")
        ledger = Ledger(self.task)
        self.service.pace_seconds = self.task.pace_seconds
        around = Surroundings(
            stop=self.stop,
            service=self.service,
            log=Log(),
            api_key_file=key_file,
            deadline=time.monotonic() + self.seconds,
        )
        processor = open_processor(self.task, path, around)
        try:
            for window in processor.windows(ledger.remaining() if remaining is None else remaining):
                for piece in processor.process(window):
                    self.pieces.append(piece)
                    ledger.add(piece)
        finally:
            processor.close()
        return ledger


def work(stub: Stub, key: str, folder: Path, pages: int = 10, **options: Any) -> Work:
    """Return a start that asks the stub."""
    return work_at(stub.url, key, folder, pages, **options)


def work_at(url: str, key: str, folder: Path, pages: int = 10, **options: Any) -> Work:
    """Return a start on a book of some pages; ``options`` are those of the task and of the settings."""
    pdf = options.pop("pdf", None) or book(pages, options.pop("blank", ()))
    names = ("context_before", "context_after", "item_timeout_seconds", "pace_seconds", "repair", "lost_pages")
    fields = {name: options.pop(name) for name in names if name in options}
    first = options.pop("first", 1)
    last = options.pop("last", first + pages - 1 - fields.get("context_before", 0) - fields.get("context_after", 0))
    seconds = options.pop("seconds", 600)
    processor = options.pop("processor", None) or gemini(url, **options)
    return Work(make_task(pdf, first, last, processor=processor, **fields), folder, pdf, key, seconds=seconds)


def counts(stub: Stub, key: str) -> dict[str, Any]:
    """Return what the stub counted for a key."""
    found = stub.counts(key)
    assert found is not None
    return found


def fails(work: Work) -> RunnerError:
    """Run it; it must end with an error."""
    with pytest.raises(RunnerError) as caught:
        work.run()
    return caught.value
