"""containerd, kubelet and kube-proxy: their configuration and command lines."""

import ipaddress
import json
import shutil
from pathlib import Path

import yaml

from . import settings
from .certificates import kubeconfig_path
from .cgroups import CGROUP_ROOT
from .controlplane import write_if_changed
from .gobuild import binary
from .paths import Paths
from .processes import Part
from .versions import KUBERNETES, PROVISIONER

_CAP_SYS_RESOURCE = 24
_CNI_PROGRAMS = "/usr/lib/cni"


def lacks_sys_resource(status: str) -> bool:
    """Tell from ``/proc/self/status`` whether we may not lower a process's OOM score."""
    for line in status.splitlines():
        if line.startswith("CapEff:"):
            return not int(line.split()[1], 16) >> _CAP_SYS_RESOURCE & 1
    return False


def containerd_configuration(paths: Paths, pause_image: str, *, restrict_oom_score: bool) -> str:
    """Render containerd's configuration: a root, state and socket of its own.

    Parameters
    ----------
    paths
        Where the cluster lives.
    pause_image
        Reference of the sandbox image, imported beforehand.
    restrict_oom_score
        Needed where the machine lacks CAP_SYS_RESOURCE: otherwise every sandbox fails with
        ``can't get final child's PID from pipe: EOF``.
    """
    cri = 'plugins."io.containerd.grpc.v1.cri"'
    return f"""version = 2
root = "{paths.state / "containerd"}"
state = "{paths.run / "containerd"}"
oom_score = 0
disabled_plugins = ["io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.btrfs",
  "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.zfs",
  "io.containerd.internal.v1.tracing", "io.containerd.tracing.processor.v1.otlp"]

[grpc]
address = "{paths.containerd_socket}"

[ttrpc]
address = "{paths.containerd_socket}.ttrpc"

[{cri}]
sandbox_image = "{pause_image}"
restrict_oom_score_adj = {str(restrict_oom_score).lower()}
netns_mounts_under_state_dir = true
max_container_log_line_size = 262144
disable_tcp_service = true

[{cri}.cni]
bin_dir = "{_CNI_PROGRAMS}"
conf_dir = "{paths.config / "cni"}"

[{cri}.containerd]
snapshotter = "overlayfs"
default_runtime_name = "runc"

[{cri}.containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"

[{cri}.containerd.runtimes.runc.options]
SystemdCgroup = false
"""


def cni_configuration(paths: Paths) -> str:
    """Render the pod network: one routed pair of interfaces per pod.

    Routed (ptp), not bridged: replies between pods of one node then pass the node's IP layer, and
    Service addresses work without the br_netfilter kernel module.
    """
    return json.dumps(
        {
            "cniVersion": "1.0.0",
            "name": settings.CNI_NETWORK,
            "plugins": [
                {
                    "type": "ptp",
                    "ipMasq": True,
                    "ipam": {
                        "type": "host-local",
                        "dataDir": str(paths.run / "cni"),
                        "ranges": [[{"subnet": settings.POD_SUBNET}]],
                        "routes": [{"dst": "0.0.0.0/0"}],
                    },
                },
                {"type": "portmap", "capabilities": {"portMappings": True}},
            ],
        },
        indent=1,
    )


def kubelet_configuration(paths: Paths) -> str:
    """Render the kubelet's configuration file."""
    return yaml.safe_dump(
        {
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "address": settings.NODE_ADDRESS,
            "port": settings.KUBELET_PORT,
            "authentication": {
                "anonymous": {"enabled": False},
                "webhook": {"enabled": True},
                "x509": {"clientCAFile": str(paths.pki / "ca.crt")},
            },
            "authorization": {"mode": "Webhook"},
            "clusterDomain": settings.CLUSTER_DOMAIN,
            "clusterDNS": [settings.DNS_ADDRESS],
            "cgroupDriver": "cgroupfs",
            "cgroupRoot": f"/{CGROUP_ROOT}",
            "failCgroupV1": False,
            "failSwapOn": False,
            "containerRuntimeEndpoint": f"unix://{paths.containerd_socket}",
            "tlsCertFile": str(paths.pki / "kubelet-server.crt"),
            "tlsPrivateKeyFile": str(paths.pki / "kubelet-server.key"),
            "resolvConf": str(paths.config / "resolv.conf"),
            "podLogsDir": str(paths.state / "pod-logs"),
            "volumePluginDir": str(paths.state / "volume-plugins"),
            # A developer's disk is often nearly full; images are pruned by `devcluster images`.
            "evictionHard": {
                "nodefs.available": "1%",
                "nodefs.inodesFree": "1%",
                "imagefs.available": "1%",
                "memory.available": "100Mi",
            },
            "imageGCHighThresholdPercent": 100,
            "maxPods": 110,
            # Renewed at a quarter of it: `up` waits for a renewal, and the default would make that 10 s.
            "nodeLeaseDurationSeconds": 20,
            "serializeImagePulls": False,
            # Pod starts come in bursts; the defaults (50 and 100) would queue their status writes.
            "kubeAPIQPS": settings.CONTROLLER_QPS,
            "kubeAPIBurst": settings.CONTROLLER_BURST,
        },
        sort_keys=False,
    )


