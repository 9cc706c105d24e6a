"""The real runner as a process, with a chunk of a PDF on a storage on the wire."""

from __future__ import annotations

import hashlib
import io
import json
import os
import subprocess
import sys
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pikepdf

from pdfjob_api.contract import Task
from pdfjob_api.processing import LocalProcessor, Processor, Repair
from tests.support.wire_storage import WireStorage


def cut(pdf: pikepdf.Pdf, first: int, last: int) -> bytes:
    """Return pages first to last (1-based, inclusive) as a PDF of their own."""
    with pikepdf.new() as part:
        with warnings.catch_warnings():
            # Named destinations get lost, which no text depends on.
            warnings.simplefilter("ignore", pikepdf.PageCopyWarning)
            part.pages.extend(pdf.pages[first - 1 : last])
        part.remove_unreferenced_resources()
        buffer = io.BytesIO()
        part.save(buffer, deterministic_id=True)
        return buffer.getvalue()


def make_task(pdf: bytes, first: int, last: int, **fields: Any) -> Task:
    """Return a task for pages first to last; ``fields`` are the rest."""
    return Task(
        namespace="default",
        job="book",
        chunk=fields.pop("chunk", 0),
        start=fields.pop("start", 1),
        start_page=first,
        end_page=last,
        sha256=fields.pop("sha256", hashlib.sha256(pdf).hexdigest()),
        size_bytes=fields.pop("size_bytes", len(pdf)),
        repair=fields.pop("repair", Repair.STRICT),
        processor=fields.pop("processor", Processor(local=LocalProcessor(language="en"))),
        soft_timeout_seconds=fields.pop("soft_timeout_seconds", 60),
        **fields,
    )


@dataclass
class RunnerProcess:
    """A runner that runs, or has run."""

    process: subprocess.Popen[str]
    termination_log: Path

    def end(self, timeout: float = 60) -> int:
        """Wait for its end and return the exit code."""
        self.output, _ = self.process.communicate(timeout=timeout)
        return self.process.returncode

    @property
    def log(self) -> list[dict[str, Any]]:
        """The log lines; each must be JSON."""
        return [json.loads(line) for line in self.output.splitlines()]

    def event(self, name: str) -> dict[str, Any]:
        """Return the only log line of an event."""
        (line,) = [line for line in self.log if line["event"] == name]
        return line

    @property
    def message(self) -> dict[str, Any]:
        """The termination message."""
        message: dict[str, Any] = json.loads(self.termination_log.read_bytes())
        return message


def start_runner(
    storage: WireStorage, task: Task | str, folder: Path, *, previous: str | None = None, **environment: str
) -> RunnerProcess:
    """Start ``python -m chunk_runner`` as its container would."""
    number = task.start if isinstance(task, Task) else 1
    log = folder / f"termination-{number}"
    urls = {
        "PDFJOB_CHUNK_URL": storage.url("chunk.pdf"),
        "PDFJOB_CHECKPOINT_URL": storage.url(f"checkpoint-a{number}"),
        "PDFJOB_PROGRESS_URL": storage.url(f"progress-a{number}"),
        "PDFJOB_RESULT_URL": storage.url(f"result-a{number}"),
    }
    if previous is not None:
        urls["PDFJOB_PREVIOUS_CHECKPOINT_URL"] = storage.url(previous)
    process = subprocess.Popen(
        [sys.executable, "-m", "chunk_runner"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=folder,
        env={
            "PATH": os.environ["PATH"],
            "TMPDIR": str(folder),
            "PDFJOB_TASK": task if isinstance(task, str) else json.dumps(task.wire()),
            "PDFJOB_TERMINATION_LOG": str(log),
            **urls,
            **environment,
        },
    )
    return RunnerProcess(process, log)
