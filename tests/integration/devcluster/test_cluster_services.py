"""What the local cluster gives to whatever is installed on it: audit log, volumes, images."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path
from typing import Any

import pytest

from devcluster.images import PRODUCT_IMAGES
from devcluster.paths import Paths
from tests.integration.devcluster.conftest import REPOSITORY, devcluster
from tests.support.cluster import kubectl, kubectl_json

HARDENED: dict[str, Any] = {
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "runAsNonRoot": True,
    "capabilities": {"drop": ["ALL"]},
    "seccompProfile": {"type": "RuntimeDefault"},
}


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what the images are built from, which nobody edits while the tests run."""
    folder = tmp_path_factory.mktemp("sources")
    for name in {name for image in PRODUCT_IMAGES for name in image.inputs}:
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if (REPOSITORY / name).is_dir():
            shutil.copytree(REPOSITORY / name, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(REPOSITORY / name, target)
    return folder


@pytest.fixture(scope="module")
def images(sources: Path) -> dict[str, str]:
    """Every image, in the cluster."""
    done = devcluster("images", "--test-images", folder=sources)
    assert done.returncode == 0, done.stderr
    loaded: dict[str, str] = json.loads(done.stdout)
    return loaded


def run_to_end(namespace: str, name: str, spec: dict[str, Any]) -> str:
    """Run a pod until it ends well and return what it printed."""
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name},
        "spec": {"restartPolicy": "Never", "automountServiceAccountToken": False, **spec},
    }
    kubectl("-n", namespace, "create", "-f", "-", stdin=json.dumps(pod))
    deadline = time.monotonic() + 180
    while (phase := kubectl_json("-n", namespace, "get", "pod", name)["status"].get("phase")) != "Succeeded":
        logs = kubectl("-n", namespace, "logs", name, check=False).stdout
        assert phase != "Failed", logs
        assert time.monotonic() < deadline, f"pod {name} is {phase}: {logs}"
        time.sleep(0.3)
    return kubectl("-n", namespace, "logs", name).stdout


def container(image: str, command: list[str], **more: Any) -> dict[str, Any]:
    return {
        "name": "main",
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "command": command,
        "securityContext": HARDENED,
        **more,
    }


def audit_events(log: Path, namespace: str, until: str) -> list[dict[str, Any]]:
    """Return what the administrator did with ConfigMaps, once the log tells of the one that was written last."""
    deadline = time.monotonic() + 30
    while True:
        lines = [line for line in log.read_text().splitlines(keepends=True) if namespace in line and line[-1] == "\n"]
        events = [json.loads(line) for line in lines]
        mine = [
            event
            for event in events
            if event["objectRef"].get("resource") == "configmaps" and event["user"]["username"] == "admin"
        ]
        if any(event["objectRef"].get("name") == until for event in mine) or time.monotonic() > deadline:
            return mine
        time.sleep(0.1)


def test_audit_log_tells_who_wrote_what_and_whether_it_was_a_dry_run(namespace: str) -> None:
    log = Path(devcluster("audit-log").stdout.strip())
    kubectl("-n", namespace, "create", "configmap", "really", "--from-literal=a=b")
    kubectl("-n", namespace, "create", "configmap", "only-tried", "--from-literal=a=b", "--dry-run=server")
    kubectl("-n", namespace, "get", "configmap", "really")
    mine = audit_events(log, namespace, until="only-tried")
    assert [event["verb"] for event in mine] == ["create", "create"]
    assert ["dryRun=All" in event["requestURI"] for event in mine] == [False, True]
    assert not any("requestObject" in event for event in mine)


def test_claim_of_the_default_class_is_bound_and_writable_for_a_pod_that_is_not_root(
    namespace: str, images: dict[str, str], paths: Paths
) -> None:
    claim = {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": "data"},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Mi"}}},
    }
    kubectl("-n", namespace, "create", "-f", "-", stdin=json.dumps(claim))
    mounts = [{"name": "data", "mountPath": "/data"}]
    written = run_to_end(
        namespace,
        "writer",
        {
            "securityContext": {"runAsUser": 65532, "fsGroup": 65532},
            "containers": [
                container(images["test-curl"], ["sh", "-c", "echo kept > /data/f && cat /data/f"], volumeMounts=mounts)
            ],
            "volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": "data"}}],
        },
    )
    assert written == "kept\n"
    volume = kubectl_json("-n", namespace, "get", "pvc", "data")["spec"]["volumeName"]
    assert (paths.state / "volumes" / volume / "f").read_text() == "kept\n"


def test_unchanged_sources_build_nothing(images: dict[str, str], sources: Path) -> None:
    again = devcluster("images", "--test-images", folder=sources)
    assert json.loads(again.stdout) == images
    assert "building" not in again.stderr
    assert "importing" not in again.stderr


FACTS = """
import importlib.util, json, os, pathlib, sys
found = {name: importlib.util.find_spec(name) for name in sys.argv[1:]}
print(json.dumps({
    "uid": os.getuid(),
    "modules": [name for name, spec in found.items() if spec],
    "compiled": all(pathlib.Path(importlib.util.cache_from_source(spec.origin)).exists()
                    for spec in found.values() if spec and spec.origin),
}))
"""
ASKED = ["pdfjob_api", "pdfjob_operator", "chunk_runner", "kopf", "kubernetes", "boto3", "pypdfium2", "pip", "pytest"]


@pytest.mark.parametrize(
    ("name", "modules"),
    [
        ("operator", ["pdfjob_api", "pdfjob_operator", "kopf", "kubernetes", "boto3", "pypdfium2"]),
        ("runner", ["pdfjob_api", "chunk_runner", "pypdfium2"]),
    ],
)
def test_image_holds_its_own_component_and_no_other(
    namespace: str, images: dict[str, str], name: str, modules: list[str]
) -> None:
    printed = run_to_end(
        namespace,
        name,
        {"containers": [container(images[name], ["/opt/venv/bin/python", "-c", FACTS, *ASKED])]},
    )
    facts = json.loads(printed)
    assert facts == {"uid": 65532, "modules": modules, "compiled": True}


@pytest.mark.parametrize("name", ["operator", "runner"])
def test_everything_in_the_image_can_be_imported(namespace: str, images: dict[str, str], name: str) -> None:
    walk = """
import importlib, pkgutil, sys
for package in sys.argv[1:]:
    for module in pkgutil.walk_packages(importlib.import_module(package).__path__, package + "."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
print("all imported")
"""
    package = {"operator": "pdfjob_operator", "runner": "chunk_runner"}[name]
    command = ["/opt/venv/bin/python", "-c", walk, "pdfjob_api", package]
    assert run_to_end(namespace, name, {"containers": [container(images[name], command)]}) == "all imported\n"
