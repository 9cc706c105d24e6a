"""What can be submitted, and the names made from it."""

from __future__ import annotations

import re
from itertools import islice
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubectl_pdfjob.errors import UsageError
from kubectl_pdfjob.sources import (
    LocalFile,
    S3Object,
    WebDocument,
    base_name,
    candidate_names,
    check_name,
    inbox_key,
    parse_source,
)

NAME = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")


@pytest.mark.parametrize(
    ("text", "source", "file_name"),
    [
        ("s3://archive/2026/novel.pdf", S3Object("archive", "2026/novel.pdf"), "novel.pdf"),
        ("https://example.org/a%20b.pdf?x=1", WebDocument("https://example.org/a%20b.pdf?x=1"), "a b.pdf"),
        ("HTTP://example.org/", WebDocument("HTTP://example.org/"), "example.org"),
    ],
)
def test_addresses_are_told_apart(text: str, source: S3Object | WebDocument, file_name: str) -> None:
    assert parse_source(text, repair=False) == source
    assert source.file_name == file_name


@pytest.mark.parametrize("text", ["s3://bucket", "s3:///key", "ftp://example.org/a.pdf", "https://"])
def test_other_addresses_are_refused(text: str) -> None:
    with pytest.raises(UsageError):
        parse_source(text, repair=False)


def test_a_header_behind_rubbish_still_makes_a_pdf(tmp_path: Path) -> None:
    path = tmp_path / "x.pdf"
    path.write_bytes(b"\0" * 1000 + b"%PDF-1.4\n")

    assert parse_source(str(path), repair=False) == LocalFile(path, 1009)


def test_repair_takes_a_file_without_a_header(tmp_path: Path) -> None:
    path = tmp_path / "x.pdf"
    path.write_bytes(b"no header")

    with pytest.raises(UsageError, match="not a PDF"):
        parse_source(str(path), repair=False)
    assert parse_source(str(path), repair=True) == LocalFile(path, 9)


@pytest.mark.parametrize("name", ["missing.pdf", "."])
def test_what_is_no_file_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError):
        parse_source(str(tmp_path / name), repair=True)


@pytest.mark.parametrize(
    ("file_name", "name"),
    [
        ("novel.pdf", "novel"),
        ("Mon Roman (été).PDF", "mon-roman-ete"),
        ("a.b.c.pdf", "a-b-c"),
        (".pdf", "pdf"),
        ("договор.pdf", "document"),
        ("x" * 80 + ".pdf", "x" * 50),
        ("y" * 49 + "-z.pdf", "y" * 49),
    ],
)
def test_a_resource_is_named_after_its_file(file_name: str, name: str) -> None:
    assert base_name(file_name) == name


@given(st.text())
def test_every_file_name_gives_a_name_that_kubernetes_takes(file_name: str) -> None:
    for name in islice(candidate_names(base_name(file_name)), 12):
        assert NAME.fullmatch(name)
        assert len(name) <= 50


def test_taken_names_are_numbered() -> None:
    names = list(candidate_names("novel"))

    assert names[:3] == ["novel", "novel-2", "novel-3"]
    assert names[98] == "novel-99"
    assert re.fullmatch("novel-[0-9a-f]{6}", names[99])
    assert len(names) == 100


@pytest.mark.parametrize("name", ["Novel", "a_b", "-a", "a-", "", "a" * 51, "a.b"])
def test_a_name_that_cannot_be_is_refused(name: str) -> None:
    with pytest.raises(UsageError):
        check_name(name)


def test_the_key_is_in_the_inbox_and_depends_on_the_content() -> None:
    key = inbox_key("pdfjob", "lib", "0123456789abcdef" * 4, "novel.pdf")

    assert key == "pdfjob/inbox/lib/0123456789ab/novel.pdf"


@given(st.text(min_size=1))
def test_the_stored_file_name_is_one_plain_part_of_the_key(file_name: str) -> None:
    last = inbox_key("p", "n", "0" * 64, file_name).removeprefix("p/inbox/n/000000000000/")

    assert "/" not in last
    assert len(last.encode()) <= 200
    assert all(char.isprintable() or char.isspace() for char in last if ord(char) < 256)


def test_a_long_file_name_keeps_its_suffix() -> None:
    assert inbox_key("p", "n", "0" * 64, "é" * 300 + ".pdf").endswith("é.pdf")
