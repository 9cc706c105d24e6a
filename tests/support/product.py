"""pdfjob itself, installed on the tests' cluster, and the few things tests do with it."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import boto3
from botocore.config import Config

from devcluster.paths import Paths
from tests.support.cluster import REPOSITORY, environment, kubectl, kubectl_json
from tests.support.web_server import ADDRESS

SYSTEM: Final = "pdfjob-system"
OPERATOR_USER: Final = f"system:serviceaccount:{SYSTEM}:pdfjob"
ARCHIVE: Final = "pdfjob-tests-archive"
"""A bucket that every namespace may read, which exists only while a test has made it."""
MAX_CONCURRENT_CHUNKS: Final = 6
SETTINGS: Final = (
    f"maxConcurrentChunks={MAX_CONCURRENT_CHUNKS}",
    f"source.allowedCidrs[0]={ADDRESS}/32",
    f"source.allowedBuckets.*[0]={ARCHIVE}",
)
"""Chart values of the test installation; servers of the tests' own listen on an address that is not public."""
THROTTLE: Final = "RUNNER_THROTTLE_SECONDS_PER_PAGE"


class NotYetError(AssertionError):
    """What was waited for did not come in time."""


def wait_until(condition: Callable[[], Any], what: str, timeout: float = 90, interval: float = 0.2) -> Any:
    """Wait until ``condition`` returns something true and return that; times are in seconds."""
    deadline = time.monotonic() + timeout
    while True:
        found = condition()
        if found:
            return found
        if time.monotonic() > deadline:
            raise NotYetError(f"after {timeout} s: {what}")
        time.sleep(interval)


def install(*settings: str) -> None:
    """Install or upgrade pdfjob from this work tree, images included; does little when nothing changed."""
    command = [sys.executable, "-m", "devcluster", "install"]
    for setting in (*SETTINGS, *settings):
        command += ["--set", setting]
    subprocess.run(command, cwd=REPOSITORY, check=True, env={**os.environ})


@cache
def images() -> dict[str, str]:
    """Build what is not built and return the image references by name, the test images included."""
    command = [sys.executable, "-m", "devcluster", "images", "--test-images"]
    done = subprocess.run(command, cwd=REPOSITORY, check=True, capture_output=True, text=True)
    found: dict[str, str] = json.loads(done.stdout)
    return found


@dataclass(frozen=True)
class Storage:
    """The embedded S3 server, reached from the node as the operator reaches it."""

    client: Any
    bucket: str
    access_key: str
    secret_key: str

    @classmethod
    def connect(cls) -> Storage:
        """Read address and credentials from the cluster, with the administrator's rights."""
        secret = kubectl_json("get", "secret", "pdfjob-s3", "-n", SYSTEM)["data"]
        service = kubectl_json("get", "service", "pdfjob-s3", "-n", SYSTEM)["spec"]
        access_key, secret_key = (base64.b64decode(secret[name]).decode() for name in ("accessKey", "secretKey"))
        client = boto3.client(
            "s3",
            endpoint_url=f"http://{service['clusterIP']}:{service['ports'][0]['port']}",
            region_name="us-east-1",
            aws_access_key_id=access_key,
            aws_secret_access_key=secret_key,
            config=Config(signature_version="s3v4", s3={"addressing_style": "path"}, proxies={}),
        )
        return cls(client, "pdfjob", access_key, secret_key)

    def upload(self, namespace: str, path: Path, name: str | None = None) -> str:
        """Put a file into the namespace's inbox; return its key."""
        key = f"pdfjob/inbox/{namespace}/{name or path.name}"
        self.client.upload_file(str(path), self.bucket, key)
        return key

    def source(self, namespace: str, name: str, pdf: bytes) -> dict[str, Any]:
        """Put a document into the namespace's inbox; return a ``spec.source`` that names it."""
        key = f"pdfjob/inbox/{namespace}/{name}"
        self.put(key, pdf)
        return {"s3": {"key": key}}

    def put(self, key: str, data: bytes) -> None:
        """Store an object."""
        self.client.put_object(Bucket=self.bucket, Key=key, Body=data)

    def put_by(self, url: str, data: bytes, headers: dict[str, str]) -> int:
        """Store an object by a URL that was signed for a pod, and return the status.

        The node knows no name of a service, so that the request goes to the service's address under its name.
        """
        signed = urlsplit(url)
        address = self.client.meta.endpoint_url + signed._replace(scheme="", netloc="").geturl()
        request = urllib.request.Request(address, data, {**headers, "Host": signed.netloc}, method="PUT")
        with urllib.request.urlopen(request, timeout=10) as answer:
            return int(answer.status)

    def read(self, uri_or_key: str) -> bytes:
        """Return the content of an object, named by key or s3:// URI."""
        key = uri_or_key.removeprefix(f"s3://{self.bucket}/")
        body: bytes = self.client.get_object(Bucket=self.bucket, Key=key)["Body"].read()
        return body

    def keys(self, prefix: str) -> list[str]:
        """Return all keys under a prefix."""
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=prefix)
        return [item["Key"] for page in pages for item in page.get("Contents", [])]


