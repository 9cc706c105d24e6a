"""What the API server's audit log of the local cluster says about writes."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from devcluster.paths import Paths
from tests.support.product import OPERATOR_USER

_TEST_SECONDS: Final = 600.0
"""No test takes longer."""


@dataclass(frozen=True)
class Write:
    """One request that changed something, or tried to."""

    time: datetime
    """When it was answered."""
    verb: str
    """create, patch, update, delete, deletecollection."""
    resource: str
    """With subresource, e.g. pdfchunks/status."""
    name: str
    """Empty for a whole collection."""
    code: int
    """HTTP status of the answer."""
    asked: datetime
    """When the request arrived."""
    pod: str
    """Whose pod's token it bore; empty for any other."""


def operator_writes(namespace: str) -> list[Write]:
    """Return the operator's writes in a namespace, refused ones included, in the order of their answers."""
    return [_write(entry) for entry in _entries(namespace) if entry["user"]["username"] == OPERATOR_USER]


def writes_of_pod(pod: str) -> list[Write]:
    """Return all writes with the token of one pod, wherever they went, in the order of their answers."""
    return [write for write in map(_write, _entries()) if write.pod == pod]


def job_creations(namespace: str) -> Counter[str]:
    """Count the child Jobs that the operator made, by name of the PdfChunk."""
    return Counter(
        write.name.rsplit("-a", 1)[0]
        for write in operator_writes(namespace)
        if (write.verb, write.resource, write.code) == ("create", "jobs", 201)
    )


def _entries(namespace: str | None = None) -> Iterator[dict[str, Any]]:
    path = Paths.from_environment().audit_log
    if not path.exists():
        raise AssertionError(f"{path} is not there: API writes are counted on the local cluster only (make cluster)")
    mark = f'"namespace":"{namespace}"' if namespace else f'"username":"{OPERATOR_USER}"'
    for line in _lines(path):
        if mark not in line or not line.endswith("\n"):
            continue
        entry = json.loads(line)
        dry = "dryRun=" in entry["requestURI"]
        here = namespace is None or entry["objectRef"].get("namespace") == namespace
        if entry["stage"] == "ResponseComplete" and here and not dry:
            yield entry


def _lines(path: Path) -> Iterator[str]:
    """Yield the lines of the log, before it those of one that was full a short while ago: a test may span the two."""
    full = sorted(path.parent.glob(f"{path.stem}-*{path.suffix}"))[-1:]
    for each in (*(file for file in full if time.time() - file.stat().st_mtime < _TEST_SECONDS), path):
        with each.open() as file:
            yield from file


def _write(entry: dict[str, Any]) -> Write:
    ref = entry["objectRef"]
    resource = ref["resource"] + (f"/{ref['subresource']}" if "subresource" in ref else "")
    return Write(
        time=datetime.fromisoformat(entry["stageTimestamp"]),
        verb=entry["verb"],
        resource=resource,
        name=ref.get("name", ""),
        code=entry.get("responseStatus", {}).get("code", 0),
        asked=datetime.fromisoformat(entry["requestReceivedTimestamp"]),
        pod=next(iter(entry["user"].get("extra", {}).get("authentication.kubernetes.io/pod-name", [])), ""),
    )
