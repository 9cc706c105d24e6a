"""Waiting for the end of a job: one watch, no polling."""

from __future__ import annotations

import time

from pdfjob_api.pdfjob import PdfJob

from .cluster import Cluster
from .errors import InterruptError, JobFailedError, WaitTimeoutError
from .following import Snapshot
from .formats import duration
from .screen import Screen
from .views import failure, holdup, is_finished, is_succeeded, step_text

__all__ = ["wait_until_finished"]


def wait_until_finished(cluster: Cluster, name: str, timeout: float | None, screen: Screen) -> PdfJob:
    """Follow a job to its end with a progress bar and return it.

    Parameters
    ----------
    cluster, name
        The job.
    timeout
        Seconds to wait; None = no limit.
    screen
        Where the progress is shown.

    Raises
    ------
    JobFailedError
        When it failed or was deleted; the message is that of its conditions.
    WaitTimeoutError
        When it has not ended in time; it goes on.
    InterruptError
        At Ctrl-C; it goes on.
    """
    follow = f"kubectl pdfjob status {name} --watch{cluster.flags}"
    try:
        job = _last_state(cluster, name, timeout, screen)
    except KeyboardInterrupt:
        raise InterruptError(f'stopped waiting; pdfjob "{name}" goes on', hint=follow) from None
    if not is_finished(job):
        spent = duration(timeout or 0)
        raise WaitTimeoutError(f'pdfjob "{name}" is still {job.status.phase} after {spent}; it goes on', hint=follow)
    if not is_succeeded(job):
        message, hint = failure(job, cluster.flags)
        raise JobFailedError(message, hint=hint)
    return job


def _last_state(cluster: Cluster, name: str, timeout: float | None, screen: Screen) -> PdfJob:
    deadline = None if timeout is None else time.monotonic() + timeout
    job: PdfJob | None = None
    said: str | None = None
    with screen.step_bar() as show:
        for step in cluster.follow_job(name, deadline=deadline):
            gone = not step.objects if isinstance(step, Snapshot) else step.deleted
            if gone:
                raise JobFailedError(f'pdfjob "{name}" was deleted while it was waited for')
            job = step.objects[0] if isinstance(step, Snapshot) else step.object
            show(step_text(job) or job.status.phase, job.status.progress_percent)
            if is_finished(job):
                return job
            if (reason := holdup(job)) != said and reason:
                screen.note(f"held up: {reason}")
            said = reason
    return job or cluster.job(name)
