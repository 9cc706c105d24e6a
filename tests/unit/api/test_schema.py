"""From pydantic models to structural schemas: what is written, and what is refused."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any, Literal

import pytest
from pydantic import Field, create_model

from pdfjob_api.base import Model
from pdfjob_api.meta import Time
from pdfjob_api.schema import SchemaError, properties, structural_schema


class Colour(StrEnum):
    RED = "red"
    BLUE = "blue"


class Inner(Model):
    """Inner words."""

    size: int = Field(default=3, ge=1, le=9, description="How big.")


class Outer(Model):
    """Outer words."""

    version: Literal[1] = Field(default=1, description="Version.")
    title: str = Field(max_length=5, description="A property that has the name of a keyword.")
    colour: Colour = Field(default=Colour.RED, description="Colour.")
    inner: Inner = Field(default=Inner(), description="Words beside the reference.")
    maybe: Inner | None = Field(default=None, description="Optional object.")
    names: list[Annotated[str, Field(max_length=7)]] | None = Field(default=None, max_length=4, description="Names.")
    at: Time | None = Field(default=None, description="A time.")
    free: dict[str, Any] = Field(
        default_factory=dict, description="Free.", json_schema_extra={"x-kubernetes-preserve-unknown-fields": True}
    )


def test_model_becomes_a_schema_without_references_titles_null_and_const() -> None:
    assert structural_schema(Outer) == {
        "description": "Outer words.",
        "type": "object",
        "required": ["title"],
        "properties": {
            "version": {"description": "Version.", "type": "integer", "format": "int64", "enum": [1], "default": 1},
            "title": {
                "description": "A property that has the name of a keyword.",
                "type": "string",
                "maxLength": 5,
            },
            "colour": {"description": "Colour.", "type": "string", "enum": ["red", "blue"], "default": "red"},
            "inner": {
                "description": "Words beside the reference.",
                "type": "object",
                "default": {"size": 3},
                "properties": {"size": _size()},
            },
            "maybe": {"description": "Optional object.", "type": "object", "properties": {"size": _size()}},
            "names": {
                "description": "Names.",
                "type": "array",
                "maxItems": 4,
                "items": {"type": "string", "maxLength": 7},
            },
            "at": {"description": "A time.", "type": "string", "format": "date-time", "maxLength": 32},
            "free": {"description": "Free.", "type": "object", "x-kubernetes-preserve-unknown-fields": True},
        },
    }


def _size() -> dict[str, Any]:
    return {"description": "How big.", "type": "integer", "format": "int64", "default": 3, "minimum": 1, "maximum": 9}


@pytest.mark.parametrize(
    ("kind", "field", "message"),
    [
        (str, Field(description="Words."), "value is a string without max_length"),
        (list[Inner], Field(description="Words."), "value is a list without max_length"),
        (list[str], Field(max_length=3, description="Words."), r"value\[\] is a string without max_length"),
        (dict[str, Inner], Field(description="Words."), "value is a map without maxProperties"),
        (int, Field(), "value has no description"),
        (int | bool, Field(description="Words."), "value is a union"),
    ],
)
def test_field_that_kubernetes_could_not_take_or_explain_is_refused_by_name(
    kind: Any, field: Any, message: str
) -> None:
    model = create_model("Bad", __base__=Model, value=(kind, field))
    with pytest.raises(SchemaError, match=message):
        structural_schema(model)


def test_properties_are_found_at_every_depth() -> None:
    class Deep(Model):
        """Deep words."""

        things: list[Outer] = Field(max_length=2, description="Things.")

    paths = {path: required for path, _, required in properties(structural_schema(Deep))}
    assert paths["things"] is True
    assert paths["things[].title"] is True
    assert paths["things[].inner.size"] is False
