"""Upgrade and rollback in the middle of a job: other operator, settings and CRDs; nothing is lost or repeated.

The older release is the chart with the CRDs of 0.1 (`tests/fixtures/crds-0.1`), another tag and other settings.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from devcluster.paths import Paths
from manifests.render import CHART, helm_program
from tests.support import pdfs
from tests.support.cluster import REPOSITORY, environment, fresh_namespace, kubectl, kubectl_json
from tests.support.once import assert_nothing_done_twice
from tests.support.product import (
    SYSTEM,
    Job,
    Storage,
    images,
    install,
    leader,
    operator_log,
    operator_pods,
    wait_for_operator,
    wait_until,
)

pytestmark = pytest.mark.alone

CHUNKS: Final = 24
FIXTURES: Final = REPOSITORY / "tests" / "fixtures"
MANIFEST: Final = FIXTURES / "pdfjob-0.1.yaml"


def helm(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [helm_program(), *arguments, "-n", SYSTEM]
    return subprocess.run(command, env=environment(), capture_output=True, text=True, check=False, timeout=300)


def upgrade(chart: Path, *settings: str, timeout: int = 180) -> subprocess.CompletedProcess[str]:
    """Upgrade the installed release to this chart; what it was given stays, but for ``settings``."""
    given = [word for setting in settings for word in ("--set-string" if "tag=" in setting else "--set", setting)]
    return helm("upgrade", "pdfjob", str(chart), "--reset-then-reuse-values", "--wait", f"--timeout={timeout}s", *given)


def revision() -> str:
    found: str = yaml.safe_load(helm("history", "pdfjob", "-o", "yaml", "--max", "1").stdout)[-1]["revision"]
    return str(found)


@pytest.fixture(scope="module")
def other_tag(installed: None) -> Iterator[str]:
    """Another name of the operator's image, as another release has."""
    reference = images()["operator"]
    tag = reference.rpartition(":")[2] + "-older"
    other = f"{reference.rpartition(':')[0]}:{tag}"
    ctr = ["ctr", "--address", str(Paths.from_environment().containerd_socket), "-n", "k8s.io", "images"]
    subprocess.run([*ctr, "tag", "--force", reference, other], check=True, capture_output=True, env=environment())
    yield tag
    subprocess.run([*ctr, "rm", other], check=True, capture_output=True, env=environment())


