"""The S3 storage, with the user's own credentials or, for the embedded server, those of the chart's Secret."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import boto3
from boto3.exceptions import Boto3Error
from boto3.s3.transfer import TransferConfig
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError

from .cluster import Cluster
from .errors import ClusterError, StorageError
from .installation import EmbeddedServer, Installation, StorageOptions
from .portforward import forwarded

__all__ = ["ListedObject", "ObjectStore", "StoredObject", "find_installation", "open_store"]

_PART_BYTES: Final = 16 * 1024 * 1024
_READ_BYTES: Final = 256 * 1024
_RESUMES: Final = 3
"""A download that broke off is taken up again so often without a new byte."""
_HASH_FIELD: Final = "sha256"


@dataclass(frozen=True, slots=True)
class StoredObject:
    """What the storage says about an object."""

    size: int
    sha256: str | None
    """As the plugin recorded it at the upload; None for objects of other origin."""


@dataclass(frozen=True, slots=True)
class ListedObject:
    """An object in a list."""

    key: str
    modified: datetime


def find_installation(cluster: Cluster, options: StorageOptions) -> Installation:
    """Return where the installation stores things; the command line wins over the chart's ConfigMap.

    Raises
    ------
    StorageError
        When the ConfigMap cannot be found or read and the command line does not say enough.
    """
    published = cluster.installation()
    found = published.with_options(options) if published else Installation.from_options(options)
    if found is None:
        raise StorageError(
            "cannot find the ConfigMap pdfjob-info of the installation (or you may not read it)",
            hint="name the place with --install-namespace, or the storage with --s3-bucket and --s3-endpoint",
        )
    return found


@contextmanager
def open_store(cluster: Cluster, installation: Installation) -> Iterator[ObjectStore]:
    """Open the storage; a tunnel to an embedded server ends with the block.

    Raises
    ------
    StorageError
        When credentials are missing or the tunnel cannot be made; the message says what is missing.
    """
    server = installation.embedded
    if server is None:
        yield ObjectStore(_own_client(installation), installation.endpoint or "AWS S3")
        return
    access_key, secret_key = _embedded_keys(cluster, server)
    command = cluster.kubectl(
        *("port-forward", "--address", "127.0.0.1", "-n", server.service_namespace),
        *(f"service/{server.service_name}", f":{server.service_port}"),
    )
    with forwarded(command) as port:
        s3 = boto3.client(
            "s3",
            endpoint_url=f"http://127.0.0.1:{port}",
            aws_access_key_id=access_key,
            aws_secret_access_key=secret_key,
            region_name=installation.region or "us-east-1",
            config=_config(path_style=True, direct=True),
        )
        # One connection at a time: a tunnel through the API server gains nothing from more.
        yield ObjectStore(s3, "the embedded S3 server", threads=1)


def _own_client(installation: Installation) -> Any:
    try:
        session = boto3.Session()
        known = session.get_credentials() is not None
        s3 = session.client(
            "s3",
            endpoint_url=installation.endpoint,
            region_name=session.region_name or installation.region,
            config=_config(path_style=installation.endpoint is not None),
        )
    except (BotoCoreError, ValueError) as error:
        raise StorageError(f"the S3 settings cannot work: {error}") from error
    if not known:
        raise StorageError(
            f'no S3 credentials for bucket "{installation.bucket}" at {installation.endpoint or "AWS S3"}',
            hint="set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE",
        )
    return s3


def _embedded_keys(cluster: Cluster, server: EmbeddedServer) -> tuple[str, str]:
    where = f"{server.secret_namespace}/{server.secret_name}"
    try:
        secret = cluster.secret(server.secret_namespace, server.secret_name)
    except ClusterError as error:
        raise StorageError(
            f"the storage is inside the cluster, and its credentials in Secret {where} are not open to you: {error}",
            hint="ask an administrator for the right to get this Secret, or submit a URL or s3:// source instead",
        ) from error
    try:
        return secret["accessKey"], secret["secretKey"]
    except KeyError as error:
        raise StorageError(f"Secret {where} lacks the key {error}") from error


def _config(*, path_style: bool, direct: bool = False) -> Config:
    return Config(
        connect_timeout=10,
        read_timeout=60,
        retries={"mode": "standard", "total_max_attempts": 4},
        # A proxy of the environment is for the world outside, not for the near end of a tunnel.
        proxies={} if direct else None,
        s3={"addressing_style": "path"} if path_style else {},
        # Not every S3-compatible server knows the newer checksum trailers; our own hashes are checked anyway.
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
    )


class ObjectStore:
    """Objects on S3-compatible storage."""

    def __init__(self, s3: Any, where: str, *, threads: int = 4) -> None:
        self._s3 = s3
        self._where = where
        self._transfer = TransferConfig(
            multipart_threshold=_PART_BYTES,
            multipart_chunksize=_PART_BYTES,
            max_concurrency=threads,
            use_threads=threads > 1,
        )

    def find(self, bucket: str, key: str) -> StoredObject | None:
        """Return what is known of an object; None when there is none."""
        with self._translated(bucket, key):
            try:
                head = self._s3.head_object(Bucket=bucket, Key=key)
            except ClientError as error:
                if error.response["Error"]["Code"] in {"404", "NoSuchKey", "NotFound"}:
                    return None
                raise
        return StoredObject(int(head["ContentLength"]), head.get("Metadata", {}).get(_HASH_FIELD))

    def upload(self, path: Path, bucket: str, key: str, *, sha256: str, on_bytes: Callable[[int], None]) -> None:
        """Store a file, in parts when it is large. The object appears when all of it is there.

        Parameters
        ----------
        path
            The file; it is streamed.
        bucket, key
            Where it goes.
        sha256
            Hash of the file, recorded with the object.
        on_bytes
            Called with the number of bytes sent since the last call.
        """
        with self._translated(bucket, key):
            self._s3.upload_file(
                Filename=str(path),
                Bucket=bucket,
                Key=key,
                ExtraArgs={"ContentType": "application/pdf", "Metadata": {_HASH_FIELD: sha256}},
                Callback=on_bytes,
                Config=self._transfer,
            )

    def read(self, bucket: str, key: str) -> Iterator[bytes]:
        """Yield the bytes of an object; a connection that breaks off is taken up where it ended."""
        offset, resumes = 0, 0
        etag: str | None = None
        while True:
            with self._translated(bucket, key):
                again: dict[str, Any] = {"Range": f"bytes={offset}-", "IfMatch": etag} if etag and offset else {}
                answer = self._s3.get_object(Bucket=bucket, Key=key, **again)
                etag = answer["ETag"]
                body = answer["Body"]
                try:
                    for piece in body.iter_chunks(_READ_BYTES):
                        offset += len(piece)
                        resumes = 0
                        yield piece
                except (HTTPClientError, BotoCoreError):
                    resumes += 1
                    if resumes > _RESUMES:
                        raise
                else:
                    return
                finally:
                    body.close()

    def list(self, bucket: str, prefix: str) -> Iterator[ListedObject]:
        """Yield the objects under a prefix, in the order of their keys."""
        with self._translated(bucket, prefix):
            for page in self._s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
                for item in page.get("Contents", []):
                    yield ListedObject(item["Key"], item["LastModified"])

    def read_start(self, bucket: str, key: str, size: int) -> bytes:
        """Return the first ``size`` bytes of an object that is not empty."""
        with self._translated(bucket, key):
            answer = self._s3.get_object(Bucket=bucket, Key=key, Range=f"bytes=0-{size - 1}")
            data: bytes = answer["Body"].read()
            return data

    @contextmanager
    def _translated(self, bucket: str, key: str) -> Iterator[None]:
        try:
            yield
        except ClientError as error:
            raise StorageError(self._refusal(bucket, key, error)) from error
        except (BotoCoreError, Boto3Error) as error:
            # boto3 wraps what happens in a transfer in an error of its own.
            cause = error.__context__ if isinstance(error, Boto3Error) else error
            if isinstance(cause, ClientError):
                raise StorageError(self._refusal(bucket, key, cause)) from error
            raise StorageError(f"{self._where} does not answer well: {cause or error}") from error

    def _refusal(self, bucket: str, key: str, error: ClientError) -> str:
        code = str(error.response.get("Error", {}).get("Code", ""))
        if code == "NoSuchBucket":
            return f'bucket "{bucket}" does not exist at {self._where}'
        if code in {"404", "NoSuchKey", "NotFound"}:
            return f"s3://{bucket}/{key} does not exist at {self._where}"
        if code in {"403", "AccessDenied", "AllAccessDisabled"}:
            return f"{self._where} does not let your credentials use s3://{bucket}/{key}"
        if code in {"InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "InvalidToken"}:
            return f"{self._where} refused your S3 credentials ({code})"
        if code in {"412", "PreconditionFailed"}:
            return f"s3://{bucket}/{key} changed while it was read; run the command again"
        message = str(error.response.get("Error", {}).get("Message", "")) or str(error)
        return f"{self._where} refused s3://{bucket}/{key}: {code} {message}"
