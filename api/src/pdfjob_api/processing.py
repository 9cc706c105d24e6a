"""Processor settings: part of the PdfJob spec and of the runner's task."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any

from pydantic import ConfigDict, Field

from .base import Model, rules
from .gemini import GeminiProcessor


class Repair(StrEnum):
    """What happens with a damaged document."""

    STRICT = "Strict"
    REPAIR = "Repair"


class LocalProcessor(Model):
    """The offline text pipeline of the standard runner: no key, no network but storage."""

    language: str = Field(
        default="fr",
        pattern="^[a-z]{2,3}$",
        max_length=16,
        description="ISO 639 code of the document's language, e.g. fr or en; it decides where sentences end.",
    )


Argument = Annotated[str, Field(max_length=4096)]
"""One word of a command line."""


class CustomProcessor(Model):
    """Any container image that honours the runner contract."""

    image: str = Field(min_length=1, max_length=512, description="Container image of the runner.")
    command: list[Argument] | None = Field(
        default=None, max_length=64, description="Entrypoint; absent = the image's own."
    )
    args: list[Argument] | None = Field(default=None, max_length=64, description="Arguments; absent = the image's own.")
    config: dict[str, Any] = Field(
        default_factory=dict,
        description="Free settings of the runner, passed as they are in PDFJOB_TASK.",
        json_schema_extra={"x-kubernetes-preserve-unknown-fields": True},
    )


class Processor(Model):
    """What is done with the text of a chunk; exactly one field is set."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            (
                "[has(self.local), has(self.gemini), has(self.custom)].filter(x, x).size() == 1",
                "exactly one of processor.local, processor.gemini, processor.custom must be set",
            )
        )
    )

    local: LocalProcessor | None = Field(default=None, description="Offline text extraction and sentence repair.")
    gemini: GeminiProcessor | None = Field(default=None, description="Language work by a Gemini model.")
    custom: CustomProcessor | None = Field(
        default=None, description="Any container image that honours the runner contract."
    )
