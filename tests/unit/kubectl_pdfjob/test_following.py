"""Following resources: over the wire with its gaps, and several at once."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from typing_extensions import override

from kubectl_pdfjob.cluster import Cluster
from kubectl_pdfjob.errors import ClusterError
from kubectl_pdfjob.following import Change, Known, Snapshot, follow_all
from tests.support.plugin_server import connected, serving


def job(name: str, version: str, phase: str = "Running") -> dict[str, Any]:
    metadata = {"name": name, "namespace": "lib", "resourceVersion": version}
    return {"metadata": metadata, "spec": {"source": {"s3": {"key": "k"}}}, "status": {"phase": phase}}


class ApiServer(ThreadingHTTPServer):
    """Answers each request with the next of ``answers``: a LIST, the events of a watch, a refusal, or nothing."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answers: list[tuple[int, list[dict[str, Any]]] | None] = []
        self.asked: list[tuple[bool, str | None]] = []


class _Handler(BaseHTTPRequestHandler):
    server: ApiServer

    def do_GET(self) -> None:
        query = parse_qs(urlsplit(self.path).query)
        self.server.asked.append(("watch" in query, query.get("resourceVersion", [None])[0]))
        answer = self.server.answers.pop(0) if self.server.answers else None
        self.close_connection = True
        if answer is None:
            return
        status, objects = answer
        body = b"".join(json.dumps(item).encode() + b"\n" for item in objects)
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    @override
    def log_message(self, format: str, *args: object) -> None:
        """Keep the test output quiet."""


def listed(version: str, *items: dict[str, Any]) -> tuple[int, list[dict[str, Any]]]:
    return 200, [{"metadata": {"resourceVersion": version}, "items": list(items)}]


def event(kind: str, item: dict[str, Any]) -> dict[str, Any]:
    return {"type": kind, "object": item}


@pytest.fixture
def api() -> Iterator[ApiServer]:
    with serving(ApiServer()) as started:
        yield started


@pytest.fixture
def cluster(api: ApiServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cluster:
    return connected(api, tmp_path, monkeypatch)


def steps(cluster: Cluster, number: int) -> list[str]:
    """Return so many steps in short form."""
    found = []
    for step in cluster.follow_jobs():
        if isinstance(step, Snapshot):
            found.append("all " + " ".join(f"{item.metadata.name}={item.status.phase}" for item in step.objects))
        else:
            found.append(f"{'gone' if step.deleted else 'set'} {step.object.metadata.name}={step.object.status.phase}")
        if len(found) == number:
            return found
    return found


def test_a_watch_goes_on_from_the_last_version_seen(api: ApiServer, cluster: Cluster) -> None:
    bookmark = {"kind": "PdfJob", "metadata": {"resourceVersion": "15"}}
    api.answers = [
        listed("10", job("a", "7", "Pending")),
        (200, [event("MODIFIED", job("a", "12")), event("BOOKMARK", bookmark)]),
        (200, [event("DELETED", job("a", "17"))]),
    ]

    assert steps(cluster, 3) == ["all a=Pending", "set a=Running", "gone a=Running"]
    assert api.asked == [(False, None), (True, "10"), (True, "15")]


@pytest.mark.parametrize(
    "expired",
    [(410, [{"code": 410, "reason": "Expired"}]), (200, [event("ERROR", {"code": 410, "reason": "Expired"})])],
)
def test_a_version_that_is_too_old_is_followed_by_a_new_list(
    api: ApiServer, cluster: Cluster, expired: tuple[int, list[dict[str, Any]]]
) -> None:
    api.answers = [listed("10", job("a", "7"), job("b", "8")), expired, listed("90", job("b", "8"))]

    assert steps(cluster, 2) == ["all a=Running b=Running", "all b=Running"]


def test_a_lost_connection_and_a_busy_server_are_taken_up_again(api: ApiServer, cluster: Cluster) -> None:
    busy = (503, [{"code": 503, "reason": "ServiceUnavailable", "message": "shutting down"}])
    api.answers = [listed("10"), None, None, None, busy, (200, [event("ADDED", job("a", "12"))])]

    assert steps(cluster, 2) == ["all ", "set a=Running"]
    assert api.asked[1:] == [(True, "10")] * (len(api.asked) - 1)


def test_a_refusal_ends_it_with_the_servers_words(api: ApiServer, cluster: Cluster) -> None:
    refusal = (403, [{"code": 403, "reason": "Forbidden", "message": 'User "joe" cannot watch pdfjobs'}])
    api.answers = [listed("10"), refusal]

    with pytest.raises(ClusterError, match='cannot watch: User "joe" cannot watch pdfjobs'):
        steps(cluster, 2)


def test_following_ends_at_the_deadline(api: ApiServer, cluster: Cluster) -> None:
    api.answers = [listed("10", job("a", "7")), *((200, []) for _ in range(100_000))]
    started = time.monotonic()
    found = list(cluster.follow_job("a", deadline=started + 0.5))

    assert len(found) == 1
    assert 0.5 <= time.monotonic() - started < 5


def test_a_list_is_read_page_by_page(api: ApiServer, cluster: Cluster) -> None:
    first = {"metadata": {"resourceVersion": "10", "continue": "more"}, "items": [job("a", "7")]}
    api.answers = [(200, [first]), listed("10", job("b", "8"))]

    assert [item.metadata.name for item in cluster.jobs()] == ["a", "b"]


def test_a_phase_of_a_newer_installation_asks_for_an_update(api: ApiServer, cluster: Cluster) -> None:
    api.answers = [listed("10", job("a", "7", "Dreaming"))]

    with pytest.raises(ClusterError, match=r"PdfJob a has a status\.phase that this plugin does not know; update"):
        cluster.jobs()


def test_a_page_that_is_no_status_is_still_one_line(api: ApiServer, cluster: Cluster) -> None:
    api.answers = [(502, [])]

    with pytest.raises(ClusterError, match="cannot list PdfJobs: HTTP 502"):
        cluster.jobs()


def test_known_state_drops_what_a_new_list_does_not_have() -> None:
    known: Known[str] = Known(lambda item: item[0])
    assert not known.complete
    for step in (
        Snapshot(["a1", "b1"]),
        Change("a2", deleted=False),
        Change("b1", deleted=True),
        Change("c1", deleted=False),
    ):
        known.take(step)

    assert known.objects == {"a": "a2", "c": "c1"}
    known.take(Snapshot(["c2"]))
    assert known.objects == {"c": "c2"}


def test_several_watches_are_shown_when_each_has_begun() -> None:
    late = threading.Event()

    def slow() -> Iterator[Any]:
        late.wait(10)
        yield Snapshot(["y"])

    known = {"x": Known[str](str), "y": Known[str](str)}
    news = follow_all({"x": lambda: iter([Snapshot(["x"])]), "y": slow}, known, tick=0.05)
    threading.Timer(0.4, late.set).start()
    next(news)

    assert [list(state.objects) for state in known.values()] == [["x"], ["y"]]


def test_an_error_of_any_watch_is_raised_to_the_reader() -> None:
    def broken() -> Iterator[Any]:
        yield Snapshot([])
        raise ClusterError("lost")

    with pytest.raises(ClusterError, match="lost"):
        list(follow_all({"x": broken}, {"x": Known[str](str)}, tick=0.05))
