"""What a request asks for: pages and their context, read as the runner and the stub agreed to write them."""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

MAX_PDF_BYTES: Final = 50 * 1000**2
MAX_PDF_PAGES: Final = 1000
"""Limits of the Gemini API for one PDF."""
_KNOWN: Final = frozenset(
    (
        *("contents", "systemInstruction", "generationConfig", "safetySettings", "tools", "toolConfig"),
        *("cachedContent", "labels", "serviceTier", "store"),
    )
)
_TAGGED: Final = re.compile(r'<(?:(page) number|(context) page)="(\d+)">(.*?)</(?:\1|\2)>', re.DOTALL)
_PDF_PAGE: Final = re.compile(r"^PDF page (\d+): (context )?page (\d+)$", re.MULTILINE)


class BadRequestError(ValueError):
    """The API would refuse this request with 400; the message says why."""


@dataclass(slots=True)
class Asked:
    """One request."""

    pages: dict[int, str] = field(default_factory=dict)
    """Text of the pages asked for, by number, in the order of the request; empty texts in mode Pdf."""
    context: dict[int, str] = field(default_factory=dict)
    """The same for pages that only give context."""
    text_characters: int = 0
    """Of all text, the instruction included."""
    pdf_bytes: int = 0
    """Of the PDF before it was encoded; 0 in mode Text."""
    pdf_sha256: str = ""
    pdf_pages: int = 0
    """Pages of the PDF, as the request names them."""
    instruction: str = ""
    generation: dict[str, Any] = field(default_factory=dict)
    """``generationConfig``."""
    safety: list[Any] = field(default_factory=list)
    """``safetySettings``."""

    @property
    def window(self) -> str:
        """The pages asked for, as in a print dialogue: ``1-5`` or ``3,7-9``."""
        return window_name(list(self.pages))


def window_name(pages: Sequence[int]) -> str:
    """Write page numbers as ranges."""
    ranges: list[list[int]] = []
    for page in sorted(pages):
        if ranges and page == ranges[-1][1] + 1:
            ranges[-1][1] = page
        else:
            ranges.append([page, page])
    return ",".join(str(a) if a == b else f"{a}-{b}" for a, b in ranges)


def read(body: Mapping[str, Any]) -> Asked:
    """Read the body of a ``generateContent``.

    Raises
    ------
    BadRequestError
        It has an unknown field, no pages, a page twice, or a PDF over the limits.
    """
    body = _camel(body)
    for name in body:
        if name not in _KNOWN:
            raise BadRequestError(f'Invalid JSON payload received. Unknown name "{name}": Cannot find field.')
    asked = Asked(generation=dict(body.get("generationConfig") or {}), safety=list(body.get("safetySettings") or []))
    asked.instruction = "\n".join(
        part.get("text", "") for part in (body.get("systemInstruction") or {}).get("parts", ())
    )
    asked.text_characters = len(asked.instruction)
    for part in _parts(body):
        if "text" in part:
            asked.text_characters += len(part["text"])
            _read_text(asked, part["text"])
        elif "inlineData" in part:
            _read_pdf(asked, _camel(part["inlineData"]))
    if not asked.pages:
        raise BadRequestError("The request names no page that is asked for.")
    if asked.pdf_pages > MAX_PDF_PAGES:
        raise BadRequestError(f"The document has {asked.pdf_pages} pages; the limit is {MAX_PDF_PAGES}.")
    if asked.pdf_bytes > MAX_PDF_BYTES:
        raise BadRequestError(f"The document has {asked.pdf_bytes} bytes; the limit is {MAX_PDF_BYTES}.")
    return asked


def _parts(body: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    for content in body.get("contents") or ():
        if content.get("role", "user") != "user":
            raise BadRequestError("Please use a valid role: user.")
        yield from map(_camel, content.get("parts") or ())


def _camel(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Write field names as the API documents them; it takes those of Protocol Buffers too, google-genai mixes both."""
    return {re.sub("_([a-z])", lambda match: match[1].upper(), name): value for name, value in fields.items()}


def _read_text(asked: Asked, text: str) -> None:
    for _, context, number, content in _TAGGED.findall(text):
        _add(asked.context if context else asked.pages, int(number), content.strip())
    for place, context, number in _PDF_PAGE.findall(text):
        asked.pdf_pages = max(asked.pdf_pages, int(place))
        _add(asked.context if context else asked.pages, int(number), "")


def _add(pages: dict[int, str], number: int, text: str) -> None:
    if number in pages:
        raise BadRequestError(f"Page {number} is there twice.")
    pages[number] = text


def _read_pdf(asked: Asked, blob: Mapping[str, Any]) -> None:
    try:
        data = base64.b64decode(blob.get("data", ""), altchars=b"-_" if "-" in blob["data"] else None, validate=True)
    except (binascii.Error, KeyError) as error:
        raise BadRequestError("Base64 decoding failed.") from error
    if blob.get("mimeType") != "application/pdf":
        raise BadRequestError(f"Unsupported MIME type: {blob.get('mimeType')}")
    if not data.startswith(b"%PDF-"):
        raise BadRequestError("The document has no pages.")
    asked.pdf_bytes += len(data)
    asked.pdf_sha256 = hashlib.sha256(data).hexdigest()
