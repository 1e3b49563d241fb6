"""Composed and decomposed texts are the same texts (lucene 16241)."""

import unicodedata
from typing import Any

import numpy as np
from tiny_models import make_tokenizer

from neural_sparse.idf import compute_idf_weights
from neural_sparse.mining.duplicates import code_points
from neural_sparse.search import BM25Index
from neural_sparse.text.shingles import words
from neural_sparse.text.tokens import tokenize

TEXTS = [
    "지하철은 새벽 다섯 시에 운행을 시작한다",
    "the café opens at nine",
    "김치는 배추와 고춧가루로 담근다",
]


def decomposed(texts: list[str]) -> list[str]:
    return [unicodedata.normalize("NFD", text) for text in texts]


def test_bm25_finds_them() -> None:
    index = BM25Index.build(decomposed(TEXTS), ["a", "b", "c"])
    assert index.search_texts(["지하철은 운행을", "café", "김치는"], 1).docs[:, 0].tolist() == [0, 1, 2]
    composed = BM25Index.build(TEXTS, ["a", "b", "c"])
    assert composed.words.vocabulary == index.words.vocabulary


def test_tokens_idf_words_and_shingles_are_the_same() -> None:
    tokenizer: Any = make_tokenizer("roberta")  # which normalises nothing itself
    for one, other in zip(TEXTS, decomposed(TEXTS), strict=True):
        np.testing.assert_array_equal(tokenize([one], tokenizer).ids, tokenize([other], tokenizer).ids)
        assert words(one) == words(other)
        np.testing.assert_array_equal(code_points([one])[0], code_points([other])[0])
    assert dict(compute_idf_weights(TEXTS, tokenizer)) == dict(
        compute_idf_weights(decomposed(TEXTS), tokenizer)
    )
