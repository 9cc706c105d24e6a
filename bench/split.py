"""The splitter against the bare library: CPU time, peak memory and output bytes on real manuals.

``make bench NAME=split``. The bare library is a loop of ``pikepdf.new()``, ``pages.extend``, ``save``: no annotations
dropped, no resources removed, no object streams, no hashing, no waiting for the operator. Both cut the same pages,
50 to a chunk with a page of context on each side, each in a process of its own, in turns; medians of the rounds.
Time is CPU time, since one thread does the work and other work on the machine does not count then.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bench.report import Figure, report
from tests.support import corpora

# Libraries are imported where a mode needs them: the kernel counts this process's peak memory for its children too.

ROUNDS: Final = 3
SECONDS: Final = 3.0
"""CPU seconds for any of the manuals."""
MEMORY_MIB: Final = 200
SCAN_MEMORY_MIB: Final = 80
SHARED_RATIO: Final = 1.05
"""Bytes of all chunks of the document with shared resources, by the bytes that its chunks need."""
LIMITS: Final = {"memory": 1024**3, "cpu": 900, "file": 2 * 1024**3}


@dataclass(frozen=True, slots=True)
class Document:
    """A document to split."""

    name: str
    path: Path
    seconds: float | None
    """Goal for the CPU time."""
    memory_mib: int


@dataclass(frozen=True, slots=True)
class Run:
    """One split."""

    seconds: float
    memory_mib: float
    megabytes: float


def main(arguments: list[str]) -> int:
    """Measure, print the table, write the JSON; 1 when a goal is missed."""
    if arguments:
        mode, path = arguments
        {"bare": _bare, "make": _make, "plan": _plan}[mode](Path(path))
        return 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        made = folder / "made"
        made.mkdir()
        _mode("make", made)
        documents = [
            Document("octave", corpora.octave(), SECONDS, MEMORY_MIB),
            Document("r-refman", corpora.r_refman(), SECONDS, MEMORY_MIB),
            Document("lilypond", corpora.lilypond_notation(), SECONDS, MEMORY_MIB),
            Document("shared resources", made / "shared.pdf", None, MEMORY_MIB),
            Document("scan of 180 MB", made / "scan.pdf", None, SCAN_MEMORY_MIB),
        ]
        figures = [figure for document in documents for figure in _figures(document, folder)]
    return 0 if report("split", figures) else 1


def _figures(document: Document, folder: Path) -> Iterator[Figure]:
    plan = json.loads(_mode("plan", document.path))
    ours, bare = [], []
    for _ in range(ROUNDS):
        ours.append(_ours(document.path, plan["cuts"], folder))
        request = json.dumps({"cuts": plan["cuts"]})
        bare.append(_measure([sys.executable, "-m", "bench.split", "bare", str(document.path)], request, folder))
    time, base_time = (statistics.median(run.seconds for run in runs) for runs in (ours, bare))
    memory, base_memory = (statistics.median(run.memory_mib for run in runs) for runs in (ours, bare))
    size, base_size = ours[0].megabytes, bare[0].megabytes
    goal = "" if document.seconds is None else f"at most {document.seconds:g}"
    holds = None if document.seconds is None else time <= document.seconds
    yield Figure(f"{document.name}: time", time, "s CPU", base_time, goal, holds)
    goal = f"at most {document.memory_mib}"
    yield Figure(f"{document.name}: peak memory", memory, "MiB", base_memory, goal, memory <= document.memory_mib)
    if document.name == "shared resources":
        ideal = plan["idealBytes"] / 1e6
        goal = f"at most {SHARED_RATIO} x {ideal:.1f}, what its chunks need"
        yield Figure(f"{document.name}: output", size, "MB", base_size, goal, size <= SHARED_RATIO * ideal)
    else:
        yield Figure(f"{document.name}: output", size, "MB", base_size)


def _mode(mode: str, path: Path) -> str:
    command = [sys.executable, "-m", "bench.split", mode, str(path)]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


def _ours(path: Path, cuts: list[list[int]], folder: Path) -> Run:
    """Split as the operator does, by the very process that it starts; each file is taken at once."""
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        request = {"task": "split", "path": str(path), "scratch": scratch, "out": scratch, "cuts": cuts}
        return _measure(
            [sys.executable, "-m", "pdfjob_operator.splitting"], json.dumps({**request, "limits": LIMITS}), folder
        )


def _measure(command: list[str], request: str, folder: Path) -> Run:
    """Run a process that tells one JSON line per chunk; chunk files are removed as they come."""
    with (folder / "stderr").open("w+") as errors:
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True, bufsize=1
        )
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(request + "\n")
        total = 0
        for line in process.stdout:
            event = json.loads(line)
            if event["event"] == "chunk":
                total += event["size"]
                Path(event["path"]).unlink(missing_ok=True)
                process.stdin.write('{"taken": 1}\n')
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode or not total:
            errors.seek(0)
            raise SystemExit(f"{' '.join(command)} failed: {errors.read()[-500:]}")
    return Run(usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024, total / 1e6)


def _bare(path: Path) -> None:
    """Split with nothing but the library."""
    import pikepdf

    with tempfile.TemporaryDirectory() as folder, pikepdf.open(path) as source:
        for index, first, last in json.loads(sys.stdin.readline())["cuts"]:
            target = Path(folder) / f"{index}.pdf"
            with pikepdf.new() as chunk:
                chunk.pages.extend(source.pages[first - 1 : last])
                chunk.save(target)
            print(json.dumps({"event": "chunk", "path": str(target), "size": target.stat().st_size}), flush=True)


def _make(folder: Path) -> None:
    """Write the documents of the bench itself."""
    from tests.support import pdfs

    (folder / "shared.pdf").write_bytes(pdfs.shared_resources_pdf(1000, images=40, pixels=530))
    (folder / "scan.pdf").write_bytes(pdfs.image_pdf(400, 670))


def _plan(path: Path) -> None:
    """Print the chunks, and for the shared-resources document the bytes of the images that each of them shows."""
    import pikepdf

    ideal = 0
    with pikepdf.open(path) as pdf:
        cuts = _cuts(len(pdf.pages))
        if path.name == "shared.pdf":
            images = pdf.pages[0].Resources.XObject
            for _, first, last in cuts:
                contents = (page.Contents.read_bytes().decode() for page in pdf.pages[first - 1 : last])
                shown = {content.split(" Do")[0].split()[-1] for content in contents}
                ideal += sum(len(images[name].read_raw_bytes()) for name in shown)
    print(json.dumps({"cuts": cuts, "idealBytes": ideal}))


def _cuts(pages: int) -> list[tuple[int, int, int]]:
    """Return index, first and last page of each chunk, context pages included."""
    from pdfjob_api.pdfjob import Chunking
    from pdfjob_operator.planning import plan_ranges

    return [
        (each.index, each.start_page - each.context_before, each.end_page + each.context_after)
        for each in plan_ranges(pages, Chunking())
    ]


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
