"""Every row of the outcome table (design, section 3.3), first match wins."""

from __future__ import annotations

import json
from typing import Any

import pytest

from pdfjob_api.errors import ChunkCode, ExitCode
from pdfjob_api.pdfchunk import ChunkResultStatus, Ending, EndReason, Outcome
from pdfjob_operator.observation import EndFacts, Start
from pdfjob_operator.outcome import Verdict, classify
from pdfjob_operator.views import job_view, pod_view
from tests.support.builders import raw_job, raw_pod, terminated

NOTHING = EndFacts(result=None, result_error=None, items=0)
RESULT = ChunkResultStatus(uri="s3://b/k", sha256="s", bytes=1, sentences=1)
DISRUPTED = {"type": "DisruptionTarget", "status": "True"}


def failed_job(message: str, reason: str = "PodFailurePolicy") -> dict[str, Any]:
    return raw_job({"type": "Failed", "reason": reason, "message": message})


def ended(
    job: dict[str, Any] | None,
    pod: dict[str, Any] | None,
    end: EndFacts = NOTHING,
    ending: Ending | None = None,
    *,
    saved_new: bool = False,
) -> Verdict:
    start = Start(1, job_view(job) if job else None, (pod_view(pod),) if pod else ())
    return classify(start, end, ending, saved_new=saved_new)


def is_lost(verdict: Verdict) -> bool:
    return (verdict.outcome, verdict.code, verdict.counted, verdict.final) == (Outcome.LOST, None, False, False)


@pytest.mark.parametrize(
    ("job", "pod"),
    [
        (raw_job({"type": "Complete"}), raw_pod(terminated(0), phase="Succeeded")),
        (failed_job("exit code 70"), raw_pod(terminated(70), phase="Failed")),
        (raw_job(), raw_pod(terminated(137, "OOMKilled"), phase="Failed")),
        (raw_job(), raw_pod(terminated(75), phase="Failed", conditions=[DISRUPTED])),
        (None, raw_pod(terminated(75), deleted=0)),
        (None, None),
    ],
)
def test_a_verified_result_is_success_whatever_job_and_pod_say(
    job: dict[str, Any] | None, pod: dict[str, Any] | None
) -> None:
    verdict = ended(job, pod, EndFacts(RESULT, None, 2))
    assert verdict == Verdict(Outcome.SUCCEEDED, None, "", counted=True, final=True)


@pytest.mark.parametrize(
    "reason",
    [EndReason.SUSPENDED, EndReason.STOPPED, EndReason.CANCELLED, EndReason.TIMED_OUT, EndReason.REQUEUED],
)
@pytest.mark.parametrize("code", [0, 70, 75, 137])
def test_what_we_ended_is_neither_a_failure_nor_lost_whatever_its_exit_code(reason: EndReason, code: int) -> None:
    pod = raw_pod(terminated(code), phase="Failed", deleted=0)
    verdict = ended(failed_job(f"exit code {code}"), pod, ending=Ending(start=1, reason=reason))
    assert (verdict.outcome, verdict.code, verdict.counted, verdict.final) == (Outcome.ENDED, None, False, False)
    assert verdict.message


def test_a_start_that_we_ended_and_that_had_finished_all_the_same_has_succeeded() -> None:
    ending = Ending(start=1, reason=EndReason.CANCELLED)
    assert ended(None, None, EndFacts(RESULT, None, 2), ending).outcome is Outcome.SUCCEEDED


def test_a_start_without_a_sign_of_life_is_a_timeout() -> None:
    verdict = ended(None, None, ending=Ending(start=1, reason=EndReason.STUCK))
    assert verdict == Verdict(
        Outcome.FAILED, ChunkCode.TIMEOUT, "Processing timeout - worker may have crashed", counted=True, final=False
    )


@pytest.mark.parametrize(
    ("code", "counted", "final"),
    [(ChunkCode.IMAGE_ERROR, False, False), (ChunkCode.PROCESSING_ERROR, True, True), (None, True, True)],
)
def test_a_container_that_could_not_start_fails_with_its_cause(
    code: ChunkCode | None, *, counted: bool, final: bool
) -> None:
    verdict = ended(None, None, ending=Ending(start=1, reason=EndReason.PENDING, code=code, message="why"))
    assert (verdict.outcome, verdict.code) == (Outcome.FAILED, code or ChunkCode.PROCESSING_ERROR)
    assert (verdict.message, verdict.counted, verdict.final) == ("why", counted, final)


