"""``kubectl pdfjob submit``: store the document, make the PdfJob, and wait for it when asked to."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

import yaml

from pdfjob_api import names
from pdfjob_api.pdfjob import PdfJob

from .cluster import Cluster
from .errors import ClusterError, InterruptError, NameTakenError, UsageError
from .formats import byte_size
from .installation import Installation, StorageOptions
from .screen import Screen
from .sources import (
    LocalFile,
    S3Object,
    Source,
    WebDocument,
    base_name,
    candidate_names,
    check_name,
    hash_file,
    inbox_key,
    parse_source,
)
from .spec_file import merged

__all__ = ["JobSettings", "Submission", "build_manifest", "submit"]


@dataclass(frozen=True, slots=True)
class JobSettings:
    """Settings of the PdfJob that the user gave; None = the default of the cluster, so it is not sent."""

    pages_per_chunk: int | None = None
    overlap: int | None = None
    threshold: int | None = None
    language: str | None = None
    parallelism: int | None = None
    priority: int | None = None
    credit_account: str | None = None
    estimated_tokens: int | None = None
    repair: bool = False
    formats: list[str] = field(default_factory=list)
    spec: Mapping[str, Any] = field(default_factory=dict)
    """Further fields of the spec, from a file; the options go over them."""


@dataclass(frozen=True, slots=True)
class Submission:
    """What the user asked for on the command line of ``submit``."""

    source: str
    name: str | None = None
    settings: JobSettings = JobSettings()
    dry_run: bool = False
    output: str | None = None
    """yaml, json or name; None = text for people."""
    wait: bool = False
    timeout: float | None = None
    """Seconds to wait; None = no limit."""


def build_manifest(
    name: str,
    namespace: str,
    source: Source,
    settings: JobSettings,
    *,
    key: str | None = None,
    bucket: str | None = None,
) -> dict[str, Any]:
    """Return the PdfJob to create. Only what the user said is in it; the cluster fills in its defaults.

    Parameters
    ----------
    name, namespace
        Of the PdfJob.
    source
        What the user named.
    settings
        What the user set.
    key
        Where a local file is (or will be) stored in the operator's bucket.
    bucket
        Bucket of a local file when it is not the operator's own.
    """
    metadata: dict[str, Any] = {"name": name, "namespace": namespace}
    document: dict[str, Any]
    if isinstance(source, WebDocument):
        document = {"http": {"url": source.url}}
    elif isinstance(source, S3Object):
        document = {"s3": {"bucket": source.bucket, "key": source.key}}
    else:
        document = {"s3": {"bucket": bucket, "key": key} if bucket else {"key": key}}
        shown = source.file_name.encode(errors="replace").decode()
        metadata["annotations"] = {names.ANNOTATION_FILE_NAME: shown}
    if settings.repair:
        document["repair"] = "Repair"
    chunking = {
        "pagesPerChunk": settings.pages_per_chunk,
        "thresholdPages": settings.threshold,
        "overlapPages": settings.overlap,
    }
    credit = {"name": settings.credit_account, "estimatedTokens": settings.estimated_tokens}
    spec: dict[str, Any] = {
        "source": document,
        "chunking": {field: value for field, value in chunking.items() if value is not None},
        "processor": _processor(settings),
        "output": {"formats": settings.formats} if settings.formats else {},
        "parallelism": settings.parallelism,
        "priority": settings.priority,
        "creditAccountRef": {field: value for field, value in credit.items() if value is not None},
    }
    return {
        "apiVersion": names.API_VERSION,
        "kind": names.PDFJOB_KIND,
        "metadata": metadata,
        "spec": merged(settings.spec, {field: value for field, value in spec.items() if value not in (None, {})}),
    }


def _processor(settings: JobSettings) -> dict[str, Any]:
    """Return the processor that the options name: a language is one of the file's language model, if it has one."""
    if not settings.language:
        return {}
    return {
        "gemini" if "gemini" in (settings.spec.get("processor") or {}) else "local": {"language": settings.language}
    }


