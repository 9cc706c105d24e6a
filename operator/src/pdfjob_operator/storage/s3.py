"""S3: every request of the operator to the object store.

boto3 runs in threads of a bounded pool, so that the event loop is never blocked.
"""

from __future__ import annotations

import asyncio
import hashlib
import threading
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from boto3.s3.transfer import TransferConfig
from botocore.awsrequest import AWSPreparedRequest
from botocore.exceptions import ClientError

from pdfjob_operator.settings import S3Settings

from .connection import FOREIGN, Requests, clients
from .errors import ObjectNotFound, ObjectTooLarge, StorageUnreachable, convert

_Read = Callable[[Callable[[bytes], object]], Mapping[str, str]]

_PIECE: Final = 1024**2
"""Bytes read at a time while streaming."""
_PART: Final = 16 * 1024**2
"""Bytes of one part of a multipart upload."""
_MULTIPART: Final = TransferConfig(multipart_threshold=4 * _PART, multipart_chunksize=_PART, use_threads=False)
_DELETE_BATCH: Final = 1000
"""Keys of one DeleteObjects request; the S3 API takes no more."""
_READS: Final = frozenset({"GET", "HEAD"})
_JSON: Final = "application/json"


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """What a HEAD request tells of an object."""

    size: int
    """Bytes."""
    etag: str
    metadata: Mapping[str, str] = field(default_factory=dict)
    """Own metadata; names in lower case."""


