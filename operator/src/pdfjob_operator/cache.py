"""What the operator knows of the cluster: fed by watches, by its own writes, and by a LIST now and then.

Own writes are put in at once, so that no decision is made on a state older than the operator's own last word. An
object is never replaced by an older version of itself (resourceVersions are comparable numbers), and one that is gone
does not come back by a late event.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, Final

import structlog
from pydantic import ValidationError

from pdfjob_api.creditaccount import CreditAccount
from pdfjob_api.names import LABEL_JOB_UID, PDFJOB_KIND
from pdfjob_api.pdfchunk import PdfChunk
from pdfjob_api.pdfjob import PdfJob

from .clock import utc_now
from .views import JobView, PodView, job_view, pod_view

_TOMBSTONES: Final = 20_000
_ROOTS: Final = frozenset({"pdfjobs", "creditaccounts"})
"""Kinds whose objects belong to nothing else."""

log = structlog.get_logger(__name__)


class Cache:
    """All PdfJobs, PdfChunks, child Jobs and runner pods, by UID of the PdfJob they belong to; and credit accounts."""

    def __init__(self) -> None:
        self._jobs: dict[str, PdfJob] = {}
        self._accounts: dict[str, CreditAccount] = {}
        self._children: dict[str, dict[str, dict[str, PdfChunk | JobView | PodView]]] = {
            "pdfchunks": {},
            "jobs": {},
            "pods": {},
        }
        self._gone: OrderedDict[str, None] = OrderedDict()
        self._seen: dict[str, dict[int, int]] = {}
        self._vanished: dict[str, dict[int, PdfChunk]] = {}
        self._torn_away: dict[str, datetime] = {}

    def apply(self, plural: str, raw: Mapping[str, Any]) -> str | None:
        """Take in an object as it was read, watched or written; return the UID of its PdfJob if that is news.

        A credit account belongs to no PdfJob: for it, here as elsewhere, that is its own UID.
        """
        uid = raw["metadata"]["uid"]
        owner = _owner(plural, raw)
        known = self._version(plural, owner, uid)
        version = int(raw["metadata"]["resourceVersion"])
        if uid in self._gone or version <= known:
            return None
        try:
            self._store(plural, owner, uid, raw)
        except (ValidationError, ValueError, KeyError) as error:
            log.warning("object not understood", plural=plural, name=raw["metadata"]["name"], error=str(error))
            return None
        return owner

    def remove(self, plural: str, raw: Mapping[str, Any]) -> str | None:
        """Take out an object that is gone; return the UID of its PdfJob."""
        uid, owner = raw["metadata"]["uid"], _owner(plural, raw)
        if plural == "pods" and owner in self._jobs and _is_running(raw):
            self._torn_away[owner] = utc_now()
        self.forget(plural, owner, uid)
        return owner

    def forget(self, plural: str, owner: str, uid: str) -> None:
        """Take out an object that the operator deleted itself; late events of it change nothing."""
        self._gone[uid] = None
        while len(self._gone) > _TOMBSTONES:
            self._gone.popitem(last=False)
        if plural == "creditaccounts":
            self._accounts.pop(uid, None)
            return
        if plural == "pdfjobs":
            self._jobs.pop(uid, None)
            self._seen.pop(uid, None)
            self._vanished.pop(uid, None)
            self._torn_away.pop(uid, None)
            return
        children = self._children[plural].get(owner, {})
        child = children.pop(uid, None)
        if isinstance(child, PdfChunk) and owner in self._jobs:
            self._vanished.setdefault(owner, {})[child.spec.index] = child
        if not children:
            self._children[plural].pop(owner, None)

    def replace(self, plural: str, raws: Iterable[Mapping[str, Any]], version: int) -> set[str]:
        """Compare with a full LIST read at ``version``: take in what is new, drop ghosts; return the PdfJobs changed.

        A watch that was broken gives no DELETED event for what vanished in the gap.
        """
        changed: set[str] = set()
        seen: set[str] = set()
        for raw in raws:
            seen.add(raw["metadata"]["uid"])
            owner = self.apply(plural, raw)
            if owner is not None:
                changed.add(owner)
        for owner, uid, known in list(self._entries(plural)):
            if uid not in seen and known <= version:
                self.forget(plural, owner, uid)
                changed.add(owner)
        return changed

    def job(self, uid: str) -> PdfJob | None:
        """Return a PdfJob by its UID."""
        return self._jobs.get(uid)

    def uids(self) -> list[str]:
        """Return the UIDs of all PdfJobs."""
        return list(self._jobs)

    def accounts(self) -> list[CreditAccount]:
        """Return all credit accounts."""
        return list(self._accounts.values())

    def account(self, namespace: str, name: str) -> CreditAccount | None:
        """Return a credit account by its name; None when there is none."""
        named = (each for each in self._accounts.values() if each.metadata.name == name)
        return next((each for each in named if each.metadata.namespace == namespace), None)

    def account_of_uid(self, uid: str) -> CreditAccount | None:
        """Return a credit account by its UID."""
        return self._accounts.get(uid)

    def chunks(self, uid: str) -> dict[int, PdfChunk]:
        """Return the PdfChunks of a PdfJob by index."""
        chunks = self._children["pdfchunks"].get(uid, {}).values()
        return {chunk.spec.index: chunk for chunk in chunks if isinstance(chunk, PdfChunk)}

    def last_known_chunks(self, uid: str) -> dict[int, PdfChunk]:
        """Return the PdfChunks of a PdfJob by index, those that are gone as they were last seen.

        With its namespace, or by foreground deletion, they go before the PdfJob is recorded.
        """
        return {**self._vanished.get(uid, {}), **self.chunks(uid)}

    def child_jobs(self, uid: str) -> list[JobView]:
        """Return the child Jobs of a PdfJob."""
        return [job for job in self._children["jobs"].get(uid, {}).values() if isinstance(job, JobView)]

    def pods(self, uid: str) -> list[PodView]:
        """Return the runner pods of a PdfJob."""
        return [pod for pod in self._children["pods"].get(uid, {}).values() if isinstance(pod, PodView)]

    def torn_away(self, uid: str) -> datetime | None:
        """Return when a pod of a PdfJob was last deleted by force as its runner was at work; None = never.

        The API server forgets such a pod at once (``--grace-period=0``); its node lets it run for its grace.
        """
        return self._torn_away.get(uid)

    def newest_starts(self, uid: str) -> dict[int, int]:
        """Return the highest start of each chunk that a Job or pod was ever seen of, also when both are gone."""
        return dict(self._seen.get(uid, {}))

    def _store(self, plural: str, owner: str, uid: str, raw: Mapping[str, Any]) -> None:
        if plural == "creditaccounts":
            self._accounts[uid] = CreditAccount.model_validate(raw)
            return
        if plural == "pdfjobs":
            self._jobs[uid] = PdfJob.model_validate(raw)  # the only one whose managedFields are kept
            return
        job = self._jobs.get(owner)
        if job is not None and job.metadata.namespace != raw["metadata"]["namespace"]:
            raise ValueError("it names a PdfJob of another namespace as its own")
        parsed: PdfChunk | JobView | PodView
        if plural == "pdfchunks":
            parsed = PdfChunk.model_validate(raw)
        else:
            parsed = job_view(raw) if plural == "jobs" else pod_view(raw)
        self._children[plural].setdefault(owner, {})[uid] = parsed
        if not isinstance(parsed, PdfChunk) and owner not in self._gone:  # a pod may outlive its PdfJob for a moment
            seen = self._seen.setdefault(owner, {})
            seen[parsed.meta.chunk] = max(seen.get(parsed.meta.chunk, 0), parsed.meta.start)

    def _version(self, plural: str, owner: str, uid: str) -> int:
        if plural in _ROOTS:
            root = self._jobs.get(uid) or self._accounts.get(uid)
            return int(root.metadata.resource_version) if root else -1
        child = self._children[plural].get(owner, {}).get(uid)
        return _child_version(child) if child is not None else -1

    def _entries(self, plural: str) -> Iterable[tuple[str, str, int]]:
        if plural in _ROOTS:
            roots: Mapping[str, PdfJob | CreditAccount] = self._jobs if plural == "pdfjobs" else self._accounts
            for uid, root in roots.items():
                yield uid, uid, int(root.metadata.resource_version)
            return
        for owner, children in self._children[plural].items():
            for uid, child in children.items():
                yield owner, uid, _child_version(child)


def _is_running(raw: Mapping[str, Any]) -> bool:
    """Whether a pod that is gone was at work when it was last seen: one that is let go in peace has ended before."""
    states = (status.get("state") or {} for status in (raw.get("status") or {}).get("containerStatuses") or ())
    return any("running" in state for state in states)


def _child_version(child: PdfChunk | JobView | PodView) -> int:
    return int(child.metadata.resource_version) if isinstance(child, PdfChunk) else child.meta.resource_version


def _owner(plural: str, raw: Mapping[str, Any]) -> str:
    if plural in _ROOTS:
        return str(raw["metadata"]["uid"])
    if plural == "pdfchunks":  # users may edit its labels; what it belongs to stays
        for reference in raw["metadata"].get("ownerReferences") or []:
            if reference.get("controller") and reference["kind"] == PDFJOB_KIND:
                return str(reference["uid"])
    return str((raw["metadata"].get("labels") or {}).get(LABEL_JOB_UID, ""))
