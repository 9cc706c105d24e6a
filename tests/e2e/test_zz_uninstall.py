"""Uninstalling takes everything away, in order, also while a PdfJob runs. The last test: it ends the product."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.support import pdfs
from tests.support.cluster import REPOSITORY, fresh_namespace, kubectl, kubectl_json
from tests.support.product import SYSTEM, Storage, install, submit, throttled, wait_for_operator, wait_until

pytestmark = pytest.mark.alone

OURS = "app.kubernetes.io/name=pdfjob"
CLUSTER_WIDE = "clusterroles,clusterrolebindings,customresourcedefinitions"
NAMESPACED = (
    "pods,jobs,deployments,replicasets,services,configmaps,secrets,serviceaccounts,roles,rolebindings,"
    "networkpolicies,persistentvolumeclaims"
)


@pytest.fixture
def namespace_of_a_user(installed: None) -> Iterator[str]:
    """A namespace that stays while the product goes; afterwards the product is there again."""
    wait_for_operator()
    with fresh_namespace() as namespace:
        yield namespace
    install()
    wait_for_operator()


def test_uninstall_ends_what_runs_and_leaves_nothing_and_the_next_install_works(namespace_of_a_user: str) -> None:
    namespace, storage = namespace_of_a_user, Storage.connect()
    key = f"pdfjob/inbox/{namespace}/novel.pdf"
    storage.put(key, pdfs.text_pdf(40))
    chunking = {"pagesPerChunk": 10, "thresholdPages": 0}
    job = submit(namespace, "novel", {"s3": {"key": key}}, chunking=chunking, runner=throttled(30))
    wait_until(job.running_pods, "a chunk runs")

    subprocess.run([sys.executable, "-m", "devcluster", "uninstall"], cwd=REPOSITORY, check=True)

    assert _left(CLUSTER_WIDE, OURS) == []
    assert _left(NAMESPACED, OURS) == []
    assert _left("pods,jobs", "app.kubernetes.io/managed-by=pdfjob") == []
    wait_until(lambda: not _volumes(), "the volumes of the S3 server are gone", 60)
    gone = ("namespace/pdfjob-system", "namespace/pdfjob-demo")
    crds = [f"customresourcedefinition/{plural}.pdfjob.dev" for plural in ("pdfjobs", "pdfchunks", "creditaccounts")]
    for name in (*gone, *crds):
        assert "NotFound" in kubectl("get", name, check=False).stderr
    assert kubectl("get", "pods", "-n", namespace, "-o", "name").stdout == ""
    groups = kubectl("api-versions").stdout.split()
    assert "pdfjob.dev/v1alpha1" not in groups

    install()
    wait_for_operator()
    Storage.connect().put(key, pdfs.text_pdf(2))
    again = submit(namespace, "novel", {"s3": {"key": key}})
    assert again.succeed()["source"]["pages"] == 2


def _left(kinds: str, selector: str) -> list[str]:
    """Return kind and name of what is left with a label, in all namespaces."""
    items = kubectl_json("get", kinds, "--all-namespaces", "-l", selector)["items"]
    return [f"{item['kind']}/{item['metadata']['name']}" for item in items]


def _volumes() -> list[str]:
    """Return the volumes that were made for the product and are not to be kept; the class deletes them by itself."""
    return [
        item["metadata"]["name"]
        for item in kubectl_json("get", "persistentvolumes")["items"]
        if item["spec"].get("claimRef", {}).get("namespace") == SYSTEM
        and item["spec"]["persistentVolumeReclaimPolicy"] == "Delete"
    ]
