"""How well runners share a rate limit: a job of 16 chunks against a service that allows 180 requests a minute.

Eight runners could make more than twice as many. The baseline, in the same run, is what a hand-rolled loop does: eight
workers that ask as fast as they can and wait, when refused, for as long as the service says. Both are looked at once
they have settled: from the end of the fourth minute (what the first one allows at once must have left the service's
memory, and the pace is found by being refused) until few pages are left. Needs the cluster, with nothing else at work.
"""

from __future__ import annotations

import sys
import threading
import urllib.error
from dataclasses import dataclass
from typing import Any, Final

from bench.report import Figure, report
from gemini_stub import Scenario
from tests.support import pdfs
from tests.support.cluster import fresh_namespace
from tests.support.gemini import MODEL, StubKey, stub_pod
from tests.support.gemini_calls import generate
from tests.support.product import Storage, install, submit, wait_for_operator, wait_until
from tests.support.puppets import RESOURCES

ALLOWED: Final = 180
"""Requests in any 60 seconds."""
WINDOW_SECONDS: Final = 60
LATENCY_SECONDS: Final = 1.0
RUNNERS: Final = 8
CHUNKS: Final = 16
PAGES: Final = 1440
"""One request each: eight minutes at the limit."""
SETTLING_SECONDS: Final = 240
LEAST_USED: Final = 0.9
MOST_REFUSED: Final = 0.05


@dataclass(frozen=True)
class Settled:
    """What the service saw between two moments."""

    per_minute: float
    """Requests answered."""
    refused: float
    """Share of the requests."""

    @classmethod
    def read(cls, key: StubKey) -> Settled:
        """Look at the time from when it has settled up to nine tenths of the answers."""
        times: list[tuple[float, str]] = key.counts["times"]
        answered = [moment for moment, status in times if status == "200"]
        first, last = answered[0] + SETTLING_SECONDS, answered[len(answered) * 9 // 10]
        good = sum(first <= moment <= last for moment in answered)
        refusals = sum(first <= moment <= last for moment, status in times if status == "429")
        return cls(good / (last - first) * 60, refusals / (good + refusals))


def main() -> None:
    """Run the benchmark, print the table, write bench/results/rate_limit.json."""
    install("maxConcurrentChunks=0")
    wait_for_operator()
    scenario = Scenario(latency_seconds=LATENCY_SECONDS, limit_requests=ALLOWED, limit_seconds=WINDOW_SECONDS)
    with stub_pod() as stub, fresh_namespace("bench") as namespace:
        ours, theirs = stub.key(scenario), stub.key(scenario)
        loop = threading.Thread(target=_loop, args=(theirs,))
        loop.start()  # it sleeps nearly all the time, so that both may go at once
        _job(namespace, ours)
        loop.join()
        job, script = Settled.read(ours), Settled.read(theirs)
    install()
    text = f"{RUNNERS} runners, {ALLOWED} requests a minute allowed"
    holds = report(
        "rate_limit",
        [
            Figure(
                f"answered, {text}",
                job.per_minute,
                "per minute",
                baseline=script.per_minute,
                goal=f"at least {LEAST_USED} of {ALLOWED}",
                holds=job.per_minute >= LEAST_USED * ALLOWED,
            ),
            Figure(
                f"refused, {text}",
                100 * job.refused,
                "% of requests",
                baseline=100 * script.refused,
                goal=f"under {100 * MOST_REFUSED:.0f} %",
                holds=job.refused < MOST_REFUSED,
            ),
        ],
    )
    sys.exit(not holds)


def _job(namespace: str, key: StubKey) -> None:
    source = f"pdfjob/inbox/{namespace}/book.pdf"
    Storage.connect().put(source, pdfs.text_pdf(PAGES, lines=4))
    job = submit(
        namespace,
        "limited",
        {"s3": {"key": source}},
        processor=key.processor(namespace, windowPages=1),
        chunking={"pagesPerChunk": PAGES // CHUNKS},
        parallelism=RUNNERS,
        runner={"resources": RESOURCES},
    )
    wait_until(lambda: len(job.running_pods()) == RUNNERS, "as many runners work as the limit is shared by")
    job.succeed(1200)
    print(f"requests of the job: {key.counts['by_status']}", file=sys.stderr)


def _loop(key: StubKey) -> None:
    """Ask for as many pages as the job does, by workers that wait as long as a refusal says and no longer."""
    left = threading.Semaphore(PAGES)
    workers = [threading.Thread(target=_work, args=(key, left)) for _ in range(RUNNERS)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()


def _work(key: StubKey, left: threading.Semaphore) -> None:
    page = '<page number="1">\nOne sentence.\n</page>'
    body: dict[str, Any] = {"contents": [{"role": "user", "parts": [{"text": page}]}]}
    pause = threading.Event()
    while left.acquire(blocking=False):
        refused = True
        while refused:
            try:
                generate(key.stub.url, MODEL, key.value, body, timeout=60)
                refused = False
            except urllib.error.HTTPError as error:
                if error.code != 429:
                    raise
                pause.wait(float(error.headers["Retry-After"]))


if __name__ == "__main__":
    main()
