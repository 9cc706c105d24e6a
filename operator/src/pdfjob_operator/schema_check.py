"""Compares the installed CRDs with the models: unknown status fields are pruned by the API server in silence."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from pydantic import BaseModel

from pdfjob_api.creditaccount import CreditAccountSpec, CreditAccountStatus
from pdfjob_api.jobstatus import PdfJobStatus
from pdfjob_api.names import CREDIT_ACCOUNT_KIND, PDFCHUNK_KIND, PDFJOB_KIND
from pdfjob_api.pdfchunk import PdfChunkSpec, PdfChunkStatus
from pdfjob_api.pdfjob import PdfJobSpec

_MODELS: Final[Mapping[str, Mapping[str, type[BaseModel]]]] = {
    PDFJOB_KIND: {"spec": PdfJobSpec, "status": PdfJobStatus},
    PDFCHUNK_KIND: {"spec": PdfChunkSpec, "status": PdfChunkStatus},
    CREDIT_ACCOUNT_KIND: {"spec": CreditAccountSpec, "status": CreditAccountStatus},
}


def missing_fields(openapi: Mapping[str, Any]) -> list[str]:
    """Return every field of the models that the API server does not know, e.g. ``PdfJob.status.items.done``.

    Parameters
    ----------
    openapi
        The OpenAPI v3 document of our group and version, as the API server gives it.
    """
    schemas = openapi.get("components", {}).get("schemas", {})
    missing: list[str] = []
    for kind, parts in _MODELS.items():
        installed: Mapping[str, Any] = next(
            (schema for name, schema in schemas.items() if name.endswith(f".{kind}")), {}
        )
        for part, model in parts.items():
            wanted = model.model_json_schema(by_alias=True)
            known = installed.get("properties", {}).get(part, {})
            missing += _missing(wanted, wanted.get("$defs", {}), known, f"{kind}.{part}")
    return missing


def _missing(wanted: Any, defs: Mapping[str, Any], known: Mapping[str, Any], path: str) -> Iterator[str]:
    wanted = _resolved(wanted, defs)
    for name, schema in wanted.get("properties", {}).items():
        other = known.get("properties", {}).get(name)
        if other is None:
            yield f"{path}.{name}"
        else:
            yield from _missing(schema, defs, other, f"{path}.{name}")
    if "items" in wanted:
        yield from _missing(wanted["items"], defs, known.get("items", {}), f"{path}[]")


def _resolved(schema: Mapping[str, Any], defs: Mapping[str, Any]) -> Mapping[str, Any]:
    """Follow references, and the one real branch of an optional field."""
    while True:
        if "$ref" in schema:
            schema = defs[schema["$ref"].rsplit("/", 1)[-1]]
        elif "allOf" in schema and len(schema["allOf"]) == 1:
            schema = schema["allOf"][0]
        elif branches := [item for item in schema.get("anyOf", []) if item.get("type") != "null"]:
            if len(branches) != 1:
                return {}
            schema = branches[0]
        else:
            return schema