class ObjectStore:
    """One bucket of S3-compatible storage, and reads from others.

    Every method raises `StorageError` or one of its kinds, and nothing of boto3's.

    Parameters
    ----------
    settings
        Endpoint, bucket and region. Credentials come from boto3's usual sources.
    observe
        Called with the name of each operation and the seconds it took, from any thread.
    guard
        Called right before each request that writes is sent, repetitions included, from any thread; raises when it
        must not be.
    """

    def __init__(
        self,
        settings: S3Settings,
        *,
        observe: Callable[[str, float], None] | None = None,
        guard: Callable[[], None] | None = None,
    ) -> None:
        self.bucket: Final = settings.bucket
        self.prefix: Final = settings.prefix
        self._region = settings.region
        self._endpoint = settings.endpoint or "AWS S3"
        self._requests = Requests(self._endpoint, observe)
        self._client, self._signer = clients(settings)
        if guard is not None:

            def before_send(request: AWSPreparedRequest, **_: Any) -> None:
                if request.method not in _READS:
                    guard()

            self._client.meta.events.register("before-send.s3", before_send)

    def close(self) -> None:
        """Give up connections and threads; requests under way end by themselves."""
        self._requests.close()
        self._client.close()
        self._signer.close()

    def uri(self, key: str) -> str:
        """Return ``s3://bucket/key``."""
        return f"s3://{self.bucket}/{key}"

    async def check(self) -> None:
        """Make sure that the bucket is there and may be read."""
        what = f"HEAD s3://{self.bucket}"
        try:
            await self._requests.run("head_bucket", what, self._client.head_bucket, Bucket=self.bucket)
        except ObjectNotFound:
            await self._explain(self.bucket)

    async def create_bucket(self) -> None:
        """Create the bucket; nothing happens when it is ours already."""
        where = {} if self._region == "us-east-1" else {"LocationConstraint": self._region}
        options: dict[str, Any] = {"CreateBucketConfiguration": where} if where else {}

        def create() -> None:
            try:
                self._client.create_bucket(Bucket=self.bucket, **options)
            except self._client.exceptions.BucketAlreadyOwnedByYou:
                return

        await self._requests.run("create_bucket", f"create s3://{self.bucket}", create)

    async def head(self, key: str, bucket: str | None = None) -> ObjectInfo | None:
        """Return size, ETag and metadata of an object, None when there is none.

        Raises
        ------
        BucketNotFound
            When it is the bucket that is missing.
        """
        where = bucket or self.bucket
        what = f"HEAD s3://{where}/{key}"
        try:
            answer = await self._requests.run("head", what, self._client.head_object, Bucket=where, Key=key)
        except ObjectNotFound:
            await self._explain(where)
            return None
        return ObjectInfo(int(answer["ContentLength"]), str(answer["ETag"]).strip('"'), dict(answer["Metadata"]))

    async def get(self, key: str, max_bytes: int) -> bytes:
        """Return the content of a small object.

        Raises
        ------
        ObjectNotFound, ObjectTooLarge
        """
        return (await self.get_marked(key, max_bytes))[0]

    async def get_marked(self, key: str, max_bytes: int) -> tuple[bytes, Mapping[str, str]]:
        """Return the content of a small object, and its own metadata; names in lower case.

        Raises
        ------
        ObjectNotFound, ObjectTooLarge
        """
        pieces, metadata = bytearray(), dict[str, str]()
        await self._read(self.bucket, key, max_bytes, lambda read: metadata.update(read(pieces.extend)))
        return bytes(pieces), metadata

    async def download(self, key: str, path: Path, *, max_bytes: int, bucket: str | None = None) -> str:
        """Stream an object to a file and return its SHA-256 in hex; a partial file is removed.

        Raises
        ------
        ObjectNotFound, ObjectTooLarge
        """
        digest = hashlib.sha256()

        def to_file(read: _Read) -> None:
            try:
                with path.open("wb") as file:

                    def keep(piece: bytes) -> None:
                        digest.update(piece)
                        file.write(piece)

                    read(keep)
            except BaseException:
                path.unlink(missing_ok=True)
                raise

        await self._read(bucket or self.bucket, key, max_bytes, to_file)
        return digest.hexdigest()

    async def put(
        self,
        key: str,
        data: bytes,
        *,
        if_absent: bool = False,
        metadata: Mapping[str, str] | None = None,
    ) -> None:
        """Store a small JSON object.

        Raises
        ------
        PreconditionFailed
            With ``if_absent``, when the key exists.
        """
        options: dict[str, Any] = {"IfNoneMatch": "*"} if if_absent else {}
        await self._requests.run(
            "put",
            f"PUT {self.uri(key)}",
            self._client.put_object,
            Bucket=self.bucket,
            Key=key,
            Body=data,
            **_attributes(_JSON, metadata),
            **options,
        )

    async def copy(self, key: str, to: str, *, metadata: Mapping[str, str]) -> None:
        """Copy a JSON object within the bucket, on the server; the copy has this metadata.

        Raises
        ------
        ObjectNotFound
        """
        await self._requests.run(
            "copy",
            f"COPY {self.uri(key)} to {to}",
            self._client.copy_object,
            Bucket=self.bucket,
            Key=to,
            CopySource={"Bucket": self.bucket, "Key": key},
            MetadataDirective="REPLACE",
            **_attributes(_JSON, metadata),
        )

    async def upload(
        self, path: Path, key: str, *, content_type: str, metadata: Mapping[str, str] | None = None
    ) -> None:
        """Stream a file to an object, in parts when it is large."""
        await self._requests.run(
            "upload",
            f"PUT {self.uri(key)}",
            self._client.upload_file,
            str(path),
            self.bucket,
            key,
            ExtraArgs=_attributes(content_type, metadata),
            Config=_MULTIPART,
        )

    async def list_keys(self, prefix: str) -> AsyncIterator[str]:
        """Yield the keys under a prefix in order, page by page."""
        async for entry in self._list(prefix):
            yield entry["Key"]

    async def list_sizes(self, prefix: str) -> AsyncIterator[tuple[str, int]]:
        """Yield the keys under a prefix in order, page by page, each with the bytes of its object."""
        async for entry in self._list(prefix):
            yield entry["Key"], int(entry["Size"])

    async def delete_prefix(self, prefix: str, keep: Callable[[str], bool]) -> int:
        """Delete the objects under a prefix, in batches, except those that ``keep`` says.

        Returns
        -------
        int
            How many were deleted.

        Raises
        ------
        StorageError
            When any could not be deleted; the others of its batch are gone.
        """
        return await self._delete_where(prefix, lambda entry: not keep(entry["Key"]))

    async def delete_older(self, prefix: str, before: datetime) -> int:
        """Delete the objects under a prefix, in batches, that were last written before a time. Return how many.

        Raises
        ------
        StorageError
            When any could not be deleted; the others of its batch are gone.
        """
        return await self._delete_where(prefix, lambda entry: entry["LastModified"] < before)

    async def delete(self, key: str) -> None:
        """Delete an object; one that is gone is no error."""
        await self._delete([key])

    def presign_get(self, key: str, expires_seconds: int) -> str:
        """Return a URL that reads the object, as the runner pods reach it; computed here, no request is made."""
        return self._sign("get_object", expires_seconds, Key=key)

    def presign_put(self, key: str, expires_seconds: int, *, if_absent: bool = False) -> str:
        """Return a URL that writes the object, as the runner pods reach it; computed here, no request is made.

        With ``if_absent`` the header ``If-None-Match: *`` is part of the signature: without it the request is refused.
        """
        options = {"IfNoneMatch": "*"} if if_absent else {}
        return self._sign("put_object", expires_seconds, Key=key, **options)

    def _sign(self, method: str, expires_seconds: int, **parameters: str) -> str:
        try:
            return str(
                self._signer.generate_presigned_url(
                    method, Params={"Bucket": self.bucket, **parameters}, ExpiresIn=expires_seconds
                )
            )
        except FOREIGN as error:
            raise convert(error, f"sign {self.uri(parameters['Key'])}", self._endpoint) from error

    async def _read(self, bucket: str, key: str, max_bytes: int, consume: Callable[[_Read], None]) -> None:
        """Run ``consume`` in a thread, with a function that reads the object piece by piece into a writer.

        That function returns the metadata of the object.
        """
        what = f"GET s3://{bucket}/{key}"
        stop = threading.Event()

        def read(write: Callable[[bytes], object]) -> Mapping[str, str]:
            answer = self._client.get_object(Bucket=bucket, Key=key)
            with closing(answer["Body"]) as body:
                size = int(answer["ContentLength"])
                if size > max_bytes:
                    raise ObjectTooLarge(f"{what}: {size} bytes, more than the {max_bytes} that are taken")
                for piece in body.iter_chunks(_PIECE):
                    if stop.is_set():
                        raise StorageUnreachable(f"{what}: given up")
                    write(piece)
            return dict(answer["Metadata"])

        try:
            await self._requests.run("get", what, consume, read)
        except asyncio.CancelledError:
            stop.set()
            raise

    async def _explain(self, bucket: str) -> None:
        """Raise the cause when a HEAD request found nothing because of the bucket or the credentials.

        The answer to HEAD has no body, and some servers say 404 for everything; the answer to LIST says why.
        """
        await self._list_page(f"LIST s3://{bucket}", Bucket=bucket, MaxKeys=1)

    async def _list(self, prefix: str) -> AsyncIterator[dict[str, Any]]:
        token: dict[str, str] = {}
        while True:
            page = await self._list_page(f"LIST {self.uri(prefix)}", Bucket=self.bucket, Prefix=prefix, **token)
            for entry in page.get("Contents", ()):
                yield entry
            if not page.get("IsTruncated"):
                return
            token = {"ContinuationToken": page["NextContinuationToken"]}

    async def _delete_where(self, prefix: str, goes: Callable[[dict[str, Any]], bool]) -> int:
        deleted = 0
        batch: list[str] = []
        async for entry in self._list(prefix):
            if goes(entry):
                batch.append(entry["Key"])
            if len(batch) == _DELETE_BATCH:
                deleted += await self._delete(batch)
                batch = []
        return deleted + (await self._delete(batch) if batch else 0)

    async def _list_page(self, what: str, **parameters: Any) -> dict[str, Any]:
        return await self._requests.run("list", what, self._client.list_objects_v2, **parameters)

    async def _delete(self, keys: list[str]) -> int:
        objects = {"Objects": [{"Key": key} for key in keys], "Quiet": True}
        answer = await self._requests.run(
            "delete",
            f"DELETE {len(keys)} objects of s3://{self.bucket}",
            self._client.delete_objects,
            Bucket=self.bucket,
            Delete=objects,
        )
        # The request as a whole succeeds although single keys were refused.
        errors = [each for each in answer.get("Errors", ()) if each.get("Code") != "NoSuchKey"]
        if errors:
            first = {"Error": errors[0], "ResponseMetadata": {}}
            what = f"DELETE {self.uri(str(errors[0].get('Key')))} ({len(errors)} of {len(keys)} objects)"
            raise convert(ClientError(first, "DeleteObjects"), what, self._endpoint)
        return len(keys)


def _attributes(content_type: str, metadata: Mapping[str, str] | None) -> dict[str, Any]:
    """Return what is stored with an object."""
    return {"ContentType": content_type, "Metadata": dict(metadata or {})}
