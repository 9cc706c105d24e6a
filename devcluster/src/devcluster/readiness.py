"""When the cluster is ready: the node's Lease is newer than the start and a fresh pod has run.

The Ready condition alone lies for 40 seconds after a death: the API server still shows from etcd
what the kubelet said last.
"""

import datetime as dt
import json
import os
import subprocess
import time
from pathlib import Path
from typing import Any

from . import settings
from .errors import DevclusterError
from .gobuild import binary
from .paths import Paths
from .versions import KUBERNETES

_PROXIES = ("http_proxy", "https_proxy", "all_proxy")
_LEASE_AGE = dt.timedelta(seconds=20)
"""The kubelet renews every 5 s; some renewals in a row may be late on a busy machine."""


class Kubectl:
    """The pinned kubectl with the administrator's credentials."""

    def __init__(self, paths: Paths) -> None:
        self._command = [str(binary(paths, KUBERNETES, "kubectl")), f"--kubeconfig={paths.kubeconfig}"]
        # The API server is on this machine: no proxy can reach it.
        self._environment = {name: value for name, value in os.environ.items() if name.lower() not in _PROXIES}

    def run(self, *arguments: str, text_input: str | None = None) -> str:
        """Run kubectl and return its output.

        Raises
        ------
        DevclusterError
            It failed; the message is kubectl's own.
        """
        done = self._run(arguments, text_input)
        if done.returncode != 0:
            raise DevclusterError(f"kubectl {' '.join(arguments)}: {done.stderr.strip()}")
        return done.stdout

    def succeeds(self, *arguments: str) -> bool:
        """Tell whether the command succeeds."""
        return self._run(arguments, None).returncode == 0

    def get(self, *arguments: str) -> dict[str, Any] | None:
        """Return an object, or None when it is not there or the API server does not answer."""
        done = self._run(("get", *arguments, "-o", "json"), None)
        if done.returncode != 0:
            return None
        loaded: dict[str, Any] = json.loads(done.stdout)
        return loaded

    def _run(self, arguments: tuple[str, ...], text_input: str | None) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [*self._command, "--request-timeout=20s", *arguments],
            capture_output=True,
            text=True,
            check=False,
            input=text_input,
            env=self._environment,
        )


def lease_time(lease: dict[str, Any] | None) -> dt.datetime | None:
    """Return when the node last said that it lives."""
    text = ((lease or {}).get("spec") or {}).get("renewTime")
    return dt.datetime.fromisoformat(text) if text else None


def node_lease(kubectl: Kubectl) -> dt.datetime | None:
    """Read the node's Lease."""
    return lease_time(kubectl.get("lease", settings.NODE_NAME, "-n", "kube-node-lease"))


def is_serving(kubectl: Kubectl) -> bool:
    """Tell, without waiting, whether a cluster that was ready before still is."""
    renewed = node_lease(kubectl)
    if renewed is None or dt.datetime.now(dt.UTC) - renewed > _LEASE_AGE:
        return False
    deployment = kubectl.get("deployment", "coredns", "-n", "kube-system")
    return bool(deployment and deployment.get("status", {}).get("availableReplicas"))


def wait_for_node(kubectl: Kubectl, since: dt.datetime, timeout: float, log: Path) -> None:
    """Wait until the node's Lease is newer than `since`.

    Raises
    ------
    DevclusterError
        It is not after `timeout` seconds.
    """
    deadline = time.monotonic() + timeout
    while True:
        renewed = node_lease(kubectl)
        if renewed is not None and renewed > since:
            return
        if time.monotonic() > deadline:
            raise DevclusterError(
                f"The kubelet has not renewed the Lease of node {settings.NODE_NAME} within {timeout:.0f} s. "
                f"Read {log}."
            )
        time.sleep(0.2)


def probe_pod(name: str, image: str, seconds: int) -> dict[str, Any]:
    """Render a pod that resolves the API server's name by cluster DNS and connects to its Service address."""
    host = f"kubernetes.default.svc.{settings.CLUSTER_DOMAIN}"
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": settings.NAMESPACE},
        "spec": {
            "restartPolicy": "Never",
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            "terminationGracePeriodSeconds": 0,
            "securityContext": {
                "runAsNonRoot": True,
                "runAsUser": 65532,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": [
                {
                    "name": "probe",
                    "image": image,
                    "imagePullPolicy": "IfNotPresent",
                    "args": ["probe", host, "443", str(seconds)],
                    "securityContext": {
                        "allowPrivilegeEscalation": False,
                        "capabilities": {"drop": ["ALL"]},
                    },
                }
            ],
        },
    }


def run_probe(kubectl: Kubectl, image: str, timeout: int) -> None:
    """Run the probe pod to its end and remove it.

    Raises
    ------
    DevclusterError
        It failed or did not end within `timeout` seconds.
    """
    name = f"probe-{time.time_ns() // 1_000_000}"
    kubectl.run("delete", "pod", "--all", "-n", settings.NAMESPACE, "--now", "--wait=false")
    kubectl.run("create", "-f", "-", text_input=json.dumps(probe_pod(name, image, timeout)))
    deadline = time.monotonic() + timeout + 5
    while True:
        pod = kubectl.get("pod", name, "-n", settings.NAMESPACE)
        phase = (pod or {}).get("status", {}).get("phase")
        if phase == "Succeeded":
            break
        if phase == "Failed" or time.monotonic() > deadline:
            where = f"kubectl -n {settings.NAMESPACE} describe pod {name}"
            raise DevclusterError(
                f"The probe pod has not reached the API server by cluster DNS within {timeout} s (phase {phase}). "
                f"Look at `{where}` and at CoreDNS: kubectl -n kube-system get pods."
            )
        time.sleep(0.2)
    kubectl.run("delete", "pod", name, "-n", settings.NAMESPACE, "--now", "--wait=false")
