"""A stand-in for the Gemini API for all tests of this folder; each test has a key of its own."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import pytest

from gemini_stub import Stub, serve


@pytest.fixture(scope="session")
def stub() -> Iterator[Stub]:
    with serve() as stub:
        yield stub


@pytest.fixture
def key(stub: Stub) -> Iterator[str]:
    name = f"key-{uuid.uuid4().hex}"
    yield stub.register(name)
    stub.forget(name)
