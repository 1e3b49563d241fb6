"""Searches taken apart, for the reader of the page: what was found, by which words, and what the model added."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import scipy.sparse as sp

from neural_sparse.adapt.candidates import EncodesQueries
from neural_sparse.corpora.collection import Collection
from neural_sparse.model.encoder import NeuralSparseEncoder
from neural_sparse.report.explained import ExplainedHit, explain_hit
from neural_sparse.search import SparseIndex, SparseRetriever
from neural_sparse.search.with_bm25 import WithBM25
from neural_sparse.text.tokens import top_terms, vocabulary

EXAMPLES = 3
LOOKED_AT = 50  # searches: taking one apart takes a while


@dataclass(frozen=True)
class Example:
    """A query with its best hits, taken apart."""

    query: str
    hits: tuple[ExplainedHit, ...]

    def to_dict(self) -> dict[str, Any]:
        return {"query": self.query, "hits": [hit.to_dict() for hit in self.hits]}

    @classmethod
    def of(cls, values: dict[str, Any]) -> Example:
        """Of `to_dict`."""
        return cls(values["query"], tuple(map(ExplainedHit.of, values["hits"])))


def example_searches(
    model: NeuralSparseEncoder,
    side: EncodesQueries,
    vectors: sp.csr_matrix,
    collection: Collection,
    query_ids: Sequence[str],
) -> list[Example]:
    """The first queries whose best hit is relevant, with their two best hits.

    A query whose match needs expansion shows what a model adds over BM25: those come first.

    Args:
        model: whose tokenizer the vectors are of.
        side, vectors: queries and documents of the system that is shown.
        query_ids: of the collection, those that may be shown.
    """
    beside = side.words if isinstance(side, WithBM25) else []  # names of columns behind the model's
    names = [*vocabulary(model.tokenizer), *beside]
    retriever = SparseRetriever(SparseIndex.build(vectors, collection.doc_ids), side.encode_queries)
    depth = min(2, len(collection.doc_ids))
    found = retriever.search_texts([collection.queries[key] for key in query_ids], depth).docs
    expanded: list[Example] = []
    others: list[Example] = []
    for query_id, rows in zip(query_ids, found, strict=True):
        relevant = collection.qrels[query_id]
        if rows[0] < 0 or not relevant.get(collection.doc_ids[rows[0]]):
            continue
        text = collection.queries[query_id]
        query_weights = dict(top_terms(side.encode_queries([text])[0], names))
        hits = tuple(
            explain_hit(
                collection.doc_ids[row],
                collection.texts[row],
                query_weights=query_weights,
                doc_weights=dict(top_terms(vectors[int(row)], names)),
                text_tokens=model.text_tokens(collection.texts[row]).union(beside),
                relevant=bool(relevant.get(collection.doc_ids[row])),
            )
            for row in rows
            if row >= 0
        )
        by_expansion = any(not token.in_text for token in hits[0].matched)
        (expanded if by_expansion else others).append(Example(text, hits))
        if len(expanded) == EXAMPLES or len(expanded) + len(others) == LOOKED_AT:
            break
    return (expanded + others)[:EXAMPLES]