def submit(cluster: Cluster, request: Submission, storage: StorageOptions, screen: Screen) -> None:
    """Carry out ``kubectl pdfjob submit``.

    Raises
    ------
    PluginError
        One of its kinds, with the exit code of what went wrong.
    """
    source = parse_source(request.source, repair=request.settings.repair)
    name = check_name(request.name) if request.name else base_name(source.file_name)
    upload = _Upload.plan(cluster, source, storage) if isinstance(source, LocalFile) else None
    key = upload.key if upload else None
    manifest = build_manifest(name, cluster.namespace, source, request.settings, key=key, bucket=storage.bucket)
    if request.dry_run:
        if upload:
            screen.note(f"dry run: the file would be stored as s3://{upload.installation.bucket}/{key}; it was not")
        _print_object(manifest, request.output or "yaml", screen)
        return
    if upload:
        _refuse_early(cluster, manifest, fixed_name=request.name is not None)
        upload.carry_out(cluster, screen)
    job, stored = _create(cluster, manifest, fixed_name=request.name is not None)
    if request.output:
        _print_object(stored, request.output, screen)
    elif request.wait:
        screen.note(f"pdfjob.pdfjob.dev/{job.metadata.name} created")
    else:
        screen.write(f"pdfjob.pdfjob.dev/{job.metadata.name} created")
        _say_next(job, cluster.flags, screen)
    if request.wait:
        _wait(cluster, job, request, storage, screen)


def _refuse_early(cluster: Cluster, manifest: dict[str, Any], *, fixed_name: bool) -> None:
    """Let the API server say no before gigabytes are uploaded."""
    try:
        cluster.check_job(manifest)
    except NameTakenError:
        # Without --name the next free one is taken when the job is created.
        if fixed_name:
            raise


@dataclass(frozen=True, slots=True)
class _Upload:
    """A local file and where it goes."""

    source: LocalFile
    installation: Installation
    sha256: str
    key: str

    @classmethod
    def plan(cls, cluster: Cluster, source: LocalFile, storage: StorageOptions) -> Self:
        from .storage import find_installation

        installation = find_installation(cluster, storage)
        sha256 = hash_file(source.path)
        key = inbox_key(installation.prefix, cluster.namespace, sha256, source.file_name)
        return cls(source, installation, sha256, key)

    def carry_out(self, cluster: Cluster, screen: Screen) -> None:
        """Store the file unless it is there already."""
        from .storage import open_store

        path, bucket, size = self.source.path, self.installation.bucket, self.source.size
        before = path.stat()
        try:
            with open_store(cluster, self.installation) as store:
                found = store.find(bucket, self.key)
                if found and (found.size, found.sha256) == (size, self.sha256):
                    screen.note(f"{self.source.file_name} is stored already, nothing to upload")
                    return
                with screen.transfer_bar(f"Uploading {self.source.file_name}", size) as advance:
                    store.upload(path, bucket, self.key, sha256=self.sha256, on_bytes=advance)
                stored = store.find(bucket, self.key)
        except KeyboardInterrupt:
            raise InterruptError("interrupted while uploading; no PdfJob was created") from None
        after = path.stat()
        same = (before.st_mtime_ns, before.st_size) == (after.st_mtime_ns, after.st_size)
        if not same or stored is None or stored.size != size:
            raise UsageError(f"{path} changed while it was uploaded; submit it again when it is complete")
        screen.note(f"Uploaded {self.source.file_name} ({byte_size(size)})")


def _create(cluster: Cluster, manifest: dict[str, Any], *, fixed_name: bool) -> tuple[PdfJob, dict[str, Any]]:
    base = manifest["metadata"]["name"]
    if fixed_name:
        return cluster.create_job(manifest)
    for name in candidate_names(base):
        try:
            return cluster.create_job({**manifest, "metadata": {**manifest["metadata"], "name": name}})
        except NameTakenError:
            continue
    raise ClusterError(f'every name from "{base}" on is taken; choose one with --name')


def _print_object(manifest: dict[str, Any], form: str, screen: Screen) -> None:
    if form == "name":
        screen.write(f"pdfjob.{names.GROUP}/{manifest['metadata']['name']}")
    elif form == "json":
        screen.write(json.dumps(manifest, indent=2, ensure_ascii=False))
    else:
        screen.write(yaml.safe_dump(manifest, sort_keys=False, allow_unicode=True))


def _say_next(job: PdfJob, flags: str, screen: Screen) -> None:
    name = job.metadata.name
    screen.note(f"  follow it:   kubectl pdfjob status {name} --watch{flags}")
    screen.note(f"  its result:  kubectl pdfjob results {name}{flags}")


def _wait(cluster: Cluster, job: PdfJob, request: Submission, storage: StorageOptions, screen: Screen) -> None:
    from .results import show_sentences
    from .waiting import wait_until_finished

    finished = wait_until_finished(cluster, job.metadata.name, request.timeout, screen)
    if request.output is None:
        show_sentences(cluster, finished, storage, screen)
