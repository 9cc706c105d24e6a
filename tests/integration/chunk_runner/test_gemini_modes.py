"""Mode Pdf, and Vertex AI."""

from __future__ import annotations

import io
import json
import os
from pathlib import Path
from typing import Any

import pikepdf
import pypdf
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from chunk_runner.failures import RunnerError
from chunk_runner.processors.gemini import calls, sources
from gemini_stub import Scenario, Stub
from pdfjob_api.errors import ExitCode
from pdfjob_api.gemini import GeminiMode, MediaResolution, Vertex
from pdfjob_api.processing import Repair
from tests.support.gemini_work import Work, book, counts, fault, gemini, work
from tests.support.runner_process import make_task
from tests.support.typeset import Sheet, broken_page, typeset


def pdf_work(stub: Stub, key: str, folder: Path, pages: int, **options: Any) -> Work:
    return work(stub, key, folder, pages=pages, mode=GeminiMode.PDF, **options)


def heavy(pages: int, weights: dict[int, int]) -> bytes:
    """Return a book of which some pages carry so many bytes that do not shrink."""
    with pikepdf.open(io.BytesIO(book(pages))) as pdf:
        for page, size in weights.items():
            image = pikepdf.Stream(
                pdf,
                os.urandom(size),
                Type=pikepdf.Name.XObject,
                Subtype=pikepdf.Name.Image,
                Width=size // 100,
                Height=100,
                ColorSpace=pikepdf.Name.DeviceGray,
                BitsPerComponent=8,
            )
            pdf.pages[page - 1].add_resource(image, pikepdf.Name.XObject, pikepdf.Name("/Heavy"))
        buffer = io.BytesIO()
        pdf.save(buffer)
        return buffer.getvalue()


def test_the_pages_go_to_the_model_with_a_page_of_context(stub: Stub, key: str, tmp_path: Path) -> None:
    start = pdf_work(
        stub, key, tmp_path, 8, first=11, context_before=1, context_after=1, media_resolution=MediaResolution.LOW
    )
    result = start.run().result()
    assert {record.page for record in result.records} == set(range(11, 17))
    found = counts(stub, key)
    assert found["windows"] == {"11-15": 1, "16": 1}
    first, second = found["recent"]
    assert (first["mode"], first["context"], second["context"]) == ("Pdf", [10, 16], [15, 17])
    assert first["generation"]["mediaResolution"] == "MEDIA_RESOLUTION_LOW"
    assert result.tokens.input == found["tokens"]["input"] > 10 * 280


def test_the_pdf_of_a_window_holds_its_pages_in_order(tmp_path: Path) -> None:
    path = tmp_path / "chunk.pdf"
    path.write_bytes(book(6))
    source = sources.PdfSource(make_task(path.read_bytes(), 2, 5, context_before=1, context_after=1), path)
    pdf, listed = source.parts((3, 4))
    source.close()
    assert pdf.inline_data is not None
    assert pdf.inline_data.data is not None
    texts = [page.extract_text() for page in pypdf.PdfReader(io.BytesIO(pdf.inline_data.data)).pages]
    assert [text.split(" begins")[0] for text in texts] == ["Page 2", "Page 3", "Page 4", "Page 5"]
    assert (
        listed.text == "PDF page 1: context page 2\nPDF page 2: page 3\nPDF page 3: page 4\nPDF page 4: context page 5"
    )


def test_the_text_of_a_page_shows_where_lines_end_and_wastes_no_tokens(tmp_path: Path) -> None:
    path = tmp_path / "chunk.pdf"
    lines = ["A word cut in two is a distri-", "bution of   letters.", "Chapter 1 ............................ 12"]
    path.write_bytes(typeset([Sheet(lines), Sheet(["Next."])]))
    source = sources.TextSource(make_task(path.read_bytes(), 7, 7, context_after=1), path)
    page, context = source.parts((7,))
    source.close()
    assert page.text == (
        '<page number="7">\nA word cut in two is a distri-\nbution of letters.\nChapter 1 … 12\n</page>'
    )
    assert context.text == '<context page="8">\nNext.\n</context>'


def test_pages_without_text_are_shown_as_well(stub: Stub, key: str, tmp_path: Path) -> None:
    result = pdf_work(stub, key, tmp_path, 3, blank=[1, 2, 3]).run().result()
    assert {record.page for record in result.records} == {1, 2, 3}


def test_a_window_too_large_for_a_request_is_cut_to_fit(
    stub: Stub, key: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sources, "COMFORTABLE_PDF_BYTES", 450_000)
    pdf = heavy(6, dict.fromkeys(range(1, 7), 100_000))
    assert not pdf_work(stub, key, tmp_path, 6, pdf=pdf, window_pages=6).run().result().missing
    found = counts(stub, key)
    assert found["windows"] == {"1-3": 1, "4-6": 1}
    assert all(request["pdf_bytes"] <= 450_000 for request in found["recent"])


