"""What is inside the cluster from the start: CoreDNS and a default StorageClass."""

import hashlib
from typing import Any

import yaml

from . import settings

_LABELS = {"k8s-app": "kube-dns"}


def corefile(servers: list[str]) -> str:
    """Render CoreDNS's configuration.

    Parameters
    ----------
    servers
        Name servers for names outside the cluster; none leaves those names unanswered.
    """
    forward = f"  forward . {' '.join(servers)}\n" if servers else ""
    return (
        ".:53 {\n  errors\n  health\n  ready\n"
        f"  kubernetes {settings.CLUSTER_DOMAIN} in-addr.arpa ip6.arpa\n{forward}  cache 30\n}}\n"
    )


def manifests(coredns_image: str, servers: list[str]) -> str:
    """Render everything that ``up`` applies, as one YAML stream."""
    namespace = {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {
            "name": settings.NAMESPACE,
            "labels": {"pod-security.kubernetes.io/enforce": "restricted"},
        },
    }
    objects = [namespace, *_coredns(coredns_image, corefile(servers)), *_storage()]
    return yaml.safe_dump_all(objects, sort_keys=False)


def _storage() -> list[dict[str, Any]]:
    """Return the default StorageClass and its provisioner's rights."""
    name = {"name": "devcluster:volume-provisioner"}
    return [
        {
            "apiVersion": "storage.k8s.io/v1",
            "kind": "StorageClass",
            "metadata": {
                "name": settings.STORAGE_CLASS,
                "annotations": {"storageclass.kubernetes.io/is-default-class": "true"},
            },
            "provisioner": settings.PROVISIONER,
            "reclaimPolicy": "Delete",
            "volumeBindingMode": "WaitForFirstConsumer",
        },
        {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "ClusterRoleBinding",
            "metadata": name,
            "roleRef": {
                "apiGroup": "rbac.authorization.k8s.io",
                "kind": "ClusterRole",
                # Kubernetes brings this role along for provisioners.
                "name": "system:persistent-volume-provisioner",
            },
            "subjects": [
                {
                    "apiGroup": "rbac.authorization.k8s.io",
                    "kind": "User",
                    "name": settings.PROVISIONER_USER,
                }
            ],
        },
    ]


def _meta(**more: Any) -> dict[str, Any]:
    return {"name": "coredns", "namespace": "kube-system", **more}


def _coredns(image: str, configuration: str) -> list[dict[str, Any]]:
    reads = [
        {
            "apiGroups": [""],
            "resources": ["endpoints", "services", "pods", "namespaces"],
            "verbs": ["list", "watch"],
        },
        {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": ["list", "watch"]},
    ]
    ports = [
        {"name": "dns", "port": 53, "protocol": "UDP"},
        {"name": "dns-tcp", "port": 53, "protocol": "TCP"},
    ]
    role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "system:coredns"}
    account = {"kind": "ServiceAccount", "name": "coredns", "namespace": "kube-system"}
    return [
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": _meta()},
        {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "ClusterRole",
            "metadata": {"name": "system:coredns"},
            "rules": reads,
        },
        {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "ClusterRoleBinding",
            "metadata": {"name": "system:coredns"},
            "roleRef": role,
            "subjects": [account],
        },
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": _meta(),
            "data": {"Corefile": configuration},
        },
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": _meta(),
            "spec": {
                "selector": {"matchLabels": _LABELS},
                "template": {
                    "metadata": {
                        "labels": _LABELS,
                        # CoreDNS reads its file once: another configuration is another pod.
                        "annotations": {
                            "devcluster/configuration": hashlib.sha256(configuration.encode()).hexdigest()[:16]
                        },
                    },
                    "spec": _pod(image),
                },
            },
        },
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "kube-dns", "namespace": "kube-system", "labels": _LABELS},
            "spec": {"clusterIP": settings.DNS_ADDRESS, "selector": _LABELS, "ports": ports},
        },
    ]


def _pod(image: str) -> dict[str, Any]:
    return {
        "serviceAccountName": "coredns",
        "priorityClassName": "system-cluster-critical",
        "dnsPolicy": "Default",
        "terminationGracePeriodSeconds": 1,
        "containers": [
            {
                "name": "coredns",
                "image": image,
                "imagePullPolicy": "IfNotPresent",
                "args": ["-conf", "/etc/coredns/Corefile"],
                "resources": {"requests": {"cpu": "10m", "memory": "30Mi"}, "limits": {"memory": "200Mi"}},
                "securityContext": {
                    "allowPrivilegeEscalation": False,
                    "readOnlyRootFilesystem": True,
                    "capabilities": {"drop": ["ALL"], "add": ["NET_BIND_SERVICE"]},
                },
                "volumeMounts": [{"name": "configuration", "mountPath": "/etc/coredns"}],
                "readinessProbe": {"httpGet": {"path": "/ready", "port": 8181}, "periodSeconds": 1},
                "livenessProbe": {"httpGet": {"path": "/health", "port": 8080}, "failureThreshold": 5},
            }
        ],
        "volumes": [{"name": "configuration", "configMap": {"name": "coredns"}}],
    }