@dataclass(frozen=True)
class Job:
    """A PdfJob of a test."""

    namespace: str
    name: str

    def get(self) -> dict[str, Any]:
        """Return the PdfJob as it is now."""
        found: dict[str, Any] = kubectl_json("get", "pdfjob", self.name, "-n", self.namespace)
        return found

    @property
    def status(self) -> dict[str, Any]:
        """Its status as it is now."""
        status: dict[str, Any] = self.get().get("status") or {}
        return status

    def condition(self, kind: str) -> dict[str, Any]:
        """Return one condition; empty when it is not there."""
        return next((item for item in self.status.get("conditions", []) if item["type"] == kind), {})

    def edit(self, *words: str, check: bool = True, **spec: Any) -> subprocess.CompletedProcess[str]:
        """Change fields of the spec, in camelCase, as ``kubectl patch`` does; ``words`` are further options."""
        patch = json.dumps({"spec": spec})
        return kubectl(
            "patch", "pdfjob", self.name, "-n", self.namespace, "--type=merge", "-p", patch, *words, check=check
        )

    def retry(self, request: str, **fields: Any) -> dict[str, Any]:
        """Request a retry and wait for the answer, which is returned; ``fields`` are chunks and force.

        A merge patch keeps what it does not name, so what an earlier request had is taken away.
        """
        self.edit(retryRequest={"id": request, "chunks": None, "force": None, **fields})
        found: dict[str, Any] = wait_until(lambda: self.answer(request), f"request {request} is answered", 30)
        return found

    def answer(self, request: str) -> dict[str, Any] | None:
        """Return the answer to a request for a retry; None while there is none."""
        answer: dict[str, Any] = self.status.get("lastRetry") or {}
        return answer if answer.get("id") == request else None

    def wait_for(self, timeout: float = 90, **fields: Any) -> dict[str, Any]:
        """Wait until fields of the status (in camelCase) have these values, and return the status."""

        def reached() -> dict[str, Any] | None:
            status = self.status
            return status if {key: status.get(key) for key in fields} == fields else None

        try:
            found: dict[str, Any] = wait_until(reached, f"{self.name} has {fields}", timeout)
        except NotYetError as error:
            raise NotYetError(f"{error}: {json.dumps(self.status, indent=1)}") from None
        return found

    def wait_for_condition(self, kind: str, status: str, reason: str | None = None, timeout: float = 90) -> str:
        """Wait until a condition has this status, and this reason if one is given; return its message."""

        def reached() -> dict[str, Any] | None:
            found = self.condition(kind)
            right = found.get("status") == status and reason in {None, found.get("reason")}
            return found if right else None

        try:
            message: str = wait_until(reached, f"{self.name} has {kind}={status}/{reason}", timeout)["message"]
        except NotYetError as error:
            raise NotYetError(f"{error}: {json.dumps(self.status, indent=1)}") from None
        return message

    def phases(self) -> list[str]:
        """Return the phases of its chunks by index."""
        return [chunk["status"]["phase"] for chunk in self.chunks()]

    def wait_for_phases(self, *phases: str, timeout: float = 90) -> None:
        """Wait until its chunks are in these phases, by index."""
        seen: list[str] = []

        def reached() -> bool:
            seen[:] = self.phases()
            return seen == list(phases)

        try:
            wait_until(reached, f"the chunks of {self.name} are {phases}", timeout)
        except NotYetError as error:
            raise NotYetError(f"{error}, they are {seen}") from None

    def wait(self, timeout: float = 300) -> dict[str, Any]:
        """Wait for the end as a user would, by ``kubectl wait``, and return the status."""
        done = kubectl(
            *("wait", "--for=condition=Finished", f"pdfjob/{self.name}", "-n", self.namespace),
            f"--timeout={timeout:.0f}s",
            check=False,
            timeout=timeout + 10,
        )
        if done.returncode != 0:
            raise NotYetError(f"{self.name} did not finish: {json.dumps(self.status, indent=1)}\n{self.events()}")
        return self.status

    def succeed(self, timeout: float = 300) -> dict[str, Any]:
        """Wait for the end and make sure that it is a good one."""
        status = self.wait(timeout)
        assert status["phase"] == "Succeeded", json.dumps(status, indent=1)
        return status

    def chunks(self) -> list[dict[str, Any]]:
        """Return its PdfChunks by index."""
        items = kubectl_json("get", "pdfchunks", "-n", self.namespace, "-l", f"pdfjob.dev/job={self.name}")["items"]
        return sorted(items, key=lambda item: item["spec"]["index"])

    def children(self, kind: str) -> list[dict[str, Any]]:
        """Return its child ``jobs`` or ``pods``."""
        found: list[dict[str, Any]] = kubectl_json(
            "get", kind, "-n", self.namespace, "-l", f"pdfjob.dev/job={self.name}"
        )["items"]
        return found

    def running_pods(self) -> list[dict[str, Any]]:
        """Return its pods whose container runs and that nobody has asked to end."""
        return [
            pod
            for pod in self.children("pods")
            if "deletionTimestamp" not in pod["metadata"]
            and any("running" in item["state"] for item in pod["status"].get("containerStatuses", []))
        ]

    def resumed_from(self, index: int) -> int:
        """Wait for the second start of a chunk and return the page from which, as its log says, it went on."""
        selector = f"pdfjob.dev/job={self.name},pdfjob.dev/chunk={index},pdfjob.dev/start=2"

        def told() -> int | None:
            log = kubectl("logs", "-n", self.namespace, "-l", selector, "--tail=-1", check=False).stdout
            entries = [json.loads(line) for line in log.splitlines() if line.startswith("{")]
            return next((entry["from_page"] for entry in entries if entry["event"] == "resuming"), None)

        page: int = wait_until(told, f"the second runner of chunk {index} resumes")
        return page

    def events(self) -> str:
        """Return its Events as kubectl shows them."""
        return kubectl("events", "-n", self.namespace, "--for", f"pdfjob/{self.name}").stdout

    def wait_for_event(self, *words: str) -> None:
        """Wait until one of its Events has all these words: it is written only after the status that it tells of."""

        def told() -> bool:
            return any(all(word in line for word in words) for line in self.events().splitlines())

        wait_until(told, f"an Event of {self.name} has {words}", 30)

    def result(self, storage: Storage, fmt: str = "jsonl") -> bytes:
        """Return the merged result."""
        files = {item["format"]: item for item in self.status["result"]["files"]}
        return storage.read(files[fmt]["uri"])


