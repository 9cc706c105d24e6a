"""A server on this machine for tests of the plugin, and a plugin that takes it for its API server."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import TypeVar

import pytest

from kubectl_pdfjob.cluster import Cluster
from kubectl_pdfjob.kubeconfig import ClusterOptions

Server = TypeVar("Server", bound=ThreadingHTTPServer)


@contextmanager
def serving(server: Server) -> Iterator[Server]:
    """Let a server answer until the block ends."""
    with server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def connected(server: ThreadingHTTPServer, folder: Path, patch: pytest.MonkeyPatch) -> Cluster:
    """Return the plugin's cluster behind a server, in the namespace ``lib``, past any proxy of this machine."""
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        patch.delenv(name, raising=False)
    path = folder / "kubeconfig"
    config = {
        "current-context": "c",
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u", "namespace": "lib"}}],
        "clusters": [{"name": "c", "cluster": {"server": f"http://127.0.0.1:{server.server_port}"}}],
        "users": [{"name": "u", "user": {}}],
    }
    path.write_text(json.dumps(config))
    return Cluster.connect(ClusterOptions(kubeconfig=path))
