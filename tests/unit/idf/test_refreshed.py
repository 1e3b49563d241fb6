"""Query weights after documents were added: IDF is that of all of them, what training learned stays."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from neural_sparse.errors import InputError
from neural_sparse.idf import (
    DocumentFrequencies,
    IdfWeights,
    document_frequencies,
    idf_weights,
    merge,
    moved_tokens,
    refreshed_weights,
    weights_of,
)

OLD = [f"sorted a list {letter}" for letter in "abcdefghij"] + ["open a file"] * 5
NEW = ["parse a document from a string", "a fox jumps", "open a file"] * 8


def counted(texts: list[str], tokenizer: Any) -> DocumentFrequencies:
    return document_frequencies(texts, tokenizer, show_progress=False)


def scaled(weights: IdfWeights, by: dict[str, float], tokenizer: Any) -> IdfWeights:
    return idf_weights({token: by.get(token, 1.0) * value for token, value in weights.items()}, tokenizer)


def test_untrained_weights_become_the_idf_of_all_documents(bert_tokenizer: Any) -> None:
    old, new = counted(OLD, bert_tokenizer), counted(NEW, bert_tokenizer)
    after = merge([old, new])
    found = refreshed_weights(weights_of(old, bert_tokenizer), old, after, bert_tokenizer)
    expected = weights_of(counted(OLD + NEW, bert_tokenizer), bert_tokenizer)
    np.testing.assert_allclose(found.vector, idf_weights(expected, bert_tokenizer).vector, rtol=1e-6)
    assert found["sorted"] > weights_of(old, bert_tokenizer)["sorted"]


def test_learned_ratios_stay(bert_tokenizer: Any) -> None:
    old = counted(OLD, bert_tokenizer)
    after = merge([old, counted(NEW, bert_tokenizer)])
    trained = scaled(weights_of(old, bert_tokenizer), {"sorted": 1.5, "a": 0.2, "fox": 0.9}, bert_tokenizer)
    found = refreshed_weights(trained, old, after, bert_tokenizer)
    own = weights_of(after, bert_tokenizer)
    for token, ratio in (("sorted", 1.5), ("a", 0.2), ("fox", 0.9), ("list", 1.0)):
        assert found[token] == pytest.approx(ratio * own[token], rel=1e-5), token
    # In steps or at once.
    middle = merge([old, counted(NEW[:9], bert_tokenizer)])
    once = refreshed_weights(trained, old, middle, bert_tokenizer)
    twice = refreshed_weights(once, middle, after, bert_tokenizer)
    np.testing.assert_allclose(twice.vector, found.vector, rtol=1e-5)
    # Nothing new, nothing changed.
    np.testing.assert_allclose(
        refreshed_weights(trained, old, old, bert_tokenizer).vector, trained.vector, rtol=1e-6
    )


def test_a_table_of_another_corpus_does_not_weigh_what_it_had_not_seen(bert_tokenizer: Any) -> None:
    """`fox` weighs 8 there; here no document held it, so that 8 is no ratio of anything."""
    old = counted(OLD, bert_tokenizer)
    after = merge([old, counted(NEW, bert_tokenizer)])
    published = scaled(weights_of(old, bert_tokenizer), {"fox": 8.0, "python": 8.0}, bert_tokenizer)
    found = refreshed_weights(published, old, after, bert_tokenizer)
    assert found["fox"] == pytest.approx(weights_of(after, bert_tokenizer)["fox"], rel=1e-5)
    assert found["python"] == 8.0  # still unseen
    silenced = scaled(published, {"sorted": 0.0}, bert_tokenizer)
    assert refreshed_weights(silenced, old, after, bert_tokenizer)["sorted"] == 0.0


def test_a_given_start(bert_tokenizer: Any) -> None:
    old = counted(OLD, bert_tokenizer)
    after = merge([old, counted(NEW, bert_tokenizer)])
    start = weights_of(counted(NEW, bert_tokenizer), bert_tokenizer)
    trained = scaled(start, {"file": 1.3}, bert_tokenizer)
    found = refreshed_weights(trained, old, after, bert_tokenizer, start)
    assert found["file"] == pytest.approx(1.3 * weights_of(after, bert_tokenizer)["file"], rel=1e-5)


def test_tokens_that_moved(bert_tokenizer: Any) -> None:
    old, new = counted(OLD, bert_tokenizer), counted(NEW, bert_tokenizer)
    before = weights_of(old, bert_tokenizer)
    after = refreshed_weights(before, old, merge([old, new]), bert_tokenizer)
    found = moved_tokens(old, new, before, after)
    assert {one.token for one in found.first_seen} >= {"parse", "document", "string", "fox"}
    assert "sorted" in {one.token for one in found.heavier}
    assert all(one.change > 1 for one in found.heavier)
    assert {one.old for one in found.first_seen} == {0.0}
    still = moved_tokens(old, new, before, before)
    assert (still.heavier, still.lighter, still.shift) == ((), (), 1.0)
    other = DocumentFrequencies(new.counts, new.documents, "other")
    with pytest.raises(InputError, match="different tokenizers"):
        moved_tokens(old, other, before, after)
