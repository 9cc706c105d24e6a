"""From a pydantic model to a structural OpenAPI schema, as CustomResourceDefinitions need it.

Kubernetes accepts a subset of JSON Schema ("structural schema"): no ``$ref``, no ``title``, no ``const``, no
``type: null``. CEL rules add a demand: their worst-case cost is computed from ``maxLength``, ``maxItems`` and
``maxProperties``, so every string, list and map must be bounded. This module refuses what is not.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from pydantic import BaseModel

PRESERVE: Final = "x-kubernetes-preserve-unknown-fields"
INT_OR_STRING: Final = "x-kubernetes-int-or-string"

_DROPPED: Final = frozenset({"title", "$ref", "$defs", "anyOf", "const"})
_SHORT_FORMATS: Final = frozenset({"date-time"})
"""Formats that bound the length by themselves."""
_ORDER: Final = ("description", "type", "format", INT_OR_STRING, "enum", "default")


class SchemaError(ValueError):
    """A model cannot be written as a structural schema; the message names the field and says what is missing."""


def structural_schema(model: type[BaseModel], leave_out: frozenset[str] = frozenset()) -> dict[str, Any]:
    """Return the structural schema of a model, without the properties of the root named in ``leave_out``.

    Raises
    ------
    SchemaError
        When a property has no description, a string, list or map has no bound, or a union is not one that
        Kubernetes knows.
    """
    document = model.model_json_schema(by_alias=True, mode="validation")
    definitions: Mapping[str, Any] = document.get("$defs", {})
    for key in leave_out:
        del document["properties"][key]
    document["required"] = [key for key in document["required"] if key not in leave_out]
    return _convert(document, definitions, path="")


def properties(schema: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, Mapping[str, Any], bool]]:
    """Yield every property below a schema as (dotted path, schema, required), parents first.

    ``[]`` in a path marks the items of a list.
    """
    required = schema.get("required", ())
    for name, child in schema.get("properties", {}).items():
        here = f"{path}.{name}" if path else name
        yield here, child, name in required
        yield from properties(child, here)
        if child.get("type") == "array":
            yield from properties(child["items"], f"{here}[]")


def _convert(node: Mapping[str, Any], definitions: Mapping[str, Any], path: str) -> dict[str, Any]:
    merged = _resolved(node, definitions, path)
    out = {key: value for key, value in merged.items() if key not in _DROPPED}
    if "const" in merged:
        out["enum"] = [merged["const"]]
    if merged.get(INT_OR_STRING):
        out.pop("type", None)
        out["anyOf"] = [{"type": "integer"}, {"type": "string"}]
    if out.get(PRESERVE):
        out.pop("additionalProperties", None)
    if out.get("default", ...) is None:
        del out["default"]
    elif "default" in out:
        out["default"] = _without_null(out["default"])
    if out.get("type") == "integer":
        out.setdefault("format", "int64")
    if "properties" in merged:
        out["properties"] = {
            name: _property(name, child, definitions, path) for name, child in merged["properties"].items()
        }
    if "items" in merged:
        out["items"] = _convert(merged["items"], definitions, f"{path}[]")
    if isinstance(out.get("additionalProperties"), Mapping):
        out["additionalProperties"] = _convert(out["additionalProperties"], definitions, f"{path}{{}}")
    _check_bounds(out, path)
    return {key: out[key] for key in sorted(out, key=lambda key: (_rank(key), key))}


def _property(name: str, child: Mapping[str, Any], definitions: Mapping[str, Any], path: str) -> dict[str, Any]:
    here = f"{path}.{name}" if path else name
    converted = _convert(child, definitions, here)
    if not converted.get("description"):
        raise SchemaError(f"{here} has no description")
    return converted


def _resolved(node: Mapping[str, Any], definitions: Mapping[str, Any], path: str) -> dict[str, Any]:
    """Inline ``$ref`` and ``X | None``; what stands beside them wins."""
    merged = dict(node)
    if "$ref" in merged:
        target = definitions[merged["$ref"].rsplit("/", 1)[-1]]
        return _resolved({**target, **{k: v for k, v in merged.items() if k != "$ref"}}, definitions, path)
    if "anyOf" in merged and not merged.get(INT_OR_STRING):
        branches = [branch for branch in merged.pop("anyOf") if branch.get("type") != "null"]
        if len(branches) != 1:
            raise SchemaError(f"{path} is a union; Kubernetes knows only X | None and {INT_OR_STRING}")
        return _resolved({**branches[0], **merged}, definitions, path)
    return merged


def _check_bounds(schema: Mapping[str, Any], path: str) -> None:
    kind = schema.get("type")
    short = "enum" in schema or schema.get("format") in _SHORT_FORMATS
    if (kind == "string" or schema.get(INT_OR_STRING)) and not short and "maxLength" not in schema:
        raise SchemaError(f"{path} is a string without max_length")
    if kind == "array" and "maxItems" not in schema:
        raise SchemaError(f"{path} is a list without max_length")
    if "additionalProperties" in schema and "maxProperties" not in schema:
        raise SchemaError(f"{path} is a map without maxProperties")


def _without_null(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _without_null(item) for key, item in value.items() if item is not None}
    if isinstance(value, list):
        return [_without_null(item) for item in value]
    return value


def _rank(key: str) -> int:
    """Put what a reader looks for first in front and the children last."""
    if key in _ORDER:
        return _ORDER.index(key)
    return len(_ORDER) + (key in {"properties", "items", "additionalProperties", "x-kubernetes-validations"})
