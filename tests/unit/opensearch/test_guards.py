from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tiny_models import make_tokenizer

from neural_sparse import InputError, NeuralSparseEncoder
from neural_sparse.opensearch.guards import (
    check_query_side,
    check_vocabulary,
    query_weight_problems,
    servable_query_weights,
    server_names,
)
from neural_sparse.text.tokens import vocabulary


@pytest.mark.parametrize("architecture", ["bert", "distilbert", "modernbert"])
def test_word_pieces_are_named_as_in_the_vocabulary(architecture: str) -> None:
    tokenizer = make_tokenizer(architecture)
    names, tokens = server_names(tokenizer), vocabulary(tokenizer)
    special = set(tokenizer.all_special_ids)
    assert names == ["" if index in special else token for index, token in enumerate(tokens)]


def test_the_published_tokenizers_are_named_as_in_the_vocabulary(shared_data: Path) -> None:
    from transformers import PreTrainedTokenizerFast

    names = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    for folder in (shared_data / "tokenizers").iterdir():
        tokenizer = PreTrainedTokenizerFast(
            tokenizer_file=str(folder / "tokenizer.json"), mask_token="[MASK]", **names
        )
        named = server_names(tokenizer)
        assert all(ours in ("", token) for ours, token in zip(named, vocabulary(tokenizer), strict=True))
        silent = {token for token, name in zip(vocabulary(tokenizer), named, strict=True) if not name}
        assert silent - {""} == {"[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"}  # mBERT's holds an empty token


@pytest.mark.parametrize("architecture", ["roberta", "xlm-roberta"])
def test_tokenizers_whose_names_collide_are_refused_with_the_reason(architecture: str) -> None:
    with pytest.raises(
        InputError, match=r"not one-to-one: '.*' (has none|and '.*' are both ').*SentencePiece"
    ):
        server_names(make_tokenizer(architecture))


def test_a_token_that_is_special_in_one_file_only_is_refused(bert_tokenizer: Any) -> None:
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast

    half_known = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(bert_tokenizer.backend_tokenizer.to_str()),
        pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]",
    )  # fmt: skip
    with pytest.raises(InputError, match=r"'\[MASK\]': special in only one of"):
        server_names(half_known)


def test_a_tokenizer_without_a_file_is_refused() -> None:
    with pytest.raises(InputError, match=r"has no tokenizer\.json"):
        server_names(object())


def test_query_weights_outside_lucenes_range() -> None:
    good = {"a": 1e-6, "b": 64.0, "c": 15.6}
    assert query_weight_problems(good) == []
    assert servable_query_weights(good) == good
    bad = {"a": 0.0, "b": 64.5, "c": -1.0, "d": 2.0}
    assert query_weight_problems(bad) == [
        "2 query weights are not above 0 ('a': 0, 'c': -1)",
        "1 query weights are above 64 ('b': 64.5)",
    ]
    with pytest.raises(InputError, match=r"2 query weights are not above 0.*--clip-query-weights"):
        servable_query_weights(bad)
    assert servable_query_weights(bad, clip=True) == {"a": 1e-6, "b": 64.0, "c": 1e-6, "d": 2.0}
    with pytest.raises(InputError, match="not numbers"):
        servable_query_weights({"a": float("nan")}, clip=True)


def test_a_siamese_model_is_told_what_is_missing(tiny_model: Callable[..., Path]) -> None:
    model = NeuralSparseEncoder(tiny_model(), device="cpu")
    with pytest.raises(InputError, match=r"no query side.*neural-sparse idf.*--idf"):
        check_query_side(model)
    model.set_query_weights({"a": 2.0, "the": 0.5})
    check_query_side(model)


def test_parts_of_different_sizes_are_refused(tiny_model: Callable[..., Path]) -> None:
    model = NeuralSparseEncoder(tiny_model(), device="cpu")
    check_vocabulary(model)
    model.query_table.tokenizer.add_tokens(["neu"])
    with pytest.raises(InputError, match=r"vocabularies of different sizes: tokenizer .* query tokenizer"):
        check_vocabulary(model)
