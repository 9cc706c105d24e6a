"""The child Job of one start of a chunk: one Job = one pod, ever, and no credential in it but presigned URLs."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from pdfjob_api.contract import (
    ENV_API_KEY_FILE,
    ENV_CHECKPOINT_URL,
    ENV_CHUNK_URL,
    ENV_PREVIOUS_CHECKPOINT_URL,
    ENV_PROGRESS_URL,
    ENV_RESULT_URL,
    ENV_TASK,
    TERMINATION_MESSAGE_PATH,
    Task,
)
from pdfjob_api.errors import ExitCode
from pdfjob_api.names import (
    API_VERSION,
    LABEL_CHUNK,
    LABEL_JOB,
    LABEL_JOB_UID,
    LABEL_MANAGED_BY,
    LABEL_RETRY,
    LABEL_START,
    MANAGED_BY,
    PDFCHUNK_KIND,
    QUEUE_LABELS,
    RUNNER_CONTAINER,
    start_name,
)
from pdfjob_api.pdfchunk import PdfChunk
from pdfjob_api.pdfjob import PdfJob
from pdfjob_api.runner import Runner

from .plan import own_lost_pages
from .settings import RunnerSettings

_LOCAL_GRACE_SECONDS: Final = 30
"""A page of the local processor is finished and saved well within it."""
_MAX_CALL_SECONDS: Final = 300
"""A call of a language service that takes longer is given up when the runner is told to end."""
_SAVE_SECONDS: Final = 15
_KEY_FOLDER: Final = "/var/run/pdfjob"
_KEY_FILE: Final = "api-key"
_KEEP_FINISHED_SECONDS: Final = 86400
"""A net: finished Jobs are deleted as soon as they are recorded."""
_USER: Final = 65532
_LABEL_VALUE: Final = re.compile("[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?")


@dataclass(frozen=True, slots=True)
class Urls:
    """Presigned URLs of one start."""

    chunk: str
    checkpoint: str
    progress: str
    result: str
    previous_checkpoint: str | None


def grace_seconds(job: PdfJob) -> int:
    """Return the seconds that a runner has to finish the item in hand and save, after it was told to end."""
    if job.spec.processor.gemini is None:
        return _LOCAL_GRACE_SECONDS
    return min(job.spec.limits.item_timeout_seconds, _MAX_CALL_SECONDS) + _SAVE_SECONDS


def build_task(
    job: PdfJob, chunk: PdfChunk, start: int, lost_pages: Sequence[int] = (), pace_seconds: float = 0
) -> Task:
    """Say what one start has to do.

    Parameters
    ----------
    lost_pages
        Those of the whole document.
    pace_seconds
        Pause between two calls of the language service with which to begin.
    """
    spec = chunk.spec
    return Task(
        namespace=job.metadata.namespace,
        job=job.metadata.name,
        chunk=spec.index,
        start=start,
        start_page=spec.start_page,
        end_page=spec.end_page,
        context_before=spec.context_before,
        context_after=spec.context_after,
        sha256=spec.sha256,
        size_bytes=spec.size_bytes,
        repair=job.spec.source.repair,
        lost_pages=own_lost_pages(chunk, lost_pages),
        processor=job.spec.processor,
        soft_timeout_seconds=job.spec.limits.chunk_soft_timeout_seconds,
        item_timeout_seconds=job.spec.limits.item_timeout_seconds,
        pace_seconds=pace_seconds,
        grace_seconds=grace_seconds(job),
    )


def build_job(job: PdfJob, chunk: PdfChunk, task: Task, urls: Urls, defaults: RunnerSettings) -> dict[str, Any]:
    """Build the child Job of the start of a chunk that the task describes."""
    start = task.start
    runner = job.spec.runner or Runner()
    labels = {
        **(runner.labels or {}),
        **_retry_label(chunk),
        LABEL_MANAGED_BY: MANAGED_BY,
        LABEL_JOB: job.metadata.name,
        LABEL_JOB_UID: job.metadata.uid,
        LABEL_CHUNK: str(chunk.spec.index),
        LABEL_START: str(start),
    }
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": start_name(job.metadata.name, chunk.spec.index, start),
            "namespace": job.metadata.namespace,
            "labels": {**_queue_labels(job), **labels},
            "ownerReferences": [
                {
                    "apiVersion": API_VERSION,
                    "kind": PDFCHUNK_KIND,
                    "name": chunk.metadata.name,
                    "uid": chunk.metadata.uid,
                    "controller": True,
                    "blockOwnerDeletion": True,
                }
            ],
        },
        "spec": {
            "backoffLimit": 0,
            "completions": 1,
            "parallelism": 1,
            "podReplacementPolicy": "Failed",
            "podFailurePolicy": _failure_policy(),
            "ttlSecondsAfterFinished": _KEEP_FINISHED_SECONDS,
            "template": {
                "metadata": {"labels": labels, "annotations": runner.annotations or {}},
                "spec": _pod_spec(job, runner, task, urls, defaults),
            },
        },
    }


def _queue_labels(job: PdfJob) -> dict[str, str]:
    """Kueue admits Jobs by their labels; those of the PdfJob hold for each."""
    return {name: job.metadata.labels[name] for name in QUEUE_LABELS if name in job.metadata.labels}


def _retry_label(chunk: PdfChunk) -> dict[str, str]:
    """Mark the Jobs of a manual retry; an id that is no label value is shown by its hash."""
    own = chunk.status.last_retry
    request = own.id if own is not None and own.accepted else chunk.status.last_job_retry_id
    if request is None:
        return {}
    fits = _LABEL_VALUE.fullmatch(request) is not None
    return {LABEL_RETRY: request if fits else hashlib.sha256(request.encode()).hexdigest()[:16]}


def _failure_policy() -> dict[str, Any]:
    """FailJob in each case: Ignore would make a second pod behind our back, and the cause stays on the Job."""
    codes = sorted(code.value for code in ExitCode if code is not ExitCode.DONE)
    return {
        "rules": [
            {"action": "FailJob", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
            {
                "action": "FailJob",
                "onExitCodes": {"containerName": RUNNER_CONTAINER, "operator": "In", "values": codes},
            },
        ]
    }


def _pod_spec(job: PdfJob, runner: Runner, task: Task, urls: Urls, defaults: RunnerSettings) -> dict[str, Any]:
    secrets = [item.name for item in runner.image_pull_secrets or []] or defaults.image_pull_secrets
    optional: dict[str, Any] = {
        "nodeSelector": runner.node_selector,
        "tolerations": [item.wire() for item in runner.tolerations] if runner.tolerations else None,
        "affinity": runner.affinity,
        "serviceAccountName": runner.service_account_name,
        "priorityClassName": runner.priority_class_name,
        "imagePullSecrets": [{"name": name} for name in secrets] or None,
    }
    return {
        "restartPolicy": "Never",
        # The pod's own deadline: a Job's would delete the pod, and its exit code and message with it.
        "activeDeadlineSeconds": job.spec.limits.chunk_timeout_seconds,
        "terminationGracePeriodSeconds": task.grace_seconds,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": _USER,
            "runAsGroup": _USER,
            "fsGroup": _USER,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [_container(job, runner, task, urls, defaults)],
        "volumes": [{"name": "tmp", "emptyDir": {"sizeLimit": defaults.scratch_size}}, *_key_volumes(job)],
        **{key: value for key, value in optional.items() if value},
    }


def _key_volumes(job: PdfJob) -> list[dict[str, Any]]:
    """Mount the API key. Optional: a runner can say what is missing, a pod that waits for its volume cannot."""
    gemini = job.spec.processor.gemini
    if gemini is None:
        return []
    ref = gemini.api_key_secret_ref
    secret = {
        "secretName": ref.name,
        "items": [{"key": ref.key, "path": _KEY_FILE}],
        "optional": True,
        "defaultMode": 0o440,
    }
    return [{"name": _KEY_FILE, "secret": secret}]


def _container(job: PdfJob, runner: Runner, task: Task, urls: Urls, defaults: RunnerSettings) -> dict[str, Any]:
    custom = job.spec.processor.custom
    values = {
        ENV_TASK: task.model_dump_json(by_alias=True, exclude_none=True),
        ENV_CHUNK_URL: urls.chunk,
        ENV_CHECKPOINT_URL: urls.checkpoint,
        ENV_PROGRESS_URL: urls.progress,
        ENV_RESULT_URL: urls.result,
    }
    if urls.previous_checkpoint is not None:
        values[ENV_PREVIOUS_CHECKPOINT_URL] = urls.previous_checkpoint
    mounts: list[dict[str, Any]] = [{"name": "tmp", "mountPath": "/tmp"}]  # noqa: S108 - a volume of the pod's own
    if job.spec.processor.gemini is not None:
        values[ENV_API_KEY_FILE] = f"{_KEY_FOLDER}/{_KEY_FILE}"
        mounts.append({"name": _KEY_FILE, "mountPath": _KEY_FOLDER, "readOnly": True})
    env: list[dict[str, Any]] = [{"name": "HOME", "value": "/tmp"}]  # noqa: S108 - a volume of the pod's own
    env += [item.wire() for item in runner.env or []]
    env += [{"name": name, "value": _literal(value)} for name, value in values.items()]
    container: dict[str, Any] = {
        "name": RUNNER_CONTAINER,
        "image": custom.image if custom else runner.image or defaults.image,
        "imagePullPolicy": defaults.image_pull_policy,
        "env": env,
        "resources": runner.resources.wire() if runner.resources else defaults.resources,
        "terminationMessagePath": TERMINATION_MESSAGE_PATH,
        "terminationMessagePolicy": "File",
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": mounts,
    }
    if custom and custom.command is not None:
        container["command"] = custom.command
    if custom and custom.args is not None:
        container["args"] = custom.args
    return container


def _literal(value: str) -> str:
    """Keep the kubelet from expanding ``$(NAME)`` in a value."""
    return value.replace("$(", "$$(")
