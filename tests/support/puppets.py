"""Runners that ask the test what to do: it mends a cause or opens a door while they wait, and counts who came."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

from tests.support.shell_runners import shell_processor
from tests.support.web_server import WebServer, web_server

RESOURCES: Final = {"requests": {"cpu": "20m", "memory": "32Mi"}, "limits": {"memory": "512Mi"}}
"""A shell needs little, and many share one small node."""


@dataclass(frozen=True)
class Puppets:
    """Custom processors of PdfJobs whose every start fetches its orders, a few lines of shell, from the test."""

    server: WebServer

    def job(self, name: str, chunks: int, orders: str, **runner: Any) -> dict[str, Any]:
        """Return processor, runner and chunking of a PdfJob of so many chunks of one page; all get the same orders.

        In ``orders`` all functions of `shell_runners` are defined, and ``door NAME``, which waits until the test
        opens it; SIGTERM ends that with exit code 75. ``ajar NAME`` asks whether it is open.
        """
        self.tell(name, range(chunks), orders)
        url = self.server.url(f"/{name}")
        door = (
            f"ajar() {{ curl -fs -m 5 -o /dev/null {url}/doors/$1; }}\ndoor() {{ until ajar $1; do rest 0.2; done; }}\n"
        )
        ask = f'orders=$(curl -fsS -m 20 --retry 3 "{url}/orders/$chunk")\neval "$orders"\n'
        return {
            "processor": shell_processor(door + ask),
            "runner": {"resources": RESOURCES, **runner},
            "chunking": {"pagesPerChunk": 1, "thresholdPages": 0},
        }

    def tell(self, name: str, chunks: Iterator[int] | range | list[int], orders: str) -> None:
        """Change what the next starts of chunks of a job do."""
        for chunk in chunks:
            self.server.offer(f"/{name}/orders/{chunk}", orders.encode())

    def open(self, name: str, door: str) -> None:
        """Let everybody through who waits at a door of a job."""
        self.server.offer(f"/{name}/doors/{door}")

    def knocks(self, name: str, door: str) -> int:
        """Return how often runners have asked whether a door of a job is open: they have done what comes before."""
        return self.server.asked.get(f"/{name}/doors/{door}", 0)

    def starts(self, name: str, chunks: int) -> list[int]:
        """Return how many starts of each chunk of a job have fetched orders."""
        return [self.server.asked.get(f"/{name}/orders/{chunk}", 0) for chunk in range(chunks)]


@contextmanager
def puppets() -> Iterator[Puppets]:
    """Give orders to runners for a while."""
    with web_server() as server:
        yield Puppets(server)
