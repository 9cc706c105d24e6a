"""Parts that both resources share."""

from __future__ import annotations

from typing import Annotated, Any, Final

from pydantic import Field

from .base import Model

TIME_FORMAT: Final[dict[str, Any]] = {"format": "date-time"}
"""Schema of a time: RFC 3339."""

Time = Annotated[str, Field(max_length=32, json_schema_extra=TIME_FORMAT)]
"""A time as RFC 3339, UTC."""


class OwnerReference(Model):
    """An owner of an object."""

    api_version: str
    kind: str
    name: str
    uid: str
    controller: bool = False


class ObjectMeta(Model):
    """What pdfjob reads of an object's metadata."""

    name: str
    namespace: str = "default"
    uid: str = ""
    resource_version: str = ""
    generation: int = 0
    creation_timestamp: str = ""
    deletion_timestamp: str | None = None
    finalizers: list[str] = Field(default_factory=list)
    labels: dict[str, str] = Field(default_factory=dict)
    annotations: dict[str, str] = Field(default_factory=dict)
    owner_references: list[OwnerReference] = Field(default_factory=list)


class ManagedFields(Model):
    """Which client set which fields, as the API server keeps it."""

    manager: str = ""
    time: str = ""
    fields_v1: dict[str, Any] = Field(default_factory=dict, alias="fieldsV1")


class JobMeta(ObjectMeta):
    """Metadata of a PdfJob; who set a field is looked up in it."""

    managed_fields: list[ManagedFields] = Field(default_factory=list)


class Condition(Model):
    """An observation, as the Kubernetes API conventions define it."""

    type: str = Field(max_length=64, description="Type, CamelCase.")
    status: str = Field(max_length=8, description="True, False or Unknown.")
    reason: str = Field(max_length=64, description="Reason, a CamelCase constant.")
    message: str = Field(default="", max_length=1024, description="For people: what, and what to do.")
    last_transition_time: Time = Field(description="When status last changed.")
    observed_generation: int | None = Field(
        default=None, ge=0, description="Generation of the spec that was looked at."
    )


class LastError(Model):
    """An error with its code from the table of error codes."""

    code: str = Field(max_length=50, description="Error code; docs/api-reference.md has the table.")
    message: str = Field(max_length=1024, description="What happened and what to do.")
