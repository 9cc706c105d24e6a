"""Answers: good ones derived from the request, and each way to spoil one. All as the REST API writes them."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from typing import Any, Final

from .asking import Asked
from .scenario import ERRORS, Scenario

CHARACTERS_PER_TOKEN: Final = 4
TOKENS_PER_PDF_PAGE: Final = {
    "MEDIA_RESOLUTION_LOW": 280,
    "MEDIA_RESOLUTION_MEDIUM": 560,
    "MEDIA_RESOLUTION_HIGH": 1120,
}
"""As Gemini 3 counts the pages of a PDF; medium is its default."""
_ESCAPED: Final = re.compile(r"&lt;(?=\s*/?\s*(?:page|context)\b)", re.IGNORECASE)
"""How a request writes the beginning of what could be taken for a tag."""
_END: Final = re.compile(r"""[.!?\u2026]["'\u00bb\u201d\u2019)\]]*(?=\s|$)""")
_TYPES: Final = "type.googleapis.com/google.rpc."
_DOMAIN: Final = "generativelanguage.googleapis.com"


def good_pages(asked: Asked, scenario: Scenario) -> list[dict[str, Any]]:
    """Return the ``pages`` of a good answer.

    In mode Text each page is cut into sentences. One that has no end goes on to the first end of the next page, if
    that is there and has one: a rule that looks at two neighbours only, so that every cut into windows with one page
    of context gives the same sentences. In mode Pdf each page has sentences that name it.
    """
    if asked.pdf_bytes:
        return [
            {
                "page": page,
                "sentences": [
                    f"This is sentence {number} of page {page}, which the stand-in for the model has made up."
                    for number in range(1, scenario.pdf_sentences + 1)
                ],
                "continues": False,
            }
            for page in asked.pages
        ]
    around = {number: _ESCAPED.sub("<", text) for number, text in {**asked.context, **asked.pages}.items()}
    return [_text_page(page, around) for page in asked.pages]


def _text_page(page: int, around: dict[int, str]) -> dict[str, Any]:
    text, before, after = (" ".join(around.get(number, "").split()) for number in (page, page - 1, page + 1))
    ends = [match.end() for match in _END.finditer(text)]
    if before and ends and _is_open(before):
        text = text[ends[0] :].strip()
    sentences, start = [], 0
    for match in _END.finditer(text):
        sentences.append(text[start : match.end()].strip())
        start = match.end()
    rest = text[start:].strip()
    head = _END.search(after)
    continues = bool(rest and head)
    if rest:
        sentences.append(f"{rest} {after[: head.end()]}" if head else rest)
    return {"page": page, "sentences": sentences, "continues": continues}


def _is_open(text: str) -> bool:
    last = max((match.end() for match in _END.finditer(text)), default=0)
    return last < len(text)


