"""The committed CRDs: up to date, structural, explained, and shown as documented."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from pdfjob_api.crd import CREDIT_ACCOUNT, PDFCHUNK, PDFJOB, RESOURCES, Resource, custom_resource_definition, files
from pdfjob_api.reference import reference
from pdfjob_api.schema import properties

REPOSITORY = Path(__file__).parents[3]


@pytest.mark.parametrize("folder", ["manifests/crds", "charts/pdfjob/files/crds"])
def test_committed_crds_are_the_generated_ones(folder: str) -> None:
    committed = {path.name: path.read_text(encoding="utf-8") for path in (REPOSITORY / folder).iterdir()}
    assert committed == files(), f"{folder} differs from the models: run `make generate` and commit"


def test_committed_reference_is_the_generated_one() -> None:
    committed = (REPOSITORY / "docs" / "api-reference.md").read_text(encoding="utf-8")
    assert committed == reference(), "docs/api-reference.md differs from the models: run `make generate` and commit"


def _version(resource: Resource) -> dict[str, Any]:
    version: dict[str, Any] = custom_resource_definition(resource)["spec"]["versions"][0]
    return version


def _schema(resource: Resource) -> dict[str, Any]:
    schema: dict[str, Any] = _version(resource)["schema"]["openAPIV3Schema"]
    return schema


def _nodes(node: Any) -> Iterator[Mapping[str, Any]]:
    """Yield every schema below and with this one."""
    yield node
    children = [*node.get("properties", {}).values(), node.get("items"), node.get("additionalProperties")]
    for child in children:
        if child is not None:
            yield from _nodes(child)


@pytest.mark.parametrize("resource", RESOURCES, ids=lambda resource: resource.kind)
class TestSchema:
    def test_holds_no_keyword_that_kubernetes_refuses(self, resource: Resource) -> None:
        for node in _nodes(_schema(resource)):
            assert not {"$ref", "$defs", "title", "const", "allOf", "oneOf"} & set(node)
            assert "anyOf" not in node or node["x-kubernetes-int-or-string"]
            assert node.get("default", ...) is not None

    def test_explains_every_field(self, resource: Resource) -> None:
        for path, schema, _ in properties(_schema(resource)):
            if path != "metadata":  # Kubernetes explains it
                assert schema["description"].endswith("."), path

    def test_says_nothing_about_metadata(self, resource: Resource) -> None:
        assert _schema(resource)["properties"]["metadata"] == {"type": "object"}

    def test_defaults_of_objects_are_those_of_their_fields(self, resource: Resource) -> None:
        """Whether a user leaves out the whole object or only a field, the same value is filled in."""
        seen = 0
        for path, schema, _ in properties(_schema(resource)):
            if schema.get("type") != "object" or "default" not in schema:
                continue
            for name, value in schema["default"].items():
                inner = schema["properties"][name]
                if "default" in inner:
                    assert inner["default"] == value, f"{path}.{name}"
                    seen += 1
        assert seen > 0

    def test_every_rule_says_what_is_allowed_in_words(self, resource: Resource) -> None:
        for node in _nodes(_schema(resource)):
            for rule in node.get("x-kubernetes-validations", ()):
                assert " " in rule["message"]
                assert "self." not in rule["message"]

    def test_status_is_a_subresource(self, resource: Resource) -> None:
        """Who may change a spec may not change a status by it: a balance is granted, what is charged is not."""
        assert _version(resource)["subresources"]["status"] == {}

    def test_columns_show_fields_that_exist(self, resource: Resource) -> None:
        known = {f".{path}" for path, _, _ in properties(_schema(resource))} | {".metadata.creationTimestamp"}
        assert {column.path for column in resource.columns} <= known

    def test_whole_numbers_in_status_are_never_negative_but_what_is_available(self, resource: Resource) -> None:
        for path, schema, _ in properties(_schema(resource)["properties"]["status"]):
            if schema["type"] == "integer" and (resource.kind, path) != ("CreditAccount", "available"):
                assert schema["minimum"] >= 0, path


@pytest.mark.parametrize("resource", [PDFJOB, PDFCHUNK], ids=lambda resource: resource.kind)
class TestPhase:
    def test_pending_needs_no_write(self, resource: Resource) -> None:
        status = _schema(resource)["properties"]["status"]
        assert status["default"]["phase"] == "Pending"
        assert status["properties"]["phase"]["default"] == "Pending"

    def test_phase_can_be_selected(self, resource: Resource) -> None:
        assert _version(resource)["selectableFields"] == [{"jsonPath": ".status.phase"}]


def test_an_account_has_no_phase_and_starts_with_nothing_available() -> None:
    assert "selectableFields" not in _version(CREDIT_ACCOUNT)
    default = _schema(CREDIT_ACCOUNT)["properties"]["status"]["default"]
    assert default == {
        "available": 0,
        "reserved": 0,
        "charged": 0,
        "refunded": 0,
        "openReservations": 0,
        "settledReservations": 0,
        "reservations": [],
    }


def test_an_account_may_be_overdrawn_in_its_status_and_not_in_its_balance() -> None:
    schema = _schema(CREDIT_ACCOUNT)["properties"]
    assert "minimum" not in schema["status"]["properties"]["available"]
    assert schema["spec"]["properties"]["balance"]["minimum"] == 0
    assert schema["spec"]["required"] == ["balance"]


def test_reservations_are_a_map_by_job() -> None:
    reservations = _schema(CREDIT_ACCOUNT)["properties"]["status"]["properties"]["reservations"]
    assert reservations["x-kubernetes-list-type"] == "map"
    assert reservations["x-kubernetes-list-map-keys"] == ["uid"]


def test_names_of_columns_are_the_documented_ones() -> None:
    def names(resource: Resource, priority: int) -> list[str]:
        return [column.name.upper() for column in resource.columns if column.priority == priority]

    assert names(PDFJOB, 0) == ["PHASE", "PROGRESS", "CHUNKS", "FAILED", "STEP", "AGE"]
    assert names(PDFJOB, 1) == ["PAGES", "RETRIES", "TOKENS", "CHARGED", "PRIORITY"]
    assert names(PDFCHUNK, 0) == ["PHASE", "FROM", "TO", "ATTEMPTS", "ERROR", "AGE"]
    assert names(PDFCHUNK, 1) == ["STARTS", "JOB", "SENTENCES", "TOKENS", "RETRY-AT", "MESSAGE"]
    assert names(CREDIT_ACCOUNT, 0) == ["BALANCE", "AVAILABLE", "RESERVED", "CHARGED", "OPEN", "AGE"]
    assert names(CREDIT_ACCOUNT, 1) == []


def test_only_the_job_scales() -> None:
    assert _version(PDFJOB)["subresources"]["scale"] == {
        "specReplicasPath": ".spec.parallelism",
        "statusReplicasPath": ".status.chunks.running",
    }
    assert [resource.kind for resource in RESOURCES if "scale" in _version(resource)["subresources"]] == ["PdfJob"]
    assert [resource.short_name for resource in RESOURCES] == ["pch", "pj", "ca"]


def test_conditions_are_a_map_by_type() -> None:
    conditions = _schema(PDFJOB)["properties"]["status"]["properties"]["conditions"]
    assert conditions["x-kubernetes-list-type"] == "map"
    assert conditions["x-kubernetes-list-map-keys"] == ["type"]
