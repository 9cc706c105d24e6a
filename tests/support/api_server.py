"""The API server in memory: objects, versions, deletion, and the events that a watch would tell."""

from __future__ import annotations

import copy
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any, Final

from pdfjob_api.pdfchunk import PdfChunk
from pdfjob_api.pdfjob import PdfJob
from pdfjob_operator.clock import to_wire
from pdfjob_operator.storage.kubernetes import AlreadyExistsError, ConflictError, NotFoundError

Raw = dict[str, Any]

KINDS: Final = ("pdfjobs", "pdfchunks", "jobs", "pods")
GRACE: Final = timedelta(seconds=30)


class ApiServer:
    """Keeps objects as the API server does where the operator can see it.

    Whoever inherits says what must hold at a write, by the methods whose names begin with ``before``.
    """

    def __init__(self, now: datetime) -> None:
        self.now = now
        self.objects: dict[str, dict[str, Raw]] = {plural: {} for plural in KINDS}
        self.events: dict[str, list[tuple[str, Raw]]] = {plural: [] for plural in KINDS}
        """What watches have not told yet, by kind."""
        self.writes: list[tuple[str, str]] = []
        """Verb and kind of every write by the operator."""
        self.version = 1000
        self._numbers = 0

    def before_job(self, body: Raw) -> None:
        """Look at a Job that is about to be made."""

    def before_chunk_status(self, old: PdfChunk, new: PdfChunk) -> None:
        """Look at a status of a PdfChunk that is about to be written."""

    def before_job_status(self, old: PdfJob, new: PdfJob) -> None:
        """Look at a status of the PdfJob that is about to be written."""

    def before_finalizers(self, job: Raw, names: list[str]) -> None:
        """Look at the finalizers that the PdfJob is about to have."""

    def create(self, plural: str, body: Raw) -> Raw:
        """Create an object for the operator."""
        self.writes.append(("create", plural))
        if self.find(plural, body["metadata"]["name"]) is not None:
            raise AlreadyExistsError(f"{plural} {body['metadata']['name']}")
        if plural == "jobs":
            self.before_job(body)
        return self._new(plural, body)

    def get(self, plural: str, name: str) -> Raw:
        """Read an object."""
        raw = self.find(plural, name)
        if raw is None:
            raise NotFoundError(f"{plural} {name}")
        return raw

    def find(self, plural: str, name: str) -> Raw | None:
        """Return an object by its name, None when it is not there."""
        return next((raw for raw in self.objects[plural].values() if raw["metadata"]["name"] == name), None)

    def replace_status(self, plural: str, name: str, version: str, status: Raw) -> Raw:
        """Replace the status of an object that is at this version."""
        self.writes.append(("status", plural))
        raw = self.get(plural, name)
        if raw["metadata"]["resourceVersion"] != version:
            raise ConflictError(f"{plural} {name}")
        if plural == "pdfchunks":
            self.before_chunk_status(PdfChunk.model_validate(raw), PdfChunk.model_validate({**raw, "status": status}))
        else:
            self.before_job_status(PdfJob.model_validate(raw), PdfJob.model_validate({**raw, "status": status}))
        return self._change(plural, raw, lambda new: new.update(status=copy.deepcopy(status)))

    def set_finalizers(self, name: str, version: str, names: list[str]) -> Raw:
        """Replace the finalizers of the PdfJob."""
        self.writes.append(("finalizers", "pdfjobs"))
        raw = self.get("pdfjobs", name)
        if raw["metadata"]["resourceVersion"] != version:
            raise ConflictError(name)
        self.before_finalizers(raw, names)
        raw = self._change("pdfjobs", raw, lambda new: new["metadata"].update(finalizers=names))
        if "deletionTimestamp" in raw["metadata"] and not names:
            self._remove("pdfjobs", raw)
        return raw

    def delete(self, plural: str, uid: str, grace_seconds: int | None = None) -> None:
        """Delete an object as the API server does: Jobs and PdfChunks at once, pods after their grace.

        A pod that is being deleted already gets a shorter grace, never a longer one; with none its object goes.
        """
        raw = self.objects[plural].get(uid)
        if raw is None:
            return
        stays = (plural == "pods" and grace_seconds != 0) or (plural == "pdfjobs" and raw["metadata"].get("finalizers"))
        if not stays:
            self._remove(plural, raw)
            return
        grace = GRACE if grace_seconds is None else timedelta(seconds=grace_seconds)
        until = to_wire(self.now + (grace if plural == "pods" else timedelta()))
        if until < raw["metadata"].get("deletionTimestamp", "9"):
            self._change(plural, raw, lambda new: new["metadata"].update(deletionTimestamp=until))

    def listing(self, plural: str) -> tuple[list[Raw], int]:
        """Return all objects of a kind, and the version at which they were read."""
        return list(self.objects[plural].values()), self.version

    def _new(self, plural: str, body: Raw) -> Raw:
        self._numbers += 1
        raw = copy.deepcopy(body)
        raw["metadata"] |= {
            "uid": f"{self._numbers:08d}-{plural}",
            "creationTimestamp": to_wire(self.now),
            "generation": 1,
        }
        return self._write(plural, raw, "ADDED")

    def _change(self, plural: str, raw: Raw, change: Callable[[Raw], None]) -> Raw:
        new = copy.deepcopy(raw)
        change(new)
        return self._write(plural, new, "MODIFIED")

    def _write(self, plural: str, raw: Raw, kind: str) -> Raw:
        self.version += 1
        raw["metadata"]["resourceVersion"] = str(self.version)
        self.objects[plural][raw["metadata"]["uid"]] = raw
        self.events[plural].append((kind, raw))
        return raw

    def _remove(self, plural: str, raw: Raw) -> None:
        gone = copy.deepcopy(raw)
        self.version += 1
        gone["metadata"]["resourceVersion"] = str(self.version)
        del self.objects[plural][raw["metadata"]["uid"]]
        self.events[plural].append(("DELETED", gone))