@pytest.mark.parametrize(
    ("job", "pod"),
    [
        pytest.param(None, None, id="both gone"),
        pytest.param(None, raw_pod(terminated(137), phase="Failed"), id="Job gone, pod killed"),
        pytest.param(raw_job({"type": "Failed", "reason": "BackoffLimitExceeded"}), None, id="pod deleted by hand"),
        pytest.param(raw_job(), raw_pod(terminated(137), phase="Failed", deleted=0), id="pod killed while it goes"),
        pytest.param(raw_job(), raw_pod(terminated(75), phase="Failed", deleted=0), id="interrupted while it goes"),
        pytest.param(raw_job(), raw_pod(deleted=-700), id="lost node"),
        pytest.param(None, raw_pod(terminated(75), phase="Failed"), id="Job gone, pod interrupted"),
    ],
)
def test_what_was_deleted_or_lost_is_not_counted(job: dict[str, Any] | None, pod: dict[str, Any] | None) -> None:
    assert is_lost(ended(job, pod))


def test_the_exit_code_in_the_jobs_condition_outlives_the_pod() -> None:
    message = "Container runner for pod books/a1-x failed with exit code 71 matching FailJob rule at index 1"
    verdict = ended(failed_job(message), None)
    assert (verdict.code, verdict.counted, verdict.final) == (ChunkCode.API_ERROR, True, False)


def test_code_75_in_the_jobs_condition_is_lost_when_the_pod_is_gone() -> None:
    assert is_lost(ended(failed_job("Container runner for pod x failed with exit code 75 matching"), None))


def test_a_pod_deleted_after_it_failed_by_itself_is_counted() -> None:
    verdict = ended(raw_job(), raw_pod(terminated(70), phase="Failed", deleted=0))
    assert (verdict.code, verdict.counted) == (ChunkCode.PROCESSING_ERROR, True)


@pytest.mark.parametrize(
    ("job", "pod"),
    [
        (raw_job(), raw_pod(terminated(137), phase="Failed", conditions=[DISRUPTED])),
        (raw_job(), raw_pod(terminated(70), phase="Failed", conditions=[DISRUPTED], deleted=0)),
        (failed_job("Pod x has condition DisruptionTarget matching FailJob rule at index 0"), None),
        (
            failed_job("Pod x has condition DisruptionTarget matching FailJob rule at index 0"),
            raw_pod(terminated(137), phase="Failed"),
        ),
    ],
)
def test_a_disruption_on_pod_or_job_is_not_counted(job: dict[str, Any], pod: dict[str, Any] | None) -> None:
    assert is_lost(ended(job, pod))


def test_a_disruption_that_is_not_true_is_none() -> None:
    condition = {"type": "DisruptionTarget", "status": "False"}
    assert ended(raw_job(), raw_pod(terminated(70), phase="Failed", conditions=[condition])).counted


def test_the_hard_limit_is_a_timeout_although_the_runner_says_interrupted() -> None:
    verdict = ended(raw_job(), raw_pod(terminated(75), phase="Failed", reason="DeadlineExceeded"))
    assert (verdict.code, verdict.counted, verdict.final) == (ChunkCode.TIMEOUT, True, False)


@pytest.mark.parametrize(
    ("message", "code"),
    [
        ("The node was low on resource: memory. Container runner was using 3Gi", ChunkCode.OUT_OF_MEMORY),
        ('Usage of EmptyDir volume "tmp" exceeds the limit "1Gi".', ChunkCode.PROCESSING_ERROR),
    ],
)
def test_eviction_for_own_limits_is_counted(message: str, code: ChunkCode) -> None:
    verdict = ended(raw_job(), raw_pod(terminated(137), phase="Failed", reason="Evicted", message=message))
    assert (verdict.code, verdict.message, verdict.counted) == (code, message, True)


@pytest.mark.parametrize("code", [137, 71, 0])
def test_a_container_killed_for_memory_says_so_whatever_its_exit_code(code: int) -> None:
    """A child of the runner may be the one that is killed: the runner itself then ends with a code of ours."""
    verdict = ended(raw_job(), raw_pod(terminated(code, "OOMKilled"), phase="Failed"))
    assert (verdict.code, verdict.counted, verdict.final) == (ChunkCode.OUT_OF_MEMORY, True, False)


