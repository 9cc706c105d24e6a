"""The pod of a chunk, as ``spec.runner`` of a PdfJob describes it; names and shapes are those of the Pod API."""

from __future__ import annotations

from typing import Any

from pydantic import ConfigDict, Field

from .base import Model, rules


class ToleratedTaint(Model):
    """A toleration as in the Pod API."""

    key: str | None = Field(default=None, max_length=316, description="Taint key.")
    operator: str | None = Field(default=None, max_length=16, description="Exists or Equal.")
    value: str | None = Field(default=None, max_length=63, description="Taint value.")
    effect: str | None = Field(default=None, max_length=32, description="NoSchedule, PreferNoSchedule or NoExecute.")
    toleration_seconds: int | None = Field(default=None, description="Seconds, with NoExecute.")


class LocalObjectReference(Model):
    """Reference to an object of the same namespace by name."""

    name: str = Field(min_length=1, max_length=253, description="Name of the object.")


class EnvVar(Model):
    """An environment variable of the runner container."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            (
                "!self.name.startsWith('PDFJOB_')",
                "name must not start with PDFJOB_: these names belong to the runner contract",
            ),
            ("!(has(self.value) && has(self.valueFrom))", "only one of value, valueFrom may be set"),
        )
    )

    name: str = Field(min_length=1, max_length=128, description="Name.")
    value: str | None = Field(default=None, max_length=4096, description="Value.")
    value_from: dict[str, Any] | None = Field(
        default=None,
        description="Source of the value as in the Pod API: secretKeyRef, configMapKeyRef, fieldRef, resourceFieldRef.",
        json_schema_extra={"x-kubernetes-preserve-unknown-fields": True},
    )


_QUANTITIES: dict[str, Any] = {
    "additionalProperties": {
        "anyOf": [{"type": "integer"}, {"type": "string"}],
        "x-kubernetes-int-or-string": True,
        "maxLength": 32,
    },
    "maxProperties": 16,
}


class Resources(Model):
    """Compute resources of the runner container as in the Pod API."""

    requests: dict[str, int | str] | None = Field(
        default=None, description="Requests, e.g. cpu: 250m, memory: 256Mi.", json_schema_extra=_QUANTITIES
    )
    limits: dict[str, int | str] | None = Field(
        default=None, description="Limits, e.g. memory: 2Gi.", json_schema_extra=_QUANTITIES
    )


_STRINGS: dict[str, Any] = {
    "additionalProperties": {"type": "string", "maxLength": 4096},
    "maxProperties": 64,
}


_BY_NAME: dict[str, Any] = {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]}


class Runner(Model):
    """The pod of a chunk. Absent fields take the installation's defaults."""

    image: str | None = Field(
        default=None,
        min_length=1,
        max_length=512,
        description="Image of the standard runner; absent = the installation's.",
    )
    resources: Resources | None = Field(default=None, description="Compute resources; absent = the installation's.")
    node_selector: dict[str, str] | None = Field(
        default=None, description="Node labels the pod needs.", json_schema_extra=_STRINGS
    )
    tolerations: list[ToleratedTaint] | None = Field(
        default=None, max_length=32, description="Taints the pod tolerates."
    )
    affinity: dict[str, Any] | None = Field(
        default=None,
        description="Affinity as in the Pod API.",
        json_schema_extra={"x-kubernetes-preserve-unknown-fields": True},
    )
    service_account_name: str | None = Field(
        default=None, max_length=253, description="Service account of the pod; its token is never mounted."
    )
    priority_class_name: str | None = Field(default=None, max_length=253, description="PriorityClass of the pod.")
    image_pull_secrets: list[LocalObjectReference] | None = Field(
        default=None, max_length=16, description="Secrets for the image registry.", json_schema_extra=_BY_NAME
    )
    labels: dict[str, str] | None = Field(
        default=None,
        description="Labels added to Job and pod, e.g. kueue.x-k8s.io/queue-name.",
        json_schema_extra=_STRINGS,
    )
    annotations: dict[str, str] | None = Field(
        default=None, description="Annotations added to the pod.", json_schema_extra=_STRINGS
    )
    env: list[EnvVar] | None = Field(
        default=None,
        max_length=64,
        description="Environment of the runner container.",
        json_schema_extra=_BY_NAME,
    )
