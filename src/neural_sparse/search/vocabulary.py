"""Telling vocabularies apart, so that queries are not looked up in another model's index."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from neural_sparse.errors import InputError


def vocabulary_fingerprint(tokens: Iterable[str]) -> str:
    """sha256 of the tokens in the order of their ids: equal exactly where two vocabularies are."""
    digest = hashlib.sha256()
    for token in tokens:
        encoded = token.encode("utf-8", "surrogatepass")
        digest.update(len(encoded).to_bytes(4, "little") + encoded)
    return digest.hexdigest()


def check_vocabulary(index: str | None, queries: str | None) -> None:
    """Raises InputError where both fingerprints are known and differ."""
    if index is not None and queries is not None and index != queries:
        raise InputError(
            "the queries' vocabulary is not the one the index was built with: "
            "encode both with the same tokenizer, or build the index anew"
        )
