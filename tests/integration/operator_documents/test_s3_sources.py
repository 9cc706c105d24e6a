"""S3 sources on a real server: what a namespace may read, and what happens when it cannot be read."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from pdfjob_api.pdfjob import S3Source, Source
from pdfjob_operator.settings import RunnerSettings, S3Settings, Settings, SourceSettings
from pdfjob_operator.sources import Fetched, SourceError, fetch_source
from pdfjob_operator.storage.s3 import ObjectStore
from tests.support import pdfs
from tests.support.object_store import S3Server

BODY = pdfs.text_pdf(2)


def configured(s3: S3Settings, **source: object) -> Settings:
    return Settings(s3=s3, runner=RunnerSettings(image="runner"), source=SourceSettings.model_validate(source))


async def fetch(
    store: ObjectStore, config: Settings, folder: Path, key: str, bucket: str | None = None, namespace: str = "team-a"
) -> Fetched:
    source = Source(s3=S3Source(key=key, bucket=bucket))
    return await fetch_source(source, namespace, folder / "source.pdf", settings=config, store=store)


async def failure(
    store: ObjectStore, config: Settings, folder: Path, key: str, bucket: str | None = None
) -> tuple[str, bool, str]:
    with pytest.raises(SourceError) as caught:
        await fetch(store, config, folder, key, bucket)
    assert list(folder.iterdir()) == []
    return caught.value.reason.value, caught.value.retryable, str(caught.value)


async def test_the_inbox_of_the_own_namespace(store: ObjectStore, s3_settings: S3Settings, tmp_path: Path) -> None:
    await store.put("pdfjob/inbox/team-a/2026/Été.pdf", BODY)
    fetched = await fetch(store, configured(s3_settings), tmp_path, "pdfjob/inbox/team-a/2026/Été.pdf")
    assert fetched == Fetched(hashlib.sha256(BODY).hexdigest(), len(BODY), "Été.pdf")
    assert (tmp_path / "source.pdf").read_bytes() == BODY


@pytest.mark.parametrize(
    "key",
    [
        "pdfjob/inbox/team-b/novel.pdf",
        "pdfjob/inbox/team-a-b/novel.pdf",
        "pdfjob/inbox/team-a",
        "pdfjob/inbox/team-a/",
        "pdfjob/inbox/team-a/../team-b/novel.pdf",
        "pdfjob/inbox/team-a/./../team-b/novel.pdf",
        "pdfjob/inbox/team-a/..\\team-b/novel.pdf",
        "pdfjob/inbox/team-a/..",
        "/pdfjob/inbox/team-a/novel.pdf",
        "pdfjob/jobs/team-b/x/result.jsonl",
        "pdfjob/jobs/team-a/x/plan.json",
        "other/novel.pdf",
        "pdfjob/inbox/team-a/a\nb.pdf",
    ],
)
async def test_nothing_else_of_the_own_bucket(
    store: ObjectStore, s3_settings: S3Settings, tmp_path: Path, key: str
) -> None:
    await store.put("pdfjob/inbox/team-b/novel.pdf", BODY)
    reason, retryable, told = await failure(store, configured(s3_settings), tmp_path, key)
    assert (reason, retryable) == ("SourceNotAllowed", False)
    assert "upload" in told.lower()


async def test_other_buckets_only_as_allowed(
    store: ObjectStore, server: S3Server, s3_settings: S3Settings, tmp_path: Path
) -> None:
    name = f"{s3_settings.bucket}-books"
    other = ObjectStore(s3_settings.model_copy(update={"bucket": name}))
    await other.create_bucket()
    for key in ("novel.pdf", "pub/novel.pdf", "public/novel.pdf"):
        await other.put(key, BODY)
    other.close()

    async def allowed(key: str, **buckets: list[str]) -> bool:
        names = {"team_a": "team-a", "team_b": "team-b", "everyone": "*"}
        config = configured(s3_settings, allowed_buckets={names[each]: value for each, value in buckets.items()})
        try:
            fetched = await fetch(store, config, tmp_path, key, name)
        except SourceError as error:
            refused.append(error)
            return False
        return fetched.size_bytes == len(BODY)

    refused: list[SourceError] = []
    assert not await allowed("novel.pdf")
    assert await allowed("novel.pdf", team_a=[name])
    assert not await allowed("novel.pdf", team_b=[name])
    assert await allowed("novel.pdf", everyone=[name])
    assert not await allowed("novel.pdf", everyone=[f"{name}-2"])
    assert await allowed("pub/novel.pdf", team_a=[f"{name}/pub"])
    assert await allowed("pub/novel.pdf", team_a=[f"{name}/pub/"])
    assert not await allowed("public/novel.pdf", team_a=[f"{name}/pub"])
    assert not await allowed("novel.pdf", team_a=[f"{name}/pub"])
    assert {error.reason.value for error in refused} == {"SourceNotAllowed"}
    assert all("source.allowedBuckets" in str(error) for error in refused)
    assert not await allowed("pub/../novel.pdf", team_a=[f"{name}/pub"])


async def test_a_missing_key_is_final(store: ObjectStore, s3_settings: S3Settings, tmp_path: Path) -> None:
    reason, retryable, told = await failure(store, configured(s3_settings), tmp_path, "pdfjob/inbox/team-a/none.pdf")
    assert (reason, retryable) == ("SourceNotFound", False)
    assert told.startswith(f"s3://{s3_settings.bucket}/pdfjob/inbox/team-a/none.pdf does not exist; upload it")


async def test_a_missing_bucket_waits(store: ObjectStore, s3_settings: S3Settings, tmp_path: Path) -> None:
    config = configured(s3_settings, allowed_buckets={"team-a": ["no-such-bucket"]})
    reason, retryable, _ = await failure(store, config, tmp_path, "a.pdf", "no-such-bucket")
    assert (reason, retryable) == ("BucketNotFound", True)


async def test_wrong_credentials_wait(s3_settings: S3Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    store = ObjectStore(s3_settings)
    reason, retryable, _ = await failure(store, configured(s3_settings), tmp_path, "pdfjob/inbox/team-a/a.pdf")
    store.close()
    assert (reason, retryable) == ("StorageAccessDenied", True)


async def test_storage_that_is_away_waits(s3_settings: S3Settings, tmp_path: Path) -> None:
    away = s3_settings.model_copy(update={"endpoint": "http://127.0.0.1:9"})
    store = ObjectStore(away)
    reason, retryable, _ = await failure(store, configured(away), tmp_path, "pdfjob/inbox/team-a/a.pdf")
    store.close()
    assert (reason, retryable) == ("StorageUnreachable", True)


async def test_a_sparse_file_of_2_gb_is_refused_unread(
    store: ObjectStore, server: S3Server, s3_settings: S3Settings, tmp_path: Path
) -> None:
    key = "pdfjob/inbox/team-a/huge.pdf"
    await store.put(key, b"")
    with (server.folder / s3_settings.bucket / key).open("r+b") as file:
        file.truncate(2 * 1024**3)
    reason, retryable, told = await failure(store, configured(s3_settings), tmp_path, key)
    assert (reason, retryable) == ("SourceTooLarge", False)
    assert "has 2147483648 bytes, more than the 1073741824 bytes" in told
    assert "source.maxBytes" in told
