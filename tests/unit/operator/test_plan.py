"""The plan and the hashes that say whether stored work may be used again."""

from __future__ import annotations

from typing import Any

import pytest

from pdfjob_api.jobstatus import ResultFormat
from pdfjob_api.pdfjob import Chunking, HttpSource, Limits, Output, RetryPolicy, S3Source, Source
from pdfjob_api.processing import CustomProcessor, LocalProcessor, Processor, Repair
from pdfjob_operator.plan import Plan, inputs_hash, settings_hash
from tests.support.builders import pdf_job, plan_of

SOURCE = S3Source(key="pdfjob/inbox/books/novel.pdf")


@pytest.mark.parametrize(
    "spec",
    [
        {"chunking": Chunking(pages_per_chunk=3, threshold_pages=0)},
        {"chunking": Chunking(pages_per_chunk=2, threshold_pages=1)},
        {"chunking": Chunking(pages_per_chunk=2, threshold_pages=0, overlap_pages=2)},
        {"processor": Processor(local=LocalProcessor(language="en"))},
        {"processor": Processor(custom=CustomProcessor(image="mine:1"))},
        {"processor": Processor(custom=CustomProcessor(image="mine:1", config={"depth": 2}))},
        {"source": Source(s3=SOURCE, repair=Repair.REPAIR)},
    ],
)
def test_settings_that_change_the_results_change_the_hash(spec: dict[str, Any]) -> None:
    assert settings_hash(pdf_job(**spec).spec) != settings_hash(pdf_job().spec)


@pytest.mark.parametrize(
    "spec",
    [
        {"parallelism": 9},
        {"priority": 1},
        {"retry_policy": RetryPolicy(max_retries=9)},
        {"limits": Limits(stuck_timeout_seconds=60)},
        {"output": Output(formats=[ResultFormat.CSV])},
        {"source": Source(http=HttpSource(url="https://example.org/novel.pdf"))},
    ],
)
def test_settings_that_do_not_change_the_results_keep_the_hash(spec: dict[str, Any]) -> None:
    assert settings_hash(pdf_job(**spec).spec) == settings_hash(pdf_job().spec)


def test_a_plan_comes_back_from_its_json_with_the_same_ranges() -> None:
    job = pdf_job()
    plan = plan_of(job, 7, damage=["xref rebuilt"], empty_pages=[3])
    again = Plan.model_validate_json(plan.model_dump_json(by_alias=True))
    assert again == plan
    assert [(part.start_page, part.end_page) for part in again.ranges(job.spec)] == [(1, 2), (3, 4), (5, 6), (7, 7)]


def test_a_plan_of_a_newer_operator_can_be_read() -> None:
    text = plan_of(pdf_job(), 7).model_dump_json(by_alias=True).removesuffix("}") + ',"tomorrow":1}'
    assert Plan.model_validate_json(text).source.pages == 7


def test_the_inputs_hash_depends_on_every_result_and_their_order() -> None:
    hashes = {
        inputs_hash(["a", "b"]),
        inputs_hash(["b", "a"]),
        inputs_hash(["a"]),
        inputs_hash(["ab"]),
        inputs_hash([]),
    }
    assert len(hashes) == 5


def test_a_later_life_names_every_earlier_one_once_the_newest_first_and_at_most_ten() -> None:
    job = pdf_job()
    plan = plan_of(job, 7)
    document = plan.source.model_copy(update={"pages": None, "file_name": "renamed.pdf"})
    lives = [f"run{number:05d}" for number in range(12)]
    for run in lives:
        later = plan.adopted_by(run, job.spec, document)
        assert later is not None
        assert (later.run, later.source.pages, later.source.file_name) == (run, 7, "renamed.pdf")
        assert later.adopted[0] == plan.run
        plan = later
    assert plan.adopted == lives[10:0:-1]
    back = plan.adopted_by(lives[10], job.spec, document)
    assert back is not None
    assert back.adopted == [lives[11], *lives[10:1:-1]]


@pytest.mark.parametrize(
    "spec",
    [
        {"chunking": Chunking(pages_per_chunk=3, threshold_pages=0)},
        {"chunking": Chunking(pages_per_chunk=2, threshold_pages=1)},
        {"chunking": Chunking(pages_per_chunk=2, threshold_pages=0, overlap_pages=2)},
        {"processor": Processor(local=LocalProcessor(language="en"))},
        {"source": Source(s3=SOURCE, repair=Repair.REPAIR)},
    ],
)
def test_a_life_with_other_settings_starts_clean(spec: dict[str, Any]) -> None:
    plan = plan_of(pdf_job(), 7)
    assert plan.adopted_by("later", pdf_job().spec, plan.source) is not None
    assert plan.adopted_by("later", pdf_job(**spec).spec, plan.source) is None


def test_a_life_of_another_document_starts_clean() -> None:
    plan = plan_of(pdf_job(), 7)
    other = plan.source.model_copy(update={"sha256": "b" * 64})
    assert plan.adopted_by("later", pdf_job().spec, other) is None
