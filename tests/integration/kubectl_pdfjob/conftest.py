"""Fixtures of the plugin's tests: a real API server, a real S3 server, and nobody else who writes statuses."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pdfjob_api.names import API_VERSION
from tests.support.cluster import crds, fresh_namespace, kubectl
from tests.support.leftovers import RUN_LABEL, this_run
from tests.support.product import wait_until

from .installation import S3Server, publish, s3_server

__all__ = ["crds"]

_LABEL = "pdfjob-tests/plays-the-operator"
_REFUSAL = "a test plays the operator here"


def _policy() -> list[dict[str, object]]:
    """Keep an operator that may be installed on this cluster out of the namespaces where the tests play its part."""
    name = f"pdfjob-tests-no-operator-{this_run()}"
    metadata = {"name": name, "labels": {RUN_LABEL: this_run()}}
    group = "admissionregistration.k8s.io/v1"
    rule = {"apiGroups": ["pdfjob.dev"], "apiVersions": ["*"], "operations": ["CREATE", "UPDATE"], "resources": ["*/*"]}
    account = "request.userInfo.username.startsWith('system:serviceaccount:{}')".format
    people = {"expression": f"!{account('')} || {account('plugin-')}"}  # the tests' own users are accounts as well
    return [
        {
            "apiVersion": group,
            "kind": "ValidatingAdmissionPolicy",
            "metadata": metadata,
            "spec": {
                "failurePolicy": "Fail",
                "matchConstraints": {"resourceRules": [rule]},
                "validations": [{**people, "message": _REFUSAL}],
            },
        },
        {
            "apiVersion": group,
            "kind": "ValidatingAdmissionPolicyBinding",
            "metadata": metadata,
            "spec": {
                "policyName": name,
                "validationActions": ["Deny"],
                "matchResources": {"namespaceSelector": {"matchLabels": {_LABEL: this_run()}}},
            },
        },
    ]


@pytest.fixture(scope="session")
def stage(crds: None) -> Iterator[None]:
    """The CRDs, and no operator where the tests play its part."""
    items = [json.dumps(item) for item in _policy()]
    for item in items:
        kubectl("apply", "-f", "-", stdin=item)
    with _staged("plugin-probe") as name:
        wait_until(lambda: _keeps_out(name), "the API server heeds the policy", 60)
    yield
    for item in reversed(items):
        kubectl("delete", "--wait=false", "-f", "-", stdin=item)


@contextmanager
def _staged(prefix: str) -> Iterator[str]:
    with fresh_namespace(prefix) as name:
        kubectl("label", "namespace", name, f"{_LABEL}={this_run()}")
        yield name


def _keeps_out(namespace: str) -> bool:
    """Whether an operator is kept out: a service account that may do everything is refused."""
    spec = {"source": {"http": {"url": "https://example.org/novel.pdf"}}}
    manifest = {"apiVersion": API_VERSION, "kind": "PdfJob", "metadata": {"name": "novel"}, "spec": spec}
    operator = ("--as=system:serviceaccount:operators:operator", "--as-group=system:masters")
    command = ("create", "--dry-run=server", "-n", namespace, "-f", "-", *operator)
    return _REFUSAL in kubectl(*command, stdin=json.dumps(manifest), check=False).stderr


@pytest.fixture
def namespace(stage: None) -> Iterator[str]:
    """A fresh namespace of a user."""
    with _staged("plugin") as name:
        yield name


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """An S3 server outside of the cluster."""
    with s3_server(tmp_path_factory.mktemp("s3")) as started:
        yield started


@pytest.fixture(scope="session")
def installed(server: S3Server, stage: None) -> Iterator[str]:
    """The namespace of an installation that stores on ``server``."""
    with fresh_namespace("plugin-install") as name:
        publish(name, endpoint=server.endpoint)
        yield name


@pytest.fixture
def pdf(tmp_path: Path) -> Path:
    """A small file that starts as a PDF does."""
    path = tmp_path / "Mon Roman (été).pdf"
    path.write_bytes(b"%PDF-1.7\n" + b"text " * 1000)
    return path
