"""The key of the language service: what is one, and that it is never written down."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from chunk_runner.failures import RunnerError
from chunk_runner.logs import Log
from chunk_runner.processors.gemini.key import SecretName, read_key
from pdfjob_api.errors import ExitCode
from pdfjob_api.gemini import GeminiProcessor, SecretKeyReference, Vertex

SECRET = SecretName("books", "gemini", "api-key")
PLAIN = GeminiProcessor(model="m", api_key_secret_ref=SecretKeyReference(name="gemini"))
VERTEX = PLAIN.model_copy(update={"vertex": Vertex(project="p")})
ACCOUNT = {"client_email": "a@b", "private_key": "-----BEGIN\nabc\n-----END", "token_uri": "https://t"}


def test_white_space_around_a_key_is_not_part_of_it(tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_text("  AIza-key_1\r\n")
    assert read_key(path, PLAIN, SECRET).api_key == "AIza-key_1"


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "the Secret or its key is missing"),
        (b"", "it is empty"),
        (b" \n", "it is empty"),
        (b"two words", "it is no API key"),
        (b"a\nb", "it is no API key"),
        ("schlüssel".encode(), "it is no API key"),
        (b"\xff\xfe", "it cannot be read"),
        (b"x" * 5000, "it is no API key"),
        (b'{"type": "service_account"}', "it is no API key"),
    ],
)
def test_what_cannot_be_a_key_is_told_with_the_way_out(tmp_path: Path, content: bytes | None, reason: str) -> None:
    path = tmp_path / "key"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(RunnerError) as caught:
        read_key(path, PLAIN, SECRET)
    assert caught.value.exit_code is ExitCode.AUTH_ERROR
    message = str(caught.value)
    assert reason in message
    assert "kubectl create secret generic gemini -n books --from-file=api-key=FILE" in message
    assert not content or not content.strip() or content.decode(errors="replace").strip() not in message


def test_a_folder_in_place_of_the_key_is_a_key_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(RunnerError, match="it cannot be read"):
        read_key(tmp_path, PLAIN, SECRET)


def test_no_file_at_all_is_a_mistake_of_who_started_the_runner() -> None:
    with pytest.raises(RunnerError, match="PDFJOB_API_KEY_FILE") as caught:
        read_key(None, PLAIN, SECRET)
    assert caught.value.exit_code is ExitCode.INVALID_TASK


def test_vertex_takes_a_service_account_or_an_api_key(tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_text(json.dumps(ACCOUNT))
    assert read_key(path, VERTEX, SECRET).service_account == ACCOUNT
    path.write_text("AIza")
    assert read_key(path, VERTEX, SECRET).api_key == "AIza"


@pytest.mark.parametrize("content", ["{", "{}", json.dumps({**ACCOUNT, "private_key": 5})])
def test_a_damaged_service_account_is_told(tmp_path: Path, content: str) -> None:
    path = tmp_path / "key"
    path.write_text(content)
    with pytest.raises(RunnerError, match="service account") as caught:
        read_key(path, VERTEX, SECRET)
    assert caught.value.exit_code is ExitCode.AUTH_ERROR


def test_a_hidden_secret_is_in_no_log_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "key"
    path.write_text(json.dumps(ACCOUNT))
    log = Log()
    bound = log.bind(job="a")
    for secret in read_key(path, VERTEX, SECRET).secrets():
        log.hide(secret)
    bound.warning("said", reason=f"no {ACCOUNT['private_key']} here", parts=[ACCOUNT["private_key"]])
    line = capsys.readouterr().out
    assert "abc" not in line
    assert "[secret]" in line
    assert repr(read_key(path, VERTEX, SECRET)) == "Key()"