def test_a_large_page_goes_without_context_and_one_beyond_the_limit_is_missing(
    stub: Stub, key: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sources, "COMFORTABLE_PDF_BYTES", 150_000)
    monkeypatch.setattr(sources, "MAX_PDF_BYTES", 300_000)
    pdf = heavy(4, {2: 200_000, 4: 400_000})
    result = pdf_work(stub, key, tmp_path, 4, pdf=pdf).run().result()
    assert [(page.page, page.code) for page in result.missing] == [(4, "TOO_LARGE")]
    contexts = {request["window"]: request["context"] for request in counts(stub, key)["recent"]}
    assert contexts == {"1": [], "2": [], "3": []}


def test_broken_pages_and_lost_ones_in_mode_pdf(stub: Stub, key: str, tmp_path: Path) -> None:
    broken = broken_page(book(4), 1)
    with pytest.raises(RunnerError) as caught:
        pdf_work(stub, key, tmp_path, 4, pdf=broken).run()
    assert caught.value.exit_code is ExitCode.INVALID_PDF
    stub.register(key, Scenario(pdf_sentences=0))
    result = pdf_work(stub, key, tmp_path, 4, pdf=broken, repair=Repair.REPAIR, lost_pages=[3]).run().result()
    assert [(page.page, page.code) for page in result.missing] == [(2, "INVALID_ITEM"), (3, "INVALID_ITEM")]


def test_a_page_that_always_fails_in_mode_pdf_is_missing(stub: Stub, key: str, tmp_path: Path) -> None:
    stub.register(key, fault("recitation", page=3))
    result = pdf_work(stub, key, tmp_path, 5).run().result()
    assert [(page.page, page.code) for page in result.missing] == [(3, "RECITATION")]


@pytest.fixture(scope="module")
def private_key() -> str:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()


def account(stub: Stub, key: str, private_key: str, **changes: Any) -> str:
    """Return the JSON key of a service account that the stub knows as this key."""
    return json.dumps(
        {
            "type": "service_account",
            "client_email": f"{key}@project.iam.gserviceaccount.com",
            "private_key": private_key,
            "private_key_id": "0123456789abcdef",
            "token_uri": f"{stub.url}/stub/token",
            **changes,
        }
    )


def vertex_work(stub: Stub, secret: str, folder: Path, location: str = "global") -> Work:
    processor = gemini(stub.url, vertex=Vertex(project="books", location=location))
    return work(stub, secret, folder, pages=5, processor=processor)


def test_vertex_takes_a_service_account(
    stub: Stub, key: str, tmp_path: Path, private_key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GOOGLE_API_KEY", "wrong")
    monkeypatch.setenv("GOOGLE_CLOUD_PROJECT", "wrong")
    assert vertex_work(stub, account(stub, key, private_key), tmp_path, "europe-west4").run().done == 5
    (request,) = counts(stub, key)["recent"]
    assert (request["version"], request["bearer"], request["window"]) == ("v1beta1", True, "1-5")


def test_vertex_takes_an_api_key_for_the_global_location_only(stub: Stub, key: str, tmp_path: Path) -> None:
    assert vertex_work(stub, key, tmp_path).run().done == 5
    assert counts(stub, key)["recent"][0]["bearer"] is False
    with pytest.raises(RunnerError, match=r"vertex.location: global") as caught:
        vertex_work(stub, key, tmp_path, "europe-west4").run()
    assert caught.value.exit_code is ExitCode.INVALID_TASK


def test_a_service_account_that_is_refused_is_told_without_its_key(
    stub: Stub, key: str, tmp_path: Path, private_key: str, capsys: pytest.CaptureFixture[str]
) -> None:
    secrets = [
        account(stub, "unknown", private_key),
        account(stub, key, private_key, token_uri=f"{stub.url}/stub/keys/nothing"),
        account(stub, key, "-----BEGIN PRIVATE KEY-----\nbm90IGEga2V5\n-----END PRIVATE KEY-----\n"),
    ]
    for secret in secrets:
        with pytest.raises(RunnerError) as caught:
            vertex_work(stub, secret, tmp_path).run()
        assert caught.value.exit_code is ExitCode.AUTH_ERROR
        assert "Secret 'gemini'" in str(caught.value)
        assert "bm90IGEga2V5" not in str(caught.value)
    output = capsys.readouterr().out
    assert private_key.splitlines()[1] not in output


def test_a_token_endpoint_that_is_away_is_tried_again(
    stub: Stub, key: str, tmp_path: Path, private_key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calls, "_FIRST_DELAY", 0.001)
    secret = account(stub, key, private_key, token_uri="http://127.0.0.1:9/token")
    start = vertex_work(stub, secret, tmp_path)
    with pytest.raises(RunnerError, match="the token endpoint cannot be reached") as caught:
        start.run()
    assert caught.value.exit_code is ExitCode.API_ERROR
    assert start.service.requests == {"network": 3}
