"""Fixtures of the API tests: a real API server with this work tree's CRDs."""

from tests.support.cluster import crds, namespace

__all__ = ["crds", "namespace"]
