"""Fetches the source of a PdfJob to disk: streamed, capped, hashed, and only from where the namespace may read.

Source of the rules: requirement R-4 and section 3.1 of the design.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final

import aiohttp
from yarl import URL

from pdfjob_api.conditions import Reason
from pdfjob_api.keys import inbox_prefix
from pdfjob_api.pdfjob import HttpSource, S3Source, Source

from .addresses import AddressGuard, AddressRefusedError, GuardedResolver, Lookup, system_lookup
from .settings import Settings, SourceSettings
from .storage.errors import BucketNotFound, ObjectTooLarge, StorageAccessDenied, StorageError, StorageUnreachable
from .storage.s3 import ObjectStore

_MAX_REDIRECTS: Final = 5
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_MAX_NAME: Final = 255
"""Characters of a file name."""
_PIECE: Final = 1024**2
"""Bytes read at a time."""
_REASONS: Final = (
    (BucketNotFound, Reason.BUCKET_NOT_FOUND),
    (StorageAccessDenied, Reason.STORAGE_ACCESS_DENIED),
    (StorageUnreachable, Reason.STORAGE_UNREACHABLE),
)


class SourceError(Exception):
    """The source cannot be fetched; text and reason are for the user.

    Attributes
    ----------
    reason
        As requirement R-4 names it.
    retryable
        Whether to wait and try again; otherwise the job has failed.
    """

    def __init__(self, reason: Reason, message: str, *, retryable: bool = False) -> None:
        super().__init__(message)
        self.reason = reason
        self.retryable = retryable


@dataclass(frozen=True, slots=True)
class Fetched:
    """What was fetched."""

    sha256: str
    size_bytes: int
    file_name: str
    """As the user knows it: no folders, no control characters, at most 255 characters."""


async def fetch_source(
    source: Source,
    namespace: str,
    destination: Path,
    *,
    settings: Settings,
    store: ObjectStore,
    lookup: Lookup = system_lookup,
) -> Fetched:
    """Copy the source to ``destination``; on failure no file is left there.

    Parameters
    ----------
    source
        Of the PdfJob; exactly one of s3 and http is set.
    namespace
        Of the PdfJob; it decides what may be read.
    lookup
        Resolves host names.

    Raises
    ------
    SourceError
    """
    try:
        async with asyncio.timeout(settings.source.total_timeout_seconds):
            if source.s3 is not None:
                return await _fetch_s3(source.s3, namespace, destination, settings, store)
            assert source.http is not None
            return await _HttpFetch(source.http, destination, settings.source, lookup).run()
    except BaseException as error:
        with contextlib.suppress(OSError):
            destination.unlink()  # noqa: ASYNC240 - a moment, and the task may be cancelled already
        if isinstance(error, TimeoutError):
            message = (
                f"the transfer did not end within {settings.source.total_timeout_seconds:g} s; it is tried again. "
                "If the source is that slow, raise source.totalTimeoutSeconds of the installation"
            )
            raise SourceError(Reason.STORAGE_UNREACHABLE, message, retryable=True) from error
        if isinstance(error, OSError):
            message = (
                f"the operator cannot write to its disk ({error.strerror or error}); give its work folder more space"
            )
            raise SourceError(Reason.STORAGE_UNREACHABLE, message, retryable=True) from error
        raise


async def _fetch_s3(
    source: S3Source, namespace: str, destination: Path, settings: Settings, store: ObjectStore
) -> Fetched:
    bucket = source.bucket or store.bucket
    uri = f"s3://{bucket}/{source.key}"
    _check_key(bucket, source.key, namespace, settings)
    cap = settings.source.max_bytes
    try:
        info = await store.head(source.key, bucket)
        if info is None:
            message = f"{uri} does not exist; upload it, or correct spec.source in a new PdfJob"
            raise SourceError(Reason.SOURCE_NOT_FOUND, message)
        if info.size > cap:
            raise _too_large(uri, info.size, cap)
        digest = await store.download(source.key, destination, max_bytes=cap, bucket=bucket)
    except ObjectTooLarge as error:
        raise _too_large(uri, None, cap) from error
    except StorageError as error:
        for kind, reason in _REASONS:
            if isinstance(error, kind):
                raise SourceError(reason, str(error), retryable=True) from error
        raise SourceError(Reason.SOURCE_NOT_FOUND, str(error)) from error
    size = await asyncio.to_thread(lambda: destination.stat().st_size)
    return Fetched(digest, size, clean_name(source.key))


def _check_key(bucket: str, key: str, namespace: str, settings: Settings) -> None:
    """Refuse what the namespace may not read, before any request is made."""
    segments = key.split("/")
    if ".." in segments or "." in segments or "\\" in key or any(ord(each) < 32 for each in key):
        message = (
            f"the key {key!r} has a part '.' or '..', a backslash or a control character; upload it under a plain key"
        )
        raise SourceError(Reason.SOURCE_NOT_ALLOWED, message)
    inbox = inbox_prefix(settings.s3.prefix, namespace)
    if bucket == settings.s3.bucket and key.startswith(inbox) and key != inbox:
        return
    allowed = settings.source.allowed_buckets
    for entry in (*allowed.get(namespace, ()), *allowed.get("*", ())):
        name, _, prefix = entry.partition("/")
        prefix = prefix.rstrip("/")
        if name == bucket and (not prefix or key == prefix or key.startswith(f"{prefix}/")):
            return
    raise SourceError(
        Reason.SOURCE_NOT_ALLOWED,
        f"namespace {namespace} may not read s3://{bucket}/{key}. Upload the document to "
        f"s3://{settings.s3.bucket}/{inbox} (kubectl pdfjob submit does), or have the administrator list the bucket "
        "under source.allowedBuckets of the installation",
    )


def _too_large(what: str, size: int | None, cap: int) -> SourceError:
    told = f"has {size} bytes" if size is not None else "is larger"
    return SourceError(
        Reason.SOURCE_TOO_LARGE,
        f"{what} {told}, more than the {cap} bytes that this installation takes; split it beforehand, or have the "
        "administrator raise source.maxBytes",
    )


def clean_name(name: str) -> str:
    """Take the last part of a path and leave out what does not belong in a file name."""
    last = PurePosixPath(name.replace("\\", "/")).name
    # Cc, Cf, Cs: control characters, invisible marks that turn text round, halves of surrogate pairs.
    plain = "".join(" " if each.isspace() else each for each in last if unicodedata.category(each)[0] != "C")
    return " ".join(plain.split())[:_MAX_NAME] or "document.pdf"


def _shown(url: URL) -> str:
    """Return a URL without what may be secret: user, password, query (presigned URLs)."""
    return str(url.with_user(None).with_query(None).with_fragment(None))


def _told(error: aiohttp.ClientError, url: URL) -> str:
    """Return what an error says without the query of the address, which aiohttp puts into some messages."""
    text = error.message if isinstance(error, aiohttp.ClientResponseError) else str(error)
    for query in filter(None, (url.raw_query_string, url.query_string)):
        text = text.replace(f"?{query}", "")
    return text or type(error).__name__


class _HttpFetch:
    """One transfer from a web server, redirects included."""

    def __init__(self, source: HttpSource, destination: Path, settings: SourceSettings, lookup: Lookup) -> None:
        self._source = source
        self._destination = destination
        self._settings = settings
        self._guard = AddressGuard(settings.allowed_cidrs)
        self._lookup = lookup

    async def run(self) -> Fetched:
        url = self._parse(self._source.url, None)
        connector = aiohttp.TCPConnector(
            resolver=GuardedResolver(self._guard, self._lookup),
            socket_factory=self._guard.socket,
            use_dns_cache=False,
            force_close=True,
        )
        idle = self._settings.timeout_seconds
        timeout = aiohttp.ClientTimeout(total=None, connect=idle, sock_connect=idle, sock_read=idle)
        # trust_env stays off: no proxy and no .netrc of the operator's environment.
        async with aiohttp.ClientSession(
            connector=connector, timeout=timeout, cookie_jar=aiohttp.DummyCookieJar(), auto_decompress=False
        ) as session:
            for _ in range(_MAX_REDIRECTS + 1):
                target = await self._try(session, url)
                if isinstance(target, Fetched):
                    return target
                url = target
        message = f"{_shown(url)}: more than {_MAX_REDIRECTS} redirects; give the address of the PDF itself"
        raise SourceError(Reason.SOURCE_NOT_FOUND, message)

    async def _try(self, session: aiohttp.ClientSession, url: URL) -> URL | Fetched:
        headers = {"Accept": "application/pdf,*/*;q=0.5", "Accept-Encoding": "identity", "User-Agent": "pdfjob"}
        try:
            async with session.get(url, headers=headers, allow_redirects=False) as answer:
                if answer.status in _REDIRECTS:
                    return self._parse(answer.headers.get("Location", ""), url)
                self._check_answer(url, answer)
                return await self._save(url, answer)
        except AddressRefusedError as error:
            message = (
                f"{_shown(url)}: {error} is not a public address, and sources may not be there; upload the document "
                "with kubectl pdfjob submit, or have the administrator list the range under source.allowedCidrs"
            )
            raise SourceError(Reason.SOURCE_NOT_ALLOWED, message) from error
        except (aiohttp.InvalidURL, UnicodeError):  # the latter: a host that no DNS name can be
            raise SourceError(Reason.SOURCE_NOT_FOUND, f"{_shown(url)} is not a valid URL; correct it") from None
        except aiohttp.ClientError as error:
            message = (
                f"{_shown(url)} cannot be read ({_told(error, url)}); check the address and the server. "
                "It is tried again"
            )
            # Not "from error": the log writes out causes, and their text may hold the whole address.
            raise SourceError(Reason.STORAGE_UNREACHABLE, message, retryable=True) from None

    def _parse(self, text: str, base: URL | None) -> URL:
        try:
            url = URL(text)
            if base is not None:
                # Credentials of the first address are for its server only; those of a redirect are a trick.
                url = base.with_user(None).join(url).with_user(None)
            valid = url.scheme in {"http", "https"} and bool(url.host) and bool(text)
        except ValueError:
            valid = False
        if valid:
            return url
        # What cannot be taken apart may hide a password anywhere, so the address itself is not repeated.
        where = "spec.source.http.url" if base is None else f"{_shown(base)} redirects to what"
        raise SourceError(
            Reason.SOURCE_NOT_FOUND, f"{where} is not an http or https URL; give the address of the PDF itself"
        )

    def _check_answer(self, url: URL, answer: aiohttp.ClientResponse) -> None:
        status = answer.status
        if status == 429 or status >= 500:
            message = f"{_shown(url)}: the server answers {status}; it is tried again"
            raise SourceError(Reason.STORAGE_UNREACHABLE, message, retryable=True)
        if status in {401, 403}:
            message = f"{_shown(url)}: the server answers {status}: it wants credentials; use a URL that needs none"
            raise SourceError(Reason.SOURCE_NOT_FOUND, message)
        if status != 200:
            message = f"{_shown(url)}: the server answers {status}; check the address"
            raise SourceError(Reason.SOURCE_NOT_FOUND, message)
        if answer.headers.get("Content-Encoding", "identity").lower() not in {"", "identity"}:
            message = f"{_shown(url)}: the server compresses although asked not to; offer the PDF as it is"
            raise SourceError(Reason.INVALID_FORMAT, message)
        length = answer.content_length
        if length is not None and length > self._settings.max_bytes:
            raise _too_large(_shown(url), length, self._settings.max_bytes)

    async def _save(self, url: URL, answer: aiohttp.ClientResponse) -> Fetched:
        digest = hashlib.sha256()
        size = 0
        with await asyncio.to_thread(self._destination.open, "wb") as file:

            def keep(piece: bytes) -> None:
                digest.update(piece)
                file.write(piece)

            async for piece in answer.content.iter_chunked(_PIECE):
                size += len(piece)
                if size > self._settings.max_bytes:
                    raise _too_large(_shown(url), None, self._settings.max_bytes)
                await asyncio.to_thread(keep, piece)
        found = digest.hexdigest()
        if self._source.sha256 not in {None, found}:
            message = (
                f"{_shown(url)} has the SHA-256 {found}, not {self._source.sha256} as spec.source.http.sha256 says; "
                "correct the one or the other"
            )
            raise SourceError(Reason.CHECKSUM_MISMATCH, message)
        return Fetched(found, size, self._name(url, answer))

    def _name(self, url: URL, answer: aiohttp.ClientResponse) -> str:
        disposition = answer.content_disposition
        names: Sequence[str | None] = (
            disposition.filename if disposition is not None else None,
            URL(self._source.url).name,
            url.name,
        )
        return clean_name(next((name for name in names if name), ""))
