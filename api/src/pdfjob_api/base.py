"""The base of every model: camelCase on the wire, unknown fields ignored, values frozen."""

from __future__ import annotations

from typing import Any, Final

from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel


class Model(BaseModel):
    """Frozen, camelCase on the wire, snake_case in Python.

    Unknown fields are ignored: an older operator must be able to read what a newer one stored.
    """

    model_config = ConfigDict(
        alias_generator=to_camel, populate_by_name=True, frozen=True, extra="ignore", use_enum_values=False
    )

    def wire(self) -> dict[str, Any]:
        """Return the JSON object as it is sent: camelCase, absent values left out."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)


def rules(*rule: tuple[str, str]) -> dict[str, Any]:
    """Build ``json_schema_extra`` for CEL rules, each a pair of expression and plain-language message."""
    return {"x-kubernetes-validations": [{"rule": text, "message": message} for text, message in rule]}


PRIORITY_RULE: Final = rules(("self >= 0 && self <= 10", "priority must be between 0 and 10"))
"""Requirement R-5 fixes the text, so that CEL alone says it: ``minimum`` would print a second message."""
