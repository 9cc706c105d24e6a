"""``kubectl pdfjob status``: gather, and hand to the views."""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from pdfjob_api.pdfchunk import PdfChunk
from pdfjob_api.pdfjob import PdfJob

from .chunks import of_job
from .cluster import Cluster
from .errors import ClusterError, InterruptError
from .following import Known, follow_all
from .job_view import JobView, render
from .screen import Screen
from .views import is_finished, job_line, job_table
from .workers import live_workers

__all__ = ["print_job", "print_jobs", "show_job", "show_jobs", "watch_job", "watch_jobs"]

_TICK_SECONDS = 1.0


def show_jobs(cluster: Cluster, screen: Screen) -> None:
    """Print the table of all jobs of the namespace."""
    jobs = cluster.jobs()
    if not jobs:
        screen.note(f"No PdfJobs in namespace {cluster.namespace}.")
        return
    screen.show(job_table(jobs, datetime.now(UTC)))


def print_jobs(cluster: Cluster, screen: Screen) -> None:
    """Print all jobs of the namespace as JSON."""
    screen.write(json.dumps([job.wire() for job in cluster.jobs()], indent=2, ensure_ascii=False))


def print_job(cluster: Cluster, name: str, screen: Screen) -> None:
    """Print one job, its chunks and its workers as JSON."""
    job = cluster.job(name)
    found = {
        "job": job.wire(),
        "chunks": [chunk.wire() for chunk in of_job(cluster.chunks(name), job)],
        "workers": [asdict(worker) for worker in live_workers(cluster.pods(name), job.metadata.uid)],
    }
    screen.write(json.dumps(found, indent=2, ensure_ascii=False))


def show_job(cluster: Cluster, name: str, screen: Screen) -> PdfJob:
    """Print where one job stands, and return it."""
    job = cluster.job(name)
    workers = live_workers(cluster.pods(name), job.metadata.uid)
    view = JobView(job, of_job(cluster.chunks(name), job), workers, cluster.flags)
    screen.show(render(view, datetime.now(UTC)))
    return job


def watch_job(cluster: Cluster, name: str, screen: Screen) -> PdfJob:
    """Show one job live until it has ended, and return it; without a terminal, a line at each change."""
    job = cluster.job(name)
    if not is_finished(job):
        try:
            _follow_job(cluster, name, screen)
        except KeyboardInterrupt:
            raise InterruptError(f'stopped watching; pdfjob "{name}" goes on') from None
    return show_job(cluster, name, screen)


def _follow_job(cluster: Cluster, name: str, screen: Screen) -> None:
    jobs: Known[PdfJob] = Known(lambda job: job.metadata.name)
    chunks: Known[PdfChunk] = Known(lambda chunk: chunk.metadata.name)
    pods: Known[dict[str, Any]] = Known(lambda pod: str(pod["metadata"]["name"]))
    known: dict[str, Known[Any]] = {"job": jobs}
    streams: dict[str, Any] = {"job": lambda: cluster.follow_job(name)}
    if screen.live:
        known |= {"chunks": chunks, "pods": pods}
        streams |= {"chunks": lambda: cluster.follow_chunks(name), "pods": lambda: cluster.follow_pods(name)}
    last = ""
    with screen.drawing(keep=False) as draw:
        for _ in follow_all(streams, known, _TICK_SECONDS):
            job = jobs.objects.get(name)
            if job is None:
                raise ClusterError(f'pdfjob "{name}" was deleted')
            if is_finished(job):
                return
            if screen.live:
                workers = live_workers(pods.objects.values(), job.metadata.uid)
                draw(
                    render(
                        JobView(job, of_job(chunks.objects.values(), job), workers, cluster.flags), datetime.now(UTC)
                    )
                )
            elif (line := job_line(job)) != last:
                last = line
                screen.write(line)


def watch_jobs(cluster: Cluster, screen: Screen) -> None:
    """Show the table of all jobs live, until Ctrl-C; without a terminal, a line at each change."""
    known: Known[PdfJob] = Known(lambda job: job.metadata.name)
    seen: dict[str, str] = {}
    try:
        with screen.drawing(keep=True) as draw:
            for _ in follow_all({"jobs": cluster.follow_jobs}, {"jobs": known}, _TICK_SECONDS):
                if screen.live:
                    draw(job_table(known.objects.values(), datetime.now(UTC)))
                    continue
                lines = {name: job_line(job) for name, job in known.objects.items()}
                for name, line in lines.items():
                    if seen.get(name) != line:
                        screen.write(line)
                seen = lines
    except KeyboardInterrupt:
        raise InterruptError("stopped watching; the jobs go on") from None
