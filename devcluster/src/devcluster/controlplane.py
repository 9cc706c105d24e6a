"""etcd, API server, controller manager and scheduler: their configuration and command lines."""

from pathlib import Path

import yaml

from . import settings
from .certificates import kubeconfig_path
from .gobuild import binary
from .paths import Paths
from .processes import Part
from .versions import ETCD, KUBERNETES

AUDIT_FILE_MEGABYTES = 200
AUDIT_FILES = 3


def audit_policy() -> str:
    """Render the audit policy: every write by its metadata, no read, no request or response body."""
    return yaml.safe_dump(
        {
            "apiVersion": "audit.k8s.io/v1",
            "kind": "Policy",
            "omitStages": ["RequestReceived"],
            "omitManagedFields": True,
            "rules": [
                {
                    "level": "Metadata",
                    "verbs": ["create", "update", "patch", "delete", "deletecollection"],
                },
                {"level": "None"},
            ],
        },
        sort_keys=False,
    )


def scheduler_configuration(paths: Paths) -> str:
    """Render the scheduler's configuration file."""
    return yaml.safe_dump(
        {
            "apiVersion": "kubescheduler.config.k8s.io/v1",
            "kind": "KubeSchedulerConfiguration",
            "clientConnection": {
                "kubeconfig": str(kubeconfig_path(paths, "scheduler")),
                "qps": settings.CONTROLLER_QPS,
                "burst": settings.CONTROLLER_BURST,
            },
            "leaderElection": {"leaderElect": False},
        },
        sort_keys=False,
    )


def write_configuration(paths: Paths) -> None:
    """Write the control plane's configuration files."""
    write_if_changed(paths.config / "audit-policy.yaml", audit_policy())
    write_if_changed(paths.config / "scheduler.yaml", scheduler_configuration(paths))


def write_if_changed(file: Path, content: str) -> None:
    """Write a configuration file unless it says the same already."""
    if not file.exists() or file.read_text() != content:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content)


def etcd(paths: Paths) -> Part:
    """Return the database's part. It does not sync to disk: fast, and a power loss may cost its data."""
    pki = paths.pki
    return Part(
        "etcd",
        (
            str(binary(paths, ETCD)),
            f"--data-dir={paths.state / 'etcd'}",
            f"--listen-client-urls=https://127.0.0.1:{settings.ETCD_PORT}",
            f"--advertise-client-urls=https://127.0.0.1:{settings.ETCD_PORT}",
            f"--listen-peer-urls=http://127.0.0.1:{settings.ETCD_PEER_PORT}",
            f"--cert-file={pki / 'etcd.crt'}",
            f"--key-file={pki / 'etcd.key'}",
            f"--trusted-ca-file={pki / 'etcd-ca.crt'}",
            "--client-cert-auth",
            "--unsafe-no-fsync",
            "--log-level=warn",
        ),
        inputs=(pki / "etcd.crt", pki / "etcd-ca.crt"),
    )


