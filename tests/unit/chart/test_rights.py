"""Rights that the chart gives: to the operator, to the uninstall hook, to people."""

from __future__ import annotations

from typing import Any

import pytest

from pdfjob_operator.handlers import build_settings
from tests.unit.chart.rendering import Rendered, render

TWO = {"watchNamespaces": ["team-a", "team-b"]}


def rights(role: dict[str, Any]) -> dict[str, set[str]]:
    """Return resource to verbs."""
    return {resource: set(rule["verbs"]) for rule in role["rules"] for resource in rule["resources"]}


def test_operator_has_these_rights_and_no_others() -> None:
    role = render().one("ClusterRole", "here-pdfjob")
    assert rights(role) == {
        "pdfjobs": {"get", "list", "watch", "patch", "delete"},
        "pdfchunks": {"get", "list", "watch", "create", "deletecollection"},
        "creditaccounts": {"get", "list", "watch"},
        "creditaccounts/status": {"patch"},
        "pdfjobs/status": {"patch"},
        "pdfchunks/status": {"patch"},
        "pdfjobs/finalizers": {"update"},
        "pdfchunks/finalizers": {"update"},
        "jobs": {"get", "list", "watch", "create", "delete"},
        "pods": {"get", "list", "watch", "delete"},
        "pods/log": {"get"},
        "events": {"create"},
    }


@pytest.mark.parametrize("values", [{}, TWO])
def test_operator_may_hold_its_own_lease_and_no_other(values: dict[str, Any]) -> None:
    role = render(values).one("Role", "pdfjob-lease")
    assert role["metadata"]["namespace"] == "here"
    by_name, any_name = role["rules"]
    assert by_name["resourceNames"] == [render(values).config["leaderElection"]["name"]]
    assert (by_name["resources"], set(by_name["verbs"])) == (["leases"], {"get", "watch", "update"})
    assert (any_name["resources"], any_name["verbs"]) == (["leases"], ["create"])


def test_operator_needs_no_right_to_look_for_namespaces_and_kinds() -> None:
    assert build_settings().scanning.disabled
    assert build_settings().peering.standalone


@pytest.mark.parametrize("values", [{}, TWO])
def test_no_rule_has_a_wildcard(values: dict[str, Any]) -> None:
    rendered = render(values)
    for role in [*rendered.of("ClusterRole"), *rendered.of("Role")]:
        for rule in role["rules"]:
            assert "*" not in [*rule["apiGroups"], *rule["resources"], *rule["verbs"]]
            assert "secrets" not in rule["resources"]


def test_named_namespaces_get_a_role_each_and_the_cluster_none() -> None:
    rendered = render(TWO)
    cluster = render()
    operator = [role for role in rendered.of("Role") if role["metadata"]["name"] == "here-pdfjob"]
    assert [role["metadata"]["namespace"] for role in operator] == ["team-a", "team-b"]
    for role in operator:
        assert role["rules"] == cluster.one("ClusterRole", "here-pdfjob")["rules"]
    assert {role["metadata"]["name"] for role in rendered.of("ClusterRole")} == {
        "here-pdfjob-viewer",
        "here-pdfjob-editor",
        "here-pdfjob-credits-admin",
    }
    assert not rendered.of("ClusterRoleBinding")
    assert rendered.config["namespaces"] == ["team-a", "team-b"]


@pytest.mark.parametrize("values", [{}, TWO])
def test_every_binding_names_a_role_and_an_account_that_exist(values: dict[str, Any]) -> None:
    rendered = render(values)
    accounts = {account["metadata"]["name"] for account in rendered.of("ServiceAccount")}
    for binding in [*rendered.of("ClusterRoleBinding"), *rendered.of("RoleBinding")]:
        place = binding["metadata"].get("namespace")
        roles = [
            role
            for role in rendered.of(binding["roleRef"]["kind"])
            if (role["metadata"]["name"], role["metadata"].get("namespace")) == (binding["roleRef"]["name"], place)
        ]
        assert len(roles) == 1
        [subject] = binding["subjects"]
        if subject["kind"] == "ServiceAccount":
            assert (subject["name"] in accounts, subject["namespace"]) == (True, "here")
    for name, pod in rendered.pods.items():
        assert name == "pdfjob-s3" or pod["serviceAccountName"] in accounts


