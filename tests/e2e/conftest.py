"""Fixtures of the end-to-end tests: the product as it is installed, on a real cluster."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.cluster import delete_leftovers, fresh_namespace, namespace
from tests.support.gemini import StubPod, stub_pod
from tests.support.product import Storage, install, wait_for_operator
from tests.support.puppets import Puppets, puppets
from tests.support.turns import one_at_a_time

__all__ = ["namespace"]


@pytest.fixture(scope="session")
def installed() -> None:
    """Pdfjob of this work tree, installed with the values of the tests; nothing is left of a run that was killed."""
    with one_at_a_time("install"):
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


@pytest.fixture(scope="module")
def place(installed: None) -> Iterator[str]:
    """A namespace for all tests of a file."""
    wait_for_operator()
    with fresh_namespace() as name:
        yield name


@pytest.fixture(scope="module")
def stage() -> Iterator[Puppets]:
    """Runners that do what the tests of a file tell them."""
    with puppets() as made:
        yield made


@pytest.fixture(scope="module")
def stub(installed: None) -> Iterator[StubPod]:
    """The stand-in for the Gemini API, for all tests of a file."""
    wait_for_operator()
    with stub_pod() as found:
        yield found
