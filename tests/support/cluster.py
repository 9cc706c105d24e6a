"""The cluster that integration and end-to-end tests use, and how they talk to it.

``PDFJOB_KUBECONFIG`` names a kubeconfig. Without it the choice is devcluster's: ``CLUSTER=local`` (the default) is the
cluster of ``make cluster``, ``CLUSTER=current`` the one of the user's kubectl context. A bare ``KUBECONFIG`` is not
enough: tests never touch a cluster that the user did not name for it.
"""

from __future__ import annotations

import json
import os
import subprocess
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from devcluster import current
from devcluster.environment import local_environment
from devcluster.paths import Paths

from .leftovers import RUN_LABEL, dead_runs, forget, this_run

REPOSITORY = Path(__file__).parents[2]
CRDS = REPOSITORY / "manifests" / "crds"

RESTRICTED: Mapping[str, str] = {
    "pod-security.kubernetes.io/enforce": "restricted",
    "pod-security.kubernetes.io/enforce-version": "latest",
    "pod-security.kubernetes.io/warn": "restricted",
    "app.kubernetes.io/part-of": "pdfjob-tests",
}
"""Labels of every test namespace: Pod Security refuses whatever is not hardened."""


def kubeconfig() -> str:
    """Return the kubeconfig (a path, or several as kubectl reads them) of the tests' cluster."""
    named = os.environ.get("PDFJOB_KUBECONFIG")
    if named:
        return named
    if os.environ.get("CLUSTER") == "current":
        return current.kubeconfig()
    local = Paths.from_environment().kubeconfig
    if not local.exists():
        raise RuntimeError("there is no cluster to test on: run `make cluster` first, or name one by CLUSTER=current")
    return str(local)


def environment() -> dict[str, str]:
    """Return the environment for kubectl and helm: the tests' cluster, and devcluster's tools first on PATH."""
    return {**local_environment(Paths.from_environment()), "KUBECONFIG": kubeconfig()}


def kubectl(
    *arguments: str,
    stdin: str | None = None,
    check: bool = True,
    timeout: float = 120,
    env: Mapping[str, str] | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run kubectl on the tests' cluster; with ``check`` a failure fails the test with what kubectl said.

    ``timeout`` is in seconds; ``env`` is the environment, by default that of `environment`.
    """
    done = subprocess.run(
        ["kubectl", *arguments],
        input=stdin,
        capture_output=True,
        text=True,
        check=False,
        timeout=timeout,
        env=environment() if env is None else env,
    )
    if check and done.returncode != 0:
        raise AssertionError(f"kubectl {' '.join(arguments)} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    return done


def kubectl_json(*arguments: str, stdin: str | None = None) -> Any:
    """Run kubectl with ``-o json`` and return what it printed, parsed."""
    return json.loads(kubectl(*arguments, "-o", "json", stdin=stdin).stdout)


@contextmanager
def fresh_namespace(prefix: str = "test") -> Iterator[str]:
    """Make a namespace of its own name that enforces Pod Security ``restricted``; delete it afterwards."""
    name = f"{prefix}-{uuid.uuid4().hex[:8]}"
    manifest = {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {"name": name, "labels": {**RESTRICTED, RUN_LABEL: this_run()}},
    }
    kubectl("create", "-f", "-", stdin=json.dumps(manifest))
    try:
        yield name
    finally:
        kubectl("delete", "namespace", name, "--wait=false")


def delete_leftovers() -> None:
    """Delete the namespaces and policies of test runs that were killed."""
    kinds = "namespaces,validatingadmissionpolicybindings,validatingadmissionpolicies"
    for run in dead_runs():
        kubectl("delete", kinds, "-l", f"{RUN_LABEL}={run}", "--wait=false")
        forget(run)


@pytest.fixture
def namespace() -> Iterator[str]:
    """A fresh namespace for one test."""
    with fresh_namespace() as name:
        yield name


@pytest.fixture(scope="session")
def crds() -> None:
    """The CRDs of this work tree, installed and served."""
    kubectl("apply", "--server-side", "--force-conflicts", "-f", str(CRDS))
    kubectl("wait", "--for=condition=Established", "--timeout=30s", "-f", str(CRDS))
