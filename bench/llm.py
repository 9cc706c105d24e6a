"""Window size of the Gemini processor: requests, tokens and time for 100 pages, against one request for each page.

``make bench NAME=llm``. The real runner asks the stub of the Gemini API, which takes as long as a model would: so long
until the first token, so long for each token of the answer. Everything runs `SPEED` times as fast as that, and the
times told are those of the model: ours are exaggerated by as much.

The baseline is what most tools do: a loop that sends one page, waits for its sentences and sends the next one. It
knows nothing of the neighbouring pages, which saves tokens and cuts every sentence that goes over a page border. Both
are measured with a service that does nothing wrong, and with one that stumbles: of 100 pages the answer with one is cut
off once, the answer with another leaves that page out once, and a third is refused for ever. Whatever is asked for
again is paid for again, and the more so the larger the window.

``cost`` counts a token of input as one and one of output as `OUTPUT_PRICE`: about what models charge. The default of
``windowPages`` should be the size that is done first with the service that stumbles, among those within 5 % of the
least cost there. (The windows that runners lose when they are killed speak for small ones too; they are not in it.)
"""

from __future__ import annotations

import base64
import json
import tempfile
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import pikepdf

from bench.report import Figure, report
from chunk_runner.pdf import ChunkPdf
from chunk_runner.processors.gemini import prompt
from gemini_stub import Scenario, ScriptLine, Stub, serve
from pdfjob_api.contract import ENV_API_KEY_FILE
from pdfjob_api.gemini import GeminiMode, GeminiProcessor, SecretKeyReference
from pdfjob_api.processing import Processor
from tests.support import corpora
from tests.support.gemini_calls import generate
from tests.support.runner_process import cut, make_task, start_runner
from tests.support.wire_storage import WireStorage

FIRST: Final = 21
PAGES: Final = 100
"""Of the Debian Policy Manual, from page `FIRST` on; about 500 tokens each."""
SIZES: Final = (1, 2, 5, 10, 20, 50, 100)
SPEED: Final = 5
FIRST_TOKEN_SECONDS: Final = 1.5
TOKENS_PER_SECOND: Final = 200
CALL_SECONDS: Final = 300
"""The default of ``limits.itemTimeoutSeconds``."""
PDF_SENTENCES: Final = 25
"""So that a page has about as many tokens as one of the other mode."""
OUTPUT_PRICE: Final = 8
AT_ONCE: Final = 14
"""Runs at the same time: all they do is wait."""
DEFAULT: Final = GeminiProcessor.model_fields["window_pages"].default
MODEL: Final = "gemini-bench"
_STUMBLES: Final = (
    ScriptLine("cut", page=FIRST + 17, times=1),
    ScriptLine("missing_page", page=FIRST + 54, times=1),
    ScriptLine("recitation", page=FIRST + 81),
)
_MISTAKES: Final = {"sound": (), "stumbling": _STUMBLES}


@dataclass(frozen=True)
class Case:
    """One run."""

    mode: GeminiMode
    service: str
    """``sound`` or ``stumbling``."""
    size: int | None
    """Pages of a window; None is the loop without windows and context."""

    @property
    def key(self) -> str:
        """Its API key at the stub."""
        return f"{self.mode}-{self.service}-{self.size or 'loop'}"


@dataclass(frozen=True)
class Outcome:
    """What a run took, for `PAGES` pages."""

    exit_code: int
    pages: int
    """With an answer."""
    requests: int
    input: int
    output: int
    seconds: float
    """Of the model, from the first request to the last answer."""

    @property
    def cost(self) -> int:
        """Tokens, those of output weighted by their price."""
        return self.input + OUTPUT_PRICE * self.output


