"""Which Events a change of a PdfJob's status deserves. Pure; they are sent after the status write succeeded."""

from __future__ import annotations

from typing import Final

from pdfjob_api.conditions import UNDER_WAY, JobCondition, Reason
from pdfjob_api.jobstatus import PdfJobStatus
from pdfjob_api.meta import Condition
from pdfjob_api.pdfjob import PdfJob

_TOLD: Final = (
    JobCondition.ACCEPTED,
    JobCondition.SPLIT,
    JobCondition.REPAIRED,
    JobCondition.CREDITS_RESERVED,
    JobCondition.MERGED,
    JobCondition.SUSPENDED,
    JobCondition.DEGRADED,
    JobCondition.CREDITS_SETTLED,
    JobCondition.FINISHED,
)
_QUIET: Final = frozenset(
    {
        Reason.WAITING.value,
        Reason.ACTIVE.value,
        Reason.MERGING.value,
        Reason.CHUNKS_FAILED.value,
    }
)
"""Reasons that say nothing new in an Event."""
_TROUBLE: Final = frozenset({Reason.PAGES_LOST, Reason.FAILED})
"""Reasons that deserve a warning although their condition is True."""
_BAD: Final = frozenset({JobCondition.DEGRADED.value})
"""Conditions that are trouble when True, and none when False."""
_NEITHER: Final = frozenset({JobCondition.SUSPENDED.value, JobCondition.FINISHED.value})
"""Conditions that the user wished for, or that tell nothing bad when False."""


def events_of(job: PdfJob, old: PdfJobStatus, new: PdfJobStatus) -> list[tuple[str, str, str]]:
    """Return type, reason and message of each Event, for the conditions whose status or reason has changed."""
    pages = new.source.pages if new.source else None
    large = old.chunks is None and new.chunks is not None and (pages or 0) > job.spec.chunking.threshold_pages
    events: list[tuple[str, str, str]] = []
    before = {item.type: item for item in old.conditions}
    for condition in new.conditions:
        if condition.type == JobCondition.SPLIT.value and large and new.chunks is not None:
            text = "Large file detected. Processing asynchronously. Check job status for progress."
            events.append(("Normal", Reason.LARGE_FILE_DETECTED.value, text))
        known = before.get(condition.type)
        if condition.type in {kind.value for kind in _TOLD} and _is_news(known, condition):
            events.append(("Warning" if _is_trouble(condition) else "Normal", condition.reason, condition.message))
    counts = new.chunks
    if counts is not None and counts.cached and _ended(new) and not _ended(old):
        text = f"{counts.cached} of {counts.total} chunks were taken from the cache"
        events.append(("Normal", Reason.CACHE_USED.value, text))
    answer = new.last_retry
    if answer is not None and answer != old.last_retry:
        refused = "".join(f"; not {item.chunks}: {item.reason}" for item in answer.refused)
        kind = "Normal" if answer.retried_count or not answer.refused else "Warning"
        events.append((kind, Reason.RETRY_REQUESTED.value, f"{answer.message}{refused}"))
    return events


def _ended(status: PdfJobStatus) -> bool:
    """Whether every chunk has ended."""
    counts = status.chunks
    return counts is not None and counts.pending + counts.running + counts.retry_scheduled == 0


def _is_trouble(condition: Condition) -> bool:
    if condition.type in _BAD:
        return condition.status == "True"
    held_up = condition.status == "Unknown" and condition.reason not in UNDER_WAY
    bad = condition.status == "False" and condition.type not in _NEITHER
    return bad or held_up or condition.reason in _TROUBLE


def _is_news(known: Condition | None, condition: Condition) -> bool:
    if condition.reason in _QUIET:
        return False
    return known is None or (known.status, known.reason) != (condition.status, condition.reason)
