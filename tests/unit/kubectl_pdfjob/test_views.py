"""Tables and lines from models."""

from __future__ import annotations

import pytest

from kubectl_pdfjob.job_view import JobView, next_commands, render
from kubectl_pdfjob.screen import plain
from kubectl_pdfjob.views import chunk_table, failure, holdup, job_line, job_table, step_text
from kubectl_pdfjob.why import Queue
from kubectl_pdfjob.workers import live_workers
from pdfjob_api.conditions import UNDER_WAY, Reason
from pdfjob_api.errors import CHUNK_CODES, JOB_CODES, ChunkCode, JobCode
from pdfjob_api.pdfjob import PdfJob

from .builders import NOW, ago, condition, failed_job, finished_job, make_chunk, make_job, make_pod, running_job


@pytest.mark.parametrize(
    ("job", "text"),
    [
        (running_job(5, 10), "Processing chunk 5/10 (50%)"),
        (running_job(2, 3), "Processing chunk 2/3 (66%)"),
        (make_job(currentStep="Merging", summary={"progress": "100%", "chunks": "3/3"}), "Merging"),
        (make_job(), "Waiting for the operator"),
        (finished_job(), ""),
    ],
)
def test_the_step_shows_the_plain_ratio_of_chunks(job: PdfJob, text: str) -> None:
    assert step_text(job) == text


def test_a_line_says_where_a_job_stands() -> None:
    assert job_line(running_job(5, 10)) == "novel  Running  45%  Processing chunk 5/10 (50%)"


def test_jobs_are_listed_with_the_newest_first() -> None:
    text = plain(job_table([make_job("older", created=600), make_job("newer", created=30)], NOW))

    assert text.splitlines() == [
        "NAME   PHASE    PROGRESS  CHUNKS  FAILED  AGE  STEP",
        "newer  Pending  -         -       -       30s  -",
        "older  Pending  -         -       -       10m  -",
    ]


def test_chunks_show_tries_times_and_reasons() -> None:
    error = {"code": "TIMEOUT", "message": "Processing timeout exceeded"}
    result = {"uri": "s3://b/k", "sha256": "0", "bytes": 1, "sentences": 812}
    done = {"attempts": 1, "startedAt": ago(200), "processedAt": ago(180), "updatedAt": ago(180), "result": result}
    chunks = [
        make_chunk(0, "Succeeded", lastError=error, **done),
        make_chunk(1, "RetryScheduled", attempts=1, nextRetryTime=ago(-17), updatedAt=ago(3), lastError=error),
        make_chunk(2, "Running", attempts=1, startedAt=ago(12), updatedAt=ago(12)),
        make_chunk(3),
    ]

    again = "TIMEOUT: Processing timeout exceeded (again in 17s)"
    why = Queue(running_job(), []).why
    assert plain(chunk_table(chunks, why, NOW)).splitlines() == [
        "CHUNK  PAGES    PHASE           TRIES  SENTENCES  TOOK  AGE    WHY",
        "0      1-50     Succeeded       1      812        20s   3m     -",
        f"1      51-100   RetryScheduled  1      -          -     3s     {again}",
        "2      101-150  Running         1      -          12s   12s    -",
        "3      151-200  Pending         0      -          -     4m10s  waits for its turn",
    ]


def test_the_view_of_a_job_fits_eighty_columns() -> None:
    chunks = [make_chunk(1, "Failed", attempts=4, lastError={"code": "TIMEOUT", "message": "slow " * 50})]
    unschedulable = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "no node " * 30}
    workers = live_workers([make_pod(conditions=[unschedulable])], "uid-1")
    job = running_job(failedChunks="1", retries=3, sentences=4321)
    text = plain(render(JobView(job, chunks, workers, " -n lib"), NOW), width=80)

    assert max(len(line) for line in text.splitlines()) <= 80
    assert "4,321" in text
    assert "Unschedulable" in text


def test_only_the_last_finished_chunks_are_shown_and_at_most_ten_failures() -> None:
    done = [make_chunk(index, "Succeeded", processedAt=ago(100 - index)) for index in range(20)]
    bad = [make_chunk(index, "Failed", lastError={"code": "NO_TEXT", "message": "x"}) for index in range(20, 40)]
    parts = plain(render(JobView(running_job(), [*done, *bad]), NOW)).split("\n\n")
    recent = next(part for part in parts if part.startswith("Recently finished:"))
    failed = next(part for part in parts if part.startswith("Failed:"))

    assert [line.split()[0] for line in recent.splitlines()[2:]] == ["19", "18", "17", "16", "15"]
    assert failed.splitlines()[-1].strip() == "... and 10 more"


