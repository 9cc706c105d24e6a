"""Fixtures of all integration tests, which run in several processes."""

from __future__ import annotations

from tests.support.turns import turn

__all__ = ["turn"]
