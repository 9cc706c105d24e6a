"""What the operator does about a language service: the key's mount, the first answer, waits, the pace, lost pages."""

from __future__ import annotations

from typing import Any, Final

import pytest

from pdfjob_api.conditions import ChunkPhase, JobCondition, JobPhase, Reason
from pdfjob_api.contract import Progress, TerminationMessage, Tokens
from pdfjob_api.errors import ChunkCode, ExitCode, JobCode
from pdfjob_api.gemini import SecretKeyReference
from pdfjob_api.meta import LastError
from pdfjob_api.pdfjob import FailurePolicy, Limits, PdfJob
from pdfjob_api.processing import LocalProcessor, Processor
from pdfjob_operator.actions import ReadProgress, WriteChunk
from pdfjob_operator.clock import from_wire
from pdfjob_operator.decide_chunk import answered, refused_for_good
from pdfjob_operator.jobspec import Urls, build_job, build_task, grace_seconds
from pdfjob_operator.memory import JobMemory
from pdfjob_operator.metrics import Metrics
from pdfjob_operator.settings import RunnerSettings
from tests.support.builders import (
    NOW,
    at,
    gemini_job,
    pdf_chunk,
    pdf_job,
    raw_job,
    raw_pod,
    running,
    split_facts,
    succeeded,
    terminated,
)
from tests.support.deciding import NOTHING, chunk_decided, condition, decided, of_type, record, started, written

URLS: Final = Urls(
    chunk="https://c", checkpoint="https://p", progress="https://b", result="https://r", previous_checkpoint=None
)


def pod_of(job: PdfJob) -> dict[str, Any]:
    built = build_job(job, pdf_chunk(), build_task(job, pdf_chunk(), 1), URLS, RunnerSettings(image="runner:1"))
    pod: dict[str, Any] = built["spec"]["template"]["spec"]
    return pod


def test_the_key_is_mounted_by_reference_and_the_pod_starts_also_without_it() -> None:
    pod = pod_of(gemini_job({"api_key_secret_ref": SecretKeyReference(name="gemini", key="token")}))
    (volume,) = (volume for volume in pod["volumes"] if "secret" in volume)
    assert volume["secret"] == {
        "secretName": "gemini",
        "items": [{"key": "token", "path": "api-key"}],
        "optional": True,
        "defaultMode": 0o440,
    }
    (container,) = pod["containers"]
    (mount,) = (mount for mount in container["volumeMounts"] if mount["name"] == volume["name"])
    assert mount["readOnly"]
    env = {item["name"]: item["value"] for item in container["env"]}
    assert env["PDFJOB_API_KEY_FILE"] == f"{mount['mountPath']}/api-key"
    assert not any("valueFrom" in item for item in container["env"])


def test_a_local_runner_gets_no_secret() -> None:
    pod = pod_of(pdf_job(processor=Processor(local=LocalProcessor())))
    assert not any("secret" in volume for volume in pod["volumes"])
    assert "PDFJOB_API_KEY_FILE" not in {item["name"] for item in pod["containers"][0]["env"]}


@pytest.mark.parametrize(("item", "grace"), [(20, 35), (300, 315), (3600, 315)])
def test_a_runner_has_the_time_of_one_call_to_end(item: int, grace: int) -> None:
    job = gemini_job(limits=Limits(item_timeout_seconds=item))
    assert grace_seconds(job) == pod_of(job)["terminationGracePeriodSeconds"] == grace
    task = build_task(job, pdf_chunk(), 1, pace_seconds=1.5)
    assert (task.grace_seconds, task.item_timeout_seconds, task.pace_seconds) == (grace, item, 1.5)
    assert grace_seconds(pdf_job(limits=Limits(item_timeout_seconds=item))) == 30


def test_one_chunk_is_in_flight_until_the_service_has_answered() -> None:
    job = gemini_job(parallelism=4)
    chunks = [pdf_chunk(index) for index in range(6)]
    facts = split_facts(job, 12, 6)
    assert started(decided(job, chunks, facts)) == [0]
    assert started(decided(job, chunks, facts, raw_job(chunk=0))) == []
    assert started(decided(job, chunks, split_facts(job, 12, 6, answered=True), raw_job(chunk=0))) == [1, 2, 3]
    assert len(started(decided(pdf_job(parallelism=4), chunks, facts))) == 4, "a local processor asks nobody"


