"""The local processor on small books: paragraphs, sentences, page borders, ownership."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from chunk_runner.failures import RunnerError
from chunk_runner.pdf import ChunkPdf, UnreadablePageError
from chunk_runner.processors import Finished
from chunk_runner.processors.local import LocalProcessor
from pdfjob_api.contract import Record
from pdfjob_api.errors import ExitCode
from pdfjob_api.processing import LocalProcessor as Settings
from pdfjob_api.processing import Processor, Repair
from tests.support.runner_process import make_task
from tests.support.typeset import Sheet, broken_page, typeset, with_letter_meaning, wrap

LONG = "The quick brown fox jumps over the lazy dog while the old farmer watches the river from his window"


def read(folder: Path, sheets: Sequence[Sheet], language: str = "en") -> list[Record]:
    pdf = typeset(sheets)
    path = folder / "book.pdf"
    path.write_bytes(pdf)
    task = make_task(pdf, 1, len(sheets), processor=Processor(local=Settings(language=language)))
    processor = LocalProcessor(task, path)
    return [
        record
        for window in processor.windows(range(1, len(sheets) + 1))
        for piece in processor.process(window)
        for record in piece.records
    ]


def only(processor: LocalProcessor, page: int) -> Finished:
    """Return what came out of a page."""
    (piece,) = processor.process((page,))
    return piece


def texts(records: Sequence[Record]) -> list[tuple[int, int, str]]:
    return [(record.page, record.end_page, record.text) for record in records]


def test_lines_of_a_paragraph_become_sentences(tmp_path: Path) -> None:
    lines = wrap(f"{LONG}. It costs 3.50 euros, as Mr. Smith says. {LONG}!")
    assert texts(read(tmp_path, [Sheet(lines)])) == [
        (1, 1, f"{LONG}."),
        (1, 1, "It costs 3.50 euros, as Mr. Smith says."),
        (1, 1, f"{LONG}!"),
    ]


def test_letters_beyond_the_basic_plane_stay_whole_and_do_not_shift_the_lines(tmp_path: Path) -> None:
    sheet = Sheet(["2.5 On ZZZZZZZZ", *wrap(f"{LONG} Z. {LONG} Z."), "• item Z"])
    path = tmp_path / "mathematics.pdf"
    path.write_bytes(with_letter_meaning(typeset([sheet]), "Z", "𝔸"))
    processor = LocalProcessor(make_task(b"", 1, 1, size_bytes=1), path)
    assert [record.text for record in only(processor, 1).records] == [
        "2.5 On 𝔸𝔸𝔸𝔸𝔸𝔸𝔸𝔸",
        f"{LONG} 𝔸.",
        f"{LONG} 𝔸.",
        "• item 𝔸",
    ]


def test_the_language_decides_where_a_sentence_ends(tmp_path: Path) -> None:
    sheets = [Sheet(["Il a vu M. Dupont hier soir. Il part."])]
    assert [record.text for record in read(tmp_path, sheets, "fr")] == ["Il a vu M. Dupont hier soir.", "Il part."]


def test_headings_lists_and_paragraphs_are_kept_apart(tmp_path: Path) -> None:
    sheet = Sheet(["2.5 Priorities", *wrap(f"{LONG}."), "", "• first thing,", "• second thing", "", *wrap(f"{LONG}.")])
    assert [record.text for record in read(tmp_path, [sheet])] == [
        "2.5 Priorities",
        f"{LONG}.",
        "• first thing,",
        "• second thing",
        f"{LONG}.",
    ]


def test_entries_of_a_table_of_contents_are_one_record_each(tmp_path: Path) -> None:
    sheet = Sheet(
        ["1.1 Mr. Smith and others . . . . . . . . . . . 12", "1.2 The rest. And more . . . . . . . . . . 13"]
    )
    assert [record.text for record in read(tmp_path, [sheet])] == [
        "1.1 Mr. Smith and others … 12",
        "1.2 The rest. And more … 13",
    ]


SPANNING = f"{LONG} and nobody knows where the fox went after {LONG.lower()}."


def spanning_sheets(**fields: str | Sequence[str]) -> list[Sheet]:
    """Two pages of a book, with a sentence that goes on from the first to the second."""
    lines = wrap(f"A first sentence stands here. {SPANNING}")
    rest = wrap(f"{lines[-1]} A last sentence stands here, and it is long enough.")
    return [Sheet(lines[:-1], **fields), Sheet(rest, **fields)]  # type: ignore[arg-type]


def test_a_sentence_over_a_page_border_comes_once_and_whole(tmp_path: Path) -> None:
    assert texts(read(tmp_path, spanning_sheets())) == [
        (1, 1, "A first sentence stands here."),
        (1, 2, SPANNING),
        (2, 2, "A last sentence stands here, and it is long enough."),
    ]


def test_running_heads_feet_and_footnotes_do_not_get_into_the_sentence(tmp_path: Path) -> None:
    first, second = spanning_sheets(head="The Manual of Foxes", notes=["1 A note in small print."])
    sheets = [
        Sheet(first.lines, head=first.head, foot="12 Chapter 2. The Fox", notes=first.notes),
        Sheet(second.lines, head=second.head, foot="2.5. The Fox 13", notes=second.notes),
    ]
    records = texts(read(tmp_path, sheets))
    assert (1, 2, SPANNING) in records
    everything = " ".join(text for _, _, text in records)
    assert everything.count("The Manual of Foxes") == 2
    assert everything.count("A note in small print.") == 2
    assert (1, 1, "12 Chapter 2. The Fox") in records
    assert (2, 2, "2.5. The Fox 13") in records


def test_a_word_cut_at_the_end_of_a_page_is_whole_again(tmp_path: Path) -> None:
    lines = wrap(f"A first sentence stands here. {LONG} and by {LONG.lower()}")
    sheets = [
        Sheet([*lines, "and the whole of this line leads up to the end of the page with its dis-"]),
        Sheet([*wrap(f"tribution of goods to {LONG.lower()}. A last sentence stands here.")]),
    ]
    joined = [record for record in read(tmp_path, sheets) if record.end_page == 2 and record.page == 1]
    assert len(joined) == 1
    assert "its distribution of goods" in joined[0].text


def test_a_blank_page_ends_the_sentence(tmp_path: Path) -> None:
    first, second = spanning_sheets()
    records = read(tmp_path, [first, Sheet(), second])
    assert all(record.page == record.end_page for record in records)
    assert {record.page for record in records} == {1, 3}


def test_a_page_never_goes_whole_into_the_one_before(tmp_path: Path) -> None:
    endless = wrap(" ".join([LONG.lower()] * 6))
    records = read(tmp_path, [Sheet(endless), Sheet(endless), Sheet(endless)])
    assert {record.page for record in records} == {1, 2, 3}
    assert all(record.end_page <= record.page + 1 for record in records)


def test_a_heading_at_the_top_of_a_page_is_no_end_of_a_sentence(tmp_path: Path) -> None:
    lines = wrap(f"A first sentence. {LONG} and so on with {LONG.lower()}")
    sheets = [Sheet(lines[:-1]), Sheet(["Results", "", *wrap(f"{LONG}. {LONG}.")])]
    assert all(record.end_page == record.page for record in read(tmp_path, sheets))


def test_a_line_that_had_room_left_does_not_go_on(tmp_path: Path) -> None:
    sheets = [Sheet([*wrap(f"{LONG}."), "$ ls -l /tmp"]), Sheet(wrap(f"paths are shown and {LONG.lower()}. {LONG}."))]
    assert all(record.end_page == record.page for record in read(tmp_path, sheets))


def test_no_text_is_lost_and_none_is_said_twice(tmp_path: Path) -> None:
    sheets = [*spanning_sheets(head="The Manual of Foxes"), *spanning_sheets()]
    words = " ".join(line for sheet in sheets for line in (sheet.head, *sheet.lines)).split()
    found = " ".join(record.text for record in read(tmp_path, sheets)).split()
    assert sorted(found) == sorted(words)


def three_pages(folder: Path) -> tuple[bytes, Path]:
    sheets = [Sheet(wrap(f"Page {number} says this. {LONG}.")) for number in (1, 2, 3)]
    pdf = broken_page(typeset(sheets), 1)
    path = folder / "broken.pdf"
    path.write_bytes(pdf)
    return pdf, path


def test_pdfium_refuses_the_broken_page_and_reads_its_neighbours(tmp_path: Path) -> None:
    _, path = three_pages(tmp_path)
    document = ChunkPdf(path, pages=3)
    with pytest.raises(UnreadablePageError):
        document.lines(1)
    assert document.lines(2)[0].text.startswith("Page 3 says this.")


def test_strict_names_the_page_that_cannot_be_read(tmp_path: Path) -> None:
    pdf, path = three_pages(tmp_path)
    processor = LocalProcessor(make_task(pdf, 41, 43), path)
    with pytest.raises(RunnerError, match=r"page 42 cannot be read .*source.repair: Repair") as caught:
        processor.process((42,))
    assert caught.value.exit_code is ExitCode.INVALID_PDF


def test_repair_lists_the_page_and_goes_on(tmp_path: Path) -> None:
    pdf, path = three_pages(tmp_path)
    processor = LocalProcessor(make_task(pdf, 41, 43, repair=Repair.REPAIR), path)
    finished = [only(processor, page) for page in (41, 42, 43)]
    assert [(part.page, part.code) for part in finished[1].missing] == [(42, "INVALID_ITEM")]
    assert [bool(part.records) for part in finished] == [True, False, True]


def test_a_lost_page_without_text_is_missing_and_one_with_some_text_left_is_kept(tmp_path: Path) -> None:
    pdf = typeset([Sheet(["Half of a page."]), Sheet([]), Sheet([])])
    path = tmp_path / "lost.pdf"
    path.write_bytes(pdf)
    processor = LocalProcessor(make_task(pdf, 1, 3, repair=Repair.REPAIR, lost_pages=[1, 2]), path)
    finished = [only(processor, page) for page in (1, 2, 3)]
    assert [part.page for each in finished for part in each.missing] == [2]
    assert [len(each.records) for each in finished] == [1, 0, 0]


def test_a_broken_context_page_counts_as_blank(tmp_path: Path) -> None:
    pdf, path = three_pages(tmp_path)
    processor = LocalProcessor(make_task(pdf, 43, 43, context_before=2), path)
    assert only(processor, 43).records[0].text == "Page 3 says this."


def test_another_number_of_pages_than_the_task_says_is_refused(tmp_path: Path) -> None:
    pdf = typeset([Sheet(["One."])])
    path = tmp_path / "short.pdf"
    path.write_bytes(pdf)
    with pytest.raises(RunnerError, match="has 1 pages, the task says 3") as caught:
        LocalProcessor(make_task(pdf, 1, 3), path)
    assert caught.value.exit_code is ExitCode.INVALID_PDF


def test_what_is_no_pdf_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "no.pdf"
    path.write_bytes(b"<html>404</html>")
    with pytest.raises(RunnerError, match="cannot be opened") as caught:
        LocalProcessor(make_task(b"x", 1, 1), path)
    assert caught.value.exit_code is ExitCode.INVALID_PDF
