"""Settings of the Gemini processor: language work by a Gemini model, in the runner only."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Final

from pydantic import ConfigDict, Field

from .base import Model, rules

API_KEY: Final = "api-key"
"""Key within the Secret when none is named."""


class GeminiMode(StrEnum):
    """What the model is given."""

    TEXT = "Text"
    """The extracted text of the pages."""
    PDF = "Pdf"
    """The pages themselves, as PDF: scans and layouts."""


class MediaResolution(StrEnum):
    """How closely the model looks at a page in mode Pdf."""

    LOW = "Low"
    MEDIUM = "Medium"
    HIGH = "High"


class SecretKeyReference(Model):
    """One value of a Secret of the job's namespace."""

    name: str = Field(min_length=1, max_length=253, description="Name of the Secret.")
    key: str = Field(
        default=API_KEY, min_length=1, max_length=253, pattern="^[-._a-zA-Z0-9]+$", description="Key within it."
    )


class Normalization(Model):
    """What the default instruction asks for. Each page is turned into sentences that read well and lose nothing."""

    max_sentence_words: int = Field(
        default=0,
        ge=0,
        le=1000,
        description="Sentences of more words are split where the sense allows it; 0 = sentences stay as long as they "
        "are.",
    )
    min_sentence_words: int = Field(
        default=1,
        ge=1,
        le=100,
        description="Fragments of fewer words are joined to the sentence they belong to; headings stay alone.",
    )
    keep_dialogue: bool = Field(default=True, description="Lines of dialogue keep their dashes and quotation marks.")
    repair_hyphenation: bool = Field(default=True, description="Words that were hyphenated at a line end are joined.")
    preserve_formatting: bool = Field(
        default=False, description="Emphasis and list marks are kept as Markdown; else plain text."
    )


class ThinkingConfig(Model):
    """How much the model thinks before it answers; which field holds depends on the model."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            (
                "!(has(self.thinkingBudget) && has(self.thinkingLevel))",
                "only one of thinkingConfig.thinkingBudget, thinkingConfig.thinkingLevel may be set",
            )
        )
    )

    thinking_budget: int | None = Field(
        default=None, ge=-1, le=131072, description="Tokens for thinking; 0 = none, -1 = the model decides."
    )
    thinking_level: str | None = Field(
        default=None, pattern="^[A-Za-z]{1,32}$", max_length=32, description="Low, Medium, High and the like."
    )


class SafetySetting(Model):
    """A safety threshold, as in the Gemini API."""

    category: str = Field(pattern="^HARM_CATEGORY_[A-Z_]+$", max_length=64, description="HARM_CATEGORY_...")
    threshold: str = Field(pattern="^[A-Z_]+$", max_length=64, description="BLOCK_NONE, BLOCK_ONLY_HIGH and the like.")


class Vertex(Model):
    """The same models on Vertex AI. The Secret then holds the JSON key of a service account, or an API key."""

    project: str = Field(min_length=1, max_length=128, description="Google Cloud project.")
    location: str = Field(default="global", min_length=1, max_length=64, description="Region, or global.")


HttpUrl = Annotated[
    str,
    Field(
        max_length=2048,
        json_schema_extra=rules(
            (
                "self.matches('^https?://[^/?#@]+(/[^?#]*)?$')",
                "baseUrl must start with http:// or https:// and name a host",
            )
        ),
    ),
]
"""A URL of a gateway, without user and password."""


class GeminiProcessor(Model):
    """Language work by a Gemini model, window by window; a window that was paid for is never asked for again."""

    model: str = Field(
        pattern="^[a-zA-Z0-9][a-zA-Z0-9._/@-]*$",
        max_length=128,
        description="Name of the model, e.g. gemini-3.5-flash.",
    )
    api_key_secret_ref: SecretKeyReference = Field(
        description="The API key: a Secret of the job's namespace. Only the runner's pod gets it."
    )
    mode: GeminiMode = Field(
        default=GeminiMode.TEXT,
        description="Text sends the extracted text of the pages; Pdf sends the pages themselves, for scans and "
        "layouts.",
    )
    language: str | None = Field(
        default=None,
        pattern="^[a-z]{2,3}$",
        max_length=16,
        description="ISO 639 code of the document's language; absent = the model finds out.",
    )
    instruction: str | None = Field(
        default=None,
        min_length=1,
        max_length=16384,
        description="What the model shall do with each page, instead of the default instruction; normalization is not "
        "used then. The answer stays a list of sentences for each page.",
    )
    normalization: Normalization = Field(default=Normalization(), description="What the default instruction asks for.")
    window_pages: int = Field(
        default=5,
        ge=1,
        le=100,
        description="Pages of one request, 1 to 100. Windows are cut further where the limits of the API demand it.",
    )
    temperature: float | None = Field(default=None, ge=0, le=2, description="0 to 2; absent = the model's own.")
    thinking_config: ThinkingConfig | None = Field(default=None, description="How much the model thinks.")
    safety_settings: list[SafetySetting] | None = Field(
        default=None,
        max_length=16,
        description="Safety thresholds; absent = the model's own.",
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["category"]},
    )
    max_output_tokens: int | None = Field(
        default=None, ge=256, le=1048576, description="Tokens of one answer at most; absent = the model's own limit."
    )
    media_resolution: MediaResolution | None = Field(
        default=None, description="Low, Medium or High, in mode Pdf; absent = the model's own."
    )
    base_url: HttpUrl | None = Field(default=None, description="Endpoint of a gateway instead of Google's.")
    vertex: Vertex | None = Field(default=None, description="Vertex AI instead of the Gemini API.")
