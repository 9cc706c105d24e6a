"""What an error of background work means for the PdfJob: which reason, and whether it is tried again."""

from __future__ import annotations

from datetime import datetime

from pdfjob_api.conditions import Reason

from .documents import DocumentError, MergeError
from .observation import WorkError
from .sources import SourceError
from .storage.errors import BucketNotFound, StorageAccessDenied, StorageError
from .storage.kubernetes import KubernetesError


class PlanMismatchError(Exception):
    """The source is not the one that the stored plan was made of."""


class MergeInputError(Exception):
    """A chunk result that the merge needs is gone or damaged.

    It ends the job (R-62): the result may be put back, and a chunk that succeeded is done again only at a request.
    """

    def __init__(self, chunk: int, problem: str) -> None:
        super().__init__(
            f"the result of chunk {chunk} {problem}; put it back and request a retry, or have the chunk done again: "
            f"spec.retryRequest with chunks: [{chunk}] and force: true"
        )


def work_error(error: Exception, retry_at: datetime) -> WorkError:
    """Say what an error means; one that nobody foresaw is tried again, since giving up would lose work.

    Parameters
    ----------
    error
        What ended the work.
    retry_at
        When it is tried again, if it is worth it.
    """
    match error:
        case SourceError():
            return WorkError(error.reason, str(error), retry_at if error.retryable else None)
        case DocumentError():
            return WorkError(error.reason, str(error), retry_at if error.retryable else None)
        case PlanMismatchError():
            return WorkError(Reason.SPLIT_ERROR, str(error), None)
        case MergeError():
            return WorkError(Reason.MERGE_FAILED, str(error), retry_at if error.retryable else None)
        case MergeInputError():
            return WorkError(Reason.MERGE_FAILED, str(error), None)
        case StorageError():
            return WorkError(_storage_reason(error), str(error), retry_at)
        case KubernetesError():
            return WorkError(Reason.API_SERVER_UNAVAILABLE, str(error), retry_at)
    return WorkError(Reason.INTERNAL_ERROR, f"{type(error).__name__}: {error}", retry_at)


def _storage_reason(error: StorageError) -> Reason:
    match error:
        case BucketNotFound():
            return Reason.BUCKET_NOT_FOUND
        case StorageAccessDenied():
            return Reason.STORAGE_ACCESS_DENIED
    return Reason.STORAGE_UNREACHABLE
