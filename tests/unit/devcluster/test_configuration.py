"""What is rendered for the parts is what they need, and touches nobody else's things."""

import json
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from devcluster import addons, controlplane, node, readiness, settings
from devcluster.paths import Paths

PATHS = Paths(cache=Path("/c"), state=Path("/c/cluster"), run=Path("/run/pdfjob-devcluster"))


def test_containerd_has_root_state_and_sockets_of_its_own() -> None:
    text = node.containerd_configuration(PATHS, "localhost/pause:1", restrict_oom_score=True)
    loaded = tomllib.loads(text)
    assert loaded["root"] == "/c/cluster/containerd"
    assert loaded["state"].startswith("/run/pdfjob-devcluster/")
    assert loaded["grpc"]["address"] == str(PATHS.containerd_socket)
    assert loaded["ttrpc"]["address"].startswith("/run/pdfjob-devcluster/")
    cri = loaded["plugins"]["io.containerd.grpc.v1.cri"]
    assert cri["sandbox_image"] == "localhost/pause:1"
    assert cri["restrict_oom_score_adj"] is True
    assert cri["cni"]["conf_dir"] == "/c/cluster/config/cni"


@pytest.mark.parametrize(
    ("capabilities", "lacks"), [("000001fffeffffff", True), ("000001ffffffffff", False), ("0000000000000000", True)]
)
def test_missing_sys_resource_is_recognised(capabilities: str, lacks: bool) -> None:
    assert node.lacks_sys_resource(f"Name:\tx\nCapEff:\t{capabilities}\n") is lacks


def test_containerd_socket_path_fits_into_a_socket_address() -> None:
    assert len(f"{Paths.from_environment().containerd_socket}.ttrpc") < 108


def test_pod_network_marks_what_it_makes_with_our_name() -> None:
    loaded = json.loads(node.cni_configuration(PATHS))
    assert loaded["name"] == settings.CNI_NETWORK
    assert loaded["plugins"][0]["ipam"]["dataDir"].startswith(str(PATHS.run))


def test_kubelet_keeps_its_files_under_our_state_and_its_pods_under_our_group() -> None:
    loaded = yaml.safe_load(node.kubelet_configuration(PATHS))
    assert loaded["cgroupRoot"] == "/pdfjob-devcluster"
    assert loaded["podLogsDir"].startswith("/c/cluster/")
    assert loaded["authentication"]["anonymous"]["enabled"] is False
    assert loaded["containerRuntimeEndpoint"] == f"unix://{PATHS.containerd_socket}"


def test_kube_proxy_leaves_the_machines_connection_tracking_alone() -> None:
    loaded = yaml.safe_load(node.proxy_configuration(PATHS))
    assert loaded["conntrack"]["maxPerCore"] == 0
    assert loaded["conntrack"]["min"] == 0


def test_audit_policy_logs_every_write_and_no_body() -> None:
    loaded = yaml.safe_load(controlplane.audit_policy())
    first, last = loaded["rules"]
    assert first["level"] == "Metadata"
    assert set(first["verbs"]) == {"create", "update", "patch", "delete", "deletecollection"}
    assert "resources" not in first
    assert "users" not in first
    assert last == {"level": "None"}


def flags(argv: tuple[str, ...]) -> dict[str, str]:
    return dict(word.removeprefix("--").partition("=")[::2] for word in argv[1:])


def test_api_server_authorises_like_a_real_one_and_audits_to_a_rotated_file() -> None:
    given = flags(controlplane.api_server(PATHS).argv)
    assert given["authorization-mode"] == "Node,RBAC"
    assert given["audit-log-path"] == str(PATHS.audit_log)
    assert int(given["audit-log-maxsize"]) > 0
    assert "disable-admission-plugins" not in given
    assert given["bind-address"] == settings.NODE_ADDRESS


def test_controllers_may_do_more_than_by_default() -> None:
    given = flags(controlplane.controller_manager(PATHS).argv)
    assert int(given["kube-api-qps"]) > 20
    assert int(given["kube-api-burst"]) > 30
    assert int(given["concurrent-job-syncs"]) > 5
    scheduler = yaml.safe_load(controlplane.scheduler_configuration(PATHS))
    assert scheduler["clientConnection"]["qps"] > 50


def test_etcd_asks_for_a_client_certificate() -> None:
    given = flags(controlplane.etcd(PATHS).argv)
    assert "client-cert-auth" in given
    assert given["listen-client-urls"].startswith("https://127.0.0.1:")


def test_resolvers_that_a_pod_cannot_reach_are_left_out() -> None:
    servers = ["junk", "127.0.0.53", "10.1.2.3", "::1", "fe80::1%eth0"]
    text = "search x\n" + "".join(f"nameserver {server}\n" for server in servers)
    assert node.upstream_resolvers(text) == ["10.1.2.3"]


def test_dns_forwards_only_when_there_is_somewhere_to_forward_to() -> None:
    assert "forward . 10.1.2.3" in addons.corefile(["10.1.2.3"])
    assert "forward" not in addons.corefile([])


def objects(kind: str) -> list[dict[str, Any]]:
    rendered = yaml.safe_load_all(addons.manifests("localhost/coredns:1", ["10.1.2.3"]))
    return [item for item in rendered if item["kind"] == kind]


def test_dns_service_has_the_address_that_the_kubelet_tells_pods() -> None:
    (service,) = objects("Service")
    kubelet = yaml.safe_load(node.kubelet_configuration(PATHS))
    assert [service["spec"]["clusterIP"]] == kubelet["clusterDNS"]


def test_coredns_pod_changes_when_its_configuration_does() -> None:
    (before,) = objects("Deployment")
    changed = yaml.safe_load_all(addons.manifests("localhost/coredns:1", []))
    (after,) = (item for item in changed if item["kind"] == "Deployment")
    assert before["spec"]["template"]["metadata"] != after["spec"]["template"]["metadata"]


def test_one_storage_class_is_the_default() -> None:
    (storage,) = objects("StorageClass")
    assert storage["metadata"]["annotations"]["storageclass.kubernetes.io/is-default-class"] == "true"
    assert storage["provisioner"] == settings.PROVISIONER


def test_probe_pod_passes_the_restricted_policy_of_its_namespace() -> None:
    (namespace,) = objects("Namespace")
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    spec = readiness.probe_pod("p", "localhost/node:1", 30)["spec"]
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["containers"][0]["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert spec["restartPolicy"] == "Never"


def test_lease_time_is_read_with_its_zone() -> None:
    read = readiness.lease_time({"spec": {"renewTime": "2026-11-22T05:15:48.781524Z"}})
    assert read is not None
    assert read.isoformat() == "2026-11-22T05:15:48.781524+00:00"
    assert readiness.lease_time(None) is None
    assert readiness.lease_time({"spec": {}}) is None
