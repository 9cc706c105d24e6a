"""Names of the API group, of labels and annotations, and of the objects made for a PdfJob."""

from __future__ import annotations

from typing import Final

GROUP: Final = "pdfjob.dev"
VERSION: Final = "v1alpha1"
API_VERSION: Final = f"{GROUP}/{VERSION}"
PDFJOB_KIND: Final = "PdfJob"
PDFJOB_PLURAL: Final = "pdfjobs"
PDFCHUNK_KIND: Final = "PdfChunk"
PDFCHUNK_PLURAL: Final = "pdfchunks"
CREDIT_ACCOUNT_KIND: Final = "CreditAccount"
CREDIT_ACCOUNT_PLURAL: Final = "creditaccounts"

FINALIZER: Final = f"{GROUP}/cleanup"
"""The only finalizer of the product, on PdfJob: child Jobs, pods and S3 objects go before the resource does."""

LABEL_JOB: Final = f"{GROUP}/job"
LABEL_JOB_UID: Final = f"{GROUP}/job-uid"
LABEL_CHUNK: Final = f"{GROUP}/chunk"
LABEL_START: Final = f"{GROUP}/start"
LABEL_MANAGED_BY: Final = "app.kubernetes.io/managed-by"
MANAGED_BY: Final = "pdfjob"

ANNOTATION_FILE_NAME: Final = f"{GROUP}/file-name"
"""Set by ``kubectl pdfjob submit``: the name of the file on the user's disk, shown in ``status.source``."""

ANNOTATION_REQUESTED_BY: Final = f"{GROUP}/shutdown-requested-by"
"""Set by ``kubectl pdfjob stop`` and ``cancel``: the user who asked for it, shown in ``status.shutdown``."""

LABEL_RETRY: Final = f"{GROUP}/retry"
"""On the Jobs of a manual retry; its value is made of the request's id."""
QUEUE_LABELS: Final = ("kueue.x-k8s.io/queue-name", "kueue.x-k8s.io/priority-class")
"""Labels of a PdfJob that its Jobs get: Kueue admits them one by one."""

FIELD_MANAGER: Final = "pdfjob-operator"
RUNNER_CONTAINER: Final = "runner"

MAX_JOB_NAME: Final = 50
"""A child Job is named ``<pdfjob>-c00002-a1`` and must fit 63 characters."""

RUN_LENGTH: Final = 8


def chunk_name(job: str, index: int) -> str:
    """Name of the PdfChunk with this 0-based index, e.g. ``novel-c00002``."""
    return f"{job}-c{index:05d}"


def start_name(job: str, index: int, start: int) -> str:
    """Name of the child Job for one start of a chunk, e.g. ``novel-c00002-a1``."""
    return f"{chunk_name(job, index)}-a{start}"


def run_of(uid: str) -> str:
    """Return the run: the first 8 characters of the PdfJob's UID, part of every key a runner writes.

    A late runner of an earlier life of the same name therefore never overwrites newer work.
    """
    return uid[:RUN_LENGTH]
