"""Characters and hyphens."""

import pytest

from chunk_runner.text.repair import SOFT_HYPHEN, clean, collapse, has_leader, join_lines, resolve_hyphens


def repaired(text: str, evidence: str = "") -> str:
    return collapse(resolve_hyphens(clean(text), evidence))


@pytest.mark.parametrize("mark", ["\x02", "\ufffe", "\u00ad"])
@pytest.mark.parametrize(
    ("left", "right", "expected"),
    [
        ("dis", "tribution of", "distribution of"),
        ("automa", "tique (consultez", "automatique (consultez"),
        ("US", "ASCII", "US-ASCII"),
        ("Jean", "Pierre", "Jean-Pierre"),
        ("x86", "based", "x86-based"),
        ("dit", "elle.", "dit-elle."),
        ("mor", "telle", "mortelle"),
        ("est", "il venu", "est-il venu"),
        ("peut", "être", "peut-être"),
        ("state-of-the", "art", "state-of-the-art"),
        ("c’est-à", "dire", "c’est-à-dire"),
        ("/run/reboot", "required", "/run/reboot-required"),
        ("apt", "cache.conf", "apt-cache.conf"),
        ("non", "free", "non-free"),
        ("(mainte", "nant)", "(maintenant)"),
    ],
)
def test_a_hyphen_at_the_end_of_a_line_stays_only_in_compounds(mark: str, left: str, right: str, expected: str) -> None:
    assert repaired(f"{left}{mark}{right}") == expected


def test_the_page_itself_tells_how_a_word_is_written() -> None:
    assert repaired("apt\x02cache", evidence="run apt-cache often") == "apt-cache"
    assert repaired("non\x02sense", evidence="all nonsense here") == "nonsense"


def test_many_marks_in_one_text_are_all_resolved() -> None:
    assert repaired("syl\x02la\x02bles and syl\x02la\x02bles") == "syllables and syllables"


def test_only_ligatures_are_normalised() -> None:
    assert repaired("e\ufb03cient \ufb01rst x² ½ Ａ ĳ") == "efficient first x² ½ Ａ ij"


def test_controls_and_halves_of_surrogates_go_and_text_stays() -> None:
    assert repaired("a\x00b\x07c\x9fd\ud83de\u200bf\ufeff") == "abcdef"
    assert repaired("a\ud800b").encode() == b"ab"


def test_white_space_of_every_kind_becomes_one_space() -> None:
    assert repaired(" libre\u00a0; \t vous\u202f!\u2009 ") == "libre ; vous !"


def test_leader_dots_become_one_ellipsis_and_an_ellipsis_stays() -> None:
    assert repaired("9.10 Liste . . . . . . . . 145") == "9.10 Liste … 145"
    assert has_leader("9.10 Liste . . . . . . . . 145")
    assert repaired("so ... it went....") == "so ... it went...."
    assert not has_leader("so ... it went....")


@pytest.mark.parametrize(
    ("left", "right", "expected"),
    [
        ("one", "two", "one two"),
        ("docu-", "ment", f"docu{SOFT_HYPHEN}ment"),
        ("a dash -", "then", "a dash - then"),
        ("漢字の", "次の行", "漢字の次の行"),
        ("", "two", "two"),
        ("one ", "", "one"),
    ],
)
def test_lines_are_joined_as_a_reader_would(left: str, right: str, expected: str) -> None:
    assert join_lines(left, right) == expected