def answer(asked: Asked, scenario: Scenario, model: str, fault: str | None) -> tuple[dict[str, Any], bool]:
    """Return an answer of status 200, and whether it is a good one: complete, and what was asked for."""
    pages = good_pages(asked, scenario)
    text = json.dumps({"pages": pages}, ensure_ascii=False)
    limit = min(int(asked.generation.get("maxOutputTokens") or scenario.max_output_tokens), scenario.max_output_tokens)
    allowed = max(0, limit - (scenario.thinking_tokens or 0)) * CHARACTERS_PER_TOKEN
    finish = "STOP"
    if fault in _CUT_SHORT:
        text, finish = text[: len(text) * 6 // 10], _CUT_SHORT[fault]
    elif fault == "runaway":
        text += " and so on" * (allowed // len(" and so on") + 1)
    elif fault == "not_json":
        text = "Here are the sentences you asked for:\n\n" + "\n".join(f"- page {page}" for page in asked.pages)
    elif fault in _MISTAKES:
        text = json.dumps({"pages": _MISTAKES[fault](pages)}, ensure_ascii=False)
    if len(text) > allowed:
        text, finish = text[:allowed], "MAX_TOKENS"
    if fault == "prompt_blocked":
        response: dict[str, Any] = {"promptFeedback": {"blockReason": "PROHIBITED_CONTENT"}}
        text = ""
    elif fault == "no_candidates":
        response, text = {}, ""
    elif fault in _WITHOUT_CONTENT:
        response, text = {"candidates": [{"finishReason": _WITHOUT_CONTENT[fault], "index": 0}]}, ""
    else:
        content = {"parts": [{"text": text}], "role": "model"}
        response = {"candidates": [{"content": content, "finishReason": finish, "index": 0}]}
    if fault == "continuation":
        response["candidates"][0]["continuationToken"] = "c3R1Yg=="
    usage = _usage(asked, scenario, text)
    if fault == "partial_usage":
        usage = {"promptTokenCount": usage["promptTokenCount"]}
    if fault != "no_usage":
        response["usageMetadata"] = usage
    response |= {"modelVersion": model, "responseId": f"stub-{asked.window}"}
    return response, finish == "STOP" and fault in {None, "no_usage", "partial_usage", "trickle"}


def _usage(asked: Asked, scenario: Scenario, text: str) -> dict[str, Any]:
    resolution = str(asked.generation.get("mediaResolution") or "MEDIA_RESOLUTION_MEDIUM")
    pdf = TOKENS_PER_PDF_PAGE.get(resolution, 560) * asked.pdf_pages
    written = math.ceil(asked.text_characters / CHARACTERS_PER_TOKEN)
    usage: dict[str, Any] = {
        "promptTokenCount": pdf + written,
        "promptTokensDetails": [{"modality": "TEXT", "tokenCount": written}],
    }
    if pdf:
        usage["promptTokensDetails"].append({"modality": "IMAGE", "tokenCount": pdf})
    if text:
        usage["candidatesTokenCount"] = math.ceil(len(text) / CHARACTERS_PER_TOKEN)
        if scenario.thinking_tokens is not None:
            usage["thoughtsTokenCount"] = scenario.thinking_tokens
    if scenario.cached_share is not None:
        usage["cachedContentTokenCount"] = int(usage["promptTokenCount"] * scenario.cached_share)
    parts = ("promptTokenCount", "candidatesTokenCount", "thoughtsTokenCount")
    usage["totalTokenCount"] = sum(usage.get(name, 0) for name in parts)
    return usage


_CUT_SHORT: Final[dict[str | None, str]] = {"cut": "MAX_TOKENS", "continuation": "CONTINUATION"}
_WITHOUT_CONTENT: Final = {"safety": "SAFETY", "recitation": "RECITATION", "unknown_finish": "A_NEW_REASON"}
_MISTAKES: Final[dict[str, Callable[[list[dict[str, Any]]], list[dict[str, Any]]]]] = {
    "wrong_type": lambda pages: [{"page": str(p["page"]), "text": " ".join(p["sentences"])} for p in pages],
    "wrong_pages": lambda pages: [{**p, "page": p["page"] + 1} for p in pages],
    "missing_page": lambda pages: pages[:-1],
    "invented_page": lambda pages: [*pages, {**pages[-1], "page": pages[-1]["page"] + 1}],
    "double_page": lambda pages: [*pages, pages[-1]],
    "empty_page": lambda pages: [*pages[:-1], {**pages[-1], "sentences": [], "continues": False}],
}


def error(
    fault: str, scenario: Scenario, *, wait: float | None = None, message: str = ""
) -> tuple[int, dict[str, Any], dict[str, str]]:
    """Return status, body and headers of an error of the API.

    Parameters
    ----------
    fault
        One of `ERRORS`.
    wait
        Seconds until the limit allows another request, for ``rate_limit``; None = as the scenario says.
    message
        Instead of the usual one.
    """
    code, status, usual = ERRORS[fault]
    details: list[dict[str, Any]] = []
    headers: dict[str, str] = {}
    if fault in {"bad_key", "forbidden"}:
        reason = {"bad_key": "API_KEY_INVALID", "forbidden": "SERVICE_DISABLED"}[fault]
        details.append(
            {
                "@type": f"{_TYPES}ErrorInfo",
                "reason": reason,
                "domain": "googleapis.com",
                "metadata": {"service": _DOMAIN},
            }
        )
    if code == 429:
        per = "PerDay" if fault == "daily_quota" else "PerMinute"
        seconds = scenario.retry_after_seconds if wait is None else wait
        if "quota" in scenario.hints:
            violation = {
                "quotaMetric": f"{_DOMAIN}/generate_content_requests",
                "quotaId": f"GenerateRequests{per}PerProjectPerModel",
                "quotaValue": str(scenario.limit_requests or 1000),
            }
            details.append({"@type": f"{_TYPES}QuotaFailure", "violations": [violation]})
        if "retry_info" in scenario.hints:
            details.append({"@type": f"{_TYPES}RetryInfo", "retryDelay": f"{seconds:.3f}s"})
        if "retry_after" in scenario.hints:
            headers["Retry-After"] = str(math.ceil(seconds))
    body = {"error": {"code": code, "message": message or usual, "status": status, "details": details}}
    return code, body, headers
