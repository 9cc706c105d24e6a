"""What shall become of a job, by its user's word or its time limit. Pure."""

from __future__ import annotations

from datetime import datetime
from enum import Enum

from pdfjob_api.pdfchunk import EndReason
from pdfjob_api.pdfjob import PdfJob, Shutdown

from .jobclock import elapsed


class Intent(Enum):
    """What shall become of a job; the value is why its starts are ended."""

    RUN = None
    FAIL = EndReason.JOB_FAILED
    SUSPEND = EndReason.SUSPENDED
    TIME_OUT = EndReason.TIMED_OUT
    STOP = EndReason.STOPPED
    CANCEL = EndReason.CANCELLED


def intent_of(job: PdfJob, now: datetime, *, fatal: bool = False, looked: datetime | None = None) -> Intent:
    """Say what shall become of a job: what cannot be undone comes first, and a paused job never fails.

    Its time limit, lowered meanwhile or reached as the pause began, holds again when it is resumed (R-55).

    Parameters
    ----------
    fatal
        Whether the job cannot go on.
    looked
        When this process first looked at the job, see `jobclock`.
    """
    match job.spec.shutdown:
        case Shutdown.CANCEL:
            return Intent.CANCEL
        case Shutdown.STOP:
            return Intent.STOP
    if job.spec.suspend:
        return Intent.SUSPEND
    if fatal:
        return Intent.FAIL
    limit = job.spec.limits.job_timeout_seconds
    over = limit is not None and elapsed(job.status.clock, now, looked) >= limit
    return Intent.TIME_OUT if over else Intent.RUN
