"""Where sentences end."""

import pytest

from chunk_runner.text.sentences import is_one_sentence, split_sentences


@pytest.mark.parametrize(
    ("language", "text", "expected"),
    [
        ("fr", "Il a vu M. Dupont hier. Il part.", ["Il a vu M. Dupont hier.", "Il part."]),
        ("fr", "Né en 52 av. J.-C. à Rome. Mme. Roux part.", ["Né en 52 av. J.-C. à Rome.", "Mme. Roux part."]),
        ("fr", "Selon J. Dupont, c.-à-d. lui. Fin.", ["Selon J. Dupont, c.-à-d. lui.", "Fin."]),
        ("fr", "Entrez Ctrl-C. Le programme finit.", ["Entrez Ctrl-C.", "Le programme finit."]),
        ("fr", "Ça va ? Oui ! « Non. » Fin", ["Ça va ?", "Oui !", "« Non. »", "Fin"]),
        ("en", "Ask Dr. No. See Fig. 3 there.", ["Ask Dr. No.", "See Fig. 3 there."]),
        ("en", "12 Chapter 2. The Archive", ["12 Chapter 2. The Archive"]),
        ("en", "2.5. Priorities 11", ["2.5. Priorities 11"]),
        ("en", "3. Derived Works", ["3. Derived Works"]),
        ("en", "It ends in Chapter 2. Then more.", ["It ends in Chapter 2.", "Then more."]),
        ("xx", "One. Two.", ["One.", "Two."]),
        ("en", "   ", []),
        ("en", "", []),
    ],
)
def test_sentences_end_where_a_reader_ends_them(language: str, text: str, expected: list[str]) -> None:
    assert split_sentences(text, language) == expected


def test_nothing_is_left_out() -> None:
    text = "M. A. B. C.-D. e. f! g? 1. 2. (h. i) … j.k. L."
    for language in ("fr", "en", "de"):
        assert " ".join(split_sentences(text, language)).replace(" ", "") == text.replace(" ", "")


def test_an_abbreviation_at_the_end_of_a_page_ends_no_sentence() -> None:
    assert is_one_sentence("C’est la maison de M.", "Dupont, dit-il.", "fr")
    assert not is_one_sentence("C’est la maison.", "Dupont part.", "fr")
