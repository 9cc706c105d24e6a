"""Merging, as the operator calls it: a real task process, chunk results as runners store them."""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections.abc import AsyncIterator, Iterator, Sequence
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pdfjob_api.contract import ChunkResult, MissingPage, Record
from pdfjob_api.jobstatus import ResultFormat
from pdfjob_api.rendering import Gap, Piece, new_format, pieces_of, rendered
from pdfjob_operator.documents import Documents, Merged, MergeError, MergeInput, MissingPart, ResultPart
from pdfjob_operator.settings import DocumentSettings

ALL = tuple(ResultFormat)


def result(
    first: int, last: int, *records: tuple[int, int, str], missing: Sequence[tuple[int, str]] = ()
) -> ChunkResult:
    return ChunkResult(
        start_page=first,
        end_page=last,
        records=[Record(page=page, end_page=end, text=text) for page, end, text in records],
        missing=[MissingPage(page=page, code=code) for page, code in missing],
    )


async def inputs(folder: Path, parts: Sequence[ChunkResult | MissingPart]) -> AsyncIterator[MergeInput]:
    for number, part in enumerate(parts):
        if isinstance(part, MissingPart):
            yield part
            continue
        path = folder / f"{number}.json"
        path.write_text(part.model_dump_json(by_alias=True), encoding="utf-8")
        yield ResultPart(path, part.start_page, part.end_page)
        path.unlink()  # asked for the next one: this one has been read


async def merge(
    documents: Documents,
    folder: Path,
    *parts: ChunkResult | MissingPart,
    formats: Sequence[ResultFormat] = ALL,
) -> tuple[Merged, dict[str, str]]:
    merged = await documents.merge(inputs(folder, parts), folder, formats)
    for file in merged.files:
        data = file.path.read_bytes()
        assert (file.size_bytes, file.sha256) == (len(data), hashlib.sha256(data).hexdigest())
        assert data.decode() == "".join(rendered(_pieces(parts), new_format(file.format)))
    return merged, {file.format.value: file.path.read_bytes().decode() for file in merged.files}


def _pieces(parts: Sequence[ChunkResult | MissingPart]) -> Iterator[Piece]:
    """Yield what ``kubectl pdfjob results --partial`` writes: it must be the bytes that the merge writes."""
    for part in parts:
        if isinstance(part, MissingPart):
            yield Gap(part.first_page, part.last_page, part.code)
        else:
            yield from pieces_of(part)


async def test_three_formats_exactly(documents: Documents, tmp_path: Path) -> None:
    merged, files = await merge(
        documents,
        tmp_path,
        result(1, 50, (12, 13, 'Été, "deux"\nmots.'), (12, 12, "Encore."), (50, 51, "À cheval."), missing=[(49, "X")]),
        MissingPart(51, 100, "TIMEOUT"),
        result(101, 102, (102, 102, "Fin.")),
    )
    assert files["jsonl"] == (
        '{"n":0,"page":12,"endPage":13,"text":"Été, \\"deux\\"\\nmots."}\n'
        '{"n":1,"page":12,"endPage":12,"text":"Encore."}\n'
        '{"missing":[49,49],"code":"X"}\n'
        '{"n":2,"page":50,"endPage":51,"text":"À cheval."}\n'
        '{"missing":[51,100],"code":"TIMEOUT"}\n'
        '{"n":3,"page":102,"endPage":102,"text":"Fin."}\n'
    )
    assert files["txt"] == (
        'Été, "deux" mots.\nEncore.\n\n'
        "[pages 49-49 missing: X]\n\n"
        "À cheval.\n\n"
        "[pages 51-100 missing: TIMEOUT]\n\n"
        "Fin.\n"
    )
    assert files["csv"] == (
        "n,page,end_page,text\r\n"
        '0,12,13,"Été, ""deux""\nmots."\r\n'
        "1,12,12,Encore.\r\n"
        ",49,49,[pages 49-49 missing: X]\r\n"
        "2,50,51,À cheval.\r\n"
        ",51,100,[pages 51-100 missing: TIMEOUT]\r\n"
        "3,102,102,Fin.\r\n"
    )
    assert (merged.sentences, merged.missing) == (4, ((49, 49, "X"), (51, 100, "TIMEOUT")))


async def test_neighbouring_gaps_with_one_code_become_one_also_across_chunks(
    documents: Documents, tmp_path: Path
) -> None:
    merged, files = await merge(
        documents,
        tmp_path,
        result(1, 10, missing=[(9, "A"), (8, "A"), (10, "A")]),
        result(11, 20, (14, 14, "Text."), missing=[(11, "A"), (12, "B"), (13, "A"), (20, "B")]),
        MissingPart(21, 30, "B"),
        MissingPart(31, 40, "B"),
        result(41, 50, missing=[(41, "B"), (43, "B")]),
        formats=[ResultFormat.JSONL],
    )
    expected = ((8, 11, "A"), (12, 12, "B"), (13, 13, "A"), (20, 41, "B"), (43, 43, "B"))
    assert merged.missing == expected
    lines = [json.loads(line) for line in files["jsonl"].splitlines()]
    assert [(*line["missing"], line["code"]) for line in lines if "missing" in line] == list(expected)
    assert lines[3] == {"n": 0, "page": 14, "endPage": 14, "text": "Text."}


async def test_only_the_formats_asked_for(documents: Documents, tmp_path: Path) -> None:
    merged, files = await merge(documents, tmp_path, result(1, 1, (1, 1, "One.")), formats=[ResultFormat.TXT])
    assert files == {"txt": "One.\n"}
    assert [each.name for each in tmp_path.iterdir()] == ["result.txt"]
    assert merged.sentences == 1


