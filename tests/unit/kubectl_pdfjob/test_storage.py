"""Reading objects over a wire that breaks; the server here speaks HTTP and does what a bad network does."""

from __future__ import annotations

from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import boto3
import pytest
from botocore.config import Config
from typing_extensions import override

from kubectl_pdfjob.errors import StorageError
from kubectl_pdfjob.storage import ObjectStore
from tests.support.plugin_server import serving

DATA = bytes(range(256)) * 4000


class BreakingServer(ThreadingHTTPServer):
    """Serves one object; each answer breaks off after ``pieces`` bytes."""

    def __init__(self, piece: int) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.piece = piece
        self.etag = '"one"'
        self.ranges: list[str | None] = []
        self.refusal: tuple[int, str] | None = None


class _Handler(BaseHTTPRequestHandler):
    server: BreakingServer

    def do_GET(self) -> None:
        if self.server.refusal:
            status, code = self.server.refusal
            self._answer(status, f"<Error><Code>{code}</Code><Message>no</Message></Error>".encode(), {})
            return
        asked = self.headers.get("Range")
        self.server.ranges.append(asked)
        if asked and self.headers.get("If-Match") != self.server.etag:
            self._answer(412, b"<Error><Code>PreconditionFailed</Code></Error>", {})
            return
        start = int(asked.removeprefix("bytes=").rstrip("-")) if asked else 0
        headers = {"Content-Range": f"bytes {start}-{len(DATA) - 1}/{len(DATA)}"} if asked else {}
        self._answer(206 if asked else 200, DATA[start:], {"ETag": self.server.etag, **headers})

    def _answer(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body[: self.server.piece])
        self.close_connection = True

    @override
    def log_message(self, format: str, *args: object) -> None:
        """Keep the test output quiet."""


@pytest.fixture
def server() -> Iterator[BreakingServer]:
    with serving(BreakingServer(len(DATA))) as started:
        yield started


@pytest.fixture
def store(server: BreakingServer) -> ObjectStore:
    s3 = boto3.client(
        "s3",
        endpoint_url=f"http://127.0.0.1:{server.server_port}",
        aws_access_key_id="a",
        aws_secret_access_key="s",
        region_name="us-east-1",
        config=Config(proxies={}, s3={"addressing_style": "path"}, retries={"total_max_attempts": 1}),
    )
    return ObjectStore(s3, "the test server")


def test_a_download_that_breaks_off_goes_on_where_it_ended(server: BreakingServer, store: ObjectStore) -> None:
    server.piece = 300_000

    assert b"".join(store.read("b", "k")) == DATA
    assert server.ranges == [None, "bytes=300000-", "bytes=600000-", "bytes=900000-"]


def test_a_download_without_progress_is_given_up(server: BreakingServer, store: ObjectStore) -> None:
    server.piece = 0

    with pytest.raises(StorageError, match="the test server does not answer well"):
        list(store.read("b", "k"))
    assert len(server.ranges) == 4


def test_an_object_that_changes_in_between_is_not_mixed(server: BreakingServer, store: ObjectStore) -> None:
    server.piece = 300_000
    pieces = store.read("b", "k")
    next(pieces)
    server.etag = '"two"'

    with pytest.raises(StorageError, match="changed while it was read"):
        list(pieces)


@pytest.mark.parametrize(
    ("status", "code", "message"),
    [
        (404, "NoSuchKey", "s3://b/k does not exist at the test server"),
        (404, "NoSuchBucket", 'bucket "b" does not exist at the test server'),
        (403, "AccessDenied", "does not let your credentials use s3://b/k"),
        (403, "SignatureDoesNotMatch", r"refused your S3 credentials \(SignatureDoesNotMatch\)"),
        (507, "InsufficientStorage", "refused s3://b/k: InsufficientStorage no"),
    ],
)
def test_a_refusal_is_one_clear_line(
    server: BreakingServer, store: ObjectStore, status: int, code: str, message: str
) -> None:
    server.refusal = (status, code)

    with pytest.raises(StorageError, match=message):
        list(store.read("b", "k"))