def test_one_refusal_of_a_key_that_never_worked_holds_the_job() -> None:
    job = gemini_job(parallelism=4)
    refused = pdf_chunk(
        phase=ChunkPhase.RETRY_SCHEDULED,
        starts=1,
        next_retry_time=at(10),
        last_error=LastError(code="AUTH_ERROR", message="API key not valid"),
        history=[record(code=ChunkCode.AUTH_ERROR, counted=False, finished=0)],
    )
    chunks = [refused, *(pdf_chunk(index) for index in range(1, 6))]
    held = decided(job, chunks, split_facts(job, 12, 6), seconds=1)
    assert started(held) == []
    told = condition(held.status, JobCondition.DEGRADED)
    assert (told.status, told.reason) == ("True", "AUTH_ERROR")
    assert "API key not valid" in told.message
    assert len(started(decided(job, chunks, split_facts(job, 12, 6), seconds=60))) == 1, "one tries whether it is good"
    assert len(started(decided(job, chunks, split_facts(job, 12, 6, answered=True), seconds=60))) == 4


def test_a_daily_quota_holds_the_chunks_that_never_ran_as_well() -> None:
    """Each of them would start a pod to hear the same."""
    job = gemini_job(parallelism=4)
    history = [record(code=ChunkCode.RATE_LIMIT, counted=False, finished=0)]
    spent = [
        pdf_chunk(index, phase=ChunkPhase.RETRY_SCHEDULED, starts=1, next_retry_time=at(7200 + index), history=history)
        for index in range(4)
    ]
    chunks = [*spent, pdf_chunk(4), pdf_chunk(5)]
    facts = split_facts(job, 12, 6, answered=True)
    assert started(decided(job, chunks, facts, seconds=7199)) == []
    assert started(decided(job, chunks, facts, seconds=7201)) == [0]


def test_a_new_operator_knows_from_the_tokens_that_the_service_has_answered() -> None:
    job = gemini_job()
    facts = split_facts(job, 4, 2)
    assert not answered(job, facts)
    status = job.status.model_copy(update={"tokens": Tokens(input=10, output=5)})
    assert answered(job.model_copy(update={"status": status}), facts)


def test_the_first_runner_is_looked_at_every_second_and_the_others_are_not() -> None:
    chunk = pdf_chunk(phase=ChunkPhase.RUNNING, attempts=1, starts=1)
    raws = (raw_job(), raw_pod(running(), phase="Running"))
    first = chunk_decided(chunk, *raws, job=gemini_job(), seconds=5)
    assert of_type(first, ReadProgress) == [ReadProgress(chunk, 1, 1)]
    assert first.requeue_seconds == 1
    later = chunk_decided(chunk, *raws, job=gemini_job(), facts={"answered": True}, seconds=5)
    assert of_type(later, ReadProgress) == []


def test_a_job_whose_first_request_is_refused_for_good_does_not_try_each_chunk() -> None:
    error = LastError(code="PROCESSING_ERROR", message="the model gemini-0 is not found")
    last = record(code=ChunkCode.PROCESSING_ERROR, final=True, finished=0)
    status = pdf_chunk(phase=ChunkPhase.FAILED, starts=1, attempts=1, last_error=error, history=[last]).status
    job, facts = gemini_job(), split_facts(gemini_job(), 8, 4)
    why = refused_for_good(job, facts, status)
    assert why is not None
    assert why.endswith("correct it in a new PdfJob: the model gemini-0 is not found")
    assert refused_for_good(job, split_facts(job, 8, 4, answered=True), status) is None
    assert refused_for_good(pdf_job(), facts, status) is None
    healing = status.model_copy(update={"history": [record(code=ChunkCode.PROCESSING_ERROR, finished=0)]})
    assert refused_for_good(job, facts, healing) is None

    failed = decided(job, [pdf_chunk(index) for index in range(4)], split_facts(job, 8, 4, invalid=why)).status
    assert failed is not None
    assert (failed.phase, failed.last_error and failed.last_error.message) == (JobPhase.FAILED, why)


def test_no_chunk_is_started_in_the_place_of_the_first_that_was_refused_for_good() -> None:
    """The end is written first; what it says of the job, that no chunk can be processed, is known only then."""
    job = gemini_job(parallelism=4)
    said = TerminationMessage(message="the model gemini-0 is not found", requests={"404": 1})
    pod = raw_pod(terminated(ExitCode.INVALID_TASK, message=said.model_dump_json(by_alias=True)), phase="Failed")
    chunks = [pdf_chunk(phase=ChunkPhase.RUNNING, attempts=1, starts=1), *(pdf_chunk(index) for index in range(1, 4))]
    for known, starts in (({}, []), ({"answered": True}, [1, 2, 3])):
        facts = split_facts(job, 8, 4, ends={(chunks[0].metadata.uid, 1): NOTHING}, **known)
        ended = decided(job, chunks, facts, raw_job(), pod)
        (write,) = of_type(ended, WriteChunk)
        assert write.status.phase is ChunkPhase.FAILED
        assert started(ended) == starts


