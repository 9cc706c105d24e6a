"""One fault test's world: a namespace, an operator of its own, and proxies between it and the servers."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml
from botocore.exceptions import ClientError

from tests.support import pdfs
from tests.support.cluster import RESTRICTED, kubectl, kubectl_json
from tests.support.fault_cluster import Access, Api, PodWatch, Raw, abandon_namespace, orphans, own_namespace
from tests.support.fault_effects import Gate, strike_after
from tests.support.fault_operator import OperatorProcess
from tests.support.fault_proxy import Proxy, Rule, matches, trust
from tests.support.fault_rest import see_that_it_rests
from tests.support.product import SYSTEM, NotYetError, Storage
from tests.support.web_server import ADDRESS

PAGES: Final = 6
CHUNKS: Final = 3
CHUNKING: Final = {"pagesPerChunk": PAGES // CHUNKS, "thresholdPages": 0}
DOCUMENT: Final = pdfs.text_pdf(PAGES)
_SMALL: Final = {"requests": {"cpu": "20m", "memory": "64Mi"}, "limits": {"memory": "512Mi"}}
"""Many runner pods share one small node."""


@dataclass(frozen=True)
class Installation:
    """What the operators of the tests take over from the product that is installed on the cluster."""

    access: Access
    storage: Storage
    config: Mapping[str, Any]
    token: str
    """Of the operator's service account: its rights are the real ones."""
    s3_url: str

    @classmethod
    def read(cls) -> Installation:
        """Read configuration, storage keys and a fresh token from the cluster."""
        found = kubectl_json("get", "configmap", "pdfjob", "-n", SYSTEM)["data"]["config.yaml"]
        token = kubectl("create", "token", "pdfjob", "-n", SYSTEM, "--duration=3h").stdout.strip()
        service = kubectl_json("get", "service", "pdfjob-s3", "-n", SYSTEM)["spec"]
        url = f"http://{service['clusterIP']}:{service['ports'][0]['port']}"
        return cls(Access.from_kubeconfig(), Storage.connect(), yaml.safe_load(found), token, url)

    def remove_objects(self, namespace: str) -> None:
        """Remove everything of a namespace from the installation's bucket."""
        for folder in ("inbox", "jobs", "history", "cache"):
            for key in self.storage.keys(f"pdfjob/{folder}/{namespace}/"):
                self.storage.client.delete_object(Bucket=self.storage.bucket, Key=key)

    def remove_orphans(self) -> None:
        """Remove what test processes left that were killed."""
        for namespace in orphans(self.access):
            abandon_namespace(Api(self.access, namespace))
            self.remove_objects(namespace)


@dataclass(frozen=True)
class FaultJob:
    """A PdfJob under test."""

    api: Api
    name: str
    uid: str
    keys: str
    """Where its objects are on S3."""
    since: int = 0
    """How many requests the proxies had seen when it was made."""

    def get(self) -> Raw | None:
        """Return it, None when it is gone."""
        return self.api.find("pdfjobs", self.name)

    @property
    def status(self) -> Raw:
        """Its status; empty when there is none."""
        raw = self.get()
        status: Raw = (raw or {}).get("status") or {}
        return status

    def condition(self, kind: str) -> Raw:
        """Return a condition; empty when it is not there."""
        return next((item for item in self.status.get("conditions", []) if item["type"] == kind), {})

    def finished(self) -> bool:
        """Whether it has ended."""
        return self.condition("Finished").get("status") == "True"

    def chunks(self) -> list[Raw]:
        """Return its PdfChunks by index."""
        own = [
            item
            for item in self.api.list("pdfchunks", f"pdfjob.dev/job={self.name}")
            if item["metadata"]["ownerReferences"][0]["uid"] == self.uid
        ]
        return sorted(own, key=lambda item: int(item["spec"]["index"]))

    def phases(self) -> list[str]:
        """Return the phases of its chunks."""
        return [chunk["status"]["phase"] for chunk in self.chunks()]

    def all_running(self) -> bool:
        """Return whether the operator knows that every chunk of the lab's document runs."""
        return self.phases() == ["Running"] * CHUNKS

    def children(self, plural: str, chunk: int | None = None) -> list[Raw]:
        """Return its ``jobs`` or ``pods``, of one chunk or of all."""
        more = "" if chunk is None else f",pdfjob.dev/chunk={chunk}"
        return self.api.list(plural, f"pdfjob.dev/job-uid={self.uid}{more}")

    def is_gone(self) -> bool:
        """Whether the resource is gone, or another one has its name."""
        raw = self.get()
        return raw is None or raw["metadata"]["uid"] != self.uid

    def delete(self) -> None:
        """Ask for its deletion."""
        self.api.delete("pdfjobs", self.name, preconditions={"uid": self.uid})


