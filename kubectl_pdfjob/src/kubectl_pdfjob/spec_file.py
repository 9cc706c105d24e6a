"""``submit --spec FILE``: settings that have no option of their own, such as a language model, from a YAML file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from pdfjob_api import names

from .errors import UsageError

__all__ = ["merged", "read_spec"]


def read_spec(path: Path) -> dict[str, Any]:
    """Return the settings in a file: the ``spec`` of a PdfJob, or a whole PdfJob, of which the spec is taken.

    A ``source`` is left out: the document is the one that is submitted.

    Raises
    ------
    UsageError
        The file cannot be read, or holds something else.
    """
    try:
        found = yaml.safe_load(path.read_text())
    except (OSError, UnicodeError) as error:
        raise UsageError(f"--spec: {path} cannot be read: {error}") from error
    except yaml.YAMLError as error:
        raise UsageError(f"--spec: {path} is no YAML: {error}") from error
    if isinstance(found, Mapping) and "kind" in found:
        if found["kind"] != names.PDFJOB_KIND:
            raise UsageError(f"--spec: {path} is a {found['kind']}, not a {names.PDFJOB_KIND}")
        found = found.get("spec")
    if not isinstance(found, Mapping):
        raise UsageError(f"--spec: {path} does not hold the spec of a {names.PDFJOB_KIND}: fields and their values")
    return {name: value for name, value in found.items() if name != "source"}


def merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Return both mappings as one, level by level; where both have a value, that of ``over`` holds."""
    result = dict(base)
    for name, value in over.items():
        known = result.get(name)
        if isinstance(known, Mapping) and isinstance(value, Mapping):
            result[name] = merged(known, value)
        else:
            result[name] = value
    return result
