"""Node address, forwarding and firewall rules; and taking away what only this cluster made."""

import ipaddress
import json
import re
import shlex
import subprocess
from pathlib import Path

from . import settings
from .errors import DevclusterError
from .paths import Paths

_CNI_RESULTS = Path("/var/lib/cni/results")
_KUBELET_CHAINS = ("KUBE-FIREWALL", "KUBE-KUBELET-CANARY", "KUBE-IPTABLES-HINT")
"""kube-proxy takes its own chains away; nobody takes away these, which the kubelet makes."""


def run(*command: str, check: bool = True, text_input: str | None = None) -> str:
    """Run a system program and return its standard output.

    Raises
    ------
    DevclusterError
        It failed and `check` is set.
    """
    done = subprocess.run(command, capture_output=True, text=True, check=False, input=text_input)
    if check and done.returncode != 0:
        raise DevclusterError(f"`{shlex.join(command)}` failed: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout


def ensure_network() -> None:
    """Give the node its address and let pods reach each other and the outside.

    Raises
    ------
    DevclusterError
        One of the cluster's address ranges is in use on this machine.
    """
    conflict = overlapping_address(json.loads(run("ip", "-j", "address")))
    if conflict:
        raise DevclusterError(conflict)
    if settings.NODE_INTERFACE not in run("ip", "-br", "link"):
        run("ip", "link", "add", settings.NODE_INTERFACE, "type", "bridge")
    run("ip", "address", "replace", f"{settings.NODE_ADDRESS}/32", "dev", settings.NODE_INTERFACE)
    run("ip", "link", "set", settings.NODE_INTERFACE, "up")
    forwarding = Path("/proc/sys/net/ipv4/ip_forward")
    if forwarding.read_text().strip() != "1":
        forwarding.write_text("1")
    # Docker and some firewalls drop forwarded packets by default.
    for rule in forward_rules():
        if subprocess.run(["iptables", "-w", "-C", *rule], capture_output=True, check=False).returncode != 0:
            run("iptables", "-w", "-I", *rule)


def forward_rules() -> list[list[str]]:
    """Return the iptables rules that let pod traffic through, without the verb."""
    comment = ["-m", "comment", "--comment", settings.RULE_COMMENT, "-j", "ACCEPT"]
    return [
        ["FORWARD", "-s", settings.POD_NETWORK, *comment],
        ["FORWARD", "-d", settings.POD_NETWORK, *comment],
    ]


def overlapping_address(interfaces: list[dict[str, object]]) -> str | None:
    """Find an address of this machine inside a range that the cluster uses.

    Parameters
    ----------
    interfaces
        What ``ip -j address`` prints.

    Returns
    -------
    str or None
        A sentence for the user.
    """
    ranges = [
        ipaddress.ip_network(text) for text in (settings.POD_NETWORK, settings.SERVICE_NETWORK, settings.NODE_ADDRESS)
    ]
    pods = ranges[0]
    for interface in interfaces:
        name = str(interface.get("ifname"))
        addresses = interface.get("addr_info")
        for item in addresses if isinstance(addresses, list) else []:
            if item.get("family") != "inet":
                continue
            address = ipaddress.ip_address(item["local"])
            ours = name == settings.NODE_INTERFACE or (name.startswith("veth") and address in pods)
            used = next((network for network in ranges if address in network), None)
            if used is not None and not ours:
                return (
                    f"Interface {name} has the address {address}, inside {used}, which the local cluster uses. "
                    "Stop what uses it (another Kubernetes on this machine?) or choose CLUSTER=current."
                )
    return None


def remove_network(paths: Paths, kube_proxy: Path | None) -> None:
    """Take away the rules, interfaces and CNI records of this cluster, and nothing else."""
    if kube_proxy is not None and kube_proxy.exists() and (paths.config / "proxy.yaml").exists():
        subprocess.run(
            [str(kube_proxy), "--cleanup", f"--config={paths.config / 'proxy.yaml'}"],
            capture_output=True,
            check=False,  # it complains about IPv6 tables that some kernels do not have
        )
    for rule in forward_rules():
        while subprocess.run(["iptables", "-w", "-D", *rule], capture_output=True, check=False).returncode == 0:
            pass
    if subprocess.run(["pidof", "kubelet"], capture_output=True, check=False).returncode != 0:
        _remove_kubelet_chains()
    remove_pod_networks(paths)
    run("ip", "link", "delete", settings.NODE_INTERFACE, check=False)


def _remove_kubelet_chains() -> None:
    """Remove the kubelet's chains. Never while another kubelet runs here: their names are fixed."""
    for family in ("iptables", "ip6tables"):
        for table in ("filter", "nat", "mangle"):
            commands = chain_removal(table, run(f"{family}-save", "-t", table, check=False))
            if commands:
                run(f"{family}-restore", "-w", "--noflush", check=False, text_input=commands)


def chain_removal(table: str, saved: str) -> str:
    """Turn ``iptables-save`` output into ``iptables-restore --noflush`` input without the kubelet's chains."""
    lines = saved.splitlines()
    chains = [chain for chain in _KUBELET_CHAINS if any(line.startswith(f":{chain} ") for line in lines)]
    if not chains:
        return ""
    jumps = [f"-D{line[2:]}" for line in lines if line.startswith("-A ") and line.split()[-1] in chains]
    declared = [f":{chain} - [0:0]" for chain in chains]
    return "\n".join([f"*{table}", *declared, *jumps, *(f"-X {chain}" for chain in chains), "COMMIT", ""])


def remove_pod_networks(paths: Paths) -> None:
    """Remove network namespaces, address reservations and masquerading rules of pods that are gone."""
    for namespace in sorted((paths.run / "containerd" / "io.containerd.grpc.v1.cri" / "netns").glob("cni-*")):
        run("umount", "-l", str(namespace), check=False)
        namespace.unlink(missing_ok=True)
    for record in _CNI_RESULTS.glob(f"{settings.CNI_NETWORK}-*"):
        record.unlink(missing_ok=True)
    # containerd's own loopback network is recorded by sandbox id alone.
    for sandbox in (paths.state / "containerd" / "io.containerd.grpc.v1.cri" / "sandboxes").glob("*"):
        (_CNI_RESULTS / f"cni-loopback-{sandbox.name}-lo").unlink(missing_ok=True)
    for record in (paths.run / "cni" / settings.CNI_NETWORK).glob("*"):
        record.unlink(missing_ok=True)
    saved = run("iptables-save", "-t", "nat", check=False)
    commands = masquerade_removal(saved)
    if commands:
        run("iptables-restore", "-w", "--noflush", check=False, text_input=commands)


def masquerade_removal(saved: str) -> str:
    """Turn ``iptables-save -t nat`` output into ``iptables-restore --noflush`` input that removes our rules.

    The CNI plugins make one chain per pod, and name the CNI network in the rule's comment.
    """
    chains: list[str] = []
    lines: list[str] = []
    for line in saved.splitlines():
        match = re.match(r"-A POSTROUTING .*-j (CNI-\S+)$", line)
        if match and f'name: \\"{settings.CNI_NETWORK}\\"' in line:
            chains.append(match.group(1))
            lines.append("-D" + line[2:])
    if not chains:
        return ""
    declared = [f":{chain} - [0:0]" for chain in chains]
    return "\n".join(["*nat", *declared, *lines, *(f"-X {chain}" for chain in chains), "COMMIT", ""])