def test_a_partial_result_names_what_is_missing() -> None:
    files = [{"format": "txt", "uri": "s3://b/k", "bytes": 1200, "sha256": "0"}]
    job = finished_job().model_copy(
        update={"status": make_job(result={"files": files, "partial": True, "missingPages": "51-100"}).status}
    )

    assert "txt 1.2 kB; partial, missing pages 51-100" in plain(render(JobView(job, []), NOW))


def test_a_long_error_is_told_once_and_long_reasons_are_cut() -> None:
    advice = JOB_CODES[JobCode.CHUNK_PROCESSING_ERROR].advice_for("novel")
    text = f"4 of 4 chunks failed (0-3); chunk 0: IMAGE_ERROR: {'no such host ' * 30}; {advice}"
    job = failed_job("CHUNK_PROCESSING_ERROR", condition("ChunksSucceeded", "False", "ChunksFailed", text), text)
    chunk = make_chunk(0, "Failed", lastError={"code": "IMAGE_ERROR", "message": "no such host " * 30})
    view = plain(render(JobView(job, [chunk]), NOW))

    assert view.count("4 of 4 chunks failed") == 1
    assert view.count("see Error above") == 3
    assert "NAME" not in view
    failed = next(part for part in view.split("\n\n") if part.startswith("Failed:")).splitlines()
    assert failed[2].endswith(" ...")
    assert len(failed[2]) < 200


def test_a_source_that_was_refused_says_so_in_the_operators_words() -> None:
    broken = condition("Split", "False", "Encrypted", "a password is needed; remove it and submit again")
    message, hint = failure(failed_job("INVALID_SOURCE", broken, "a password is needed; remove it and submit again"))

    expected = "INVALID_SOURCE/Encrypted: a password is needed; remove it and submit again"
    assert message == f'pdfjob "novel" failed: {expected}'
    assert hint is None


def test_failed_chunks_lead_to_the_command_that_shows_them() -> None:
    advice = JOB_CODES[JobCode.CHUNK_PROCESSING_ERROR].advice_for("novel")
    text = f"1 of 10 chunks failed (3); chunk 3: NO_TEXT: nothing; {advice}"
    broken = condition("ChunksSucceeded", "False", "ChunksFailed", text)
    message, hint = failure(failed_job("CHUNK_PROCESSING_ERROR", broken, text), " -n lib")

    assert message.endswith("ChunksFailed: 1 of 10 chunks failed (3); chunk 3: NO_TEXT: nothing")
    assert hint == "kubectl pdfjob chunks novel --status Failed -n lib"


@pytest.mark.parametrize("code", [*JobCode, *ChunkCode])
def test_every_code_has_a_failure_text_without_placeholders(code: JobCode | ChunkCode) -> None:
    rule = JOB_CODES[code] if isinstance(code, JobCode) else CHUNK_CODES[code]
    message, hint = failure(failed_job(code, condition("Accepted", "True"), rule.message))

    assert message == f'pdfjob "novel" failed: {code}: {rule.message}'
    assert hint
    assert "NAME" not in hint


def test_a_job_that_cannot_go_on_says_why() -> None:
    waiting = condition("Split", "Unknown", "BucketNotFound", "bucket x does not exist; tried again in 20 s")

    assert holdup(make_job(conditions=[waiting])) == "BucketNotFound: bucket x does not exist; tried again in 20 s"
    assert holdup(make_job(conditions=[condition("Merged", "Unknown", "Waiting", "when all have ended")])) is None
    assert holdup(running_job()) is None
    assert holdup(finished_job()) is None


@pytest.mark.parametrize("reason", sorted(UNDER_WAY))
def test_a_job_that_is_under_way_is_not_held_up(reason: Reason) -> None:
    assert holdup(make_job(conditions=[condition("Merged", "Unknown", reason, "chunks are merged at the end")])) is None


def test_the_next_command_fits_the_state() -> None:
    failed = failed_job("INVALID_SOURCE", condition("Split", "False"), "x")

    assert next_commands(running_job(), " -n lib", NOW) == ["kubectl pdfjob status novel --watch -n lib"]
    assert next_commands(finished_job(), "", NOW) == ["kubectl pdfjob results novel"]
    assert next_commands(failed, "", NOW) == ["kubectl describe pdfjob novel"]
    assert "operator has not taken this job" in next_commands(make_job(created=60), "", NOW)[0]
    assert next_commands(make_job(created=3), "", NOW) == ["kubectl pdfjob status novel --watch"]


