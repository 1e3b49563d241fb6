"""What is known of a tokenizer before anything is trained with it."""

from __future__ import annotations

from typing import Any

from neural_sparse.errors import InputError
from neural_sparse.finding import Finding, ok, warning
from neural_sparse.opensearch.guards import server_names
from neural_sparse.text.tokens import tokenize

_WORDS = ("the", "password", "water", "system", "new")


def tokenizer_findings(tokenizer: Any) -> list[Finding]:
    """Whether a word is the same token wherever it stands, and whether OpenSearch can serve the tokens."""
    return [first_word(tokenizer), served(tokenizer)]


def first_word(tokenizer: Any) -> Finding:
    """A query's first word has no space before it and often no capital; in a document it has.

    Byte-level tokenizers without a prefix space give it other tokens then, and cased ones other tokens than at the
    start of a sentence: what a query looks up is then not what documents hold.
    """
    for word in _WORDS:
        ids = tokenize([f"{word} {word}"], tokenizer).ids.tolist()
        if ids[: len(ids) // 2] != ids[len(ids) // 2 :]:
            return warning(
                "first word",
                f"a query's first word is another token than the same word later in a text ({word!r})",
                "byte-level tokenizers do that without a prefix space: queries then miss documents, and OpenSearch "
                "cannot serve it; start from a model with a WordPiece tokenizer (BERT's)",
            )
    cased = [
        word
        for word in _WORDS
        if tokenize([word], tokenizer).ids.tolist() != tokenize([word.title()], tokenizer).ids.tolist()
    ]
    if len(cased) == len(_WORDS):
        return warning(
            "first word",
            f"words are other tokens with a capital ({cased[0]!r})",
            "a lower-case query misses the word at the start of a sentence; an uncased model does not",
        )
    return ok("first word", "the same tokens wherever a word stands")


def served(tokenizer: Any) -> Finding:
    """What `neural-sparse export` would refuse after training."""
    try:
        server_names(tokenizer)
    except InputError as error:
        return warning(
            "OpenSearch", f"export will refuse this tokenizer: {error}", "if it is to be served there"
        )
    return ok("OpenSearch", "tokens have names of their own")