def submit(namespace: str, name: str, source: Mapping[str, Any], **spec: Any) -> Job:
    """Create a PdfJob; ``spec`` holds its further fields in camelCase."""
    manifest = {
        "apiVersion": "pdfjob.dev/v1alpha1",
        "kind": "PdfJob",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"source": dict(source), **spec},
    }
    kubectl("create", "-f", "-", stdin=json.dumps(manifest))
    return Job(namespace, name)


def throttled(seconds_per_page: float) -> dict[str, Any]:
    """Return a ``spec.runner`` whose runner takes its time, so that a test can strike in between."""
    return {"env": [{"name": THROTTLE, "value": str(seconds_per_page)}]}


def operator_pods() -> list[dict[str, Any]]:
    """Return the operator's pods."""
    selector = "app.kubernetes.io/name=pdfjob,app.kubernetes.io/component=operator"
    found: list[dict[str, Any]] = kubectl_json("get", "pods", "-n", SYSTEM, "-l", selector)["items"]
    return found


def leader() -> str:
    """Return the name of the pod that the operators' Lease names as its holder; empty when it names none."""
    lease = kubectl("get", "lease", "pdfjob", "-n", SYSTEM, "--ignore-not-found", "-o", "json").stdout
    holder: str = json.loads(lease)["spec"].get("holderIdentity") or "" if lease else ""
    return holder.rpartition("_")[0]


