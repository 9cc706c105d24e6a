"""PdfJobs, PdfChunks and CreditAccounts for the API tests: a good one each, and how to change one field of it."""

from __future__ import annotations

import copy
import json
import subprocess
from typing import Any, Final

from pdfjob_api.names import API_VERSION
from tests.support.cluster import kubectl

ABSENT: Final = object()
"""As the value of a change: the field is taken out."""


def pdfjob(changes: dict[str, Any] | None = None, *, name: str = "novel") -> dict[str, Any]:
    """Return a PdfJob that is accepted, with fields of the spec set: dotted path to value."""
    spec = {
        "source": {"http": {"url": "https://example.com/novel.pdf", "sha256": "0" * 64}},
        "processor": {"local": {"language": "en"}},
        "chunking": {"pagesPerChunk": 20},
    }
    return _changed("PdfJob", name, spec, changes or {})


def pdfchunk(changes: dict[str, Any] | None = None, *, name: str = "novel-c00002") -> dict[str, Any]:
    """Return a PdfChunk that is accepted, with fields of the spec set: dotted path to value."""
    spec = {
        "index": 2,
        "startPage": 101,
        "endPage": 150,
        "pageCount": 50,
        "contextBefore": 1,
        "contextAfter": 1,
        "hasOverlap": True,
        "storageURI": "s3://pdfjob/pdfjob/jobs/default/novel/chunks/c00002.pdf",
        "sizeBytes": 1000,
        "sha256": "0" * 64,
    }
    return _changed("PdfChunk", name, spec, changes or {})


def creditaccount(changes: dict[str, Any] | None = None, *, name: str = "books") -> dict[str, Any]:
    """Return a CreditAccount that is accepted, with fields of the spec set: dotted path to value."""
    return _changed("CreditAccount", name, {"balance": 1_000_000}, changes or {})


def text(manifest: dict[str, Any]) -> str:
    """Return a manifest as kubectl reads it."""
    return json.dumps(manifest)


def replaced(namespace: str, manifest: dict[str, Any]) -> subprocess.CompletedProcess[str]:
    """Try (as a server-side dry run) to replace a stored resource.

    An operator may be at work on the cluster and write in between; such a conflict is no answer, and it is asked again.
    """
    arguments = ("-n", namespace, "replace", "--dry-run=server", "-f", "-")
    done = kubectl(*arguments, stdin=text(manifest), check=False)
    for _ in range(20):
        if "(Conflict)" not in done.stderr:
            break
        done = kubectl(*arguments, stdin=text(manifest), check=False)
    return done


def _changed(kind: str, name: str, spec: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    spec = copy.deepcopy(spec)
    for path, value in changes.items():
        *parents, last = path.split(".")
        target = spec
        for parent in parents:
            target = target.setdefault(parent, {})
        if value is ABSENT:
            del target[last]
        else:
            target[last] = value
    return {"apiVersion": API_VERSION, "kind": kind, "metadata": {"name": name}, "spec": spec}
