"""What every search takes and returns: the interface of retrievers, hits, and whose vocabulary a vector counts in."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from neural_sparse.errors import InputError


class Hits(NamedTuple):
    """The best documents of each query.

    Sorted by score, highest first; equal scores by document row, lowest first.

    Attributes:
        docs: int32 [queries, k], document rows; -1 where fewer than k documents matched.
        scores: float32 [queries, k]; 0 where `docs` is -1.
        doc_ids: One id per document row, as when it was searched: later changes of an index leave them alone. None
            where documents are known by their rows.
    """

    docs: NDArray[np.int32]
    scores: NDArray[np.float32]
    doc_ids: Sequence[str] | None = None

    def ids(self) -> list[list[str]]:
        """Document ids of each query's hits, best first."""
        names = self.doc_ids
        return [
            [str(doc) if names is None else names[doc] for doc in row.tolist() if doc >= 0]
            for row in self.docs
        ]


# How a search found its hits; those of the first two are the same. The third is followed by its measured recall.
EVERY_POSTING, BLOCK_MAXIMA, APPROXIMATE = "every posting", "block maxima", "approximate"


class Retriever(Protocol):
    """Finds documents for texts."""

    @property
    def doc_ids(self) -> Sequence[str]:
        """One id per document row."""

    def search_texts(self, texts: Sequence[str], k: int) -> Hits:
        """The k best documents of each text."""


@runtime_checkable
class TellsMode(Protocol):
    """A retriever that says how it searches."""

    def mode(self, k: int) -> str:
        """`EVERY_POSTING`, `BLOCK_MAXIMA`, or `APPROXIMATE` with its measured recall."""


def recall(found: Hits, exact: Hits) -> float:
    """Mean over queries of |found and exact| / |exact|; queries without an exact hit are left out.

    Raises:
        InputError: no query has an exact hit.
    """
    shares = []
    for mine, right in zip(found.docs, exact.docs, strict=True):
        right = right[right >= 0]
        if len(right):
            shares.append(float(np.isin(right, mine).mean()))
    if not shares:
        raise InputError("recall is undefined: no query shares a term with any document")
    return float(np.mean(shares))


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
