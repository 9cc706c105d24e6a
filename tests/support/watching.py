"""What a watch of kubectl shows, and when it showed it."""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from tests.support.cluster import environment

Seen = list[tuple[float, str]]
"""Moments (of `time.monotonic`) with what was printed then, the newest last."""


@contextmanager
def watch(namespace: str, kind: str, jsonpath: str, *arguments: str) -> Iterator[Seen]:
    """Watch objects of a kind as ``kubectl get --watch`` does; the list grows while they change.

    Parameters
    ----------
    jsonpath
        What of each object is printed.
    arguments
        Further ones for kubectl, such as a name or a selector.
    """
    form = f'jsonpath={jsonpath}{{"\\n"}}'
    command = ["kubectl", "get", kind, *arguments, "-n", namespace, "--watch", "-o", form]
    seen: Seen = []
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment()) as process:
        assert process.stdout is not None
        stdout = process.stdout
        thread = threading.Thread(
            target=lambda: seen.extend((time.monotonic(), line.rstrip("\n")) for line in stdout), daemon=True
        )
        thread.start()
        try:
            yield seen
        finally:
            process.terminate()
            thread.join()
