"""Unicode operations in pieces give what they give on the whole text."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.encoders import unicode_pieces
from server.encoders.unicode_pieces import lowered, nfkc, utf_32

AWKWARD = st.text(st.sampled_from("aAßİΣσς' .\u0301\u0345\u02b0ǅ日1_\ud800"), max_size=60)


@given(AWKWARD, st.integers(1, 7))
def test_lower_casing_in_pieces_is_lower_casing(text: str, size: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(unicode_pieces, "PIECE", size)
        assert lowered(text) == text.lower()
        assert utf_32(text) == text.encode("utf-32-le", "surrogatepass")


@given(st.lists(st.text(max_size=90), max_size=9))
def test_nfkc_in_pieces_is_nfkc_where_there_is_white_space(parts: list[str]) -> None:
    text = " ".join(parts)
    longest = max((len(unicodedata.normalize("NFKC", part)) / len(part) for part in parts if part), default=0)
    if longest <= unicode_pieces.MOST_LONGER:
        assert nfkc(text) == unicodedata.normalize("NFKC", text)


def test_marks_are_composed_within_a_hundred_characters() -> None:
    assert nfkc("e\u0301" * 50) == "é" * 50
    assert nfkc("ｆｕｌｌ　ﬁ …") == "full fi ..."


def test_a_piece_that_would_grow_too_long_stays() -> None:
    ligature = "\N{ARABIC LIGATURE SALLALLAHOU ALAYHE WASALLAM}"
    assert len(nfkc(ligature + " word" * 5)) == 18 + 25
    assert nfkc(ligature * 1_000) == ligature * 1_000