def main() -> int:
    """Measure, print the table, write the JSON; 1 when a goal is missed."""
    with pikepdf.open(corpora.debian_policy()) as pdf:
        chunk = cut(pdf, FIRST - 1, FIRST + PAGES)
    cases = [
        Case(mode, service, size)
        for size in (SIZES[-1], None, *SIZES[:-1])  # the longest first
        for mode in GeminiMode
        for service in _MISTAKES
    ]
    with serve() as stub, tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(AT_ONCE) as pool:
        outcomes = dict(zip(cases, pool.map(partial(_run, stub, chunk, Path(folder)), cases), strict=True))
    figures = [*_goals(outcomes), *_sweep(outcomes)]
    details = {
        "model": {"firstTokenSeconds": FIRST_TOKEN_SECONDS, "tokensPerSecond": TOKENS_PER_SECOND, "speed": SPEED},
        "outputPrice": OUTPUT_PRICE,
        "defaultWindowPages": DEFAULT,
        "bestWindowPages": {mode.value: _best(outcomes, mode) for mode in GeminiMode},
        "runs": {case.key: {**vars(outcome), "cost": outcome.cost} for case, outcome in outcomes.items()},
    }
    return 0 if report("llm", figures, details) else 1


def _goals(outcomes: Mapping[Case, Outcome]) -> Iterator[Figure]:
    """Compare the default with the loop, and with the other sizes."""
    for mode in GeminiMode:
        for service in _MISTAKES:
            ours = outcomes[Case(mode, service, DEFAULT)]
            other = outcomes[Case(mode, service, None)]
            name = f"{mode}, {service} service, windows of {DEFAULT}"
            limit = 0.25 if service == "sound" else 0.4
            yield _ratio(f"{name}: requests", ours.requests, other.requests, "", limit)
            yield _ratio(f"{name}: cost", ours.cost, other.cost, "tokens", 1 if service == "sound" else 1.15)
            yield _ratio(f"{name}: time", ours.seconds, other.seconds, "s", 0.85 if service == "sound" else 1)
            wanted = PAGES if service == "sound" else PAGES - 1
            holds = (ours.exit_code, ours.pages) == (0, wanted)
            yield Figure(f"{name}: pages answered", ours.pages, "", goal=f"{wanted}", holds=holds)
        best = _best(outcomes, mode)
        goal = "done first of those within 5 % of the least cost, with a stumbling service"
        yield Figure(f"{mode}: default windowPages", DEFAULT, "", best, goal, holds=best == DEFAULT)


def _ratio(name: str, ours: float, other: float, unit: str, limit: float) -> Figure:
    return Figure(name, ours, unit, other, f"<= {limit:g} of the baseline", holds=ours <= limit * other)


def _best(outcomes: Mapping[Case, Outcome], mode: GeminiMode) -> int:
    """Return the size that is done first, of those whose cost with the stumbling service is within 5 % of the least."""
    runs = {size: outcomes[Case(mode, "stumbling", size)] for size in SIZES}
    finished = {size: run for size, run in runs.items() if run.exit_code == 0}
    least = min(run.cost for run in finished.values())
    return min(
        (size for size, run in finished.items() if run.cost <= 1.05 * least), key=lambda size: runs[size].seconds
    )


def _sweep(outcomes: Mapping[Case, Outcome]) -> Iterator[Figure]:
    for case, outcome in sorted(outcomes.items(), key=lambda item: (item[0].mode, item[0].service, item[0].size or 0)):
        name = f"{case.mode}, {case.service}, {f'windows of {case.size}' if case.size else 'loop, page by page'}"
        if outcome.exit_code:
            yield Figure(f"{name}: FAILS, exit code", outcome.exit_code, "")
            continue
        yield Figure(f"{name}: requests", outcome.requests, "")
        yield Figure(f"{name}: input", outcome.input, "tokens")
        yield Figure(f"{name}: output", outcome.output, "tokens")
        yield Figure(f"{name}: cost", outcome.cost, "tokens")
        yield Figure(f"{name}: time", outcome.seconds, "s")