@dataclass
class Lab:
    """Everything one test needs."""

    installation: Installation
    api: Api
    proxy: Proxy
    operator: OperatorProcess
    pods: PodWatch
    bucket: str

    @property
    def storage(self) -> Storage:
        """The object store, not through the proxy."""
        found = self.installation.storage
        return Storage(found.client, self.bucket, found.access_key, found.secret_key)

    def submit(self, name: str = "book", pages: bytes = DOCUMENT, **spec: Any) -> FaultJob:
        """Store the document in the inbox and create a PdfJob for it."""
        key = f"pdfjob/inbox/{self.api.namespace}/{name}.pdf"
        self.storage.put(key, pages)
        return self.resubmit(name, key, **spec)

    def resubmit(self, name: str, key: str, **spec: Any) -> FaultJob:
        """Create a PdfJob for a document that is in the inbox."""
        body = {
            "apiVersion": "pdfjob.dev/v1alpha1",
            "kind": "PdfJob",
            "metadata": {"name": name},
            "spec": {"source": {"s3": {"key": key}}, "chunking": CHUNKING, **spec},
        }
        since = len(self.proxy.seen)
        raw = self.api.create("pdfjobs", body)
        return FaultJob(self.api, name, raw["metadata"]["uid"], f"pdfjob/jobs/{self.api.namespace}/{name}/", since)

    def wait(self, condition: Callable[[], Any], what: str, timeout: float = 180) -> Any:
        """Wait for something, and say in failure what the operator last said."""
        deadline = time.monotonic() + timeout
        while not (found := condition()):
            if time.monotonic() > deadline:
                raise NotYetError(f"after {timeout:.0f} s not yet: {what}\n{self.describe()}")
            time.sleep(0.15)
        return found

    @contextmanager
    def hold(self, rule: Rule, gate: Gate) -> Iterator[Gate]:
        """Hold requests at a gate while the block runs, unless the test lets them go before."""
        try:
            with self.proxy.rule(rule):
                yield gate
        finally:
            gate.released.set()

    def hold_runner(self, chunk: int | None = None) -> AbstractContextManager[Gate]:
        """Keep the runner of a chunk, or all runners, waiting for the PDF: the pod runs until the gate is opened.

        Every request is held: a runner that has waited for half a minute asks again.
        """
        gate = Gate()
        match = matches("get chunk", caller="runner", name="" if chunk is None else f"c{chunk:05d}.pdf")
        return self.hold(Rule(match, gate.before(), times=None), gate)

    def hold_operator(self, point: str, first: int = 1, *, name: str = "") -> AbstractContextManager[Gate]:
        """Keep the operator waiting for the answer to a request that the server has carried out."""
        gate = Gate()
        return self.hold(Rule(matches(point, name=name), gate.after(), first=first), gate)

    def hold_operator_before(self, point: str, *, name: str = "") -> AbstractContextManager[Gate]:
        """Keep the operator waiting before the server has heard of a request."""
        gate = Gate()
        return self.hold(Rule(matches(point, name=name), gate.before()), gate)

    @contextmanager
    def at(self, point: str, first: int, deed: Callable[[], None]) -> Iterator[Rule]:
        """Do something when the server has carried out a request of the operator, before the operator hears of it."""
        with self.proxy.rule(Rule(matches(point), strike_after(deed), first=first)) as rule:
            yield rule

    def bucket_exists(self) -> bool:
        """Whether the operator's bucket is there."""
        found = self.installation.storage.client.list_buckets()["Buckets"]
        return self.bucket in {item["Name"] for item in found}

    def delete_bucket(self) -> bool:
        """Empty the operator's bucket and delete it; False when a runner has put something into it meanwhile."""
        try:
            _remove_bucket(self.installation.storage, self.bucket)
        except ClientError as error:
            if error.response["Error"]["Code"] != "BucketNotEmpty":
                raise
            return False
        return True

    def pause(self, seconds: float) -> None:
        """Let a fault last for so long."""
        time.sleep(seconds)

    def describe(self) -> str:
        """Return what helps to understand a failure."""
        lines = [f"operator exits {self.operator.exits}", "wire:"]
        seen = [(one.request, one.status) for one in self.proxy.seen if one.request.what != "other"]
        lines += [f"  {one.caller} {one.point} {one.name[-60:]} {status}" for one, status in seen[-80:]]
        for plural in ("pdfjobs", "pdfchunks", "jobs", "pods"):
            lines += [f"{plural} {raw['metadata']['name']}: {raw.get('status')}" for raw in self.api.list(plural)]
        return "\n".join([*lines, self.operator.tail()])