async def test_a_document_without_a_sentence(documents: Documents, tmp_path: Path) -> None:
    merged, files = await merge(documents, tmp_path, result(1, 3))
    assert files == {"jsonl": "", "txt": "", "csv": "n,page,end_page,text\r\n"}
    assert (merged.sentences, merged.missing) == (0, ())


@pytest.mark.parametrize(
    ("parts", "told"),
    [
        ([result(2, 5)], "pages 2-5 do not follow page 0"),
        ([result(1, 5), result(7, 9)], "pages 7-9 do not follow page 5"),
        ([result(1, 5), MissingPart(5, 9, "X")], "pages 5-9 do not follow page 5"),
        ([result(1, 5, (3, 3, "b"), (2, 2, "a"))], "a sentence of page 2 is out of order"),
        ([result(1, 5, (6, 6, "a"))], "a sentence of page 6 is out of order"),
        ([result(1, 5, (3, 2, "a"))], "a sentence of page 3 is out of order"),
        ([result(1, 5, missing=[(6, "X")])], "missing page 6"),
    ],
)
async def test_what_does_not_fit_is_refused(
    documents: Documents, tmp_path: Path, parts: list[ChunkResult | MissingPart], told: str
) -> None:
    with pytest.raises(MergeError, match=told) as caught:
        await merge(documents, tmp_path, *parts)
    assert not caught.value.retryable


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{}",
        b"[]",
        b'{"version":1,"startPage":1,"endPage":1,"records":[{"page":1,"endPage":1,"te',
        b'{"version":1,"startPage":1,"endPage":1,"records":[7]}',
        b'{"version":1,"startPage":1,"endPage":1,"records":[{"page":"1","endPage":1,"text":"x"}]}',
        b'{"version":1,"startPage":1,"endPage":1,"records":[{"page":1,"endPage":1}]}',
        b'{"version":1,"startPage":1,"endPage":1,"records":[{"page":1,"endPage":1,"text":5}]}',
        b'{"version":1,"startPage":1,"endPage":1,"records":[{"page":1,"endPage":1,"text":"\xff"}]}',
    ],
)
async def test_a_damaged_chunk_result_is_named(documents: Documents, tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "damaged.json"
    path.write_bytes(content)

    async def one() -> AsyncIterator[MergeInput]:
        yield ResultPart(path, 1, 1)

    with pytest.raises(MergeError, match="the result of pages 1-1 cannot be read"):
        await documents.merge(one(), tmp_path, ALL)


async def test_an_error_of_the_caller_comes_through_and_ends_the_process(documents: Documents, tmp_path: Path) -> None:
    async def failing() -> AsyncIterator[MergeInput]:
        yield MissingPart(1, 2, "X")
        raise ConnectionError("storage is away")

    with pytest.raises(ConnectionError, match="storage is away"):
        await documents.merge(failing(), tmp_path, ALL)


_TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40)


@st.composite
def documents_in_chunks(draw: st.DrawFn) -> tuple[list[tuple[int, int, str]], list[list[int]]]:
    """Sentences of a document, and two ways to cut its pages into chunks."""
    pages = draw(st.integers(1, 30))
    starts = sorted(draw(st.lists(st.integers(1, pages), max_size=25)))
    sentences = [(page, min(pages, page + draw(st.integers(0, 1))), draw(_TEXT)) for page in starts]
    cuts = [sorted(draw(st.sets(st.integers(2, pages)))) if pages > 1 else [] for _ in range(2)]
    return sentences, [[1, *each, pages + 1] for each in cuts]


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(drawn=documents_in_chunks())
async def test_the_cut_does_not_show(
    tmp_path_factory: pytest.TempPathFactory,
    documents: Documents,
    drawn: tuple[list[tuple[int, int, str]], list[list[int]]],
) -> None:
    sentences, cuts = drawn
    answers = []
    for starts in cuts:
        parts = [
            result(first, after - 1, *(each for each in sentences if first <= each[0] < after))
            for first, after in pairwise(starts)
        ]
        answers.append(await merge(documents, tmp_path_factory.mktemp("merge"), *parts))
    (one, files), (two, same) = answers
    assert files == same
    assert (one.sentences, one.missing) == (two.sentences, two.missing) == (len(sentences), ())
    lines = [json.loads(line) for line in files["jsonl"].split("\n")[:-1]]
    assert [(line["page"], line["endPage"], line["text"]) for line in lines] == sentences
    assert [line["n"] for line in lines] == list(range(len(sentences)))
    rows = list(csv.reader(io.StringIO(files["csv"], newline="")))[1:]
    assert [(int(page), int(end), text) for _, page, end, text in rows] == sentences
    assert len([line for line in files["txt"].split("\n")[:-1] if line.strip()]) == len(
        [text for _, _, text in sentences if text.strip()]
    )


async def test_memory_does_not_grow_with_the_document(tmp_path: Path) -> None:
    """One chunk result of 30 MB, fifty times what is usual, passes through a process of 128 MiB."""
    documents = Documents(DocumentSettings(memory_bytes=128 * 1024**2))
    path = tmp_path / "large.json"
    text = json.dumps("Une phrase assez longue, comme il y en a beaucoup. " * 60)
    with path.open("w", encoding="utf-8") as file:
        file.write('{"version":1,"startPage":1,"endPage":1000,"records":[')
        file.writelines(
            f'{"," if number else ""}{{"page":{number // 60 + 1},"endPage":{number // 60 + 1},"text":{text}}}'
            for number in range(10_000)
        )
        file.write("]}")

    async def one() -> AsyncIterator[MergeInput]:
        yield ResultPart(path, 1, 1000)

    merged = await documents.merge(one(), tmp_path, ALL)
    assert merged.sentences == 10_000