def kill_operator() -> None:
    """Kill the operator without warning and without grace, as a lost machine would; return when its pod is gone."""
    for pod in operator_pods():
        name = pod["metadata"]["name"]
        kill_containers(pod)
        kubectl("delete", "pod", name, "-n", SYSTEM, "--grace-period=0", "--force", "--wait=false")
        wait_until(partial(_is_gone, pod["metadata"]["uid"]), f"{name} is gone")


def _is_gone(uid: str) -> bool:
    return all(pod["metadata"]["uid"] != uid for pod in operator_pods())


def kill_containers(pod: Mapping[str, Any]) -> None:
    """Send SIGKILL to a pod's containers, on the local cluster; elsewhere the kubelet is all that can be reached."""
    if os.environ.get("CLUSTER") != "current" and Paths.from_environment().containerd_socket.exists():
        signal_containers(pod, "SIGKILL")


def signal_containers(pod: Mapping[str, Any], name: str) -> None:
    """Send a signal to a pod's containers, on the local cluster."""
    socket = Paths.from_environment().containerd_socket
    for container in pod["status"].get("containerStatuses", []):
        identity = container.get("containerID", "").removeprefix("containerd://")
        command = ["ctr", "--address", str(socket), "-n", "k8s.io", "task", "kill", "-s", name, identity]
        subprocess.run(command, check=False, capture_output=True)  # one that has ended already is no error


def wait_for_operator(timeout: float = 90) -> None:
    """Wait until the operator is ready, one of its pods leads, and no earlier one of it stands."""
    kubectl("rollout", "status", "deployment/pdfjob", "-n", SYSTEM, f"--timeout={timeout:.0f}s", timeout=timeout + 10)

    def ready() -> bool:
        pods = operator_pods()
        conditions = [item for pod in pods for item in pod["status"].get("conditions", []) if item["type"] == "Ready"]
        stale = any("deletionTimestamp" in pod["metadata"] for pod in pods)
        ready = bool(pods) and not stale and [item["status"] for item in conditions] == ["True"] * len(pods)
        return ready and leader() in {pod["metadata"]["name"] for pod in pods}

    wait_until(ready, "the operator is ready", timeout)


def operator_log() -> Iterator[dict[str, Any]]:
    """Yield the log entries of the running operator."""
    for line in kubectl("logs", "deployment/pdfjob", "-n", SYSTEM, "--tail=-1").stdout.splitlines():
        if line.startswith("{"):
            yield json.loads(line)


def run_plugin(*arguments: str, timeout: float = 300) -> subprocess.CompletedProcess[str]:
    """Run ``kubectl pdfjob`` as a user would."""
    plugin = Path(sys.executable).with_name("kubectl-pdfjob")
    return subprocess.run(
        [str(plugin), *arguments], capture_output=True, text=True, check=False, timeout=timeout, env=environment()
    )
