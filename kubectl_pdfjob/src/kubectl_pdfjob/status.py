"""``kubectl pdfjob status`` and ``chunks``: gather, and hand to the views."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from pdfjob_api.conditions import ChunkPhase
from pdfjob_api.pdfchunk import PdfChunk
from pdfjob_api.pdfjob import PdfJob

from .cluster import Cluster
from .errors import ClusterError, InterruptError, UsageError
from .following import Known, follow_all
from .job_view import JobView, render
from .screen import Screen
from .views import chunk_table, is_finished, job_line, job_table
from .workers import live_workers

__all__ = ["show_chunks", "show_job", "show_jobs", "watch_job", "watch_jobs"]

_TICK_SECONDS = 1.0


def show_jobs(cluster: Cluster, screen: Screen) -> None:
    """Print the table of all jobs of the namespace."""
    jobs = cluster.jobs()
    if not jobs:
        screen.note(f"No PdfJobs in namespace {cluster.namespace}.")
        return
    screen.show(job_table(jobs, datetime.now(UTC)))


def show_job(cluster: Cluster, name: str, screen: Screen) -> None:
    """Print where one job stands."""
    job = cluster.job(name)
    workers = live_workers(cluster.pods(name), job.metadata.uid)
    view = JobView(job, _of_job(cluster.chunks(name), job), workers, cluster.flags)
    screen.show(render(view, datetime.now(UTC)))


def watch_job(cluster: Cluster, name: str, screen: Screen) -> None:
    """Show one job live until it has ended; without a terminal, a line at each change."""
    job = cluster.job(name)
    if not is_finished(job):
        try:
            _follow_job(cluster, name, screen)
        except KeyboardInterrupt:
            raise InterruptError(f'stopped watching; pdfjob "{name}" goes on') from None
    show_job(cluster, name, screen)


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
                        JobView(job, _of_job(chunks.objects.values(), job), workers, cluster.flags), datetime.now(UTC)
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


def show_chunks(cluster: Cluster, name: str, phase: str | None, screen: Screen) -> None:
    """Print the chunks of a job, those in one phase only when asked for."""
    chosen = _phase(phase) if phase else None
    job = cluster.job(name)
    chunks = _of_job(cluster.chunks(name, chosen), job)
    if not chunks:
        screen.note(f'pdfjob "{name}" has no chunks' + (f" in phase {chosen}" if chosen else " yet") + ".")
        return
    screen.show(chunk_table(chunks, datetime.now(UTC)))


def _phase(text: str) -> str:
    found = next((phase for phase in ChunkPhase if phase.value.lower() == text.lower()), None)
    if found is None:
        raise UsageError(f'no chunk is ever in phase "{text}"; phases are {", ".join(ChunkPhase)}')
    return found.value


def _of_job(chunks: Any, job: PdfJob) -> list[PdfChunk]:
    """Leave out chunks of an earlier job of the same name that is still being deleted."""
    return [
        chunk for chunk in chunks if any(owner.uid == job.metadata.uid for owner in chunk.metadata.owner_references)
    ]
