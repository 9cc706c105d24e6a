"""Ports that the cluster's parts listen on: somebody else may hold one."""

import socket
import subprocess

from . import settings
from .errors import DevclusterError

PORTS: dict[str, tuple[tuple[str, int], ...]] = {
    "etcd": (("127.0.0.1", settings.ETCD_PORT), ("127.0.0.1", settings.ETCD_PEER_PORT)),
    "kube-apiserver": ((settings.NODE_ADDRESS, settings.API_PORT),),
    "kube-controller-manager": (("127.0.0.1", 10257),),
    "kube-scheduler": (("127.0.0.1", 10259),),
    "kubelet": ((settings.NODE_ADDRESS, settings.KUBELET_PORT), ("127.0.0.1", 10248)),
    "kube-proxy": (("127.0.0.1", 10256), ("127.0.0.1", 10249)),
}


def is_free(address: str, port: int) -> bool:
    """Tell whether a program can listen there."""
    with socket.socket() as probe:
        # Old connections in TIME_WAIT do not count.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
            probe.listen()
        except OSError:
            return False
    return True


def check_free(part: str) -> None:
    """Make sure that the part can listen on its ports.

    Raises
    ------
    DevclusterError
        Somebody else listens on one; the message says who.
    """
    for address, port in PORTS.get(part, ()):
        if not is_free(address, port):
            raise DevclusterError(
                f"{part} needs port {port} of {address}, and another program listens there: {_listener(port)}. "
                "Stop it (another Kubernetes on this machine?) or choose CLUSTER=current."
            )


def _listener(port: int) -> str:
    done = subprocess.run(
        ["ss", "-H", "-l", "-t", "-n", "-p", f"sport = :{port}"], capture_output=True, text=True, check=False
    )
    return " ".join(done.stdout.split()) or "unknown"
