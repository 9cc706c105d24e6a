"""What language work is expected to cost, before it costs anything."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pdfjob_api.gemini import GeminiMode, GeminiProcessor, MediaResolution, SecretKeyReference
from pdfjob_api.pdfjob import Chunking
from pdfjob_api.processing import Processor
from pdfjob_operator import inspection
from pdfjob_operator.estimate import estimate_tokens
from pdfjob_operator.planning import plan_ranges
from tests.support import pdfs
from tests.support.builders import manifest_of, pdf_chunk, pdf_job, plan_of, split_facts
from tests.support.deciding import decided


def gemini(**values: Any) -> GeminiProcessor:
    return GeminiProcessor(model="m", api_key_secret_ref=SecretKeyReference(name="s"), **values)


@pytest.mark.parametrize(
    ("processor", "characters", "tokens"),
    [
        # 100 pages in two chunks of 50 are 20 windows of 5: 140 pages of 500 tokens and 20 instructions are read,
        # 55,000 tokens are written.
        (gemini(), 200_000, 140 * 500 + 20 * 600 + 55_000),
        (gemini(window_pages=50), 200_000, 104 * 500 + 2 * 600 + 55_000),
        (gemini(window_pages=60), 200_000, 104 * 500 + 2 * 600 + 55_000),
        (gemini(), 0, 20 * 600),
        (gemini(), None, 140 * 650 + 20 * 600 + 71_500),
        (gemini(mode=GeminiMode.PDF), None, 140 * 560 + 20 * 600 + 71_500),
        (gemini(mode=GeminiMode.PDF, media_resolution=MediaResolution.HIGH), 5, 140 * 1120 + 20 * 600 + 71_500),
    ],
)
def test_the_estimate_follows_the_rule_of_the_documentation(
    processor: GeminiProcessor, characters: int | None, tokens: int
) -> None:
    ranges = plan_ranges(100, Chunking(pages_per_chunk=50, threshold_pages=0))
    assert estimate_tokens(processor, ranges, characters) == pytest.approx(tokens, abs=1)


def test_characters_are_counted_page_by_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "text.pdf"
    path.write_bytes(pdfs.text_pdf(5))
    counts = []
    for at_once in (2, 5, 200):
        monkeypatch.setattr(inspection, "_PAGES_AT_ONCE", at_once)
        counts.append(inspection.count_text(path))
    assert counts[0] is not None
    assert counts[0] > 5 * len(pdfs.page_text(1))
    assert len(set(counts)) == 1
    path.write_bytes(b"no PDF")
    assert inspection.count_text(path) is None


def test_the_estimate_is_told_with_the_plan_and_then_stays() -> None:
    job = pdf_job(processor=Processor(gemini=gemini()))
    plan = plan_of(job, 4, characters=8000)
    facts = split_facts(job, 4, 2, plan=plan, manifest=manifest_of(2))
    told = decided(job, [pdf_chunk(0), pdf_chunk(1)], facts).status
    assert told is not None
    assert told.estimated_tokens == estimate_tokens(gemini(), plan.ranges(job.spec), 8000)
    known = job.model_copy(update={"status": told.model_copy(update={"estimated_tokens": 7})})
    later = decided(known, [pdf_chunk(0), pdf_chunk(1)], facts).status
    assert later is not None
    assert later.estimated_tokens == 7
    local = decided(pdf_job(), [pdf_chunk(0), pdf_chunk(1)], split_facts(pdf_job(), 4, 2)).status
    assert local is not None
    assert local.estimated_tokens is None
