"""A release of the chart on a real cluster: install, rights, upgrade, rollback, uninstall in its order.

It has a namespace of its own and watches that one only, so that it meets no other installation.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator

import pytest

from manifests.render import CHART, helm_program
from tests.support.cluster import crds, environment, fresh_namespace, kubectl, kubectl_json
from tests.support.product import images, submit, wait_until

__all__ = ["crds"]

RELEASE = "reader"
NAME = "reader-pdfjob"
IMAGES = {"operator": "operator.image", "runner": "runner.image", "versitygw": "s3.embedded.image"}


def helm(*arguments: str) -> str:
    done = subprocess.run(
        [helm_program(), *arguments], env=environment(), capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, f"helm {' '.join(arguments)}:\n{done.stdout}{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def place(crds: None) -> Iterator[str]:
    """The namespace of the release, which watches it."""
    with fresh_namespace("chart") as name:
        settings = [
            "crds.install=false",
            "s3.embedded.persistence.enabled=false",
            "uninstall.timeoutSeconds=120",
            f"watchNamespaces[0]={name}",
        ]
        built = images()
        for image, value in IMAGES.items():
            repository, tag = built[image].rsplit(":", 1)
            settings += [f"{value}.repository={repository}", f"{value}.tag={tag}"]
        given = [word for setting in settings for word in ("--set-string" if ".tag=" in setting else "--set", setting)]
        helm("install", RELEASE, str(CHART), "-n", name, "--wait", "--timeout", "180s", *given)
        yield name
        # For a run that was cut short; the last test has done it properly.
        helm("uninstall", RELEASE, "-n", name, "--no-hooks", "--ignore-not-found")


def secret(place: str) -> dict[str, str]:
    found: dict[str, str] = kubectl_json("-n", place, "get", "secret", f"{NAME}-s3")["data"]
    return found


def test_pods_are_admitted_under_pod_security_restricted_and_become_ready(place: str) -> None:
    pods = kubectl_json("-n", place, "get", "pods", "-l", f"app.kubernetes.io/instance={RELEASE}")["items"]
    components = {pod["metadata"]["labels"]["app.kubernetes.io/component"] for pod in pods}
    assert components == {"operator", "s3"}
    for pod in pods:
        assert all(status["ready"] for status in pod["status"]["containerStatuses"])


@pytest.mark.parametrize(
    ("verb", "resource", "answer"),
    [
        ("list", "pdfjobs.pdfjob.dev", "yes"),
        ("patch", "pdfjobs.pdfjob.dev/status", "yes"),
        ("create", "jobs.batch", "yes"),
        ("delete", "pods", "yes"),
        ("create", "events", "yes"),
        ("delete", "pdfjobs.pdfjob.dev", "yes"),
        ("get", "pods/log", "yes"),
        ("delete", "pdfchunks.pdfjob.dev", "no"),
        ("list", "creditaccounts.pdfjob.dev", "yes"),
        ("patch", "creditaccounts.pdfjob.dev/status", "yes"),
        ("patch", "creditaccounts.pdfjob.dev", "no"),
        ("update", f"leases.coordination.k8s.io:{NAME}", "yes"),
        ("update", "leases.coordination.k8s.io:other", "no"),
        ("create", "pods", "no"),
        ("get", "secrets", "no"),
        ("get", "configmaps", "no"),
        ("patch", "jobs.batch", "no"),
    ],
)
def test_operator_may_do_its_work_in_its_namespace_and_nothing_elsewhere(
    place: str, verb: str, resource: str, answer: str
) -> None:
    account = f"--as=system:serviceaccount:{place}:{NAME}"
    kind, _, part = resource.partition("/")
    what = (verb, kind.replace(":", "/"), *([f"--subresource={part}"] if part else []))
    assert kubectl("auth", "can-i", *what, "-n", place, account, check=False).stdout.strip() == answer
    assert kubectl("auth", "can-i", *what, "-n", "default", account, check=False).stdout.strip() == "no"


def test_every_user_may_read_where_the_installation_keeps_things(place: str) -> None:
    someone = ("--as=someone", "--as-group=system:authenticated")
    assert (
        kubectl_json("-n", place, "get", "configmap", "pdfjob-info", *someone)["data"]["s3ServiceName"] == f"{NAME}-s3"
    )
    refused = kubectl("-n", place, "get", "secret", f"{NAME}-s3", *someone, check=False)
    assert "cannot get resource" in refused.stderr


@pytest.mark.parametrize(
    ("role", "verb", "resource", "answer"),
    [
        ("edit", "create", "pdfjobs", "yes"),
        ("edit", "patch", "pdfjobs/scale", "yes"),
        ("edit", "patch", "pdfchunks", "yes"),
        ("edit", "create", "pdfchunks", "no"),
        ("edit", "patch", "pdfjobs/status", "no"),
        ("edit", "get", "creditaccounts", "yes"),
        ("edit", "patch", "creditaccounts", "no"),
        ("edit", "create", "creditaccounts", "no"),
        ("edit", "patch", "creditaccounts/status", "no"),
        ("admin", "create", "creditaccounts", "yes"),
        ("admin", "patch", "creditaccounts", "yes"),
        ("admin", "patch", "creditaccounts/status", "no"),
        ("view", "list", "pdfjobs", "yes"),
        ("view", "list", "creditaccounts", "yes"),
        ("view", "patch", "creditaccounts", "no"),
        ("view", "create", "pdfjobs", "no"),
        ("view", "patch", "pdfjobs/scale", "no"),
    ],
)
def test_admins_of_a_namespace_grant_tokens_editors_submit_and_scale_and_viewers_look(
    place: str, role: str, verb: str, resource: str, answer: str
) -> None:
    user = f"{role}or"
    kubectl("-n", place, "create", "rolebinding", role, f"--clusterrole={role}", f"--user={user}", check=False)
    kind, _, part = resource.partition("/")
    command = ("auth", "can-i", verb, f"{kind}.pdfjob.dev", *([f"--subresource={part}"] if part else []))

    def said() -> bool:
        return kubectl(*command, "-n", place, f"--as={user}", check=False).stdout.strip() == answer

    wait_until(said, "the answer, once the roles are aggregated", 60)


def test_upgrade_keeps_the_credentials_and_restarts_the_operator_with_the_new_settings(place: str) -> None:
    before = secret(place)
    helm(
        *("upgrade", RELEASE, str(CHART), "-n", place, "--reuse-values", "--set", "logLevel=debug"),
        *("--wait", "--timeout", "180s"),
    )
    assert secret(place) == before
    config = kubectl_json("-n", place, "get", "configmap", NAME)["data"]["config.yaml"]
    assert "logLevel: debug" in config
    wait_until(lambda: '"debug"' in kubectl("-n", place, "logs", f"deployment/{NAME}").stdout, "a debug line", 60)


def test_rollback_brings_the_old_settings_back(place: str) -> None:
    before = secret(place)
    helm("rollback", RELEASE, "1", "-n", place, "--wait", "--timeout", "180s")
    assert secret(place) == before
    assert "logLevel: info" in kubectl_json("-n", place, "get", "configmap", NAME)["data"]["config.yaml"]


def test_uninstall_ends_pdfjobs_first_and_leaves_nothing_but_the_crds(place: str) -> None:
    job = submit(place, "lost", {"s3": {"key": f"pdfjob/inbox/{place}/nothing-here.pdf"}})
    assert job.wait()["phase"] == "Failed"
    assert job.get()["metadata"]["finalizers"]
    helm("uninstall", RELEASE, "-n", place, "--wait", "--timeout", "180s")
    kinds = "pdfjobs,pdfchunks,deployments,jobs,services,roles,networkpolicies,persistentvolumeclaims"
    assert kubectl("-n", place, "get", kinds, "-o", "name").stdout == ""
    rest = kubectl("-n", place, "get", "configmaps,secrets,serviceaccounts", "-o", "name").stdout.split()
    assert rest == ["configmap/kube-root-ca.crt", "serviceaccount/default"]
    assert place not in kubectl("get", "clusterroles,clusterrolebindings", "-o", "name").stdout
    assert kubectl("get", "crd", "pdfjobs.pdfjob.dev", "-o", "name").stdout
