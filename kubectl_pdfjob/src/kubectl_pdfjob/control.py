"""Steering a job: ``kubectl pdfjob retry``, ``suspend``, ``resume``, ``stop`` and ``cancel``."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final

from pdfjob_api.conditions import JobCondition, JobPhase
from pdfjob_api.jobstatus import LastRetry
from pdfjob_api.names import ANNOTATION_REQUESTED_BY, GROUP
from pdfjob_api.pdfjob import PdfJob, Shutdown

from .cluster import Cluster
from .errors import ClusterError, InterruptError, VerbRefusedError, WaitTimeoutError
from .following import Snapshot
from .formats import duration
from .progress import progress_text
from .screen import Screen
from .views import condition, is_finished
from .waiting import wait_until_finished

__all__ = ["answer_lines", "new_request_id", "resume", "retry", "shut_down", "suspend"]

_ANSWER_SECONDS: Final = 10.0
"""The operator answers a retry request in far less, unless it is away."""
_NAMED: Final = 20
"""Chunk numbers shown one by one."""


def retry(
    cluster: Cluster,
    name: str,
    chunks: list[int] | None,
    screen: Screen,
    *,
    force: bool,
    wait: bool,
    timeout: float | None,
) -> None:
    """Ask for another start of chunks and show the operator's answer.

    Parameters
    ----------
    cluster, name
        The job.
    chunks
        Numbers of the chunks; None = all that can be retried.
    screen
        Where the answer goes.
    force
        Whether limits and final errors are passed over.
    wait, timeout
        Whether to wait for the end of the job, and for how many seconds at most.

    Raises
    ------
    VerbRefusedError
        When no chunk is started again.
    WaitTimeoutError
        When the operator does not answer; the request stays.
    """
    identity = new_request_id(datetime.now(UTC))
    request = {"id": identity, "chunks": sorted(set(chunks)) if chunks else None, "force": force}
    cluster.change_job(name, "retry", {"spec": {"retryRequest": request}})
    job = _until(cluster, name, lambda found: _answer(found, identity) is not None, _ANSWER_SECONDS)
    answer = _answer(job, identity)
    if answer is None:
        raise WaitTimeoutError(
            f'the operator has not answered within {_ANSWER_SECONDS:.0f} s; the request stays in pdfjob "{name}" and '
            "is acted on as soon as the operator runs",
            hint=f"kubectl pdfjob status {name}{cluster.flags}",
        )
    # Without chunks named, the results are merged again even when no chunk is taken.
    if answer.retried_count == 0 and (chunks or job.spec.shutdown or is_finished(job)):
        if job.spec.shutdown:
            raise VerbRefusedError(f'pdfjob "{name}": {answer.message}')
        for line in answer_lines(answer)[1:]:
            screen.note(line)
        raise VerbRefusedError(f'pdfjob "{name}": no chunk starts again')
    for line in answer_lines(answer):
        screen.write(line)
    if wait:
        wait_until_finished(cluster, name, timeout, screen)
        screen.note(f'pdfjob "{name}" succeeded')
    else:
        screen.note(f"  follow it:   kubectl pdfjob watch {name}{cluster.flags}")


def new_request_id(now: datetime) -> str:
    """Return an id that no earlier request had."""
    return f"kubectl-{now:%Y%m%dT%H%M%SZ}-{secrets.token_hex(3)}"


def _answer(job: PdfJob, identity: str) -> LastRetry | None:
    answer = job.status.last_retry
    return answer if answer and answer.id == identity else None


def answer_lines(answer: LastRetry) -> list[str]:
    """Return the operator's answer to a retry request, line by line."""
    lines = [answer.message]
    if answer.chunks:
        shown = ", ".join(str(number) for number in answer.chunks[:_NAMED])
        more = answer.retried_count - min(len(answer.chunks), _NAMED)
        lines.append(f"  again:    {shown}" + (f" and {more:,} more" if more > 0 else ""))
    return lines + [f"  refused:  {refused.chunks}: {refused.reason}" for refused in answer.refused]


