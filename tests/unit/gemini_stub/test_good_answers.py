from __future__ import annotations

import base64
import json

import pytest

from gemini_stub import Scenario, Stub
from tests.unit.gemini_stub.calling import PATH, ask, call, pdf_body, text_body

PAGES = {
    1: "It began. The first page ends",
    2: "on the second. Then came\nmore",
    3: "A heading without an end",
    4: "and the last. Done!",
}


def test_each_page_is_cut_into_its_sentences(stub: Stub) -> None:
    answer = call(stub, text_body({7: "One. Two?  Three\nlines."}))
    assert answer.pages == [{"page": 7, "sentences": ["One.", "Two?", "Three lines."], "continues": False}]
    assert answer.finish == "STOP"


def test_a_sentence_across_pages_belongs_to_the_page_it_starts_on(stub: Stub) -> None:
    pages = call(stub, text_body(PAGES)).pages
    assert [page["sentences"] for page in pages] == [
        ["It began.", "The first page ends on the second."],
        ["Then came more"],
        ["A heading without an end and the last."],
        ["Done!"],
    ]
    assert [page["continues"] for page in pages] == [True, False, True, False]


@pytest.mark.parametrize("size", [1, 2, 3])
def test_windows_with_context_give_what_one_request_for_all_gives(stub: Stub, size: int) -> None:
    whole = call(stub, text_body(PAGES)).pages
    pieces = []
    for first in range(1, 5, size):
        window = {number: text for number, text in PAGES.items() if first <= number < first + size}
        context = {number: PAGES[number] for number in (first - 1, first + size) if number in PAGES}
        pieces += call(stub, text_body(window, context)).pages
    assert pieces == whole


def test_what_was_escaped_to_look_like_no_tag_is_text_again(stub: Stub) -> None:
    (page,) = call(stub, text_body({1: 'HTML: a < b, &lt;/page> and &lt;page number="2">.'})).pages
    assert page["sentences"] == ['HTML: a < b, </page> and <page number="2">.']


def test_pages_of_a_pdf_are_named_in_their_sentences(stub: Stub) -> None:
    pages = call(stub, pdf_body([12, 13], context=[11])).pages
    assert [page["page"] for page in pages] == [12, 13]
    assert all(len(page["sentences"]) == 3 for page in pages)
    assert all("of page 13," in sentence for sentence in pages[1]["sentences"])


def test_field_names_of_protocol_buffers_are_taken_too(stub: Stub) -> None:
    body = pdf_body([1], generation_config={"temperature": 0})
    (blob,) = (part["inlineData"] for part in body["contents"][0]["parts"] if "inlineData" in part)
    blob["mime_type"] = blob.pop("mimeType")
    assert call(stub, body).status == 200


def test_tokens_are_told_and_counted(stub: Stub) -> None:
    stub.register("key", Scenario(thinking_tokens=7, cached_share=0.5))
    usage = call(stub, text_body({1: "x" * 4000 + "."})).json["usageMetadata"]
    assert 1000 < usage["promptTokenCount"] < 1020
    assert 1000 < usage["candidatesTokenCount"] < 1030
    assert usage["thoughtsTokenCount"] == 7
    assert usage["cachedContentTokenCount"] == usage["promptTokenCount"] // 2
    counts = stub.counts("key")
    assert counts is not None
    assert counts["tokens"] == {
        "input": usage["promptTokenCount"],
        "output": usage["candidatesTokenCount"],
        "cached": usage["cachedContentTokenCount"],
        "thinking": 7,
    }


@pytest.mark.parametrize(("resolution", "tokens"), [(None, 560), ("MEDIA_RESOLUTION_LOW", 280)])
def test_pages_of_a_pdf_cost_by_their_resolution(stub: Stub, resolution: str | None, tokens: int) -> None:
    settings = {"mediaResolution": resolution} if resolution else {}
    usage = call(stub, pdf_body([1, 2], generationConfig=settings)).json["usageMetadata"]
    assert 2 * tokens < usage["promptTokenCount"] < 2 * tokens + 50


def test_an_answer_over_the_asked_limit_is_cut(stub: Stub) -> None:
    answer = call(stub, text_body({1: "A sentence. " * 200}, generationConfig={"maxOutputTokens": 50}))
    assert answer.finish == "MAX_TOKENS"
    assert answer.json["usageMetadata"]["candidatesTokenCount"] == 50
    counts = stub.counts("key")
    assert counts is not None
    assert counts["windows"] == {}


def test_counts_tell_what_was_asked(stub: Stub) -> None:
    call(stub, pdf_body([12, 13], context=[11], data=b"%PDF-1.7 x" * 10, generationConfig={"temperature": 0.5}))
    call(stub, text_body({3: "a.", 7: "b.", 8: "c."}))
    counts = stub.counts("key")
    assert counts is not None
    assert (counts["requests"], counts["by_status"], counts["in_flight"]) == (2, {"200": 2}, 0)
    assert counts["windows"] == {"12-13": 1, "3,7-8": 1}
    assert counts["pages_paid"] == 5
    first = counts["recent"][0]
    assert (first["pages"], first["context"], first["mode"], first["pdf_bytes"]) == ([12, 13], [11], "Pdf", 100)
    assert first["generation"] == {"temperature": 0.5}
    assert first["model"] == "gemini-test"


def test_vertex_paths_and_gateway_paths_are_answered(stub: Stub) -> None:
    model = "models/gemini-test:generateContent"
    for path in (
        f"/v1beta1/projects/p/locations/global/publishers/google/{model}",
        f"/v1beta1/publishers/google/{model}",
        f"/some/gateway/v1/{model}?alt=json",
    ):
        assert call(stub, text_body({1: "a."}), path=path, headers={"Authorization": "Bearer key"}).status == 200


def test_a_service_account_gets_the_token_of_its_name(stub: Stub) -> None:
    claims = base64.urlsafe_b64encode(json.dumps({"iss": "key@project.example"}).encode()).rstrip(b"=").decode()
    form = f"grant_type=x&assertion=e30.{claims}.c2ln".encode()
    assert ask(stub, "POST", "/stub/token", form).json["access_token"] == "key"
    assert ask(stub, "POST", "/stub/token", b"assertion=nonsense").status == 400


def test_the_demo_key_is_known_from_the_start(stub: Stub) -> None:
    assert call(stub, text_body({1: "a."}), "demo", path=PATH).status == 200
