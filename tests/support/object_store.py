"""A real S3 server for tests: versitygw on loopback, with its files in a folder of the test."""

from __future__ import annotations

import os
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

from devcluster.gobuild import binary, ensure_built
from devcluster.paths import Paths
from devcluster.versions import VERSITYGW

ACCESS_KEY: Final = "tester"
SECRET_KEY: Final = "tester-secret"
_START_SECONDS: Final = 20


@dataclass(frozen=True, slots=True)
class S3Server:
    """A running server."""

    endpoint: str
    folder: Path
    """Buckets are folders in it."""


@contextmanager
def s3_server(folder: Path) -> Iterator[S3Server]:
    """Run versitygw (built once per version) until the block ends."""
    paths = Paths.from_environment()
    ensure_built(paths, VERSITYGW)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    folder.mkdir(exist_ok=True)
    log = folder.with_name("versitygw.log")
    with log.open("wb") as sink:
        process = subprocess.Popen(
            [binary(paths, VERSITYGW), "--port", f"127.0.0.1:{port}", "--quiet", "posix", str(folder)],
            env={**os.environ, "ROOT_ACCESS_KEY": ACCESS_KEY, "ROOT_SECRET_KEY": SECRET_KEY},
            stdout=sink,
            stderr=sink,
        )
    try:
        _wait(process, port, log)
        yield S3Server(f"http://127.0.0.1:{port}", folder)
    finally:
        process.terminate()
        process.wait(10)


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """A server for the tests of a folder, each with a bucket of its own."""
    with s3_server(tmp_path_factory.mktemp("s3") / "buckets") as running:
        yield running


@pytest.fixture(autouse=True)
def credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give boto3 the server's credentials."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", ACCESS_KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET_KEY)


def _wait(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            break
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise RuntimeError(f"versitygw did not start: {log.read_text(errors='replace')[-1000:]}")
