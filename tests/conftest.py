"""Settings of all tests."""

from __future__ import annotations

import os

from hypothesis import settings

# A pipeline tests the same examples each time, so that a commit fails for what it changed. At a desk they differ.
settings.register_profile("ci", derandomize=True, deadline=None, print_blob=True)
settings.register_profile("desk", deadline=None, print_blob=True)
settings.load_profile("ci" if os.environ.get("CI") else "desk")