def proxy_configuration(paths: Paths) -> str:
    """Render kube-proxy's configuration file."""
    return yaml.safe_dump(
        {
            "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
            "kind": "KubeProxyConfiguration",
            "clientConnection": {"kubeconfig": str(kubeconfig_path(paths, "proxy"))},
            "mode": "iptables",
            # A new Service is reachable at once rather than after a second.
            "iptables": {"minSyncPeriod": "100ms"},
            "clusterCIDR": settings.POD_NETWORK,
            "hostnameOverride": settings.NODE_NAME,
            "healthzBindAddress": "127.0.0.1:10256",
            "metricsBindAddress": "127.0.0.1:10249",
            # Connection tracking limits belong to the machine, not to us.
            "conntrack": {
                "maxPerCore": 0,
                "min": 0,
                "tcpEstablishedTimeout": "0s",
                "tcpCloseWaitTimeout": "0s",
            },
        },
        sort_keys=False,
    )


def upstream_resolvers(resolv_conf: str) -> list[str]:
    """Return the machine's name servers that a pod can reach: a loopback address means the pod itself."""
    servers = []
    for line in resolv_conf.splitlines():
        words = line.split()
        if len(words) >= 2 and words[0] == "nameserver":
            try:
                address = ipaddress.ip_address(words[1].partition("%")[0])
            except ValueError:
                continue  # libc ignores such a line too
            if not address.is_loopback and not address.is_link_local:
                servers.append(str(address))
    return servers


def write_configuration(paths: Paths, pause_image: str) -> None:
    """Write the node's configuration files."""
    write_if_changed(
        paths.config / "containerd.toml",
        containerd_configuration(
            paths,
            pause_image,
            restrict_oom_score=lacks_sys_resource(Path("/proc/self/status").read_text()),
        ),
    )
    write_if_changed(paths.config / "cni" / "10-devcluster.conflist", cni_configuration(paths))
    write_if_changed(paths.config / "kubelet.yaml", kubelet_configuration(paths))
    write_if_changed(paths.config / "proxy.yaml", proxy_configuration(paths))
    servers = upstream_resolvers(Path("/etc/resolv.conf").read_text())
    write_if_changed(paths.config / "resolv.conf", "".join(f"nameserver {server}\n" for server in servers))


def containerd(paths: Paths) -> Part:
    """Return containerd's part."""
    config = paths.config / "containerd.toml"
    return Part(
        "containerd",
        (_system_program("containerd"), "--config", str(config)),
        inputs=(config, paths.config / "cni" / "10-devcluster.conflist"),
    )


def kubelet(paths: Paths) -> Part:
    """Return the kubelet's part. It must start after containerd: without its socket it exits for good."""
    return Part(
        "kubelet",
        (
            str(binary(paths, KUBERNETES, "kubelet")),
            f"--config={paths.config / 'kubelet.yaml'}",
            f"--kubeconfig={kubeconfig_path(paths, 'kubelet')}",
            f"--hostname-override={settings.NODE_NAME}",
            f"--node-ip={settings.NODE_ADDRESS}",
            f"--root-dir={paths.state / 'kubelet'}",
            f"--cert-dir={paths.state / 'kubelet' / 'pki'}",
        ),
        inputs=(
            paths.config / "kubelet.yaml",
            paths.config / "resolv.conf",
            kubeconfig_path(paths, "kubelet"),
            paths.pki / "ca.crt",
            paths.pki / "kubelet-server.crt",
        ),
    )


def kube_proxy(paths: Paths) -> Part:
    """Return kube-proxy's part."""
    return Part(
        "kube-proxy",
        (
            str(binary(paths, KUBERNETES, "kube-proxy")),
            f"--config={paths.config / 'proxy.yaml'}",
        ),
        inputs=(paths.config / "proxy.yaml", kubeconfig_path(paths, "proxy")),
    )


def volume_provisioner(paths: Paths) -> Part:
    """Return the part that makes a folder for every claim of the default StorageClass."""
    config = kubeconfig_path(paths, "volume-provisioner")
    return Part(
        "volume-provisioner",
        (
            str(binary(paths, PROVISIONER)),
            f"--kubeconfig={config}",
            f"--name={settings.PROVISIONER}",
            f"--root={paths.state / 'volumes'}",
            f"--node={settings.NODE_NAME}",
        ),
        inputs=(config,),
    )


def _system_program(name: str) -> str:
    found = shutil.which(name)
    return found or f"/usr/bin/{name}"
