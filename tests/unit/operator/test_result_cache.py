"""Results of paid work that are kept for other jobs: which, under which name, and when one is looked for."""

from __future__ import annotations

from typing import Any, Final

import pytest

from pdfjob_api.conditions import ChunkPhase
from pdfjob_api.contract import Tokens
from pdfjob_api.gemini import GeminiMode, SecretKeyReference
from pdfjob_api.keys import JobKeys, cache_prefix
from pdfjob_api.pdfchunk import ChunkResultStatus, PdfChunk
from pdfjob_api.pdfjob import CacheUse, Limits, PdfJob, RetryPolicy, RetryRequest, S3Source, Source
from pdfjob_api.processing import CustomProcessor, LocalProcessor, Processor, Repair
from pdfjob_api.runner import Runner
from pdfjob_operator.actions import ReadAdopted, WriteChunk
from pdfjob_operator.observation import EndFacts
from pdfjob_operator.plan import Plan
from pdfjob_operator.requests import answer_job
from pdfjob_operator.result_cache import result_name
from pdfjob_operator.status import compute_status
from tests.support.builders import (
    NOW,
    gemini_job,
    observation,
    pdf_chunk,
    pdf_job,
    plan_of,
    raw_job,
    raw_pod,
    split_facts,
    succeeded,
    terminated,
)
from tests.support.deciding import chunk_decided, decided, of_type, started, with_spec, with_status, written

TOKENS: Final = Tokens(input=100, output=50, thinking=7)
FOUND: Final = ChunkResultStatus(uri="s3://pdfjob/r", sha256="d", bytes=1, sentences=3, tokens=TOKENS)


def name_of(job: PdfJob | None = None, chunk: PdfChunk | None = None, plan: Plan | None = None) -> str:
    job = job or gemini_job()
    return result_name(job, chunk or pdf_chunk(), plan or plan_of(job, 10))


def plan(**values: Any) -> Plan:
    return plan_of(gemini_job(), 10).model_copy(update=values)


OTHER_FILE = plan(source=plan().source.model_copy(update={"sha256": "b" * 64}))


@pytest.mark.parametrize(
    "other",
    [
        name_of(gemini_job({"model": "gemini-3.5-pro"})),
        name_of(gemini_job({"mode": GeminiMode.PDF})),
        name_of(gemini_job({"language": "fr"})),
        name_of(gemini_job({"instruction": "Translate."})),
        name_of(gemini_job({"window_pages": 4})),
        name_of(gemini_job({"temperature": 0.5})),
        name_of(gemini_job({"base_url": "https://gateway.example"})),
        name_of(gemini_job(source=Source(s3=S3Source(key="x"), repair=Repair.REPAIR))),
        name_of(gemini_job(runner=Runner(image="mine:1"))),
        name_of(chunk=pdf_chunk(1)),
        name_of(chunk=pdf_chunk(pages=3)),
        name_of(chunk=pdf_chunk(spec={"context_after": 1})),
        name_of(chunk=pdf_chunk(spec={"context_before": 1})),
        name_of(plan=OTHER_FILE),
        name_of(plan=plan(empty_pages=[2])),
    ],
)
def test_another_input_has_another_name(other: str) -> None:
    assert other != name_of()


@pytest.mark.parametrize(
    "same",
    [
        name_of(gemini_job({"api_key_secret_ref": SecretKeyReference(name="other", key="token")})),
        name_of(gemini_job(source=Source(s3=S3Source(key="elsewhere.pdf")))),
        name_of(gemini_job(limits=Limits(item_timeout_seconds=5), retry_policy=RetryPolicy(max_retries=9), priority=9)),
        name_of(gemini_job(runner=Runner(labels={"team": "a"}))),
        name_of(chunk=pdf_chunk(spec={"sha256": "e" * 64, "size_bytes": 77, "priority": 2})),
        name_of(plan=plan(empty_pages=[9], pages_per_chunk=5, run="11112222", adopted=["33334444"])),
    ],
)
def test_what_the_answer_does_not_depend_on_changes_nothing(same: str) -> None:
    assert same == name_of()


def test_the_name_stays_the_same_from_release_to_release() -> None:
    """Where it changes, everything is paid for once more."""
    assert name_of() == "551d5b7f3b3585ad54835f88922a56374a46616d95016c5d54153a4d1b871ffb"


def test_entries_lie_outside_of_the_folders_of_jobs_by_namespace() -> None:
    keys = [JobKeys("pdfjob", namespace, name, "uid") for namespace, name in (("a", "x"), ("a", "y"), ("b", "x"))]
    assert [each.cached("ff") for each in keys] == [
        "pdfjob/cache/a/ff.json",
        "pdfjob/cache/a/ff.json",
        "pdfjob/cache/b/ff.json",
    ]
    assert all(each.cached("ff").startswith(cache_prefix("pdfjob")) for each in keys)
    assert not any(each.cached("ff").startswith((each.root, each.history)) for each in keys)


def test_a_chunk_is_looked_for_before_its_first_start_and_starts_only_when_nothing_is_found() -> None:
    chunk = pdf_chunk()
    asked = chunk_decided(chunk, job=gemini_job(), caching=True)
    assert (asked.actions, asked.create) == ((ReadAdopted(chunk),), None)
    missed = chunk_decided(chunk, job=gemini_job(), caching=True, facts={"adopted": {"chunk-0": None}})
    assert missed.actions == ()
    assert missed.create is not None
    assert missed.create.start == 1