@contextmanager
def open_lab(
    installation: Installation, folder: Path, *, held_down: bool = False, own_bucket: bool = False, **settings: Any
) -> Iterator[Lab]:
    """Make a namespace and start an operator for it; nothing of them is left afterwards.

    Parameters
    ----------
    held_down
        Whether the operator starts only when it is let up.
    own_bucket
        Whether the operator has a bucket of its own, which it has to make.
    settings
        Operator settings in camelCase that differ from the installation's.
    """
    namespace = f"fault-{uuid.uuid4().hex[:8]}"
    found = installation.config
    bucket = namespace if own_bucket else found["s3"]["bucket"]
    see_that_it_rests()
    with ExitStack() as stack:
        if own_bucket:
            stack.callback(_remove_bucket, installation.storage, bucket)
        stack.callback(installation.remove_objects, namespace)
        api = stack.enter_context(own_namespace(installation.access, namespace, RESTRICTED))
        proxy = stack.enter_context(
            Proxy(
                installation.access.url,
                trust(installation.access.authority),
                installation.token,
                installation.s3_url,
                ADDRESS,
            )
        )
        endpoint = f"http://{ADDRESS}:{proxy.s3_port}"
        config = {
            **found,
            "s3": {
                **found["s3"],
                "endpoint": endpoint,
                "podEndpoint": endpoint,
                "bucket": bucket,
                "createBucket": own_bucket,
            },
            "runner": {**found["runner"], "resources": _SMALL},
            "namespaces": [namespace],
            "leaderElection": {"enabled": False},
            "maxConcurrentChunks": 0,
            "workDir": str(folder / "work"),
            "httpPort": 0,
            **settings,
        }
        credentials = {
            "AWS_ACCESS_KEY_ID": installation.storage.access_key,
            "AWS_SECRET_ACCESS_KEY": installation.storage.secret_key,
        }
        pods = stack.enter_context(PodWatch(api))
        operator = OperatorProcess(folder / "operator", config, proxy.api_port, credentials, held_down=held_down)
        stack.enter_context(operator)
        yield Lab(installation, api, proxy, operator, pods, bucket)


def _remove_bucket(storage: Storage, bucket: str) -> None:
    there = Storage(storage.client, bucket, storage.access_key, storage.secret_key)
    if bucket not in {item["Name"] for item in storage.client.list_buckets()["Buckets"]}:
        return
    for key in there.keys(""):
        storage.client.delete_object(Bucket=bucket, Key=key)
    storage.client.delete_bucket(Bucket=bucket)
