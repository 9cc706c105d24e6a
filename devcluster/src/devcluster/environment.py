"""The environment that points kubectl, helm and ctr at the local cluster."""

import os

from .paths import Paths
from .settings import NODE_ADDRESS


def local_environment(paths: Paths) -> dict[str, str]:
    """Return this process's environment with the local cluster's kubeconfig, and devcluster's tools first on PATH."""
    no_proxy = ",".join(filter(None, (os.environ.get("NO_PROXY"), NODE_ADDRESS)))
    return {
        **os.environ,
        "KUBECONFIG": str(paths.kubeconfig),
        "PATH": f"{paths.tools}{os.pathsep}{os.environ['PATH']}",
        "NO_PROXY": no_proxy,
        "no_proxy": no_proxy,
    }