@pytest.fixture(scope="module")
def older(installed: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The chart with the CRDs of 0.1, and no others; a CRD that a release leaves out stays on the cluster."""
    chart = tmp_path_factory.mktemp("older") / "pdfjob"
    shutil.copytree(CHART, chart)
    crds, present = FIXTURES / "crds-0.1", chart / "files" / "crds"
    assert {path.name for path in crds.iterdir()} <= {path.name for path in present.iterdir()}
    shutil.rmtree(present)
    shutil.copytree(crds, present)
    return chart


@pytest.fixture(scope="module")
def book(installed: None) -> Iterator[tuple[str, bytes]]:
    """A namespace with a document in its inbox, and the result of an undisturbed run."""
    wait_for_operator()
    with fresh_namespace() as name:
        storage = Storage.connect()
        storage.put(f"pdfjob/inbox/{name}/book.pdf", pdfs.text_pdf(2 * CHUNKS))
        job = submit_old_manifest(name, "undisturbed", throttle="0")
        job.succeed()
        yield name, job.result(storage)
    install()


def submit_old_manifest(namespace: str, name: str, throttle: str | None = None) -> Job:
    """Apply the manifest of 0.1 as it is, but for names and, where asked for, the runner's pace."""
    text = MANIFEST.read_text().replace("NAMESPACE", namespace).replace("written-for-0-1", name)
    if throttle is not None:
        text = text.replace('"0.6"', f'"{throttle}"')
    kubectl("apply", "-n", namespace, "-f", "-", stdin=text)
    return Job(namespace, name)


def succeeded(job: Job) -> int:
    return sum(chunk.get("status", {}).get("phase") == "Succeeded" for chunk in job.chunks())


def knows(field: str) -> bool:
    """Whether the API server knows a field of the spec of PdfJobs."""
    crd = kubectl_json("get", "crd", "pdfjobs.pdfjob.dev")
    schema = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    return field in schema["properties"]["spec"]["properties"]


def metric(name: str) -> float:
    raw = kubectl("get", "--raw", f"/api/v1/namespaces/{SYSTEM}/pods/{leader()}:8080/proxy/metrics").stdout
    return next(float(line.split()[1]) for line in raw.splitlines() if line.startswith(f"{name} "))


def the_pod() -> dict[str, Any]:
    wait_for_operator()
    (pod,) = operator_pods()
    return pod


def test_upgrade_and_rollback_in_the_middle_of_a_job(book: tuple[str, bytes], older: Path, other_tag: str) -> None:
    namespace, expected = book
    newer_tag = images()["operator"].rpartition(":")[2]
    storage = Storage.connect()

    done = upgrade(older, f"operator.image.tag={other_tag}", "operator.workers=4")
    assert done.returncode == 0, done.stderr
    before = the_pod()
    assert before["spec"]["containers"][0]["image"].endswith(other_tag)
    assert not knows("suspend")
    # It leads before it has read everything.
    wait_until(lambda: metric("pdfjob_crd_fields_missing") > 0, "it sees that fields are missing")
    wait_until(lambda: any("the installed CRDs lack fields" in each["event"] for each in operator_log()), "it says so")
    old_release = revision()

    job = submit_old_manifest(namespace, "upgraded", throttle="2")
    wait_until(lambda: succeeded(job) >= 3, "some chunks are done")
    done = upgrade(CHART, f"operator.image.tag={newer_tag}", "operator.workers=8")
    assert done.returncode == 0, done.stderr
    now = the_pod()
    assert now["metadata"]["uid"] != before["metadata"]["uid"]
    assert now["spec"]["containers"][0]["image"].endswith(newer_tag)
    assert succeeded(job) < CHUNKS, "the upgrade came after the last chunk"
    assert knows("suspend")
    job.succeed()
    assert metric("pdfjob_crd_fields_missing") == 0, "the new operator, which has ended the job, sees them all"
    assert_nothing_done_twice(job)
    assert job.result(storage) == expected

    job = submit_old_manifest(namespace, "rolled-back", throttle="2")
    wait_until(lambda: succeeded(job) >= 3, "some chunks are done")
    done = helm("rollback", "pdfjob", old_release, "--wait", "--timeout=180s")
    assert done.returncode == 0, done.stderr
    assert the_pod()["spec"]["containers"][0]["image"].endswith(other_tag)
    assert succeeded(job) < CHUNKS, "the rollback came after the last chunk"
    assert not knows("suspend")
    job.succeed()
    assert_nothing_done_twice(job)
    assert job.result(storage) == expected


def test_a_release_that_cannot_work_does_not_take_the_place_of_one_that_does(book: tuple[str, bytes]) -> None:
    namespace, expected = book
    install()
    good, works = revision(), the_pod()
    job = submit_old_manifest(namespace, "undeterred")
    wait_until(partial(succeeded, job), "a chunk is done")
    wrong = ("operator.extraEnv[0].name=PDFJOB_S3__BUCKET", "operator.extraEnv[0].value=no-such-bucket")
    done = upgrade(CHART, *wrong, timeout=20)
    assert done.returncode != 0, "helm waits until the new pod is ready"
    assert leader() == works["metadata"]["name"]
    ready = {
        pod["metadata"]["uid"]: condition["status"]
        for pod in operator_pods()
        for condition in pod["status"]["conditions"]
        if condition["type"] == "Ready"
    }
    assert ready.pop(works["metadata"]["uid"]) == "True"
    assert list(ready.values()) == ["False"]
    job.succeed()
    assert_nothing_done_twice(job)
    assert job.result(Storage.connect()) == expected
    done = helm("rollback", "pdfjob", good, "--wait", "--timeout=180s")
    assert done.returncode == 0, done.stderr
    assert the_pod()["metadata"]["uid"] == works["metadata"]["uid"], "the one that works was never touched"
