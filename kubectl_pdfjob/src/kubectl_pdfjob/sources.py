"""What the user submits: a file on disk, a URL, or an object on S3; and the names made from it."""

from __future__ import annotations

import hashlib
import re
import secrets
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count, islice
from pathlib import Path, PurePosixPath
from typing import Final, TypeAlias
from urllib.parse import unquote, urlsplit

from pdfjob_api import keys, names

from .errors import UsageError
from .storage_uri import split_uri

__all__ = [
    "LocalFile",
    "S3Object",
    "Source",
    "WebDocument",
    "base_name",
    "candidate_names",
    "check_name",
    "hash_file",
    "inbox_key",
    "parse_source",
]

_HEADER_BYTES: Final = 1024
"""The PDF header may stand behind this much of something else (ISO 32000-1, annex H.3.4.1)."""
_MAX_FILE_NAME: Final = 200
"""Bytes; most servers that keep objects as files take 255."""
_NUMBERED_NAMES: Final = 99
_FALLBACK_NAME: Final = "document"
_NAME_FORM: Final = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")


@dataclass(frozen=True, slots=True)
class LocalFile:
    """A file on the user's disk; it is uploaded to the inbox of the namespace."""

    path: Path
    size: int

    @property
    def file_name(self) -> str:
        """Name as the user knows it."""
        return self.path.name


@dataclass(frozen=True, slots=True)
class S3Object:
    """An object that is stored already."""

    bucket: str
    key: str

    @property
    def file_name(self) -> str:
        """Last part of the key."""
        return PurePosixPath(self.key).name


@dataclass(frozen=True, slots=True)
class WebDocument:
    """A document on a web server; the operator fetches it."""

    url: str

    @property
    def file_name(self) -> str:
        """Last part of the path, or the host when there is none."""
        parts = urlsplit(self.url)
        return unquote(PurePosixPath(parts.path).name) or parts.hostname or ""


Source: TypeAlias = LocalFile | S3Object | WebDocument


def parse_source(text: str, *, repair: bool) -> Source:
    """Tell what the user named.

    Parameters
    ----------
    text
        ``s3://bucket/key``, an http or https URL, or the path of a file.
    repair
        With it a file without a PDF header is taken too.

    Raises
    ------
    UsageError
        When it is nothing that can be submitted.
    """
    if text.startswith("s3://"):
        try:
            return S3Object(*split_uri(text))
        except ValueError as error:
            raise UsageError(f"{text} is not of the form s3://bucket/key") from error
    if text.lower().startswith(("http://", "https://")):
        if not urlsplit(text).hostname:
            raise UsageError(f"{text} names no host")
        return WebDocument(text)
    if "://" in text:
        raise UsageError(f"{text}: only files, http://, https:// and s3:// can be submitted")
    return _local_file(Path(text), repair=repair)


def _local_file(path: Path, *, repair: bool) -> LocalFile:
    try:
        if path.is_dir():
            raise UsageError(f"{path} is a folder; name a PDF file")
        with path.open("rb") as stream:
            start = stream.read(_HEADER_BYTES)
        size = path.stat().st_size
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror or error}") from error
    if not start:
        raise UsageError(f"{path} is empty")
    if b"%PDF-" not in start and not repair:
        raise UsageError(f"{path} is not a PDF: it has no %PDF- header", hint="--repair submits it all the same")
    return LocalFile(path, size)


def hash_file(path: Path) -> str:
    """Return the SHA-256 of a file, read as a stream."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def inbox_key(prefix: str, namespace: str, sha256: str, file_name: str) -> str:
    """Return the key of an upload. The same file has the same key, so a second upload is no second object."""
    return f"{keys.inbox_prefix(prefix, namespace)}{sha256[:12]}/{_stored_name(file_name)}"


def _stored_name(file_name: str) -> str:
    """Return a file name that every S3 server takes: no control characters, at most 200 bytes, suffix kept."""
    text = unicodedata.normalize("NFC", file_name)
    text = "".join("_" if unicodedata.category(char).startswith("C") or char in '\\/"<>' else char for char in text)
    stem, dot, suffix = text.rpartition(".")
    if not dot or len(suffix) > 10:
        stem, dot, suffix = text, "", ""
    room = _MAX_FILE_NAME - len((dot + suffix).encode())
    return stem.encode()[:room].decode(errors="ignore") + dot + suffix


def base_name(file_name: str) -> str:
    """Return a resource name for a file: lower-case letters, digits and hyphens, at most 50 characters."""
    stem = file_name.removesuffix(PurePosixPath(file_name).suffix) or file_name
    plain = unicodedata.normalize("NFKD", stem).encode("ascii", "ignore").decode().lower()
    return _cut(re.sub(r"[^a-z0-9]+", "-", plain).strip("-"), names.MAX_JOB_NAME) or _FALLBACK_NAME


def candidate_names(base: str) -> Iterator[str]:
    """Yield the names to try: ``novel``, ``novel-2``, ``novel-3``, ... and at last one with a random end."""
    yield base
    numbers = (str(number) for number in islice(count(2), _NUMBERED_NAMES - 1))
    for suffix in (*numbers, secrets.token_hex(3)):
        yield f"{_cut(base, names.MAX_JOB_NAME - len(suffix) - 1)}-{suffix}"


def check_name(name: str) -> str:
    """Return the name that the user gave.

    Raises
    ------
    UsageError
        When it cannot be the name of a PdfJob.
    """
    if len(name) > names.MAX_JOB_NAME:
        raise UsageError(f'the name "{name}" has {len(name)} characters; at most {names.MAX_JOB_NAME} are allowed')
    if not _NAME_FORM.fullmatch(name):
        raise UsageError(f'the name "{name}" must be of lower-case letters, digits and hyphens, no hyphen at its ends')
    return name


def _cut(name: str, length: int) -> str:
    return name[:length].rstrip("-")
