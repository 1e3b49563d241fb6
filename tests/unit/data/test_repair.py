"""Repair of texts: what is undone, and what must not be touched."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neural_sparse.data.repair import repair, repair_mojibake


@pytest.mark.parametrize(
    "meant",
    ["it’s", "1590 – 1657", "café", "naïve résumé", "“quoted”", "한국어 문서", "Ünïcödé – “x”", "price: 5 €"],
)
@pytest.mark.parametrize("codec", ["latin-1", "cp1252"])
def test_what_was_read_with_the_wrong_codec_is_read_right(meant: str, codec: str) -> None:
    try:
        spoiled = meant.encode().decode(codec)
    except UnicodeDecodeError:
        pytest.skip("this codec cannot have spoiled it")
    assert repair_mojibake(f"before {spoiled} after") == f"before {meant} after"


def test_spoiled_twice_and_mixed_with_good_text() -> None:
    twice = "it’s".encode().decode("cp1252").encode().decode("cp1252")
    assert repair_mojibake(twice) == "it’s"
    assert repair_mojibake("café and itâ€™s") == "café and it’s"


@pytest.mark.parametrize(
    "text",
    ["plain", "café", "Ã alone", "SÃO PAULO", "ÄÖÜ äöü ß", "한국어", "x² ± 3", "Â", "ãõ não"],
)
def test_good_text_stays(text: str) -> None:
    assert repair_mojibake(text) == text


def test_what_does_not_round_trip_stays() -> None:
    lost = "bornâ€\ufffd in"  # a byte is gone for good
    assert repair_mojibake(lost) == lost
    surrogates = "\xed\xa0\xbd\xed\xb8\x8d"  # an emoji in CESU-8: no UTF-8 was read wrong here
    assert repair_mojibake(surrogates) == surrogates


def test_form_controls_and_breaks() -> None:
    assert repair("e\u0301te\u0301") == "été"
    assert repair("a\x00b\x1bc\x9d\ufeffd\u200b") == "abcd"
    assert repair(" a\r\nb\rc\u2028d\te ") == "a\nb\nc\nd\te"
    assert repair("half \ud800 pair") == "half \ufffd pair"
    assert repair("नि‌क") == "नि‌क"  # a joiner that the script needs


@given(st.text())
def test_any_text_can_be_stored_and_is_stable(text: str) -> None:
    once = repair(text)
    once.encode()
    assert not any(character < " " and character not in "\n\t" for character in once)
    if text.isascii():
        assert repair(once) == once
