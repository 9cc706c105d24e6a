"""``kubectl pdfjob watch``: one job to its end, live on a terminal, as lines elsewhere."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, NamedTuple

from pdfjob_api.conditions import JobPhase
from pdfjob_api.pdfjob import PdfJob

from .cluster import Cluster
from .errors import ClusterError, InterruptError, JobFailedError
from .following import Known, follow_all
from .formats import parse_time
from .screen import Screen
from .status import watch_job
from .views import failure, is_finished, is_succeeded

__all__ = ["Point", "base_of", "watch_line", "watch_to_the_end", "worked_seconds"]

_MINUTE: Final = 60


def watch_to_the_end(cluster: Cluster, name: str | None, interval: float, screen: Screen) -> None:
    """Follow a job, or the latest one, to its end.

    Raises
    ------
    JobFailedError
        When it did not end well, or was deleted.
    InterruptError
        At Ctrl-C; the job goes on.
    """
    chosen = name or _latest(cluster)
    if screen.live:
        job = watch_job(cluster, chosen, screen)
    else:
        try:
            job = _lines(cluster, chosen, interval, screen)
        except KeyboardInterrupt:
            raise InterruptError(f'stopped watching; pdfjob "{chosen}" goes on') from None
    if not is_succeeded(job):
        message, hint = failure(job, cluster.flags)
        raise JobFailedError(message, hint=hint)


def _latest(cluster: Cluster) -> str:
    jobs = cluster.jobs()
    if not jobs:
        raise ClusterError(f"there are no PdfJobs in namespace {cluster.namespace}")
    return max(jobs, key=lambda job: (job.metadata.creation_timestamp, job.metadata.name)).metadata.name


def _lines(cluster: Cluster, name: str, interval: float, screen: Screen) -> PdfJob:
    """Write a line at each change and at the latest after ``interval`` seconds; return the job as it ended."""
    cluster.job(name)
    known: Known[PdfJob] = Known(lambda job: job.metadata.name)
    lines = _Lines(interval)
    for _ in follow_all({"job": lambda: cluster.follow_job(name)}, {"job": known}, interval):
        job = known.objects.get(name)
        if job is None:
            raise JobFailedError(f'pdfjob "{name}" was deleted')
        if text := lines.due(job):
            screen.write(text)
        if is_finished(job):
            return job
    raise AssertionError("a watch has no end")


@dataclass(slots=True)
class _Lines:
    """Which lines are due: one at each change, one after each interval without."""

    interval: float
    tick: int = 0
    facts: tuple[object, ...] = ()
    last: float = 0.0
    base: Point | None = None

    def due(self, job: PdfJob) -> str:
        """Return the line to write now; empty when nothing that it shows has changed since the last one."""
        now = datetime.now(UTC)
        self.base = base_of(job, now, self.base)
        counts = job.status.chunks
        facts = (job.status.phase, counts and (counts.succeeded, counts.total, counts.failed))
        if facts == self.facts and time.monotonic() - self.last < self.interval:
            return ""
        self.tick += 1
        self.facts, self.last = facts, time.monotonic()
        return watch_line(self.tick, job, now, self.base)


class Point(NamedTuple):
    """How far a job had come."""

    done: int
    """Chunks that had succeeded."""
    seconds: float
    """For which it had been worked on."""


def base_of(job: PdfJob, now: datetime, base: Point | None) -> Point:
    """Return from where the rate of a job is counted.

    That is its beginning; but a retry sets its times anew while earlier chunks still count as done, so then it is
    where the watch saw it first.
    """
    here = Point(_done(job), worked_seconds(job, now))
    if base is None:
        return here if job.status.last_retry else Point(0, 0.0)
    return here if here.done < base.done or here.seconds < base.seconds else base


def watch_line(tick: int, job: PdfJob, now: datetime, base: Point = Point(0, 0.0)) -> str:  # noqa: B008 - immutable
    """Return the line of requirement R-45, counted from the status alone.

    ``[1] 20:43:25 | Status: PROGRESS | Progress: 136/253 (53.8%) | Failed: 12 | Rate: 2.5 chunks/min``; the time is
    local, the rate is that of the time for which the job was worked on since ``base``.
    """
    counts, done = job.status.chunks, _done(job)
    total, failed = (counts.total, counts.failed) if counts else (0, 0)
    phase = "PROGRESS" if job.status.phase is JobPhase.RUNNING else job.status.phase.upper()
    percent = 100 * done / total if total else 0.0
    seconds = worked_seconds(job, now) - base.seconds
    rate = _MINUTE * (done - base.done) / seconds if seconds > 0 else 0.0
    return (
        f"[{tick}] {now.astimezone():%H:%M:%S} | Status: {phase} | Progress: {done}/{total} ({percent:.1f}%) | "
        f"Failed: {failed} | Rate: {rate:.1f} chunks/min"
    )


def _done(job: PdfJob) -> int:
    return job.status.chunks.succeeded if job.status.chunks else 0


def worked_seconds(job: PdfJob, now: datetime) -> float:
    """Return for how many seconds a job has been worked on; waiting and suspension are left out where it is known."""
    clock = job.status.clock
    if clock:
        since = parse_time(clock.since)
        return clock.seconds + (max(0.0, (now - since).total_seconds()) if since else 0.0)
    started = parse_time(job.status.start_time)
    if started is None:
        return 0.0
    ended = parse_time(job.status.completion_time) if is_finished(job) else None
    return max(0.0, ((ended or now) - started).total_seconds())
