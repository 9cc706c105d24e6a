"""The tests' own way to the API server: in this process, beside the proxy, cheap enough to ask often."""

from __future__ import annotations

import base64
import json
import os
import ssl
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Self

import urllib3
import yaml

from devcluster.processes import start_ticks
from tests.support.cluster import kubeconfig

PATHS: Final = {
    "pdfjobs": "/apis/pdfjob.dev/v1alpha1",
    "pdfchunks": "/apis/pdfjob.dev/v1alpha1",
    "creditaccounts": "/apis/pdfjob.dev/v1alpha1",
    "jobs": "/apis/batch/v1",
    "pods": "/api/v1",
    "events": "/api/v1",
    "secrets": "/api/v1",
    "deployments": "/apis/apps/v1",
}
Raw = dict[str, Any]


class ApiError(Exception):
    """The API server said no."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(f"{status}: {text[:500]}")
        self.status = status


@dataclass(frozen=True)
class Access:
    """Where the API server is, and the administrator's proof."""

    url: str
    authority: str
    """PEM."""
    pool: urllib3.PoolManager

    @classmethod
    def from_kubeconfig(cls) -> Self:
        """Read the kubeconfig of the tests' cluster: its current context, with a client certificate or a token."""
        path = Path(kubeconfig().split(":")[0])
        config = yaml.safe_load(path.read_text())
        context = _named(config["contexts"], config["current-context"])["context"]
        cluster = _named(config["clusters"], context["cluster"])["cluster"]
        user = _named(config["users"], context["user"])["user"]
        authority = _content(cluster, "certificate-authority", path)
        trust = ssl.create_default_context(cadata=authority)
        if "client-certificate-data" in user or "client-certificate" in user:
            with tempfile.NamedTemporaryFile("w", suffix=".pem") as file:
                file.write(_content(user, "client-certificate", path) + "\n" + _content(user, "client-key", path))
                file.flush()
                trust.load_cert_chain(file.name)
        headers = {"Authorization": f"Bearer {user['token']}"} if "token" in user else None
        pool = urllib3.PoolManager(maxsize=8, ssl_context=trust, headers=headers, retries=False)
        return cls(cluster["server"], authority, pool)


def _named(items: list[Raw], name: str) -> Raw:
    return next(item for item in items if item["name"] == name)


def _content(section: Raw, name: str, config: Path) -> str:
    data = section.get(f"{name}-data")
    return base64.b64decode(data).decode() if data else (config.parent / section[name]).read_text()


@dataclass(frozen=True)
class Api:
    """Objects of one namespace."""

    access: Access
    namespace: str

    def call(self, method: str, path: str, body: Any = None, kind: str = "application/json") -> Raw:
        """Make a request; returns the parsed answer."""
        answer = self.access.pool.request(
            method,
            self.access.url + path,
            body=None if body is None else json.dumps(body),
            headers={**self.access.pool.headers, "Content-Type": kind},
            timeout=30.0,
        )
        if answer.status >= 300:
            raise ApiError(answer.status, answer.data.decode(errors="replace"))
        found: Raw = json.loads(answer.data)
        return found

    def path(self, plural: str, name: str = "", query: str = "") -> str:
        """Return the path of a kind or an object."""
        tail = (f"/{name}" if name else "") + (f"?{query}" if query else "")
        return f"{PATHS[plural]}/namespaces/{self.namespace}/{plural}{tail}"

    def list(self, plural: str, selector: str = "") -> list[Raw]:
        """Return all objects of a kind."""
        query = f"labelSelector={selector}" if selector else ""
        items: list[Raw] = self.call("GET", self.path(plural, query=query))["items"]
        return items

    def find(self, plural: str, name: str) -> Raw | None:
        """Return an object, None when it is not there."""
        try:
            return self.call("GET", self.path(plural, name))
        except ApiError as error:
            if error.status == 404:
                return None
            raise

    def create(self, plural: str, body: Mapping[str, Any]) -> Raw:
        """Create an object."""
        return self.call("POST", self.path(plural), body)

    def patch(self, plural: str, name: str, body: Mapping[str, Any]) -> Raw:
        """Change an object by a merge patch."""
        return self.call("PATCH", self.path(plural, name), body, "application/merge-patch+json")

    def delete(self, plural: str, name: str, **options: Any) -> None:
        """Delete an object as ``kubectl delete --wait=false`` does; one that is gone is no error."""
        try:
            self.call("DELETE", self.path(plural, name), {"propagationPolicy": "Background", **options})
        except ApiError as error:
            if error.status != 404:
                raise

    def delete_all(self, plural: str) -> None:
        """Delete all objects of a kind."""
        self.call("DELETE", self.path(plural), {"propagationPolicy": "Background"})


OWNER: Final = "tests.pdfjob.dev/process"
"""Label of a namespace: the process whose it is, so that a later run can remove what a killed one left."""


