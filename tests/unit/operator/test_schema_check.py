"""The start-up check: a field that the installed CRDs lack would be dropped by the API server in silence."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from pdfjob_api.names import CREDIT_ACCOUNT_KIND, PDFCHUNK_KIND, PDFJOB_KIND
from pdfjob_operator.schema_check import missing_fields

CRDS = Path(__file__).parents[3] / "manifests" / "crds"


@pytest.fixture
def openapi() -> dict[str, Any]:
    """Return what the API server answers when the committed CRDs are installed."""
    schemas = {}
    for path in CRDS.glob("*.yaml"):
        crd = yaml.safe_load(path.read_text())
        (version,) = crd["spec"]["versions"]
        schemas[f"dev.pdfjob.v1alpha1.{crd['spec']['names']['kind']}"] = version["schema"]["openAPIV3Schema"]
    assert set(schemas) == {f"dev.pdfjob.v1alpha1.{kind}" for kind in (PDFJOB_KIND, PDFCHUNK_KIND, CREDIT_ACCOUNT_KIND)}
    return {"components": {"schemas": schemas}}


def properties(openapi: dict[str, Any], kind: str, *path: str) -> dict[str, Any]:
    schema = openapi["components"]["schemas"][f"dev.pdfjob.v1alpha1.{kind}"]
    for name in path:
        schema = schema["items"] if name == "[]" else schema["properties"][name]
    found: dict[str, Any] = schema["properties"]
    return found


def test_the_committed_crds_lack_nothing(openapi: dict[str, Any]) -> None:
    assert missing_fields(openapi) == []


@pytest.mark.parametrize(
    ("kind", "path", "field", "told"),
    [
        (PDFJOB_KIND, ("status",), "progressPercent", "PdfJob.status.progressPercent"),
        (PDFJOB_KIND, ("status", "items"), "done", "PdfJob.status.items.done"),
        (PDFJOB_KIND, ("status", "conditions", "[]"), "reason", "PdfJob.status.conditions[].reason"),
        (PDFJOB_KIND, ("spec", "source", "http"), "sha256", "PdfJob.spec.source.http.sha256"),
        (PDFCHUNK_KIND, ("status", "history", "[]"), "items", "PdfChunk.status.history[].items"),
        (PDFCHUNK_KIND, ("status", "result", "tokens"), "input", "PdfChunk.status.result.tokens.input"),
        (PDFCHUNK_KIND, ("spec",), "maxRetries", "PdfChunk.spec.maxRetries"),
        (PDFJOB_KIND, ("status", "credits"), "run", "PdfJob.status.credits.run"),
        (CREDIT_ACCOUNT_KIND, ("status",), "available", "CreditAccount.status.available"),
        (
            CREDIT_ACCOUNT_KIND,
            ("status", "reservations", "[]"),
            "counted",
            "CreditAccount.status.reservations[].counted",
        ),
    ],
)
def test_a_field_that_is_missing_is_named(
    openapi: dict[str, Any], kind: str, path: tuple[str, ...], field: str, told: str
) -> None:
    properties(openapi, kind, *path).pop(field)
    assert missing_fields(openapi) == [told]


@pytest.mark.parametrize(
    ("kind", "field"), [(PDFCHUNK_KIND, "PdfChunk.status.phase"), (CREDIT_ACCOUNT_KIND, "CreditAccount.spec.balance")]
)
def test_a_kind_that_is_not_installed_is_named_field_by_field(openapi: dict[str, Any], kind: str, field: str) -> None:
    openapi["components"]["schemas"].pop(f"dev.pdfjob.v1alpha1.{kind}")
    missing = missing_fields(openapi)
    assert field in missing
    assert not [other for other in missing if not other.startswith(f"{kind}.")]


def test_fields_of_a_newer_crd_do_no_harm(openapi: dict[str, Any]) -> None:
    properties(openapi, PDFJOB_KIND, "status")["tomorrow"] = {"type": "string"}
    assert missing_fields(openapi) == []
