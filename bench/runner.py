"""The local processor: pages per second and core, closeness to pdftotext, and where the start-up time goes.

``make bench NAME=runner``. The goals are those of the project: at least 300 pages a second and core on the Debian
Policy Manual, word-F1 of at least 0.99 against pdftotext, and the first page within 0.6 s of the start of the process.
"""

from __future__ import annotations

import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import unicodedata
from collections import Counter
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Final

import pikepdf
import pypdfium2

from bench.report import Figure, report
from chunk_runner.processors.local import LocalProcessor
from pdfjob_api.contract import Record
from tests.support import corpora
from tests.support.runner_process import cut, make_task, start_runner
from tests.support.wire_storage import WireStorage

ROUNDS: Final = 5
STARTS: Final = 9
PAGES_PER_SECOND: Final = 300
WORD_F1: Final = 0.99
FIRST_PAGE_SECONDS: Final = 0.6


def main() -> int:
    """Measure, print the table, write the JSON; 1 when a goal is missed."""
    _need_pdftotext()
    figures = [*_throughput(), *_quality(), *_startup()]
    return 0 if report("runner", figures) else 1


def _need_pdftotext() -> None:
    if shutil.which("pdftotext") is None and os.geteuid() == 0 and shutil.which("apt-get"):
        print("installing poppler-utils for the comparison")
        subprocess.run(["apt-get", "install", "-y", "-qq", "poppler-utils"], capture_output=True, check=False)
    if shutil.which("pdftotext") is None:
        raise SystemExit("pdftotext is missing: install poppler-utils")


def _throughput() -> Iterator[Figure]:
    """Processor against bare text extraction, in turns, by CPU time: other work on the machine does not count."""
    path = corpora.debian_policy()
    pages = corpora.DEBIAN["debian-policy"].pages
    ours, bare = [], []
    for _ in range(ROUNDS):
        began = time.process_time()
        _bare_text(path)
        bare.append(pages / (time.process_time() - began))
        began = time.process_time()
        _records(path, pages)
        ours.append(pages / (time.process_time() - began))
    speed = statistics.median(ours)
    yield Figure(
        "policy: pages per second and core",
        speed,
        "1/s",
        baseline=statistics.median(bare),
        goal=f">= {PAGES_PER_SECOND} (baseline: bare PDFium text)",
        holds=speed >= PAGES_PER_SECOND,
    )


def _quality() -> Iterator[Figure]:
    for name in ("debian-policy", "octave", "debian-reference-fr"):
        path = corpora.manual(name)
        records = _records(path, corpora.DEBIAN[name].pages, "fr" if name.endswith("-fr") else "en")
        reference = subprocess.run(["pdftotext", str(path), "-"], capture_output=True, check=True).stdout.decode()
        wanted = _words(reference)
        found = _f1(_words("\n".join(record.text for record in records)), wanted)
        yield Figure(
            f"{name}: word-F1 against pdftotext",
            found,
            "",
            baseline=_f1(_words(_bare_text(path)), wanted),
            goal=f">= {WORD_F1} (baseline: bare PDFium text)",
            holds=found >= WORD_F1,
        )


def _startup() -> Iterator[Figure]:
    """Time the real process with a real HTTP server: spawn to first page, split by what the runner logs."""
    with pikepdf.open(corpora.debian_policy()) as pdf:
        chunk = cut(pdf, 19, 71)
    task = make_task(chunk, 20, 70, context_before=1, context_after=1)
    phases: dict[str, list[float]] = {}
    with WireStorage() as storage, tempfile.TemporaryDirectory() as folder:
        storage.objects["chunk.pdf"] = chunk
        for _ in range(STARTS):
            storage.objects.pop("result-a1", None)
            phases.setdefault("python", []).append(_bare_python())
            spawned = time.time()
            runner = start_runner(storage, task, Path(folder))
            if runner.end() != 0:
                raise SystemExit(f"the runner failed:\n{runner.output}")
            ended = time.time()
            line = runner.event("first item done")
            total = datetime.fromisoformat(line["time"]).timestamp() - spawned
            phases.setdefault("total", []).append(total)
            phases.setdefault("process", []).append(ended - spawned)
            for name, seconds in line["seconds"].items():
                phases.setdefault(name, []).append(seconds)
    medians = {name: statistics.median(values) for name, values in phases.items()}
    yield Figure(
        "start: process to first page",
        medians["total"],
        "s",
        baseline=medians["python"],
        goal=f"< {FIRST_PAGE_SECONDS} (baseline: python -c pass)",
        holds=medians["total"] < FIRST_PAGE_SECONDS,
    )
    split = ("imports", "download", "open", "item")
    yield Figure("start: interpreter", medians["total"] - sum(medians[name] for name in split), "s")
    yield Figure("start: imports and task", medians["imports"], "s")
    yield Figure("start: checkpoint and download", medians["download"], "s")
    yield Figure("start: PDFium and open", medians["open"], "s")
    yield Figure("start: first page", medians["item"], "s")
    yield Figure("whole process, 51 pages", medians["process"], "s")


def _bare_python() -> float:
    began = time.time()
    subprocess.run([sys.executable, "-c", "pass"], check=True)
    return time.time() - began


def _bare_text(path: Path) -> str:
    document = pypdfium2.PdfDocument(path)
    texts = []
    for page in document:
        text_page = page.get_textpage()
        texts.append(text_page.get_text_range())
        text_page.close()
        page.close()
    document.close()
    return "\n".join(texts)


def _records(path: Path, pages: int, language: str = "en") -> list[Record]:
    task = make_task(b"", 1, pages, size_bytes=1)
    assert task.processor.local is not None
    local = task.processor.local.model_copy(update={"language": language})
    task = task.model_copy(update={"processor": task.processor.model_copy(update={"local": local})})
    processor = LocalProcessor(task, path)
    records = [
        record
        for window in processor.windows(range(1, pages + 1))
        for piece in processor.process(window)
        for record in piece.records
    ]
    processor.close()
    return records


def _words(text: str) -> Counter[str]:
    """Count words; both sides are normalised alike, so that only the reading differs."""
    return Counter(re.findall(r"\w+", unicodedata.normalize("NFKC", text)))


def _f1(found: Counter[str], wanted: Counter[str]) -> float:
    common = (found & wanted).total()
    return 2 * common / (found.total() + wanted.total())


if __name__ == "__main__":
    raise SystemExit(main())
