from __future__ import annotations

from collections.abc import Iterator

import pytest

from gemini_stub import Stub, serve


@pytest.fixture
def stub() -> Iterator[Stub]:
    """A stub that knows the key ``key``."""
    with serve() as running:
        running.register("key")
        yield running