def test_a_job_that_is_paused_or_held_says_so() -> None:
    paused = condition("Suspended", "True", "Suspended", "Batch paused, checkpoint retained")
    draining = condition("Suspended", "False", "Draining", "2 runners finish the page in hand")
    resumed = condition("Suspended", "False", "Resumed", "the job goes on")
    degraded = condition("Degraded", "True", "AUTH_ERROR", "the key is refused")

    assert holdup(make_job(conditions=[paused])) == "Suspended: Batch paused, checkpoint retained"
    assert holdup(make_job(conditions=[draining])) == "Draining: 2 runners finish the page in hand"
    assert holdup(make_job(conditions=[resumed])) is None
    assert holdup(make_job(conditions=[degraded])) == "AUTH_ERROR: the key is refused"


def test_a_job_ended_by_its_user_is_no_failure() -> None:
    by = {"requestedAt": "2026-11-22T11:00:00Z", "requestedBy": "ada"}
    finished = condition("Finished", "True", "Cancelled")
    job = make_job(phase="Cancelled", shutdown=by, conditions=[finished], chunks={"total": 2, "succeeded": 1})

    assert failure(job, " -n lib") == (
        'pdfjob "novel" was cancelled by ada, 2026-11-22 11:00:00 UTC',
        "kubectl pdfjob results novel --partial -n lib",
    )


def test_nothing_to_read_is_no_hint() -> None:
    assert failure(make_job(phase="Stopped", conditions=[condition("Finished", "True", "Stopped")])) == (
        'pdfjob "novel" was stopped',
        None,
    )


def test_the_view_shows_the_whole_lifecycle() -> None:
    spec = {"limits": {"jobTimeoutSeconds": 3600}, "failurePolicy": {"maxFailedChunks": "10%"}, "shutdown": "Stop"}
    answer = {
        "id": "second",
        "message": "Retrying 2 chunks",
        "retriedCount": 2,
        "chunks": [2, 5],
        "refused": [{"chunks": "7", "reason": "it runs"}],
        "time": ago(90),
    }
    job = make_job(
        spec=spec,
        phase="Running",
        effectiveParallelism=2,
        clock={"seconds": 100, "since": ago(20)},
        lastRetry=answer,
        shutdown={"requestedAt": "2026-11-22T11:59:00Z", "requestedBy": "ada"},
    )
    text = plain(render(JobView(job, []), NOW))

    assert "parallelism 4, 2 in effect, priority 5" in text
    assert "pending 600 s, job 3600 s, up to 3 retries" in text
    assert "10% of the chunks may fail" in text
    assert "Clock:       worked on for 2m of 60m (limits.jobTimeoutSeconds)" in text
    assert "Retrying 2 chunks, 90s ago (id second); chunks 2, 5; refused 7: it runs" in text
    assert "ada, 2026-11-22 11:59:00 UTC (shutdown: Stop)" in text


@pytest.mark.parametrize(
    ("phase", "shown"),
    [("Succeeded", "in 23h (ttlSecondsAfterFinished); result and history stay"), ("Failed", None), ("Running", None)],
)
def test_a_job_that_goes_away_by_itself_says_when(phase: str, shown: str | None) -> None:
    text = plain(render(JobView(make_job(phase=phase, completionTime=ago(60)), []), NOW))

    assert next((line.partition("Removed:")[2].strip() for line in text.splitlines() if "Removed:" in line), None) == (
        shown
    )


def test_a_suspended_job_is_resumed_next_and_a_failed_one_retried() -> None:
    failed = failed_job("CHUNK_PROCESSING_ERROR", condition("Split", "True"), "x")
    counts = make_job(chunks={"total": 2, "succeeded": 1, "failed": 1}, failedChunks="1").status
    failed = failed.model_copy(
        update={"status": failed.status.model_copy(update={"chunks": counts.chunks, "failed_chunks": "1"})}
    )

    assert next_commands(make_job(spec={"suspend": True}), "", NOW) == ["kubectl pdfjob resume novel"]
    assert next_commands(failed, "", NOW) == [
        "kubectl pdfjob chunks novel --status Failed",
        "kubectl pdfjob retry novel",
        "kubectl pdfjob results novel --partial",
        "kubectl describe pdfjob novel",
    ]