def test_what_is_found_is_the_chunks_result_and_nothing_is_charged_for_it() -> None:
    status = written(chunk_decided(pdf_chunk(), job=gemini_job(), caching=True, facts={"adopted": {"chunk-0": FOUND}}))
    assert (status.phase, status.attempts, status.starts) == (ChunkPhase.SUCCEEDED, 1, 0)
    assert status.result == FOUND.model_copy(update={"cached": True, "tokens": Tokens()})


def test_what_a_custom_image_paid_in_an_earlier_life_is_not_paid_again() -> None:
    job = pdf_job(processor=Processor(custom=CustomProcessor(image="mine:1")))
    plan = plan_of(job, 2, adopted=["earlier1"])
    for tokens, cached in ((TOKENS, True), (Tokens(), False)):
        found = FOUND.model_copy(update={"tokens": tokens})
        facts = {"plan": plan, "adopted": {"chunk-0": found}}
        result = written(chunk_decided(pdf_chunk(), job=job, facts=facts)).result
        assert result == FOUND.model_copy(update={"tokens": Tokens(), "cached": cached})


@pytest.mark.parametrize(
    ("job", "caching"),
    [
        (gemini_job(cache=CacheUse.IGNORE), True),
        (pdf_job(processor=Processor(local=LocalProcessor())), True),
        (pdf_job(processor=Processor(custom=CustomProcessor(image="mine:1"))), True),
        (gemini_job(), False),
    ],
    ids=["cache: Ignore", "local", "custom", "no cache in this installation"],
)
def test_who_does_not_use_the_cache_neither_looks_nor_keeps(job: PdfJob, *, caching: bool) -> None:
    decision = chunk_decided(pdf_chunk(), job=job, caching=caching, facts={"adopted": {"chunk-0": FOUND}})
    assert (decision.actions, decision.create is not None) == ((), True)
    assert not kept(job, FOUND, caching=caching)


def kept(job: PdfJob, result: ChunkResultStatus | None, *, caching: bool = True) -> bool:
    chunk = pdf_chunk(phase=ChunkPhase.RUNNING, attempts=1, starts=1)
    raws = (raw_job(), raw_pod(terminated(0), phase="Succeeded"))
    (write,) = of_type(chunk_decided(chunk, *raws, end=EndFacts(result, None, 2), job=job, caching=caching), WriteChunk)
    return write.keep


def test_a_verified_result_is_kept_and_one_that_lacks_answers_is_not() -> None:
    assert kept(gemini_job(), FOUND)
    assert kept(gemini_job(), FOUND.model_copy(update={"missing_pages": 1})), "a lost page is lost for everybody"
    assert not kept(gemini_job(), FOUND.model_copy(update={"missing_pages": 1, "unanswered_pages": 1}))
    assert not kept(gemini_job(), None)


def test_a_result_that_was_taken_is_not_kept_again() -> None:
    decision = chunk_decided(pdf_chunk(), job=gemini_job(), caching=True, facts={"adopted": {"chunk-0": FOUND}})
    assert [write.keep for write in of_type(decision, WriteChunk)] == [False]


def test_a_forced_retry_goes_around_the_cache_under_a_number_whose_checkpoints_count() -> None:
    job = with_status(gemini_job(), chunks=None)
    chunk = with_status(succeeded(0), starts=0)
    request = RetryRequest(id="again", chunks=[0], force=True)
    asking = with_spec(job, retry_request=request)
    status = answer_job(request, observation(asking, [chunk], split_facts(job, 2, 1)), set(), NOW).taken[0]
    again = chunk_decided(with_status(chunk, **dict(status)), job=job, caching=True)
    assert again.actions == ()
    assert again.create is not None
    assert again.create.start > status.fresh_after


def test_chunks_that_were_looked_for_start_while_others_are_still_looked_for() -> None:
    chunks = [pdf_chunk(index) for index in range(100)]
    job = gemini_job(parallelism=50)
    first = decided(job, chunks, split_facts(job, 200, 100), caching=True)
    asked = of_type(first, ReadAdopted)
    assert (len(asked), started(first)) == (64, [])
    missed = {action.chunk.metadata.uid: None for action in asked}
    then = decided(job, chunks, split_facts(job, 200, 100, adopted=missed, answered=True), caching=True)
    assert len(of_type(then, ReadAdopted)) == 100 - 64
    assert started(then) == [*range(50)]


def test_the_counts_tell_how_many_were_taken_and_the_sums_have_no_tokens_of_theirs() -> None:
    job = gemini_job()
    taken = {"cached": True, "tokens": Tokens()}
    chunks = [succeeded(0, **taken), succeeded(1, tokens=TOKENS), succeeded(2, **taken), pdf_chunk(3)]
    statuses = {chunk.spec.index: chunk.status for chunk in chunks}
    status = compute_status(observation(job, chunks, split_facts(job, 8, 4)), statuses, NOW)
    assert status is not None
    assert status.chunks is not None
    assert (status.chunks.succeeded, status.chunks.cached, status.chunks.total) == (3, 2, 4)
    assert status.tokens == TOKENS
