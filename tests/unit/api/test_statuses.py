"""The full statuses that the round trip over a real API server writes are really full."""

from __future__ import annotations

from typing import Any

import pytest

from pdfjob_api.crd import CREDIT_ACCOUNT, PDFCHUNK, PDFJOB, Resource, custom_resource_definition
from pdfjob_api.schema import properties
from tests.integration.api.statuses import FULL_ACCOUNT_STATUS, FULL_CHUNK_STATUS, FULL_JOB_STATUS


@pytest.mark.parametrize(
    ("resource", "status"),
    [(PDFJOB, FULL_JOB_STATUS), (PDFCHUNK, FULL_CHUNK_STATUS), (CREDIT_ACCOUNT, FULL_ACCOUNT_STATUS)],
)
def test_every_field_of_the_model_is_set(resource: Resource, status: dict[str, Any]) -> None:
    version = custom_resource_definition(resource)["spec"]["versions"][0]
    schema = version["schema"]["openAPIV3Schema"]["properties"]["status"]
    for path, _, _ in properties(schema):
        found: Any = status
        for part in path.split("."):
            name = part.removesuffix("[]")
            assert name in found, path
            found = found[name][0] if part.endswith("[]") else found[name]
