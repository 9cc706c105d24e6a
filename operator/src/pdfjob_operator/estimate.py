"""How many tokens a job will take, before it takes any. Pure; the rule is told in ``docs/gemini.md``.

Four characters are a token, as Google counts English; what the model writes is as long as what it reads, and a tenth
longer as JSON. A page seen as a picture takes what the resolution says, and its text comes out. Thinking is not
foreseen: the model decides.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

from pdfjob_api.gemini import GeminiMode, GeminiProcessor, MediaResolution
from pdfjob_api.pdfjob import PdfJobSpec

from .plan import Plan
from .planning import ChunkRange

_CHARACTERS_PER_TOKEN: Final = 4
_CHARACTERS_PER_PAGE: Final = 2600
"""Of a page whose text nobody has counted: full, single-spaced."""
_ANSWER: Final = 1.1
"""Tokens of the answer for each of the text: it is written as JSON."""
_INSTRUCTION_TOKENS: Final = 600
"""Of each request."""
_PAGE_TOKENS: Final = {MediaResolution.LOW: 280, MediaResolution.MEDIUM: 560, MediaResolution.HIGH: 1120}
_CONTEXT_PAGES: Final = 2
"""That go with each request: the one before and the one after."""


def estimate_of(spec: PdfJobSpec, plan: Plan) -> int:
    """Return the tokens that a whole job will take, input and output together; none for local work.

    What a custom image does with the text nobody knows: it is taken to read it once and to write it once.
    """
    if spec.processor.gemini is not None:
        return estimate_tokens(spec.processor.gemini, plan.ranges(spec), plan.characters)
    if spec.processor.custom is None:
        return 0
    text_tokens = (plan.source.pages or 0) * _CHARACTERS_PER_PAGE / _CHARACTERS_PER_TOKEN
    return math.ceil(text_tokens * (1 + _ANSWER))


def estimate_tokens(gemini: GeminiProcessor, ranges: Sequence[ChunkRange], characters: int | None) -> int:
    """Return the tokens, input and output together, that processing these chunks will take.

    Parameters
    ----------
    characters
        Of the text of the whole document; None = not known.
    """
    pages = sum(each.page_count for each in ranges)
    requests = sum(math.ceil(each.page_count / gemini.window_pages) for each in ranges)
    text = characters if characters is not None and gemini.mode is GeminiMode.TEXT else pages * _CHARACTERS_PER_PAGE
    text_tokens = text / _CHARACTERS_PER_TOKEN
    if gemini.mode is GeminiMode.PDF:
        page_tokens = float(_PAGE_TOKENS[gemini.media_resolution or MediaResolution.MEDIUM])
    else:
        page_tokens = text_tokens / max(pages, 1)
    read = (pages + _CONTEXT_PAGES * requests) * page_tokens + requests * _INSTRUCTION_TOKENS
    return math.ceil(read + text_tokens * _ANSWER)
