"""What shall become of a job: the user's word, the pause and the time limit, in their order."""

from __future__ import annotations

from datetime import timedelta

import pytest

from pdfjob_api.jobstatus import Clock, PdfJobStatus
from pdfjob_api.pdfjob import Limits, Shutdown
from pdfjob_operator.intent import Intent, intent_of
from tests.support.builders import NOW, at, pdf_job


@pytest.mark.parametrize(
    ("shutdown", "suspend", "over", "intent"),
    [
        (None, False, False, Intent.RUN),
        (None, True, False, Intent.SUSPEND),
        (None, False, True, Intent.TIME_OUT),
        (None, True, True, Intent.SUSPEND),
        (Shutdown.STOP, False, False, Intent.STOP),
        (Shutdown.STOP, True, True, Intent.STOP),
        (Shutdown.CANCEL, False, False, Intent.CANCEL),
        (Shutdown.CANCEL, True, True, Intent.CANCEL),
    ],
)
def test_a_shutdown_goes_before_a_pause_and_a_pause_before_the_time_limit(
    shutdown: Shutdown | None, intent: Intent, *, suspend: bool, over: bool
) -> None:
    """A paused job never fails, so its time limit waits for the resume (R-55)."""
    job = pdf_job(
        PdfJobStatus(clock=Clock(seconds=60 if over else 59)),
        shutdown=shutdown,
        suspend=suspend,
        limits=Limits(job_timeout_seconds=60),
    )
    assert intent_of(job, NOW) is intent


@pytest.mark.parametrize(
    ("clock", "seconds", "intent"),
    [
        (Clock(seconds=40, since=at(0)), 19, Intent.RUN),
        (Clock(seconds=40, since=at(0)), 20, Intent.TIME_OUT),
        (Clock(seconds=59), 86400, Intent.RUN),
        (None, 86400, Intent.RUN),
    ],
)
def test_the_time_limit_is_held_against_the_time_that_was_worked_on(
    clock: Clock | None, seconds: float, intent: Intent
) -> None:
    job = pdf_job(PdfJobStatus(clock=clock), limits=Limits(job_timeout_seconds=60))
    assert intent_of(job, NOW + timedelta(seconds=seconds)) is intent


def test_without_a_limit_no_time_is_too_long() -> None:
    job = pdf_job(PdfJobStatus(clock=Clock(seconds=10**8, since=at(0))))
    assert intent_of(job, NOW) is Intent.RUN
