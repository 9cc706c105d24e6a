"""Which Events a change of a PdfJob's status deserves. Pure; they are sent after the status write succeeded."""

from __future__ import annotations

from typing import Final

from pdfjob_api.conditions import UNDER_WAY, JobCondition, Reason
from pdfjob_api.meta import Condition
from pdfjob_api.pdfjob import PdfJob, PdfJobStatus

_TOLD: Final = (
    JobCondition.ACCEPTED,
    JobCondition.SPLIT,
    JobCondition.REPAIRED,
    JobCondition.MERGED,
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


def events_of(job: PdfJob, old: PdfJobStatus, new: PdfJobStatus) -> list[tuple[str, Reason, str]]:
    """Return type, reason and message of each Event, for the conditions whose status or reason has changed."""
    pages = new.source.pages if new.source else None
    large = old.chunks is None and new.chunks is not None and (pages or 0) > job.spec.chunking.threshold_pages
    events: list[tuple[str, Reason, str]] = []
    before = {item.type: item for item in old.conditions}
    for condition in new.conditions:
        if condition.type == JobCondition.SPLIT.value and large and new.chunks is not None:
            text = "Large file detected. Processing asynchronously. Check job status for progress."
            events.append(("Normal", Reason.LARGE_FILE_DETECTED, text))
        known = before.get(condition.type)
        if condition.type in {kind.value for kind in _TOLD} and _is_news(known, condition):
            held_up = condition.status == "Unknown" and condition.reason not in UNDER_WAY
            warning = condition.status == "False" or held_up or condition.reason in _TROUBLE
            events.append(("Warning" if warning else "Normal", Reason(condition.reason), condition.message))
    return events


def _is_news(known: Condition | None, condition: Condition) -> bool:
    if condition.reason in _QUIET:
        return False
    return known is None or (known.status, known.reason) != (condition.status, condition.reason)