def test_an_answer_is_learned_from_the_heartbeat_and_from_the_last_word() -> None:
    memory, known = JobMemory(), []
    for said in (False, True, False):
        memory.learn_progress("chunk-0", 1, Progress(done=0, total=2, time="x", answered=said), NOW)
        known.append(memory.facts.answered)
    assert known == [False, True, True]

    memory = JobMemory()
    memory.learn_said(TerminationMessage(requests={"403": 1}, pace_seconds=0.5))
    assert (memory.facts.answered, memory.pace_seconds) == (False, 0.5)
    memory.learn_said(TerminationMessage(requests={"200": 3, "429": 1}, pace_seconds=2))
    memory.learn_said(TerminationMessage())
    assert (memory.facts.answered, memory.pace_seconds) == (True, 2)


def refused(said: TerminationMessage, code: int) -> WriteChunk:
    pod = raw_pod(terminated(code, message=said.model_dump_json(by_alias=True)), phase="Failed")
    chunk = pdf_chunk(phase=ChunkPhase.RUNNING, attempts=1, starts=1)
    decision = chunk_decided(chunk, raw_job(), pod, end=NOTHING, job=gemini_job())
    assert written(decision).phase is ChunkPhase.RETRY_SCHEDULED
    (write,) = of_type(decision, WriteChunk)
    return write


@pytest.mark.parametrize(("named", "least", "most"), [(None, 0, 60), (7200, 7200, 7200), (9e9, 86400, 86400)])
def test_a_rate_limit_is_waited_for_as_long_as_the_service_says_within_a_day(
    named: float | None, least: float, most: float
) -> None:
    said = TerminationMessage(code="RATE_LIMIT", message="daily quota", retry_after_seconds=named, requests={"429": 1})
    write = refused(said, 72)
    assert write.said == said
    assert write.status.next_retry_time is not None
    wait = (from_wire(write.status.next_retry_time) - NOW).total_seconds()
    assert least <= wait <= most
    assert write.status.attempts == 0, "a rate limit is not the chunk's fault"


def test_calls_and_tokens_are_counted_and_no_runner_can_invent_labels() -> None:
    metrics = Metrics()
    metrics.runner_said(TerminationMessage(requests={"200": 3, "429": 2, "timeout": 1, "x" * 999: 4, "999": 1}))
    value = metrics.registry.get_sample_value
    counted = {
        code: value("pdfjob_llm_requests_total", {"code": code}) for code in ("200", "429", "timeout", "other", "999")
    }
    assert counted == {"200": 3, "429": 2, "timeout": 1, "other": 5, "999": None}


def unanswered_job(allowed: int | str, *pages: int) -> tuple[PdfJob, list[Any]]:
    job = gemini_job(failure_policy=FailurePolicy(max_failed_items=allowed))
    chunks = [succeeded(index, missing_pages=lost + index, unanswered_pages=lost) for index, lost in enumerate(pages)]
    return job, chunks


@pytest.mark.parametrize(
    ("allowed", "pages", "merges"),
    [
        (0, (0, 0), True),
        (0, (0, 1), False),
        (2, (1, 1), True),
        (2, (2, 1), False),
        ("25%", (0, 1), True),
        ("24%", (0, 1), False),
    ],
)
def test_pages_without_an_answer_count_against_the_policy_and_not_against_the_chunk(
    allowed: int | str, pages: tuple[int, int], *, merges: bool
) -> None:
    job, chunks = unanswered_job(allowed, *pages)
    status = decided(job, chunks, split_facts(job, 4, 2)).status
    assert status is not None
    assert status.phase is (JobPhase.MERGING if merges else JobPhase.FAILED)
    assert condition(status, JobCondition.CHUNKS_SUCCEEDED).status == "True"


def test_a_job_that_lacks_answers_says_which_chunks_and_what_to_do() -> None:
    job, chunks = unanswered_job(1, 2, 0, 1)
    status = decided(job, chunks, split_facts(job, 6, 3)).status
    assert status is not None
    assert status.last_error is not None
    assert status.last_error.code == JobCode.CHUNK_PROCESSING_ERROR
    assert status.last_error.message == (
        "not merged; 3 pages have no usable answer of the language model (chunks 0,2), "
        "spec.failurePolicy.maxFailedItems: 1 allows fewer: raise it and merge with kubectl pdfjob retry novel, "
        "or ask again with kubectl pdfjob retry novel --chunk 0 --chunk 2 --force"
    )
    assert condition(status, JobCondition.MERGED).reason == Reason.PAGES_FAILED
    allowed = decided(*(unanswered_job(5, 2, 0, 1)), split_facts(job, 6, 3)).status
    text = condition(allowed, JobCondition.CHUNKS_SUCCEEDED).message
    assert text.endswith("(chunks 0,2), spec.failurePolicy.maxFailedItems: 5 allows that")