def test_the_view_of_a_job_with_a_language_model_tells_its_settings_and_tokens() -> None:
    gemini = {"model": "gemini-test", "apiKeySecretRef": {"name": "gemini"}, "windowPages": 10, "mode": "Pdf"}
    tokens = {"input": 120_000, "output": 60_000, "cached": 1_000, "thinking": 500}
    job = make_job(spec={"processor": {"gemini": gemini}}, phase="Running", tokens=tokens)

    text = plain(render(JobView(job, []), NOW))

    assert "processor gemini (gemini-test, mode Pdf, 10 pages a request)" in " ".join(text.split())
    assert "120,000 input (1,000 of them cached), 60,000 output, 500 thinking" in " ".join(text.split())


def test_the_view_tells_how_many_chunks_came_from_the_cache() -> None:
    job = make_job(chunks={"total": 40, "pending": 1, "succeeded": 39, "cached": 37}, phase="Running")
    text = " ".join(plain(render(JobView(job, []), NOW)).split())
    assert "40 in all: 39 succeeded (37 from the cache), 0 running, 1 pending, 0 failed" in text


PAID = {"creditAccountRef": {"name": "books", "estimatedTokens": 400_000}}
BROKE = (
    "the job is expected to take 400000 tokens and the credit account books has 120000 available; it waits until other "
    "jobs give theirs back or the account is topped up: kubectl pdfjob credits books -n lib --add 280000"
)


def credits_row(job: PdfJob) -> str:
    """Return the row of the view that tells of credits, on one line; empty when there is none."""
    rows = plain(render(JobView(job, []), NOW)).splitlines()
    return next((row.partition(":")[2].strip() for row in rows if row.startswith("Credits:")), "")


def test_the_view_tells_what_the_credit_account_has_to_do_with_a_job() -> None:
    used = {"run": 2, "reserved": 400_000, "charged": 123_456, "chargedEarlier": 50_000}
    ends = [condition("Finished", "True"), condition("CreditsSettled", "True", "TokensRefunded")]

    assert credits_row(make_job()) == ""
    assert credits_row(make_job(spec=PAID)) == "account books: nothing reserved, 400,000 expected"
    assert credits_row(make_job(spec=PAID, credits={"reserved": 400_000})) == (
        "account books: 400,000 reserved, 0 charged"
    )
    assert credits_row(make_job(spec=PAID, credits=used)) == (
        "account books: 400,000 reserved, 123,456 charged; 50,000 charged in earlier runs"
    )
    assert credits_row(make_job(spec=PAID, credits=used | {"refunded": 276_544}, conditions=ends)) == (
        "account books: 400,000 reserved, 123,456 charged, 276,544 refunded; 50,000 charged in earlier runs"
    )


def test_a_job_that_waits_for_credits_says_so_and_leads_to_the_account() -> None:
    held = condition("CreditsReserved", "False", "InsufficientCredits", BROKE)
    degraded = condition("Degraded", "True", "RATE_LIMIT", "the service is busy")
    job = make_job(spec=PAID, conditions=[condition("Accepted", "True"), held, degraded])

    assert holdup(job) == f"InsufficientCredits: {BROKE}"
    assert next_commands(job, " -n lib", NOW) == ["kubectl pdfjob credits books -n lib"]
    assert "--add 280000" in " ".join(plain(render(JobView(job, []), NOW), width=80).split())
    reserved = condition("CreditsReserved", "True", "TokensReserved")
    assert holdup(make_job(spec=PAID, conditions=[reserved])) is None
    assert holdup(make_job(spec=PAID, conditions=[held, condition("Finished", "True")])) is None


def test_chunks_show_the_tokens_of_language_work() -> None:
    result = {"uri": "s3://b/k", "sha256": "0", "bytes": 1, "sentences": 812}
    tokens = {"input": 10_000, "output": 2_000, "thinking": 345, "cached": 9_000}
    chunks = [
        make_chunk(0, "Succeeded", result={**result, "tokens": tokens}),
        make_chunk(1, "Succeeded", result={**result, "cached": True}),
        make_chunk(2),
    ]
    lines = plain(chunk_table(chunks, Queue(running_job(), []).why, NOW)).splitlines()

    assert lines[0].split() == ["CHUNK", "PAGES", "PHASE", "TRIES", "SENTENCES", "TOKENS", "TOOK", "AGE", "WHY"]
    assert [line.split()[5] for line in lines[1:]] == ["12,345", "cached", "-"]
