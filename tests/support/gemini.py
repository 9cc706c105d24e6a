"""The Gemini stub on the tests' cluster: one pod for a test session, and an API key of its own for each test."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any, Final
from urllib.error import URLError

from devcluster import gemini
from gemini_stub import Scenario
from tests.support.cluster import environment, fresh_namespace, kubectl_json
from tests.support.gemini_calls import ask
from tests.support.product import images, wait_until
from tests.support.puppets import RESOURCES

SECRET = "gemini-key"
"""Name of the Secret that `StubKey.secret` makes."""
MODEL = "gemini-test"
RUNNER: Final = {
    "resources": {**RESOURCES, "requests": {"cpu": "50m", "memory": "128Mi"}, "limits": {"memory": "512Mi"}}
}
"""``spec.runner`` for small documents: it waits for the stub for the most part, and many share one small node."""


@dataclass(frozen=True)
class StubKey:
    """One API key that the stub knows: what a test sets, and what it reads back."""

    stub: StubPod
    value: str

    def set(self, scenario: Scenario) -> None:
        """Change how the key is treated from now on; its counts stay."""
        ask("PUT", self._url, asdict(scenario))

    def revoke(self) -> None:
        """Make the key invalid and forget its counts."""
        ask("DELETE", self._url)

    @property
    def counts(self) -> dict[str, Any]:
        """Its counts now, see `gemini_stub.counts.Counts.as_json`."""
        return ask("GET", self._url)

    @property
    def brief(self) -> dict[str, Any]:
        """Its counts now without ``times`` and ``recent``: to be asked for again and again."""
        return ask("GET", f"{self._url}?brief")

    def secret(self, namespace: str, name: str = SECRET) -> str:
        """Make (or replace) the Secret of a namespace that holds this key; return the Secret's name."""
        gemini.put_key(environment(), namespace, name, self.value)
        return name

    def processor(self, namespace: str, **fields: Any) -> dict[str, Any]:
        """Make the Secret and return a ``spec.processor`` that uses it; ``fields`` are further ones in camelCase."""
        settings = {"model": MODEL, "apiKeySecretRef": {"name": self.secret(namespace)}, "baseUrl": self.stub.pod_url}
        return {"gemini": {**settings, **fields}}

    @property
    def _url(self) -> str:
        return f"{self.stub.url}/stub/keys/{self.value}"


@dataclass(frozen=True)
class StubPod:
    """The stub that runs in a namespace."""

    namespace: str
    url: str
    """As this machine reaches it."""

    @property
    def pod_url(self) -> str:
        """As pods reach it."""
        return gemini.stub_url(self.namespace)

    def answers(self) -> bool:
        """Whether its service leads to it: that may come a moment after its pod is ready."""
        try:
            self.key().revoke()
        except URLError:
            return False
        return True

    def key(self, scenario: Scenario | Mapping[str, Any] | None = None) -> StubKey:
        """Register a new key."""
        found = scenario if isinstance(scenario, Scenario) else Scenario.from_json(scenario or {})
        key = StubKey(self, f"key-{uuid.uuid4().hex}")
        key.set(found)
        return key


@contextmanager
def stub_pod() -> Iterator[StubPod]:
    """Run the stub in a namespace of its own."""
    with fresh_namespace("test-gemini") as namespace:
        gemini.deploy_stub(environment(), namespace, images()["runner"])
        service = kubectl_json("get", "service", gemini.STUB, "-n", namespace)["spec"]
        found = StubPod(namespace, f"http://{service['clusterIP']}:{service['ports'][0]['port']}")
        wait_until(found.answers, "the stub answers at the address of its service", 30)
        yield found
