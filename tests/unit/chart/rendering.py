"""The chart, rendered by helm with given values."""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass
from functools import cache
from typing import Any

import yaml

from manifests.render import CHART, KUBE_VERSION, helm_program

NAMESPACE = "here"


def helm(*arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [helm_program(), *arguments], input=stdin, capture_output=True, text=True, check=False, timeout=60
    )


def template(values: dict[str, Any], release: str = "pdfjob") -> subprocess.CompletedProcess[str]:
    """Render the chart with values; the same values are rendered once in a test run."""
    return _template(json.dumps(values), release)


@cache
def _template(values: str, release: str) -> subprocess.CompletedProcess[str]:
    place = ("--namespace", NAMESPACE, "--kube-version", KUBE_VERSION)
    return helm("template", release, str(CHART), *place, "-f", "-", stdin=values)


@dataclass(frozen=True)
class Rendered:
    """What helm would install, hooks included."""

    documents: list[dict[str, Any]]

    def of(self, kind: str) -> list[dict[str, Any]]:
        return [document for document in self.documents if document["kind"] == kind]

    def one(self, kind: str, name: str) -> dict[str, Any]:
        [found] = [document for document in self.of(kind) if document["metadata"]["name"] == name]
        return found

    @property
    def pods(self) -> dict[str, dict[str, Any]]:
        """Specs of the pods of every Deployment and Job by name."""
        owners = [*self.of("Deployment"), *self.of("Job")]
        return {owner["metadata"]["name"]: owner["spec"]["template"]["spec"] for owner in owners}

    @property
    def config(self) -> dict[str, Any]:
        """The operator's configuration file."""
        found: dict[str, Any] = yaml.safe_load(self.one("ConfigMap", "pdfjob")["data"]["config.yaml"])
        return found


def render(values: dict[str, Any] | None = None, release: str = "pdfjob") -> Rendered:
    done = template(values or {}, release)
    assert done.returncode == 0, done.stderr
    return Rendered([document for document in yaml.safe_load_all(done.stdout) if document])


def refusal(values: dict[str, Any]) -> str:
    done = template(values)
    assert done.returncode != 0, "helm took these values"
    return done.stderr