def test_people_view_and_edit_by_the_roles_of_the_cluster() -> None:
    rendered = render()
    viewer, editor = (rendered.one("ClusterRole", f"here-pdfjob-{name}") for name in ("viewer", "editor"))
    prefix = "rbac.authorization.k8s.io/aggregate-to-"
    assert {key for key in viewer["metadata"]["labels"] if key.startswith(prefix)} == {
        f"{prefix}view",
        f"{prefix}edit",
        f"{prefix}admin",
    }
    assert f"{prefix}view" not in editor["metadata"]["labels"]
    assert set().union(*rights(viewer).values()) == {"get", "list", "watch"}
    assert rights(editor) == {
        "pdfjobs": {"create", "update", "patch", "delete", "deletecollection"},
        "pdfjobs/scale": {"update", "patch"},
        "pdfchunks": {"update", "patch"},
    }
    alone = render({"rbac": {"aggregate": False}}).one("ClusterRole", "here-pdfjob-viewer")
    assert not [key for key in alone["metadata"]["labels"] if key.startswith(prefix)]


def test_who_submits_jobs_cannot_grant_tokens_to_himself() -> None:
    rendered = render()
    editor, granter = (rendered.one("ClusterRole", f"here-pdfjob-{name}") for name in ("editor", "credits-admin"))
    prefix = "rbac.authorization.k8s.io/aggregate-to-"
    assert {key for key in granter["metadata"]["labels"] if key.startswith(prefix)} == {f"{prefix}admin"}
    assert rights(granter) == {"creditaccounts": {"create", "update", "patch", "delete", "deletecollection"}}
    changing = [
        role["metadata"]["name"]
        for role in [*rendered.of("ClusterRole"), *rendered.of("Role")]
        if rights(role).get("creditaccounts", set()) - {"get", "list", "watch"}
    ]
    assert changing == ["here-pdfjob-credits-admin"]
    assert "creditaccounts" not in rights(editor)
    alone = render({"rbac": {"aggregate": False}}).one("ClusterRole", "here-pdfjob-credits-admin")
    assert not [key for key in alone["metadata"]["labels"] if key.startswith(prefix)]


def test_nobody_but_the_operator_writes_what_an_account_has_charged() -> None:
    rendered = render()
    writers = [
        role["metadata"]["name"]
        for role in [*rendered.of("ClusterRole"), *rendered.of("Role")]
        if rights(role).get("creditaccounts/status", set()) - {"get"}
    ]
    assert writers == ["here-pdfjob"]


def hooks(rendered: Rendered) -> list[dict[str, Any]]:
    return [d for d in rendered.documents if "helm.sh/hook" in d["metadata"].get("annotations", {})]


@pytest.mark.parametrize("values", [{}, TWO])
def test_uninstall_deletes_pdfjobs_before_anything_else(values: dict[str, Any]) -> None:
    rendered = render(values)
    found = hooks(rendered)
    assert {hook["metadata"]["annotations"]["helm.sh/hook"] for hook in found} == {"pre-delete"}
    job = rendered.one("Job", "pdfjob-uninstall")
    weights = {hook["kind"]: int(hook["metadata"]["annotations"]["helm.sh/hook-weight"]) for hook in found}
    assert all(weight < weights["Job"] for kind, weight in weights.items() if kind != "Job")
    [container] = job["spec"]["template"]["spec"]["containers"]
    assert container["command"][1:] == ["-m", "pdfjob_operator.uninstall"]
    assert container["args"] == [
        "--timeout=240",
        *[f"--namespace={name}" for name in values.get("watchNamespaces", [])],
    ]
    assert job["spec"]["activeDeadlineSeconds"] < 300
    for role in [hook for hook in found if hook["kind"] in {"Role", "ClusterRole"}]:
        assert rights(role) == {"pdfjobs": {"list", "delete"}}


def test_uninstall_can_leave_pdfjobs_alone() -> None:
    assert not hooks(render({"uninstall": {"deletePdfJobs": False}}))


def test_crds_are_upgraded_with_the_chart_and_kept_when_it_goes() -> None:
    for crd in render().of("CustomResourceDefinition"):
        assert crd["metadata"]["annotations"] == {"helm.sh/resource-policy": "keep"}
    for crd in render({"crds": {"keep": False}}).of("CustomResourceDefinition"):
        assert "annotations" not in crd["metadata"]
    assert not render({"crds": {"install": False}}).of("CustomResourceDefinition")


def test_network_policies_open_one_port_each_and_no_way_out_of_the_storage() -> None:
    policies = {policy["metadata"]["name"]: policy["spec"] for policy in render().of("NetworkPolicy")}
    assert policies["pdfjob"]["ingress"] == [{"ports": [{"port": "http"}]}]
    assert policies["pdfjob-s3"]["ingress"] == [{"ports": [{"port": "s3"}]}]
    assert policies["pdfjob-s3"]["policyTypes"] == ["Ingress", "Egress"]
    assert policies["pdfjob-s3"]["egress"] == []
    assert not render({"networkPolicy": {"enabled": False}}).of("NetworkPolicy")