@contextmanager
def own_namespace(access: Access, name: str, labels: Mapping[str, str]) -> Iterator[Api]:
    """Make a namespace, and delete it afterwards without waiting for its end, finalizers or not."""
    api = Api(access, name)
    owner = f"{os.getpid()}-{start_ticks(os.getpid())}"
    api.call("POST", "/api/v1/namespaces", {"metadata": {"name": name, "labels": {**labels, OWNER: owner}}})
    try:
        yield api
    finally:
        abandon_namespace(api)


def abandon_namespace(api: Api) -> None:
    """Delete a namespace whose operator is gone: nobody will take its PdfJobs' finalizers away."""
    for raw in api.list("pdfjobs"):
        try:
            api.patch("pdfjobs", raw["metadata"]["name"], {"metadata": {"finalizers": []}})
        except ApiError as error:
            if error.status != 404:
                raise
    try:
        api.call("DELETE", f"/api/v1/namespaces/{api.namespace}")
    except ApiError as error:
        if error.status not in {404, 409}:
            raise


def orphans(access: Access) -> list[str]:
    """Return the namespaces of test processes that are no more."""
    found = []
    for raw in Api(access, "").call("GET", f"/api/v1/namespaces?labelSelector={OWNER}")["items"]:
        pid, _, ticks = raw["metadata"]["labels"][OWNER].partition("-")
        if str(start_ticks(int(pid))) != ticks:
            found.append(raw["metadata"]["name"])
    return found


@dataclass
class PodLife:
    """What was seen of one runner pod."""

    chunk: int
    start: int
    job: str
    """UID of the PdfJob."""
    began: float | None = None
    """When its container was first seen to have run, in seconds of the server's clock by the order of events."""
    ended: int | None = None
    """Position of the event that told its end."""
    exit_code: int | None = None


@dataclass
class PodWatch:
    """Follows the runner pods of a namespace from the beginning, so that a test can say what ran beside what."""

    api: Api
    lives: dict[str, PodLife] = field(default_factory=dict)
    overlaps: list[str] = field(default_factory=list)
    """Descriptions of moments at which two containers of one chunk ran."""

    def __enter__(self) -> Self:
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="pod watch", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(15)

    def of(self, job_uid: str) -> list[PodLife]:
        """Return the pods of a PdfJob."""
        return [life for life in list(self.lives.values()) if life.job == job_uid]

    def succeeded(self, job_uid: str, chunk: int) -> list[PodLife]:
        """Return the pods of a chunk that ended with exit code 0, by the number of their start."""
        assert self._thread.is_alive(), "the pods are no longer watched"
        own = [life for life in list(self.lives.values()) if (life.job, life.chunk) == (job_uid, chunk)]
        return sorted((life for life in own if life.exit_code == 0), key=lambda life: life.start)

    def _follow(self) -> None:
        """Watch until told to stop, from the last event on whenever the connection ends or is silent for a while."""
        query = "watch=true&allowWatchBookmarks=true&timeoutSeconds=600&labelSelector=pdfjob.dev/job-uid"
        version = "0"
        while not self._stop.is_set():
            path = self.api.path("pods", query=f"{query}&resourceVersion={version}")
            with suppress(urllib3.exceptions.HTTPError):
                answer = self.api.access.pool.request(
                    "GET", self.api.access.url + path, preload_content=False, timeout=urllib3.Timeout(connect=5, read=2)
                )
                with closing(answer):
                    version = self._read(answer, version)

    def _read(self, answer: urllib3.BaseHTTPResponse, version: str) -> str:
        """Learn from a stream of events until it ends or is silent; returns the version to go on from."""
        rest = b""
        while not self._stop.is_set():
            try:
                piece = answer.read1(65536)
            except urllib3.exceptions.HTTPError:
                return version
            if not piece:
                return version
            *lines, rest = (rest + piece).split(b"\n")
            for line in lines:
                version = self._learn(json.loads(line)) or version
        return version

    def _learn(self, event: Raw) -> str | None:
        raw = event["object"]
        if event["type"] == "ERROR":
            return "0"
        version: str = raw["metadata"]["resourceVersion"]
        if event["type"] == "BOOKMARK":
            return version
        labels = raw["metadata"]["labels"]
        life = self.lives.setdefault(
            raw["metadata"]["uid"],
            PodLife(int(labels["pdfjob.dev/chunk"]), int(labels["pdfjob.dev/start"]), labels["pdfjob.dev/job-uid"]),
        )
        states = [item["state"] for item in raw["status"].get("containerStatuses", [])]
        if any("running" in state for state in states) and life.began is None:
            life.began = float(len(self.lives))
            self._check(raw["metadata"]["uid"], life)
        for state in states:
            if "terminated" in state:
                life.exit_code = state["terminated"]["exitCode"]
                life.ended = 1
        if event["type"] == "DELETED":
            life.ended = life.ended or 1
        return version

    def _check(self, uid: str, life: PodLife) -> None:
        for other_uid, other in self.lives.items():
            same = (other.job, other.chunk) == (life.job, life.chunk) and other_uid != uid
            if same and other.began is not None and other.ended is None:
                self.overlaps.append(f"chunk {life.chunk}: start {life.start} began while start {other.start} ran")
