"""Fixtures of the API tests: a real API server with this work tree's CRDs."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.integration.api.manifests import pdfjob, text
from tests.support.cluster import crds, fresh_namespace, kubectl, namespace

__all__ = ["crds", "job", "namespace", "room"]


@pytest.fixture(scope="module")
def job(crds: None) -> Iterator[str]:
    """The namespace of a stored PdfJob ``novel``, for edits that are refused or only tried."""
    with fresh_namespace() as name:
        kubectl("-n", name, "create", "-f", "-", stdin=text(pdfjob()))
        yield name


@pytest.fixture(scope="session")
def room(crds: None) -> Iterator[str]:
    """An empty namespace for what is only tried."""
    with fresh_namespace() as name:
        yield name
