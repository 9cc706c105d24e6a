"""What a good PdfJob becomes: defaults filled in, scaled, explained, and readable in a terminal."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from pdfjob_api.crd import RESOURCES, Resource, custom_resource_definition
from pdfjob_api.creditaccount import CreditAccountStatus
from pdfjob_api.pdfjob import PdfJob
from pdfjob_api.schema import properties
from tests.integration.api.manifests import creditaccount, pdfchunk, pdfjob, replaced, text
from tests.integration.api.statuses import FULL_ACCOUNT_STATUS, FULL_CHUNK_STATUS, FULL_JOB_STATUS
from tests.support.cluster import kubectl, kubectl_json
from tests.support.product import wait_until

pytestmark = pytest.mark.usefixtures("crds")

MINIMAL = {
    "apiVersion": "pdfjob.dev/v1alpha1",
    "kind": "PdfJob",
    "metadata": {"name": "novel"},
    "spec": {"source": {"s3": {"key": "pdfjob/inbox/default/novel.pdf"}}},
}

DEFAULTS: dict[str, Any] = {
    "source": {"s3": {"key": "pdfjob/inbox/default/novel.pdf"}, "repair": "Strict"},
    "chunking": {"pagesPerChunk": 50, "thresholdPages": 50, "overlapPages": 1},
    "processor": {"local": {"language": "fr"}},
    "parallelism": 4,
    "priority": 5,
    "retryPolicy": {"maxRetries": 3, "backoff": {"initialSeconds": 10, "factor": 2, "maxSeconds": 300}},
    "suspend": False,
    "failurePolicy": {"maxFailedChunks": 0, "maxFailedItems": 0},
    "limits": {
        "chunkTimeoutSeconds": 1800,
        "chunkSoftTimeoutSeconds": 1500,
        "itemTimeoutSeconds": 300,
        "stuckTimeoutSeconds": 600,
        "pendingTimeoutSeconds": 600,
    },
    "output": {"formats": ["jsonl", "txt", "csv"]},
    "cache": "Use",
    "ttlSecondsAfterFinished": {"succeeded": 86400, "failed": -1, "stopped": -1, "cancelled": -1},
    "deletionPolicy": "Delete",
}


RELEASED = sorted((Path(__file__).parent / "released").glob("*.yaml"))


def created(room: str, manifest: dict[str, Any]) -> Any:
    return kubectl_json("-n", room, "create", "--dry-run=server", "-f", "-", stdin=text(manifest))


def test_source_alone_is_enough_and_everything_else_is_filled_in(room: str) -> None:
    answer = created(room, MINIMAL)
    assert answer["spec"] == DEFAULTS
    assert answer["status"]["phase"] == "Pending"


def test_model_and_api_server_fill_in_the_same_defaults(room: str) -> None:
    mine = PdfJob.model_validate(MINIMAL).wire()
    answer = created(room, MINIMAL)
    assert mine["spec"] == answer["spec"]
    assert mine["status"] == answer["status"]


@pytest.mark.parametrize(
    ("part", "given"),
    [
        ("chunking", {"overlapPages": 1}),
        ("retryPolicy", {"backoff": {}}),
        ("limits", {}),
        ("failurePolicy", {}),
        ("ttlSecondsAfterFinished", {"failed": -1}),
        ("suspend", None),
        ("output", {}),
        ("processor", {"local": {}}),
        ("chunking", None),
    ],
)
def test_part_of_an_object_is_completed_with_the_same_defaults(room: str, part: str, given: Any) -> None:
    manifest = json.loads(json.dumps(MINIMAL))
    manifest["spec"][part] = given
    assert created(room, manifest)["spec"] == DEFAULTS


@pytest.mark.parametrize(
    "changes",
    [
        {"runner.resources": {"requests": {"cpu": 1, "memory": "256Mi"}, "limits": {"memory": "2Gi"}}},
        {"runner.affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"any": ["thing"]}}}},
        {"runner.env": [{"name": "KEY", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}]},
        {"runner.tolerations": [{"key": "gpu", "operator": "Exists", "effect": "NoSchedule"}]},
        {"processor": {"custom": {"image": "example.com/a", "config": {"deep": [{"er": None}], "n": 1.5}}}},
        {"failurePolicy.maxFailedChunks": 3},
        {"failurePolicy.maxFailedChunks": "10%"},
        {"failurePolicy.maxFailedChunks": "0%"},
        {"failurePolicy.maxFailedChunks": "100%"},
        {"retryRequest": {"id": "x", "chunks": [2, 5], "force": True}},
        {"creditAccountRef": {"name": "books.team-a", "estimatedTokens": 10**15}},
        {"ttlSecondsAfterFinished.succeeded": -1, "ttlSecondsAfterFinished.failed": 0},
        {"limits.jobTimeoutSeconds": 1, "limits.pendingTimeoutSeconds": 1},
        {"suspend": True, "shutdown": "Stop"},
        {"shutdown": "Cancel"},
        {"priority": 0, "retryPolicy.maxRetries": 0, "chunking.thresholdPages": 0},
        {"priority": 10, "parallelism": 10000, "chunking.pagesPerChunk": 1000, "chunking.overlapPages": 5},
    ],
)
def test_every_corner_that_is_allowed_is_accepted_and_kept(room: str, changes: dict[str, Any]) -> None:
    spec = created(room, pdfjob(changes))["spec"]
    for path, value in changes.items():
        found = spec
        for part in path.split("."):
            found = found[part]
        assert found == value


@pytest.mark.parametrize("balance", [0, 10**15])
def test_an_account_starts_with_nothing_reserved_charged_or_available(room: str, balance: int) -> None:
    """What is available is for the operator to say: it has not seen the account yet."""
    answer = created(room, creditaccount({"balance": balance}))
    assert answer["spec"] == {"balance": balance}
    assert answer["status"] == CreditAccountStatus().wire()


def test_an_account_is_topped_up_by_one_line_of_kubectl(namespace: str) -> None:
    kubectl("-n", namespace, "create", "-f", "-", stdin=text(creditaccount()))
    patch = ("--type=merge", "-p", '{"spec":{"balance":3000000}}')
    topped_up = kubectl_json("-n", namespace, "patch", "creditaccount", "books", *patch)
    assert topped_up["spec"]["balance"] == 3_000_000


@pytest.mark.parametrize("path", RELEASED, ids=lambda path: path.stem)
def test_manifests_of_every_release_are_accepted_and_keep_every_field(room: str, path: Path) -> None:
    for manifest in yaml.safe_load_all(path.read_text(encoding="utf-8")):
        spec = created(room, manifest)["spec"]
        assert contains(spec, manifest["spec"]), manifest["metadata"]["name"]


def contains(whole: Any, part: Any) -> bool:
    """Whether all of ``part`` is in ``whole``, which may have more."""
    if isinstance(part, dict):
        return all(key in whole and contains(whole[key], value) for key, value in part.items())
    return bool(whole == part)


def test_released_manifests_use_every_field() -> None:
    """So that the next release can break none of them unseen."""
    manifests = [m for path in RELEASED for m in yaml.safe_load_all(path.read_text(encoding="utf-8"))]
    for resource in RESOURCES:
        if resource.kind == "PdfChunk":  # made by the operator alone
            continue
        version = custom_resource_definition(resource)["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
        specs = [manifest["spec"] for manifest in manifests if manifest["kind"] == resource.kind]
        for path, _, _ in properties(version["properties"]["spec"]):
            assert any(has(spec, path.split(".")) for spec in specs), f"{resource.kind} {path}"


def has(value: Any, path: list[str]) -> bool:
    if not path:
        return True
    name = path[0].removesuffix("[]")
    if not isinstance(value, dict) or name not in value:
        return False
    inner = value[name]
    return any(has(item, path[1:]) for item in inner) if path[0].endswith("[]") else has(inner, path[1:])


def test_settings_that_may_change_in_flight_do(job: str) -> None:
    changes = {"priority": 9, "parallelism": 1, "retryPolicy.maxRetries": 7, "limits.chunkTimeoutSeconds": 9000}
    done = replaced(job, pdfjob(changes))
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("patch", "field", "value"),
    [
        ('{"spec":{"suspend":true}}', "suspend", True),
        ('{"spec":{"priority":9}}', "priority", 9),
        (
            '{"spec":{"failurePolicy":{"maxFailedChunks":"5%"}}}',
            "failurePolicy",
            {**DEFAULTS["failurePolicy"], "maxFailedChunks": "5%"},
        ),
        ('{"spec":{"limits":{"jobTimeoutSeconds":3600}}}', "limits", {**DEFAULTS["limits"], "jobTimeoutSeconds": 3600}),
        (
            '{"spec":{"retryRequest":{"id":"now","chunks":[2,5],"force":true}}}',
            "retryRequest",
            {"id": "now", "chunks": [2, 5], "force": True},
        ),
        (
            '{"spec":{"ttlSecondsAfterFinished":{"failed":60}}}',
            "ttlSecondsAfterFinished",
            {**DEFAULTS["ttlSecondsAfterFinished"], "failed": 60},
        ),
        ('{"spec":{"shutdown":"Stop"}}', "shutdown", "Stop"),
        ('{"spec":{"shutdown":"Cancel"}}', "shutdown", "Cancel"),
    ],
)
def test_every_verb_is_one_line_of_kubectl(job: str, patch: str, field: str, value: Any) -> None:
    tried = kubectl_json("-n", job, "patch", "pdfjob", "novel", "--dry-run=server", "--type=merge", "-p", patch)
    assert tried["spec"][field] == value


def test_a_chunk_is_retried_by_one_line_of_kubectl(namespace: str) -> None:
    kubectl("-n", namespace, "create", "-f", "-", stdin=text(pdfchunk()))
    patch = ("--type=merge", "-p", '{"spec":{"retryRequest":{"id":"now","force":true}}}')
    tried = kubectl_json("-n", namespace, "patch", "pdfchunk", "novel-c00002", *patch)
    assert tried["spec"]["retryRequest"] == {"id": "now", "force": True}


def test_kubectl_scale_sets_parallelism(namespace: str) -> None:
    kubectl("-n", namespace, "create", "-f", "-", stdin=text(pdfjob()))
    kubectl("-n", namespace, "scale", "pdfjob", "novel", "--replicas=8")
    assert kubectl_json("-n", namespace, "get", "pj", "novel")["spec"]["parallelism"] == 8
    refused = kubectl("-n", namespace, "scale", "pdfjob", "novel", "--replicas=0", check=False)
    assert refused.returncode != 0
    assert "greater than or equal to 1" in refused.stderr


@pytest.mark.parametrize("resource", RESOURCES, ids=lambda resource: resource.kind)
def test_kubectl_explains_every_field(resource: Resource) -> None:
    schema = custom_resource_definition(resource)["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    names = {path.replace("[]", ""): child for path, child, _ in properties(schema)}
    tree = kubectl("explain", resource.kind.lower(), "--recursive").stdout
    for path, child in names.items():
        assert f"{path.rsplit('.', 1)[-1]}\t<" in tree, path
        if child.get("type") == "object" and "properties" in child and path != "metadata":
            said = " ".join(kubectl("explain", f"{resource.kind.lower()}.{path}").stdout.split())
            for name, field in child["properties"].items():
                assert " ".join(field["description"].split()) in said, f"{path}.{name}"


def written(namespace: str, manifest: dict[str, Any], status: dict[str, Any]) -> Any:
    """Create a resource, write its status, and return the answer to that: the object as it is stored."""
    kubectl("-n", namespace, "create", "-f", "-", stdin=text(manifest))
    return write_status(namespace, manifest["kind"].lower(), manifest["metadata"]["name"], status)


def write_status(namespace: str, kind: str, name: str, status: dict[str, Any]) -> Any:
    patch = ("--subresource=status", "--type=merge", "-p", json.dumps({"status": status}))
    return kubectl_json("-n", namespace, "patch", kind, name, *patch)


def test_no_field_of_a_status_is_pruned(namespace: str) -> None:
    assert written(namespace, pdfjob(), FULL_JOB_STATUS)["status"] == FULL_JOB_STATUS
    assert written(namespace, pdfchunk(), FULL_CHUNK_STATUS)["status"] == FULL_CHUNK_STATUS
    assert written(namespace, creditaccount(), FULL_ACCOUNT_STATUS)["status"] == FULL_ACCOUNT_STATUS


def test_short_names_belong_to_no_other_resource() -> None:
    """kubectl warns, and takes the other one, where a short name is taken: PriorityClass has pc."""
    for resource in RESOURCES:
        done = kubectl("get", resource.short_name, "--all-namespaces")
        assert "could also match" not in done.stderr


def test_phase_selects(namespace: str) -> None:
    written(namespace, pdfchunk(), FULL_CHUNK_STATUS)
    kubectl("-n", namespace, "create", "-f", "-", stdin=text(pdfchunk({"index": 3}, name="novel-c00003")))

    def found(phase: str) -> list[str]:
        items = kubectl_json("-n", namespace, "get", "pch", "--field-selector", f"status.phase={phase}")["items"]
        return [item["metadata"]["name"] for item in items]

    assert found("Pending") == ["novel-c00003"]
    assert found(FULL_CHUNK_STATUS["phase"]) == ["novel-c00002"]


def test_columns_fit_a_terminal_of_100(namespace: str) -> None:
    step = {"currentStep": "Processing chunk 250/250", "summary": {"progress": "100%", "chunks": "250/250"}}
    name = "debian-reference"
    kubectl("-n", namespace, "create", "-f", "-", stdin=text(pdfjob(name=name)))
    written(namespace, pdfchunk(name=f"{name}-c00002"), FULL_CHUNK_STATUS)

    def rows() -> list[str]:
        """Write the long status and read it; an operator at work on the cluster may have put its own in between."""
        write_status(namespace, "pdfjob", name, FULL_JOB_STATUS | step)
        return kubectl("-n", namespace, "get", "pdfjobs").stdout.splitlines()

    jobs = wait_until(lambda: [line for line in [rows()] if "100%" in line[1]], "the status as written", 30)[0]
    assert "250/250" in jobs[1]
    chunks = kubectl("-n", namespace, "get", "pdfchunks").stdout.splitlines()
    assert jobs[0].split() == ["NAME", "PHASE", "PROGRESS", "CHUNKS", "FAILED", "STEP", "AGE"]
    assert chunks[0].split() == ["NAME", "PHASE", "FROM", "TO", "ATTEMPTS", "ERROR", "AGE"]
    kubectl("-n", namespace, "create", "-f", "-", stdin=text(creditaccount({"balance": 10**15})))
    accounts = kubectl("-n", namespace, "get", "creditaccounts").stdout.splitlines()
    assert accounts[0].split() == ["NAME", "BALANCE", "AVAILABLE", "RESERVED", "CHARGED", "OPEN", "AGE"]
    assert max(map(len, jobs + chunks + accounts)) <= 100


def test_wide_columns_and_category(namespace: str) -> None:
    written(namespace, pdfjob(), FULL_JOB_STATUS)
    written(namespace, pdfchunk(), FULL_CHUNK_STATUS)
    head = kubectl("-n", namespace, "get", "pj", "-o", "wide").stdout.splitlines()[0]
    assert head.split()[-5:] == ["PAGES", "RETRIES", "TOKENS", "CHARGED", "PRIORITY"]
    head = kubectl("-n", namespace, "get", "pch", "-o", "wide").stdout.splitlines()[0]
    assert head.split()[-6:] == ["STARTS", "JOB", "SENTENCES", "TOKENS", "RETRY-AT", "MESSAGE"]
    kubectl("-n", namespace, "create", "-f", "-", stdin=text(creditaccount()))
    every = kubectl("-n", namespace, "get", "pdf", "-o", "name").stdout.split()
    assert sorted(every) == [
        "creditaccount.pdfjob.dev/books",
        "pdfchunk.pdfjob.dev/novel-c00002",
        "pdfjob.pdfjob.dev/novel",
    ]
