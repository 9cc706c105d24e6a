"""Addresses of objects on S3."""

from __future__ import annotations

__all__ = ["split_uri"]


def split_uri(uri: str) -> tuple[str, str]:
    """Split ``s3://bucket/key`` into bucket and key.

    Raises
    ------
    ValueError
        When it has another form.
    """
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    if not uri.startswith("s3://") or not bucket or not key:
        raise ValueError(f"not of the form s3://bucket/key: {uri}")
    return bucket, key
