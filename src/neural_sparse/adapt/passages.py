"""Documents longer than the model reads, as passages: found by their best one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from neural_sparse.search import Hits, SparseRetriever
from neural_sparse.text.ragged import Indices
from neural_sparse.text.tokens import tokenize

LONG_SHARE = 0.1  # of the documents, from which on passages are tried
_SAMPLE = 500
_DEEPER = 4  # passages looked at per document wanted
_ROOM = 0.9  # of the model's length, for words differ in their tokens


def long_share(texts: Sequence[str], tokenizer: Any, max_length: int) -> float:
    """Share of the texts, a sample of them where there are many, that the model cuts."""
    sample = _sample(texts)
    return tokenize(sample, tokenizer, max_length, special_tokens=True).truncated / max(1, len(sample))


def _sample(texts: Sequence[str]) -> list[str]:
    rows = np.random.default_rng(0).permutation(len(texts))[:_SAMPLE]
    return [texts[row] for row in np.sort(rows).tolist()]


def passages_of(texts: Sequence[str], tokenizer: Any, max_length: int) -> tuple[list[str], Indices]:
    """Each text as passages of about as many tokens as the model reads, parted between words.

    Returns:
        The passages, and the row of the text that each is of, int64 [passages].
    """
    sample = _sample(texts)
    words = sum(len(text.split()) for text in sample)
    tokens = int(tokenize(sample, tokenizer).lengths.sum())
    size = max(8, int(_ROOM * (max_length - 2) * words / max(1, tokens)))
    found: list[str] = []
    owners: list[int] = []
    for row, text in enumerate(texts):
        split = text.split()
        parts = max(1, -(-len(split) // size))
        each = -(-len(split) // parts) if split else 1
        pieces = [" ".join(split[start : start + each]) for start in range(0, len(split), each)] or [text]
        found += [text] if len(pieces) == 1 else pieces
        owners += [row] * len(pieces)
    return found, np.array(owners, np.int64)


@dataclass
class PassageRetriever:
    """Documents by their best passage.

    Attributes:
        passages: retriever of the passages. owners: row of each passage's document. doc_ids: of the documents.
    """

    passages: SparseRetriever
    owners: Indices
    doc_ids: Sequence[str]

    def search_texts(self, texts: Sequence[str], k: int) -> Hits:
        depth = min(_DEEPER * k, len(self.owners))
        found = self.passages.search_texts(texts, depth)
        docs = np.full((len(texts), k), -1, np.int32)
        scores = np.zeros((len(texts), k), np.float32)
        for query, rows in enumerate(found.docs):
            kept = rows[rows >= 0]
            owners, first = np.unique(self.owners[kept], return_index=True)
            order = np.argsort(first)[:k]  # passages come best first
            docs[query, : len(order)] = owners[order]
            scores[query, : len(order)] = found.scores[query][first[order]]
        return Hits(docs, scores)
