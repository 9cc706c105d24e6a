"""CLUSTER=current: the cluster of the user's own kubectl context, which we never start or change."""

import os
import shutil
import subprocess
from pathlib import Path

from .errors import DevclusterError


def kubeconfig() -> str:
    """Return what kubectl reads: KUBECONFIG, or the default file."""
    return os.environ.get("KUBECONFIG") or str(Path.home() / ".kube" / "config")


def check_context() -> str:
    """Return the current context's name.

    Raises
    ------
    DevclusterError
        There is no kubectl, no current context, or its API server does not answer.
    """
    if shutil.which("kubectl") is None:
        raise DevclusterError("CLUSTER=current needs `kubectl` on PATH.")
    named = _kubectl("config", "current-context")
    if named.returncode != 0:
        raise DevclusterError(
            f"CLUSTER=current, and kubectl has no current context in {kubeconfig()}. "
            "Choose one: kubectl config use-context NAME."
        )
    context = named.stdout.strip()
    answer = _kubectl("get", "--raw", "/version")
    if answer.returncode != 0:
        raise DevclusterError(f"The cluster of context {context} does not answer: {answer.stderr.strip()}")
    return context


def _kubectl(*arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        ["kubectl", "--request-timeout=15s", *arguments], capture_output=True, text=True, check=False
    )