def api_server(paths: Paths) -> Part:
    """Return the API server's part."""
    pki = paths.pki
    return Part(
        "kube-apiserver",
        (
            str(binary(paths, KUBERNETES, "kube-apiserver")),
            f"--etcd-servers=https://127.0.0.1:{settings.ETCD_PORT}",
            f"--etcd-cafile={pki / 'etcd-ca.crt'}",
            f"--etcd-certfile={pki / 'apiserver-etcd-client.crt'}",
            f"--etcd-keyfile={pki / 'apiserver-etcd-client.key'}",
            f"--service-cluster-ip-range={settings.SERVICE_NETWORK}",
            f"--advertise-address={settings.NODE_ADDRESS}",
            # Not on every interface: only this machine and its pods use it.
            f"--bind-address={settings.NODE_ADDRESS}",
            f"--secure-port={settings.API_PORT}",
            f"--tls-cert-file={pki / 'apiserver.crt'}",
            f"--tls-private-key-file={pki / 'apiserver.key'}",
            f"--client-ca-file={pki / 'ca.crt'}",
            f"--service-account-key-file={pki / 'service-accounts.pub'}",
            f"--service-account-signing-key-file={pki / 'service-accounts.key'}",
            f"--service-account-issuer=https://kubernetes.default.svc.{settings.CLUSTER_DOMAIN}",
            "--authorization-mode=Node,RBAC",
            "--enable-admission-plugins=NodeRestriction",
            f"--kubelet-client-certificate={pki / 'apiserver-kubelet-client.crt'}",
            f"--kubelet-client-key={pki / 'apiserver-kubelet-client.key'}",
            f"--kubelet-certificate-authority={pki / 'ca.crt'}",
            f"--requestheader-client-ca-file={pki / 'front-proxy-ca.crt'}",
            "--requestheader-allowed-names=front-proxy-client",
            "--requestheader-extra-headers-prefix=X-Remote-Extra-",
            "--requestheader-group-headers=X-Remote-Group",
            "--requestheader-username-headers=X-Remote-User",
            f"--proxy-client-cert-file={pki / 'front-proxy-client.crt'}",
            f"--proxy-client-key-file={pki / 'front-proxy-client.key'}",
            # By address: the node's name need not resolve on this machine.
            "--kubelet-preferred-address-types=InternalIP",
            "--allow-privileged=true",
            f"--audit-policy-file={paths.config / 'audit-policy.yaml'}",
            f"--audit-log-path={paths.audit_log}",
            f"--audit-log-maxsize={AUDIT_FILE_MEGABYTES}",
            f"--audit-log-maxbackup={AUDIT_FILES}",
            "--audit-log-format=json",
        ),
        inputs=(
            paths.config / "audit-policy.yaml",
            pki / "apiserver.crt",
            pki / "ca.crt",
            pki / "apiserver-etcd-client.crt",
            pki / "apiserver-kubelet-client.crt",
            pki / "front-proxy-ca.crt",
            pki / "front-proxy-client.crt",
            pki / "service-accounts.pub",
        ),
    )


def controller_manager(paths: Paths) -> Part:
    """Return the controller manager's part."""
    pki = paths.pki
    config = kubeconfig_path(paths, "controller-manager")
    return Part(
        "kube-controller-manager",
        (
            str(binary(paths, KUBERNETES, "kube-controller-manager")),
            f"--kubeconfig={config}",
            f"--authentication-kubeconfig={config}",
            f"--authorization-kubeconfig={config}",
            "--bind-address=127.0.0.1",
            f"--service-account-private-key-file={pki / 'service-accounts.key'}",
            f"--root-ca-file={pki / 'ca.crt'}",
            f"--cluster-signing-cert-file={pki / 'ca.crt'}",
            f"--cluster-signing-key-file={pki / 'ca.key'}",
            "--use-service-account-credentials=true",
            "--allocate-node-cidrs=true",
            f"--cluster-cidr={settings.POD_NETWORK}",
            f"--service-cluster-ip-range={settings.SERVICE_NETWORK}",
            "--leader-elect=false",
            f"--kube-api-qps={settings.CONTROLLER_QPS}",
            f"--kube-api-burst={settings.CONTROLLER_BURST}",
            f"--concurrent-job-syncs={settings.JOB_SYNCS}",
        ),
        inputs=(config, pki / "ca.crt", pki / "service-accounts.pub"),
    )


def scheduler(paths: Paths) -> Part:
    """Return the scheduler's part."""
    config = kubeconfig_path(paths, "scheduler")
    return Part(
        "kube-scheduler",
        (
            str(binary(paths, KUBERNETES, "kube-scheduler")),
            f"--config={paths.config / 'scheduler.yaml'}",
            f"--authentication-kubeconfig={config}",
            f"--authorization-kubeconfig={config}",
            "--bind-address=127.0.0.1",
        ),
        inputs=(paths.config / "scheduler.yaml", config),
    )
