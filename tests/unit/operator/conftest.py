"""Fixtures of the operator's unit tests."""

from __future__ import annotations

import pytest

from pdfjob_operator.documents import Documents
from pdfjob_operator.settings import DocumentSettings


@pytest.fixture
def documents() -> Documents:
    return Documents(DocumentSettings())
