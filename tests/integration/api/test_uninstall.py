"""The first step of an uninstall, against a real API server: PdfJobs go, and who still holds one is named."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.integration.api.manifests import pdfjob, text
from tests.support.cluster import environment, fresh_namespace, kubectl, kubectl_json

pytestmark = pytest.mark.usefixtures("crds")

HELD = "example.com/held"
"""A finalizer that no operator takes away."""


def submit(namespace: str, name: str, *finalizers: str) -> None:
    manifest = pdfjob(name=name)
    manifest["metadata"]["finalizers"] = list(finalizers)
    kubectl("-n", namespace, "create", "-f", "-", stdin=text(manifest))


def release(namespace: str, name: str) -> None:
    kubectl("-n", namespace, "patch", "pdfjob", name, "--type=merge", "-p", '{"metadata":{"finalizers":null}}')


def left(namespace: str) -> list[str]:
    return [item["metadata"]["name"] for item in kubectl_json("-n", namespace, "get", "pdfjobs")["items"]]


def run(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pdfjob_operator.uninstall", *arguments]
    return subprocess.run(
        command, env=environment() | variables, capture_output=True, text=True, check=False, timeout=180
    )


def test_every_pdfjob_of_the_named_namespaces_is_deleted_and_no_other(namespace: str) -> None:
    with fresh_namespace() as second, fresh_namespace() as third:
        for place in (namespace, second, third):
            submit(place, "one")
        submit(namespace, "two")
        done = run(f"--namespace={namespace}", f"--namespace={second}", "--timeout=120")
        assert done.returncode == 0, done.stdout + done.stderr
        assert "3 PdfJobs left" in done.stdout
        assert "no PdfJob is left" in done.stdout
        assert (left(namespace), left(second), left(third)) == ([], [], ["one"])


def test_a_pdfjob_that_nobody_ends_is_named_and_the_uninstall_stops(namespace: str) -> None:
    submit(namespace, "held", HELD)
    try:
        done = run(f"--namespace={namespace}", "--timeout=1")
        assert done.returncode == 1
        assert f"still there after 1 s: {namespace}/held" in done.stdout
        assert "Does the operator run" in done.stdout
    finally:
        release(namespace, "held")


def test_it_waits_until_the_operator_has_ended_the_pdfjob(namespace: str) -> None:
    submit(namespace, "held", HELD)
    command = [sys.executable, "-m", "pdfjob_operator.uninstall", f"--namespace={namespace}", "--timeout=60"]
    with subprocess.Popen(command, env=environment(), stdout=subprocess.PIPE, text=True) as waiting:
        kubectl("-n", namespace, "wait", "pdfjob/held", "--for=jsonpath={.metadata.deletionTimestamp}", "--timeout=30s")
        assert waiting.poll() is None
        release(namespace, "held")
        said, _ = waiting.communicate(timeout=30)
    assert waiting.returncode == 0
    assert said.endswith("no PdfJob is left\n")


def test_missing_rights_are_an_error_not_an_empty_cluster(namespace: str, tmp_path: Path) -> None:
    config = json.loads(kubectl("config", "view", "--raw", "--minify", "-o", "json").stdout)
    config["users"][0]["user"] = {"token": kubectl("-n", namespace, "create", "token", "default").stdout.strip()}
    powerless = tmp_path / "kubeconfig"
    powerless.write_text(json.dumps(config), encoding="utf-8")
    done = run(f"--namespace={namespace}", KUBECONFIG=str(powerless))
    assert done.returncode == 1
    assert "not allowed" in done.stdout
    assert "cannot list resource" in done.stdout
