"""Passages are the text again, are short enough, and end where sentences do."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neural_sparse import InputError
from neural_sparse.text.passages import check_passages, passages_of
from neural_sparse.text.tokens import tokenize

words = st.sampled_from(
    ["open", "a", "file.", "sorted", "e.g.", "return!", "naïve", "가나다라마바사。", "x" * 40, "\n\n"]
)
spaces = st.sampled_from([" ", "  ", "\n", "\n\n", " \n "])


@settings(max_examples=60, deadline=None)
@given(texts=st.lists(st.lists(st.tuples(words, spaces), max_size=40), max_size=4), size=st.integers(4, 40))
def test_passages_are_the_text_in_pieces_that_fit(bert_tokenizer: Any, texts: list, size: int) -> None:
    whole = ["".join(word + space for word, space in text) for text in texts]
    passages, counts = passages_of(whole, bert_tokenizer, size)
    ends = np.cumsum(counts)
    assert ["".join(passages[end - count : end]) for end, count in zip(ends, counts, strict=True)] == whole
    lengths = tokenize(passages, bert_tokenizer, special_tokens=True).lengths
    assert (lengths <= size).all()
    uncut = tokenize(whole, bert_tokenizer, special_tokens=True).lengths <= size
    np.testing.assert_array_equal(counts == 1, uncut)


def test_passages_end_with_sentences_and_are_about_equally_long(bert_tokenizer: Any) -> None:
    text = "Open the file. Return a list!  Open a stream.\n\nReturn the list\n\nOpen the list? Open a file."
    passages, counts = passages_of([text, "short", ""], bert_tokenizer, 12)
    assert counts.tolist()[1:] == [1, 1]
    assert passages[-2:] == ["short", ""]
    assert passages[:-2] == [
        "Open the file. Return a list!  ",
        "Open a stream.\n\nReturn the list\n\n",
        "Open the list? Open a file.",
    ]


def test_refusals(bert_tokenizer: Any) -> None:
    with pytest.raises(InputError, match="passages of 2 tokens leave no room beside 2 special tokens"):
        passages_of(["a"], bert_tokenizer, 2)
    with pytest.raises(InputError, match="passages of 600 tokens are longer than the model reads, 512"):
        check_passages(600, 512)
