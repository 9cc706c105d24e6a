"""The Gemini stub of ``gemini_stub/`` on the cluster: a pod in the runner's image, with its code in a ConfigMap."""

import hashlib
import json
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from . import product
from .errors import DevclusterError
from .images import find_repository
from .progress import note, step

STUB: Final = "gemini-stub"
"""Name of its Deployment, Service and ConfigMap."""
PORT: Final = 8080
DEMO_MODEL: Final = "gemini-3.5-flash"
"""What the demo asks for unless GEMINI_MODEL names another."""
DEMO_SECRET: Final = "gemini"  # noqa: S105 - the name of a Secret
_STUB_KEY: Final = "demo"
"""The key that the stub knows from the start."""
_FOLDER: Final = "/stub"
_PACKAGE: Final = "gemini_stub"
_SECONDS: Final = 90


def stub_url(namespace: str) -> str:
    """Return the address that pods reach the stub of a namespace at: what ``processor.gemini.baseUrl`` names."""
    return f"http://{STUB}.{namespace}.svc:{PORT}"


def stub_objects(namespace: str, image: str, code: Mapping[str, str]) -> list[dict[str, Any]]:
    """Return the objects of the stub, fit for Pod Security ``restricted``.

    Parameters
    ----------
    image
        Any with Python 3.11 or newer as ``python``; that of the runner is there already.
    code
        Source files of the package by name.
    """
    labels = {"app.kubernetes.io/name": STUB, "app.kubernetes.io/part-of": "pdfjob-development"}
    metadata = {"name": STUB, "namespace": namespace, "labels": labels}
    digest = hashlib.sha256(json.dumps(dict(code), sort_keys=True).encode()).hexdigest()
    container = {
        "name": "stub",
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "command": ["python", "-m", _PACKAGE, "--port", str(PORT)],
        "workingDir": _FOLDER,
        "ports": [{"name": "http", "containerPort": PORT}],
        "readinessProbe": {"httpGet": {"path": "/healthz", "port": "http"}, "periodSeconds": 2},
        "resources": {"requests": {"cpu": "50m", "memory": "64Mi"}, "limits": {"memory": "1Gi"}},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": [{"name": "code", "mountPath": f"{_FOLDER}/{_PACKAGE}", "readOnly": True}],
    }
    pod = {
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": 5,
        "securityContext": {"runAsNonRoot": True, "runAsUser": 65532, "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [container],
        "volumes": [{"name": "code", "configMap": {"name": STUB}}],
    }
    selector = {"app.kubernetes.io/name": STUB}
    # The pod starts anew when the code changes: a ConfigMap alone would not make it.
    template = {"metadata": {"labels": labels, "annotations": {"pdfjob.dev/code": digest}}, "spec": pod}
    return [
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": dict(code)},
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": metadata,
            "spec": {
                "replicas": 1,
                "strategy": {"type": "Recreate"},  # the counts of two pods would each tell half
                "selector": {"matchLabels": selector},
                "template": template,
            },
        },
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": metadata,
            "spec": {"selector": selector, "ports": [{"name": "http", "port": PORT, "targetPort": "http"}]},
        },
    ]


def stub_code(folder: Path) -> dict[str, str]:
    """Read the stub's package from the repository at or above a folder."""
    return {file.name: file.read_text() for file in sorted((find_repository(folder) / _PACKAGE).glob("*.py"))}


def deploy_stub(environment: Mapping[str, str], namespace: str, image: str) -> None:
    """Put the stub into a namespace, or bring the one there up to date, and wait until it answers.

    Raises
    ------
    DevclusterError
        kubectl failed, or the pod is not ready in time.
    """
    objects = {"apiVersion": "v1", "kind": "List", "items": stub_objects(namespace, image, stub_code(Path.cwd()))}
    kubectl(environment, "apply", "--server-side", "--force-conflicts", "-f", "-", stdin=json.dumps(objects))
    kubectl(environment, "rollout", "status", f"deployment/{STUB}", "-n", namespace, f"--timeout={_SECONDS}s")


def put_key(environment: Mapping[str, str], namespace: str, name: str, value: str) -> None:
    """Create a Secret with an API key, or replace it. The value goes by standard input, so no process list shows it."""
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name, "namespace": namespace},
        "stringData": {"api-key": value},
    }
    # Not `kubectl apply`: it would keep a second copy in an annotation.
    kubectl(environment, "delete", "secret", name, "-n", namespace, "--ignore-not-found")
    kubectl(environment, "create", "-f", "-", stdin=json.dumps(secret))


def demo(environment: Mapping[str, str], plugin: Path, document: Path, language: str, image: str) -> None:
    """Show the Gemini processor: with the real service when ``GEMINI_API_KEY`` is set, else with the stub.

    Parameters
    ----------
    plugin
        The program behind ``kubectl pdfjob``.
    image
        In which the stub runs.
    """
    namespace = product.DEMO_NAMESPACE
    value = environment.get("GEMINI_API_KEY", "").strip()
    model = environment.get("GEMINI_MODEL") or DEMO_MODEL
    settings: dict[str, Any] = {"model": model, "apiKeySecretRef": {"name": DEMO_SECRET}}
    if value:
        note(f"GEMINI_API_KEY is set: the real service is used, model {model}. Your account is charged.")
    else:
        note("GEMINI_API_KEY is not set: this uses a STUB of the Gemini API, a pod of its own that answers without a")
        note("model: it cuts the text into sentences by a simple rule. Nothing leaves the cluster, nothing is charged.")
        with step(f"deploying the stub in namespace {namespace}"):
            deploy_stub(environment, namespace, image)
        settings["baseUrl"] = stub_url(namespace)
    with step(f"Secret {DEMO_SECRET} with the API key"):
        put_key(environment, namespace, DEMO_SECRET, value or _STUB_KEY)
    product.demo(environment, plugin, document, language, {"processor": {"gemini": settings}})
    _show_tokens(environment, namespace)


def _show_tokens(environment: Mapping[str, str], namespace: str) -> None:
    job = json.loads(kubectl(environment, "get", "pdfjob", product.DEMO_JOB, "-n", namespace, "-o", "json"))
    tokens = job["status"].get("tokens", {})
    counts = ", ".join(f"{tokens.get(name, 0):,} {name}" for name in ("input", "output", "cached", "thinking"))
    note(f"tokens: {counts}")
    if cached := job["status"].get("chunks", {}).get("cached"):
        note(f"{cached} of the chunks came from the result cache of an earlier run and cost nothing")


def kubectl(environment: Mapping[str, str], *words: str, stdin: str | None = None) -> str:
    """Run kubectl and return its output; say what it said when it fails."""
    done = subprocess.run(
        ["kubectl", *words], env=dict(environment), input=stdin, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise DevclusterError(f"`kubectl {' '.join(words)}` failed: {done.stderr.strip()}")
    return done.stdout