def suspend(cluster: Cluster, name: str, screen: Screen, *, wait: bool, timeout: float | None) -> None:
    """Pause a job; with ``wait``, until nothing of it runs."""
    job = cluster.job(name)
    _refuse_ended(job, "suspend")
    if job.spec.shutdown:
        raise VerbRefusedError(f'pdfjob "{name}" is being ended for good (shutdown: {job.spec.shutdown})')
    if job.spec.suspend:
        screen.write(f"{_resource(name)} is suspended already")
    else:
        cluster.change_job(name, "suspend", {"spec": {"suspend": True}})
        screen.write(f"{_resource(name)} suspended")
    if wait:
        found = _wait(cluster, name, "suspended", lambda job: _is_true(job, JobCondition.SUSPENDED), timeout)
        screen.note(f"  {_message(found, JobCondition.SUSPENDED) or found.status.phase}")
    else:
        screen.note("  its runners finish the page in hand and save; nothing new starts")
    screen.note(f"  go on:       kubectl pdfjob resume {name}{cluster.flags}")


def resume(cluster: Cluster, name: str, screen: Screen) -> None:
    """Go on with a suspended job and show the progress so far."""
    job = cluster.job(name)
    if job.spec.shutdown is None:
        _refuse_ended(job, "resume")
    if job.spec.suspend or job.spec.shutdown:
        # A job that was stopped is for good: the API server itself refuses this and says so.
        cluster.change_job(name, "resume", {"spec": {"suspend": False, "shutdown": None}})
        screen.write(f"{_resource(name)} resumed")
    else:
        screen.write(f"{_resource(name)} is not suspended")
    screen.write(f"  so far:      {progress_text(job)}")
    screen.note(f"  follow it:   kubectl pdfjob watch {name}{cluster.flags}")


def shut_down(cluster: Cluster, name: str, kind: str, screen: Screen, *, wait: bool, timeout: float | None) -> None:
    """End a job for good, in order (``Stop``) or at once (``Cancel``), in the name of the user."""
    verb, done = ("cancel", "cancelled") if kind == Shutdown.CANCEL else ("stop", "stopped")
    job = cluster.job(name)
    _refuse_ended(job, verb)
    if job.spec.shutdown == kind:
        screen.write(f"{_resource(name)} is being {done} already")
    else:
        user = cluster.user_name()
        change: dict[str, Any] = {
            "metadata": {"annotations": {ANNOTATION_REQUESTED_BY: user}},
            "spec": {"shutdown": kind},
        }
        cluster.change_job(name, verb, change)
        screen.write(f"{_resource(name)} {done} by {user}")
    if wait:
        job = _wait(cluster, name, done, is_finished, timeout)
        screen.note(f"  {_message(job, JobCondition.FINISHED) or job.status.phase}")
    if job.status.chunks and job.status.chunks.succeeded:
        screen.note(f"  done so far: kubectl pdfjob results {name} --partial{cluster.flags}")


def _refuse_ended(job: PdfJob, verb: str) -> None:
    if not is_finished(job):
        return
    name, phase = job.metadata.name, job.status.phase
    hint = f"kubectl pdfjob retry {name}" if phase is JobPhase.FAILED and verb == "resume" else None
    raise VerbRefusedError(f'pdfjob "{name}" has ended ({phase}); there is nothing to {verb}', hint=hint)


def _wait(cluster: Cluster, name: str, state: str, reached: Callable[[PdfJob], bool], timeout: float | None) -> PdfJob:
    """Follow a job until it is in a state, or has ended in another one."""
    try:
        job = _until(cluster, name, lambda found: reached(found) or is_finished(found), timeout)
    except KeyboardInterrupt:
        raise InterruptError(f'stopped waiting; pdfjob "{name}" is being {state} all the same') from None
    if not (reached(job) or is_finished(job)):
        raise WaitTimeoutError(f'pdfjob "{name}" is not {state} yet after {duration(timeout or 0)}; it goes on')
    return job


def _until(cluster: Cluster, name: str, good: Callable[[PdfJob], bool], timeout: float | None) -> PdfJob:
    """Follow a job until it is as wanted or the time is over; return its last state."""
    deadline = None if timeout is None else time.monotonic() + timeout
    job: PdfJob | None = None
    for step in cluster.follow_job(name, deadline=deadline):
        gone = not step.objects if isinstance(step, Snapshot) else step.deleted
        if gone:
            raise ClusterError(f'pdfjob "{name}" was deleted')
        job = step.objects[0] if isinstance(step, Snapshot) else step.object
        if good(job):
            return job
    return job or cluster.job(name)


def _is_true(job: PdfJob, kind: JobCondition) -> bool:
    found = condition(job, kind)
    return found is not None and found.status == "True"


def _message(job: PdfJob, kind: JobCondition) -> str:
    found = condition(job, kind)
    return found.message if found and found.status == "True" else ""


def _resource(name: str) -> str:
    return f"pdfjob.{GROUP}/{name}"
