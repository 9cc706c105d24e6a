"""Fixtures of the plugin's tests: a real API server, a real S3 server, and nobody else who writes statuses."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.cluster import crds, fresh_namespace, kubectl
from tests.support.leftovers import RUN_LABEL, this_run

from .installation import S3Server, publish, s3_server

__all__ = ["crds"]

_LABEL = "pdfjob-tests/plays-the-operator"


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
                "validations": [{**people, "message": "a test plays the operator here"}],
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
    yield
    for item in reversed(items):
        kubectl("delete", "--wait=false", "-f", "-", stdin=item)


@pytest.fixture
def namespace(stage: None) -> Iterator[str]:
    """A fresh namespace of a user."""
    with fresh_namespace("plugin") as name:
        kubectl("label", "namespace", name, f"{_LABEL}={this_run()}")
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
