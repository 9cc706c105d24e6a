"""``kubectl pdfjob progress``: the counts of the chunks of a job, for people and for programs."""

from __future__ import annotations

import json
from datetime import UTC, datetime

from pdfjob_api.pdfjob import PdfJob

from .cluster import Cluster
from .screen import Screen

__all__ = ["progress_of", "progress_text", "show_progress"]


def show_progress(cluster: Cluster, name: str, screen: Screen, *, as_json: bool) -> None:
    """Print the progress of a job; as JSON it is ``{}`` until the chunks are planned."""
    job = cluster.job(name)
    screen.write(json.dumps(progress_of(job, datetime.now(UTC)), indent=2) if as_json else progress_text(job))


def progress_of(job: PdfJob, now: datetime) -> dict[str, str | int | float | bool]:
    """Return the progress with the keys of requirement R-99; empty until the chunks are planned.

    A chunk that waits for its next try is pending. It is complete when every chunk has settled, well or not.
    """
    counts = job.status.chunks
    if counts is None or counts.total == 0:
        return {}
    pending = counts.pending + counts.retry_scheduled
    return {
        "job_id": job.metadata.name,
        "total_chunks": counts.total,
        "pending_chunks": pending,
        "processing_chunks": counts.running,
        "completed_chunks": counts.succeeded,
        "failed_chunks": counts.failed,
        "completion_percentage": round(100 * counts.succeeded / counts.total, 1),
        "is_complete": pending + counts.running == 0,
        "timestamp": now.strftime("%Y-%m-%dT%H:%M:%SZ"),
    }


def progress_text(job: PdfJob) -> str:
    """Return the progress in one line: ``4/10 chunks done (40.0%), 4 at work, 2 waiting, 0 failed``."""
    counts = job.status.chunks
    if counts is None or counts.total == 0:
        return f"not cut into chunks yet ({job.status.phase})"
    text = (
        f"{counts.succeeded}/{counts.total} chunks done ({100 * counts.succeeded / counts.total:.1f}%), "
        f"{counts.running} at work, {counts.pending + counts.retry_scheduled} waiting, {counts.failed} failed"
    )
    if counts.cancelled:
        text += f", {counts.cancelled} cancelled"
    items = job.status.items
    return f"{text}; {items.done:,} of {items.total:,} pages done" if items else text