@pytest.mark.parametrize(
    ("exit_code", "code", "counted", "final"),
    [
        (ExitCode.INVALID_TASK, ChunkCode.PROCESSING_ERROR, True, True),
        (ExitCode.INVALID_PDF, ChunkCode.INVALID_PDF, True, True),
        (ExitCode.NO_TEXT, ChunkCode.NO_TEXT, True, True),
        (ExitCode.PROCESSING_ERROR, ChunkCode.PROCESSING_ERROR, True, False),
        (ExitCode.API_ERROR, ChunkCode.API_ERROR, True, False),
        (ExitCode.RATE_LIMIT, ChunkCode.RATE_LIMIT, False, False),
        (ExitCode.AUTH_ERROR, ChunkCode.AUTH_ERROR, False, False),
        (ExitCode.STORAGE_ERROR, ChunkCode.STORAGE_ERROR, True, False),
        (ExitCode.SOFT_TIMEOUT, ChunkCode.TIMEOUT, True, False),
    ],
)
@pytest.mark.parametrize("seen", ["pod", "Job", "pod without Job"])
def test_each_exit_code_has_its_meaning(
    exit_code: ExitCode, code: ChunkCode, counted: bool, final: bool, seen: str
) -> None:
    pod = raw_pod(terminated(exit_code), phase="Failed")
    job = failed_job(f"failed with exit code {exit_code.value} matching FailJob rule at index 1")
    verdict = ended(None if seen == "pod without Job" else job, None if seen == "Job" else pod)
    assert (verdict.outcome, verdict.code, verdict.counted, verdict.final) == (Outcome.FAILED, code, counted, final)
    assert verdict.message


def test_an_interruption_nobody_asked_for_is_not_counted() -> None:
    assert is_lost(ended(raw_job(), raw_pod(terminated(75), phase="Failed")))


def test_expired_urls_are_not_counted() -> None:
    assert is_lost(ended(failed_job("exit code 77"), raw_pod(terminated(77), phase="Failed")))


def test_a_soft_timeout_that_saved_pages_is_not_counted() -> None:
    verdict = ended(raw_job(), raw_pod(terminated(76), phase="Failed"), saved_new=True)
    assert (verdict.outcome, verdict.code, verdict.counted) == (Outcome.FAILED, ChunkCode.TIMEOUT, False)


def test_other_failures_that_saved_pages_are_counted() -> None:
    assert ended(raw_job(), raw_pod(terminated(70), phase="Failed"), saved_new=True).counted


def test_a_good_exit_without_a_result_is_a_failure() -> None:
    verdict = ended(raw_job({"type": "Complete"}), raw_pod(terminated(0, "Completed"), phase="Succeeded"))
    assert (verdict.code, verdict.counted, verdict.final) == (ChunkCode.PROCESSING_ERROR, True, False)
    assert "no result" in verdict.message


def test_a_good_exit_with_a_wrong_result_says_what_is_wrong() -> None:
    end = EndFacts(None, "the result object is not valid: pages are missing", 0)
    verdict = ended(raw_job({"type": "Complete"}), raw_pod(terminated(0), phase="Succeeded"), end)
    assert verdict.message == "the result object is not valid: pages are missing"


@pytest.mark.parametrize("code", [1, 2, 126, 139, 255])
def test_an_unknown_exit_code_is_a_processing_error(code: int) -> None:
    verdict = ended(raw_job(), raw_pod(terminated(code), phase="Failed"))
    assert (verdict.code, verdict.counted, verdict.final) == (ChunkCode.PROCESSING_ERROR, True, False)
    assert str(code) in verdict.message


def test_the_runners_own_words_are_told() -> None:
    words = '{"code":"API_ERROR","message":"503 from the service","items":3}'
    assert ended(raw_job(), raw_pod(terminated(71, message=words))).message == "503 from the service"


def test_last_words_that_are_not_json_are_told_as_they_are() -> None:
    assert ended(raw_job(), raw_pod(terminated(1, message="Segmentation fault\n"))).message == "Segmentation fault"


@pytest.mark.parametrize("words", ["[1,2]", "null", '{"items":"many"}', "x" * 5000])
def test_nonsense_as_last_words_harms_nobody(words: str) -> None:
    verdict = ended(raw_job(), raw_pod(terminated(70, message=words)))
    assert verdict.code is ChunkCode.PROCESSING_ERROR
    assert len(verdict.message) <= 1024


def test_without_words_the_tables_message_is_told() -> None:
    assert ended(raw_job(), raw_pod(terminated(66))).message == "No extractable text in PDF chunk"


@pytest.mark.parametrize("reported", ["s", None])
def test_a_result_that_the_runner_reported_or_kept_silent_about_is_taken(reported: str | None) -> None:
    words = json.dumps({"resultSha256": reported})
    pod = raw_pod(terminated(0, message=words), phase="Succeeded")
    assert ended(raw_job(), pod, EndFacts(RESULT, None, 2)).outcome is Outcome.SUCCEEDED


def test_a_result_that_is_not_the_one_reported_is_a_storage_error() -> None:
    pod = raw_pod(terminated(0, message='{"resultSha256":"another"}'), phase="Succeeded")
    verdict = ended(raw_job(), pod, EndFacts(RESULT, None, 2))
    assert (verdict.code, verdict.counted, verdict.final) == (ChunkCode.STORAGE_ERROR, True, False)
