"""A tokenizer's limits are told before training."""

from typing import Any

from tiny_models import make_tokenizer

from neural_sparse.training.tokenizer_rules import first_word, served


def test_a_first_word_that_is_another_token() -> None:
    wordpiece: Any = make_tokenizer("bert")
    assert first_word(wordpiece).verdict == served(wordpiece).verdict == "ok"
    bytes_: Any = make_tokenizer("roberta")
    assert first_word(bytes_).verdict == "warning"
    assert "first word is another token" in first_word(bytes_).found
    assert "export will refuse" in served(bytes_).found
