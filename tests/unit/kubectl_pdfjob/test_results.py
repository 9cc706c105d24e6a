"""Choosing, checking, writing and showing results."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from kubectl_pdfjob.errors import JobFailedError, StorageError, UsageError
from kubectl_pdfjob.results import choose_file, sentences, verified, write_file
from pdfjob_api.jobstatus import ResultFile, ResultFormat

from .builders import condition, failed_job, finished_job, running_job

FILES = [
    {"format": form, "uri": f"s3://b/result.{form}", "bytes": 3, "sha256": hashlib.sha256(b"abc").hexdigest()}
    for form in ("jsonl", "txt", "csv")
]
FILE = ResultFile.model_validate(FILES[0])


@pytest.mark.parametrize(
    ("wanted", "output", "chosen"),
    [
        (None, None, "jsonl"),
        ("csv", None, "csv"),
        (None, "novel.TXT", "txt"),
        (None, "novel.md", "jsonl"),
        ("csv", "novel.txt", "csv"),
    ],
)
def test_the_format_is_the_named_one_or_that_of_the_suffix(wanted: str | None, output: str | None, chosen: str) -> None:
    file = choose_file(finished_job(FILES), wanted, Path(output) if output else None)

    assert file.format == chosen


def test_without_jsonl_the_first_format_is_taken() -> None:
    assert choose_file(finished_job(FILES[1:]), None, None).format == "txt"


def test_a_format_that_the_job_does_not_write_is_refused() -> None:
    with pytest.raises(UsageError, match="it has txt, csv"):
        choose_file(finished_job(FILES[1:]), "jsonl", None)


def test_a_job_without_a_result_says_where_it_stands() -> None:
    with pytest.raises(JobFailedError, match="Running, 5/10 chunks"):
        choose_file(running_job(), None, None)
    with pytest.raises(JobFailedError, match="INVALID_SOURCE/EmptyPdf: no pages"):
        choose_file(
            failed_job("INVALID_SOURCE", condition("Split", "False", "EmptyPdf", "no pages"), "no pages"), None, None
        )


@pytest.mark.parametrize("pieces", [[b"abd"], [b"ab"], [b"abc", b"d"], []])
def test_other_bytes_than_those_stored_are_told(pieces: list[bytes]) -> None:
    with pytest.raises(StorageError, match="not what the job stored"):
        list(verified(pieces, FILE))


def test_the_bytes_stored_pass() -> None:
    assert list(verified([b"a", b"bc"], FILE)) == [b"a", b"bc"]


def test_a_file_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    target = tmp_path / "result.txt"
    target.write_bytes(b"before")
    with pytest.raises(StorageError):
        write_file(verified([b"abX"], FILE), target)
    assert target.read_bytes() == b"before"

    write_file(verified([b"abc"], FILE), target)
    assert target.read_bytes() == b"abc"
    assert [path.name for path in tmp_path.iterdir()] == ["result.txt"]


def test_a_place_that_cannot_be_written_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is a folder"):
        write_file([b"abc"], tmp_path)
    with pytest.raises(UsageError, match="No such file or directory"):
        write_file([b"abc"], tmp_path / "missing" / "result.txt")


JSONL = b'{"n":0,"page":1,"endPage":1,"text":"\xc3\x89t\xc3\xa9."}\n{"missing":[51,100],"code":"TIMEOUT"}\n'


@pytest.mark.parametrize(
    ("data", "form"),
    [
        (JSONL, ResultFormat.JSONL),
        ("Été.\n\n[pages 51-100 missing: TIMEOUT]\n".encode(), ResultFormat.TXT),
        (
            "n,page,end_page,text\r\n0,1,1,Été.\r\n,51,100,[pages 51-100 missing: TIMEOUT]\r\n".encode(),
            ResultFormat.CSV,
        ),
    ],
)
def test_sentences_of_every_format(data: bytes, form: ResultFormat) -> None:
    assert list(sentences(data, form, whole=True)) == ["Été.", "[pages 51-100 missing: TIMEOUT]"]


def test_a_line_that_is_cut_off_is_left_out() -> None:
    assert list(sentences(JSONL[:-5], ResultFormat.JSONL, whole=False)) == ["Été."]


@pytest.mark.parametrize("odd", ["\u2028", "\x85", "\x0b", "\x1c"])
def test_only_a_line_feed_ends_a_line(odd: str) -> None:
    record = json.dumps({"text": f"a{odd}b"}, ensure_ascii=False).encode() + b"\n"

    assert list(sentences(record, ResultFormat.JSONL, whole=True)) == ["ab"]
    assert list(sentences(f"a{odd}b\n".encode(), ResultFormat.TXT, whole=True)) == ["ab"]


def test_text_of_a_document_cannot_drive_the_terminal() -> None:
    assert list(sentences(b"\x1b[2Jred\x07\n", ResultFormat.TXT, whole=True)) == ["[2Jred"]