def _run(stub: Stub, chunk: bytes, folder: Path, case: Case) -> Outcome:
    scenario = Scenario(
        latency_seconds=FIRST_TOKEN_SECONDS / SPEED,
        seconds_per_token=1 / TOKENS_PER_SECOND / SPEED,
        script=_MISTAKES[case.service],
        pdf_sentences=PDF_SENTENCES,
    )
    stub.register(case.key, scenario)
    own = folder / case.key
    own.mkdir()
    exit_code = _loop(stub, chunk, own, case) if case.size is None else _runner(stub, chunk, own, case)
    counts = stub.counts(case.key)
    assert counts is not None
    return Outcome(
        exit_code,
        counts["pages_paid"],
        counts["requests"],
        counts["tokens"]["input"],
        counts["tokens"]["output"],
        SPEED * (counts["times"][-1][0] - counts["first_request"]),
    )


def _settings(stub: Stub, case: Case) -> GeminiProcessor:
    return GeminiProcessor(
        model=MODEL,
        api_key_secret_ref=SecretKeyReference(name="bench"),
        mode=case.mode,
        language="en",
        window_pages=case.size or 1,
        base_url=stub.url,
    )


def _runner(stub: Stub, chunk: bytes, folder: Path, case: Case) -> int:
    """Run the real runner; return its exit code."""
    key_file = folder / "api-key"
    key_file.write_text(case.key)
    task = make_task(
        chunk,
        FIRST,
        FIRST + PAGES - 1,
        context_before=1,
        context_after=1,
        processor=Processor(gemini=_settings(stub, case)),
        soft_timeout_seconds=3600,
        item_timeout_seconds=CALL_SECONDS // SPEED,
    )
    with WireStorage() as storage:
        storage.objects["chunk.pdf"] = chunk
        runner = start_runner(storage, task, folder, **{ENV_API_KEY_FILE: str(key_file)})
        exit_code = runner.end(timeout=3600)
    if exit_code:
        print(f"{case.key}: exit code {exit_code}: {runner.message}")
    return exit_code


def _loop(stub: Stub, chunk: bytes, folder: Path, case: Case) -> int:
    """Send page by page, ask a second time for an answer that is no use, and go on."""
    instruction = {"parts": [{"text": prompt.system_instruction(_settings(stub, case))}]}
    for page, parts in zip(range(FIRST, FIRST + PAGES), _pages(chunk, folder, case.mode), strict=True):
        body = {
            "systemInstruction": instruction,
            "contents": [{"role": "user", "parts": parts}],
            "generationConfig": {"responseMimeType": "application/json"},
        }
        if not _is_answered(stub, case.key, body, page):
            _is_answered(stub, case.key, body, page)
    return 0


def _is_answered(stub: Stub, key: str, body: Mapping[str, Any], page: int) -> bool:
    """Ask once; return whether the answer is of use."""
    candidate = generate(stub.url, MODEL, key, body, timeout=CALL_SECONDS)["candidates"][0]
    if candidate["finishReason"] != "STOP":
        return False
    pages = json.loads(candidate["content"]["parts"][0]["text"])["pages"]
    return [item["page"] for item in pages] == [page]


def _pages(chunk: bytes, folder: Path, mode: GeminiMode) -> Iterator[list[dict[str, Any]]]:
    """Yield the parts of a request for each page, without the two pages of context."""
    path = folder / "chunk.pdf"
    path.write_bytes(chunk)
    pdf = ChunkPdf(path, pages=PAGES + 2)
    for index, page in enumerate(range(FIRST, FIRST + PAGES), start=1):
        if mode is GeminiMode.TEXT:
            text = "\n".join(line.text for line in pdf.lines(index))
            yield [{"text": prompt.page_text(page, text)}]
        else:
            data = base64.b64encode(pdf.cut([index])).decode()
            blob = {"mimeType": "application/pdf", "data": data}
            yield [{"inlineData": blob}, {"text": prompt.pdf_pages([page], [page])}]
    pdf.close()


if __name__ == "__main__":
    raise SystemExit(main())
