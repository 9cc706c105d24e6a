"""Fixtures of the end-to-end tests: the product as it is installed, on a real cluster."""

from __future__ import annotations

import pytest

from tests.support.cluster import delete_leftovers, namespace
from tests.support.product import Storage, install, wait_for_operator

__all__ = ["namespace"]


@pytest.fixture(scope="session")
def installed() -> None:
    """Pdfjob of this work tree, installed with the values of the tests; nothing is left of a run that was killed."""
    delete_leftovers()
    install()


@pytest.fixture
def product(installed: None) -> None:
    """A ready operator, whatever the test before did to it."""
    wait_for_operator()


@pytest.fixture
def storage(product: None) -> Storage:
    """The embedded S3 server."""
    return Storage.connect()
