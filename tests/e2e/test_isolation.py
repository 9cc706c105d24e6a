"""A runner holds no credential but presigned URLs, and nothing that it could misuse them with."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

import pytest

from pdfjob_api import contract
from tests.support import pdfs
from tests.support.cluster import fresh_namespace, kubectl, kubectl_json
from tests.support.product import SYSTEM, Job, Storage, submit, throttled, wait_for_operator, wait_until

URLS: Final = {
    contract.ENV_CHUNK_URL,
    contract.ENV_CHECKPOINT_URL,
    contract.ENV_PROGRESS_URL,
    contract.ENV_RESULT_URL,
}
PLAIN: Final = {contract.ENV_TASK, "HOME", "RUNNER_THROTTLE_SECONDS_PER_PAGE"}
INSIDE: Final = """
import importlib.util, json, os, pathlib
def writable(path):
    try:
        pathlib.Path(path, "probe").write_text("x")
    except OSError:
        return False
    return True
status = dict(line.split(":", 1) for line in pathlib.Path("/proc/self/status").read_text().splitlines())
print(json.dumps({
    "uid": os.getuid(),
    "capabilities": int(status["CapEff"], 16),
    "no_new_privileges": int(status["NoNewPrivs"]),
    "seccomp": int(status["Seccomp"]),
    "token": pathlib.Path("/var/run/secrets/kubernetes.io").exists(),
    "writable": [path for path in ("/", "/opt", "/etc", "/home", "/tmp") if writable(path)],
    "modules": [name for name in ("kopf", "kubernetes", "boto3", "pikepdf", "pdfjob_operator", "chunk_runner")
                if importlib.util.find_spec(name)],
    "environment": sorted(os.environ),
}))
"""
OF_EVERY_CONTAINER: Final = ("PATH", "HOSTNAME", "LANG", "LC_CTYPE", "PYTHON", "KUBERNETES_")
"""The image's own, and the address of the API server, which the kubelet gives to every container."""


@pytest.fixture(scope="module")
def job(installed: None) -> Iterator[Job]:
    """A job whose one runner takes its time."""
    wait_for_operator()
    with fresh_namespace() as name:
        Storage.connect().put(f"pdfjob/inbox/{name}/book.pdf", pdfs.text_pdf(10))
        yield submit(name, "isolated", {"s3": {"key": f"pdfjob/inbox/{name}/book.pdf"}}, runner=throttled(60))


@pytest.fixture(scope="module")
def pod(job: Job) -> dict[str, Any]:
    """The live runner pod."""
    wait_until(job.running_pods, "the runner runs")
    (found,) = job.running_pods()
    return found


def test_the_namespace_enforces_pod_security_restricted(job: Job, pod: dict[str, Any]) -> None:
    labels = kubectl_json("get", "namespace", job.namespace)["metadata"]["labels"]
    assert labels["pod-security.kubernetes.io/enforce"] == "restricted"
    # The pod itself, sent again, is admitted by the same rules.
    copy = {
        **pod,
        "metadata": {"name": "copy", "namespace": job.namespace},
        "status": None,
        "spec": {key: value for key, value in pod["spec"].items() if key != "nodeName"},
    }
    done = kubectl("create", "--dry-run=server", "-f", "-", stdin=json.dumps(copy))
    assert "would violate" not in done.stdout + done.stderr


def test_the_runner_pod_has_no_token_and_no_credential_but_presigned_urls(pod: dict[str, Any]) -> None:
    spec = pod["spec"]
    assert spec["automountServiceAccountToken"] is False
    assert [sorted(volume) for volume in spec["volumes"]] == [["emptyDir", "name"]]
    (container,) = spec["containers"]
    assert "envFrom" not in container
    values = {item["name"]: item.get("value", "") for item in container["env"]}
    assert set(values) == URLS | PLAIN
    secret = kubectl_json("get", "secret", "pdfjob-s3", "-n", SYSTEM)["data"]
    text = json.dumps(pod)
    assert secret["secretKey"] not in text
    assert base64.b64decode(secret["secretKey"]).decode() not in text
    for name in URLS:
        query = parse_qs(urlsplit(values[name]).query)
        assert {"X-Amz-Signature", "X-Amz-Expires"} <= set(query)
    paths = {urlsplit(values[name]).path for name in URLS}
    assert len(paths) == len(URLS)


def test_a_presigned_url_opens_no_other_object(pod: dict[str, Any], job: Job) -> None:
    values = {item["name"]: item.get("value", "") for item in pod["spec"]["containers"][0]["env"]}
    other = values[contract.ENV_CHUNK_URL].replace("/chunks/c00000.pdf", "/plan.json")
    program = f"""
import urllib.request, urllib.error
for url in ({values[contract.ENV_CHUNK_URL]!r}, {other!r}):
    try:
        print(urllib.request.urlopen(url).status)
    except urllib.error.HTTPError as error:
        print(error.code)
"""
    assert run_inside(pod, program).split() == ["200", "403"]


def test_inside_the_runner_there_is_nothing_to_misuse(pod: dict[str, Any]) -> None:
    found = json.loads(run_inside(pod, INSIDE))
    assert found["uid"] != 0
    assert (found["capabilities"], found["no_new_privileges"]) == (0, 1)
    assert found["seccomp"] == 2, "filtered"
    assert found["token"] is False
    assert found["writable"] == ["/tmp"]
    assert found["modules"] == ["chunk_runner"], "no kopf, kubernetes or boto3 in the runner's image"
    foreign = {name for name in found["environment"] if not name.startswith(OF_EVERY_CONTAINER)}
    assert foreign - URLS - PLAIN == set(), "no service links, no credentials"


def run_inside(pod: dict[str, Any], program: str) -> str:
    name, namespace = pod["metadata"]["name"], pod["metadata"]["namespace"]
    return kubectl("exec", name, "-n", namespace, "-c", "runner", "--", "python", "-c", program).stdout
