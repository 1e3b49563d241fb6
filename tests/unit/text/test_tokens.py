"""Tokenizing against the transformers tokenizers themselves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp
from tiny_models import ARCHITECTURES, make_tokenizer

from neural_sparse.errors import InputError
from neural_sparse.text.tokens import (
    Tokens,
    encode_queries,
    special_token_template,
    tokenize,
    tokenize_windows,
    top_terms,
    vocabulary,
)

ODD_TEXTS = [
    "",
    " ",
    "a",
    "Sort a list.",
    "naïve café 한국어 🦊 \u200b\u0000 ﬁ",
    "[CLS] [MASK] </s> <mask>",
    "return a new list " * 400,
    "x" * 5000,
    "\n\t",
]


def lists(tokens: Tokens) -> list[list[int]]:
    return [tokens.ids[a:b].tolist() for a, b in zip(tokens.offsets, tokens.offsets[1:], strict=False)]


@pytest.mark.parametrize("architecture", ["bert", "roberta", "xlm-roberta"])
@pytest.mark.parametrize("special_tokens", [False, True])
@pytest.mark.parametrize("max_length", [None, 3, 7, 64])
def test_equals_the_tokenizer_itself(architecture: str, special_tokens: bool, max_length: int | None) -> None:
    tokenizer = make_tokenizer(architecture)
    tokens = tokenize(ODD_TEXTS, tokenizer, max_length, special_tokens)
    expected = tokenizer(
        ODD_TEXTS,
        add_special_tokens=special_tokens,
        truncation=max_length is not None,
        max_length=max_length,
    )["input_ids"]
    assert lists(tokens) == expected
    full = tokenizer(ODD_TEXTS, add_special_tokens=special_tokens)["input_ids"]
    assert tokens.truncated == sum(len(a) != len(b) for a, b in zip(full, expected, strict=True))
    assert tokens.lengths.tolist() == list(map(len, expected))
    assert len(tokens) == len(ODD_TEXTS)


@pytest.mark.parametrize("name", ["bert-uncased", "mbert-uncased"])
def test_equals_a_published_tokenizer(shared_data: Any, name: str) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(shared_data / "tokenizers" / name)
    for special_tokens in (False, True):
        expected = tokenizer(ODD_TEXTS, truncation=True, max_length=40, add_special_tokens=special_tokens)
        assert lists(tokenize(ODD_TEXTS, tokenizer, 40, special_tokens)) == expected["input_ids"]


def test_a_slow_tokenizer_gives_the_same(bert_tokenizer: Any) -> None:
    class Slow:
        all_special_ids = bert_tokenizer.all_special_ids

        def __call__(self, texts: Any, **kwargs: Any) -> Any:
            return bert_tokenizer(texts, **kwargs)

    texts = ["sort a list", "", "open the file now"]
    assert lists(tokenize(texts, Slow(), 5, True)) == lists(tokenize(texts, bert_tokenizer, 5, True))
    assert len(tokenize([], Slow(), 5, True)) == 0


def test_no_texts_and_other_sequences(bert_tokenizer: Any) -> None:
    nothing = tokenize([], bert_tokenizer, 8, True)
    assert len(nothing) == 0
    assert nothing.offsets.tolist() == [0]
    assert lists(tokenize(("a b", "c"), bert_tokenizer)) == lists(tokenize(["a b", "c"], bert_tokenizer))


def test_half_a_surrogate_pair_counts_as_an_unknown_character(bert_tokenizer: Any) -> None:
    # JSON may hold "\ud83d" alone, where a text was cut inside an emoji.
    broken, repaired = (
        tokenize(["sort \ud83d list", "a"], bert_tokenizer),
        tokenize(["sort � list", "a"], bert_tokenizer),
    )
    assert lists(broken) == lists(repaired)


def test_refuses_what_is_no_string(bert_tokenizer: Any) -> None:
    with pytest.raises(InputError, match="text 1 is NoneType"):
        tokenize(["a", None], bert_tokenizer)  # type: ignore[list-item]
    with pytest.raises(InputError, match="max_length 2 leaves no room beside 2 special tokens"):
        tokenize(["a"], bert_tokenizer, 2, True)


def test_does_not_leave_the_tokenizer_truncating_or_padding(bert_tokenizer: Any) -> None:
    bert_tokenizer(["sort a list", "a"], truncation=True, max_length=3, padding="max_length")
    assert lists(tokenize(["sort a list"], bert_tokenizer)) == [
        bert_tokenizer("sort a list", add_special_tokens=False)["input_ids"]
    ]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_template(architecture: str) -> None:
    tokenizer = make_tokenizer(architecture)
    assert special_token_template(tokenizer) == ((tokenizer.cls_token_id,), (tokenizer.sep_token_id,))


@pytest.mark.parametrize("seed", range(5))
def test_take(seed: int) -> None:
    rng = np.random.default_rng(seed)
    lengths = rng.integers(0, 4, 9)
    tokens = Tokens(rng.integers(0, 99, lengths.sum()), np.concatenate(([0], np.cumsum(lengths))))
    rows = rng.integers(0, 9, rng.integers(1, 20))
    taken = tokens.take(rows)
    assert lists(taken) == [lists(tokens)[row] for row in rows]
    assert lists(tokens.take(np.empty(0, np.int64))) == []


def test_vocabulary_is_ordered_by_id(bert_tokenizer: Any) -> None:
    names = vocabulary(bert_tokenizer)
    assert names == bert_tokenizer.convert_ids_to_tokens(list(range(len(names))))

    class Gapped:
        def get_vocab(self) -> dict[str, int]:
            return {"a": 0, "b": 7}

    with pytest.raises(InputError, match="not numbered 0 to 1"):
        vocabulary(Gapped())


class TestQueries:
    def weights(self, tokenizer: Any) -> np.ndarray:
        weights = np.random.default_rng(0).uniform(0.1, 9, len(tokenizer.get_vocab())).astype(np.float32)
        weights[tokenizer.all_special_ids] = 0
        return weights

    def test_equals_a_plain_loop(self, bert_tokenizer: Any, texts: list[str]) -> None:
        weights = self.weights(bert_tokenizer)
        queries = [*texts, "", "a a a", *ODD_TEXTS]
        expected = np.zeros((len(queries), len(weights)), np.float32)
        for row, query in enumerate(queries):
            for token in bert_tokenizer(query, add_special_tokens=False)["input_ids"]:
                expected[row, token] = weights[token]
        vectors = encode_queries(queries, bert_tokenizer, weights)
        np.testing.assert_array_equal(vectors.toarray(), expected)
        assert vectors.dtype == np.float32
        assert vectors.has_sorted_indices
        assert (vectors.data != 0).all()

    def test_a_repeated_token_counts_once(self, bert_tokenizer: Any) -> None:
        weights = self.weights(bert_tokenizer)
        once, often = encode_queries(["list", "list list list"], bert_tokenizer, weights)
        assert (once != often).nnz == 0
        assert once.nnz > 0

    def test_a_repeated_token_counts_as_often_as_it_is_there(
        self, bert_tokenizer: Any, texts: list[str]
    ) -> None:
        weights = self.weights(bert_tokenizer)
        queries = [*texts, "", "a a a", "list of lists of list", *ODD_TEXTS]
        expected = np.zeros((len(queries), len(weights)), np.float32)
        for row, query in enumerate(queries):
            for token in bert_tokenizer(query, add_special_tokens=False)["input_ids"]:
                expected[row, token] += weights[token]
        vectors = encode_queries(queries, bert_tokenizer, weights, count_repeats=True)
        np.testing.assert_allclose(vectors.toarray(), expected, rtol=1e-5)
        assert vectors.dtype == np.float32
        assert (vectors.data > 0).all()

    def test_unknown_and_special_tokens_are_silent(self, bert_tokenizer: Any) -> None:
        weights = self.weights(bert_tokenizer)
        assert encode_queries(["한", "[CLS] [SEP] [MASK]", ""], bert_tokenizer, weights).nnz == 0

    def test_no_query(self, bert_tokenizer: Any) -> None:
        weights = self.weights(bert_tokenizer)
        assert encode_queries([], bert_tokenizer, weights).shape == (0, len(weights))


def test_top_terms_are_heaviest_first_and_ties_by_id() -> None:
    vector = sp.csr_matrix(np.array([[0.0, 2.0, 1.0, 2.0, 0.5]], np.float32))
    assert top_terms(vector, "abcde") == [("b", 2.0), ("d", 2.0), ("c", 1.0), ("e", 0.5)]
    assert top_terms(vector, "abcde", 1) == [("b", 2.0)]
    assert top_terms(sp.csr_matrix((1, 5), dtype=np.float32), "abcde") == []


class Unlisted(Sequence[str]):
    """Texts as a memory-mapped file gives them: no list, read one after another."""

    def __init__(self, texts: list[str]) -> None:
        self.texts = texts

    def __len__(self) -> int:
        return len(self.texts)

    def __getitem__(self, place: Any) -> Any:
        return self.texts[place]


@pytest.mark.parametrize("limits", [(3, 1 << 20), (1000, 2000), (1, 1), (1000, 1 << 20)])
@pytest.mark.parametrize("kind", [list, Unlisted])
def test_windows_are_the_whole_in_pieces(
    limits: tuple[int, int], kind: Any, bert_tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, limit in zip(("WINDOW_TEXTS", "WINDOW_CHARACTERS"), limits, strict=True):
        monkeypatch.setattr(f"neural_sparse.text.tokens.{name}", limit)
    whole = tokenize(ODD_TEXTS, bert_tokenizer, 9, True)
    windows = list(tokenize_windows(kind(ODD_TEXTS), bert_tokenizer, 9, True))
    assert [ids for window in windows for ids in lists(window)] == lists(whole)
    assert sum(window.truncated for window in windows) == whole.truncated
    assert all(0 < len(window) <= limits[0] for window in windows)
    if limits != (1000, 1 << 20):
        assert len(windows) > 1
    assert list(tokenize_windows(kind([]), bert_tokenizer, 9, True)) == []


def test_windows_name_the_place_of_what_is_no_text(
    bert_tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("neural_sparse.text.tokens.WINDOW_TEXTS", 2)
    texts: Any = ["a", "b", "c", 7]
    windows = tokenize_windows(texts, bert_tokenizer)
    with pytest.raises(InputError, match="text 3 is int"):
        next(windows)  # of a list before anything is done
    windows = tokenize_windows(Unlisted(texts), bert_tokenizer)
    assert len(next(windows)) == 2
    with pytest.raises(InputError, match="text 3 is int"):
        next(windows)
