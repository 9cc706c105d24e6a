"""Which cluster and namespace the user means, found the way kubectl finds them."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml
from kubernetes import client, config

from .errors import ClusterError

__all__ = ["ClusterOptions", "load", "user_of"]

_POD_NAMESPACE: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
"""Exists inside a pod only."""


@dataclass(frozen=True, slots=True)
class ClusterOptions:
    """Which cluster and namespace the user means; None = what kubectl would take."""

    kubeconfig: Path | None = None
    context: str | None = None
    namespace: str | None = None
    install_namespace: str | None = None


def load(options: ClusterOptions) -> tuple[client.Configuration, str]:
    """Return the settings of the client and the namespace of the context; no request is made.

    Raises
    ------
    ClusterError
        When there is no usable kubeconfig, or the context does not exist.
    """
    settings = client.Configuration()
    try:
        return settings, _load(options, settings)
    except config.ConfigException as error:
        raise ClusterError(
            f"no usable kubeconfig: {error}", hint="name one with --kubeconfig or KUBECONFIG, or choose a --context"
        ) from error
    except (OSError, yaml.YAMLError) as error:
        raise ClusterError(f"the kubeconfig cannot be read: {error}") from error


def user_of(options: ClusterOptions) -> str:
    """Return the name that the kubeconfig has for the user of the chosen context; ``unknown`` inside a pod."""
    try:
        return str(_active_context(options).get("user") or "unknown")
    except config.ConfigException:
        return "unknown"


def _file(options: ClusterOptions) -> str | None:
    return str(options.kubeconfig) if options.kubeconfig else os.environ.get("KUBECONFIG") or None


def _load(options: ClusterOptions, settings: client.Configuration) -> str:
    path = _file(options)
    if path is None and not Path("~/.kube/config").expanduser().exists() and _POD_NAMESPACE.exists():
        config.load_incluster_config(client_configuration=settings)
        return _POD_NAMESPACE.read_text().strip()
    config.load_kube_config(config_file=path, context=options.context, client_configuration=settings)
    return str(_active_context(options).get("namespace") or "default")


def _active_context(options: ClusterOptions) -> dict[str, Any]:
    contexts, active = config.list_kube_config_contexts(config_file=_file(options))
    if options.context:
        active = next(entry for entry in contexts if entry["name"] == options.context)
    return active.get("context") or {}
