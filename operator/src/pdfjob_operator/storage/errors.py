"""What can go wrong with S3. The type says what happens next, the message what to do.

boto3's exceptions are converted here and nowhere else.
"""

from __future__ import annotations

from typing import ClassVar, Final

from botocore import exceptions as boto


class StorageError(Exception):
    """An S3 request failed. As it is, it will fail again: the request itself is wrong."""

    retryable: ClassVar[bool] = False
    """Whether the same request may succeed later without anybody changing the PdfJob."""


class ObjectNotFound(StorageError):  # noqa: N818
    """The key does not exist."""


class ObjectTooLarge(StorageError):  # noqa: N818
    """The object has more bytes than the caller takes."""


class PreconditionFailed(StorageError):  # noqa: N818
    """The object is there already (``If-None-Match: *``)."""


class BucketNotFound(StorageError):  # noqa: N818
    """The bucket does not exist; it may be created later."""

    retryable = True


class StorageAccessDenied(StorageError):  # noqa: N818
    """The operator's credentials are missing or refused; they may be corrected later."""

    retryable = True


class StorageUnreachable(StorageError):  # noqa: N818
    """The storage does not answer, or answers that it is in trouble."""

    retryable = True


_DENIED: Final = frozenset(
    {"403", "AccessDenied", "AccountProblem", "AllAccessDisabled", "ExpiredToken", "Forbidden", "InvalidAccessKeyId"}
    | {"InvalidToken", "SignatureDoesNotMatch", "TokenRefreshRequired", "UnauthorizedAccess", "XAdminUserNotFound"}
)
"""Error codes of the S3 API, and of versitygw, that concern the credentials."""
_BUSY: Final = frozenset(
    {"ConditionalRequestConflict", "InternalError", "OperationAborted", "RequestTimeTooSkewed", "RequestTimeout"}
    | {"ServiceUnavailable", "SlowDown", "Throttling", "TooManyRequests"}
)
"""Error codes of the S3 API that pass."""


def convert(error: Exception, what: str, endpoint: str) -> StorageError:
    """Turn an exception of boto3, or of the connection below it, into ours.

    Parameters
    ----------
    error
        What was raised.
    what
        The request in words, such as ``GET s3://bucket/key``.
    endpoint
        The storage in words.
    """
    if isinstance(error, boto.ClientError):
        return _convert_answer(error, what, endpoint)
    if isinstance(error, boto.NoCredentialsError | boto.PartialCredentialsError | boto.CredentialRetrievalError):
        return StorageAccessDenied(
            f"{what}: the operator has no S3 credentials ({error}); "
            "check the Secret that the installation's S3 settings name"
        )
    if isinstance(error, boto.ParamValidationError):
        return StorageError(f"{what}: not a valid bucket name or key ({error})")
    return StorageUnreachable(f"{what}: {endpoint} does not answer ({error}); check the network and that it runs")


def _convert_answer(error: boto.ClientError, what: str, endpoint: str) -> StorageError:
    answer = error.response.get("Error", {})
    code = str(answer.get("Code", ""))
    status = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    told = f"{code}: {answer.get('Message', '')}".strip(": ")
    if code == "NoSuchBucket":
        return BucketNotFound(f"{what}: the bucket does not exist; create it or correct its name")
    if code in {"NoSuchKey", "NotFound", "404"}:
        return ObjectNotFound(f"{what}: there is no such object")
    if status == 412 or code == "PreconditionFailed":
        return PreconditionFailed(f"{what}: the object is there already")
    if code in _BUSY or status >= 500 or status == 429:
        return StorageUnreachable(f"{what}: {endpoint} is in trouble ({told}); wait, or look at its logs")
    if code in _DENIED or status in {401, 403}:
        return StorageAccessDenied(
            f"{what}: {endpoint} refuses the operator's credentials ({told}); "
            "correct them, or their rights on the bucket"
        )
    return StorageError(f"{what}: {endpoint} refuses the request ({told})")
