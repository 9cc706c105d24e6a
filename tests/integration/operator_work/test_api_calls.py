"""Calls to an API server that is out of order."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest

from pdfjob_operator.storage.kubernetes import PDFCHUNKS, PODS, Cluster, UnavailableError
from tests.support.wire_api import WireApi

from .desk import Desk

CALLS: dict[str, Callable[[Cluster], Awaitable[object]]] = {
    "get": lambda cluster: cluster.get(PDFCHUNKS, "books", "novel-c00000"),
    "list": lambda cluster: cluster.list_all(PDFCHUNKS, "books"),
    "create": lambda cluster: cluster.create(PDFCHUNKS, "books", {}),
    "patch": lambda cluster: cluster.replace_status(PDFCHUNKS, "books", "novel-c00000", "1", {}),
    "delete": lambda cluster: cluster.delete(PODS, "books", "pod", "uid"),
    "log": lambda cluster: cluster.pod_log("books", "pod", tail_lines=1, limit_bytes=1),
}


@pytest.mark.parametrize("call", CALLS)
async def test_an_error_of_the_server_is_told_at_once_and_the_queue_tries_again(
    desk: Desk, api: WireApi, call: str
) -> None:
    api.broken = True
    with pytest.raises(UnavailableError, match="out of order"):
        await CALLS[call](desk.work.cluster)
    assert api.requests == 1
