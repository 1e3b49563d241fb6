"""Vectors as rank_features: names of features and lines of JSON."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence

import scipy.sparse as sp

from neural_sparse.errors import InputError
from neural_sparse.opensearch.lucene import MIN_WEIGHT
from neural_sparse.search.postings import checked_vectors


def escaped(names: Sequence[str]) -> list[str]:
    """Names without dots: "." becomes "%2E" and "%" becomes "%25".

    A rank_feature query takes what stands behind the last dot of "field.feature" for the feature, so ".", "..."
    and "##." would never be found by it. neural_sparse queries do not parse names and take any.

    Raises:
        InputError: two tokens of one name.
    """
    changed = [name.replace("%", "%25").replace(".", "%2E") for name in names]
    if doubled := [name for name, count in Counter(filter(None, changed)).items() if count > 1]:
        raise InputError(f"two tokens of the vocabulary would be called {doubled[0]!r}")
    return changed


def vector_objects(vectors: sp.csr_matrix, names: Sequence[str]) -> Iterator[str]:
    """Each row [documents, vocabulary] as a JSON object {token: weight}.

    Weights carry the digits that give the same float32 back. Left out are tokens without a name, and weights
    that Lucene could not hold (below 1.2e-38).

    Raises:
        InputError: a weight that is negative or no number; vectors of another vocabulary.
    """
    csr = checked_vectors(vectors, "document vectors")
    if csr.shape[1] != len(names):
        raise InputError(
            f"the vectors have {csr.shape[1]:,} dimensions and the vocabulary {len(names):,} tokens: "
            "they are another model's"
        )
    keys = [json.dumps(name, ensure_ascii=False) + ":" if name else "" for name in names]
    for start, end in zip(csr.indptr[:-1].tolist(), csr.indptr[1:].tolist(), strict=True):
        weights = csr.data[start:end]
        shown = zip(csr.indices[start:end].tolist(), weights.astype(str).tolist(), strict=True)
        large = (weights >= MIN_WEIGHT).tolist()
        pairs = (
            keys[token] + digits
            for (token, digits), kept in zip(shown, large, strict=True)
            if kept and keys[token]
        )
        yield "{" + ",".join(pairs) + "}"


def query_tokens(queries: sp.csr_matrix, names: Sequence[str]) -> list[dict[str, float]]:
    """Each row [queries, vocabulary] as {token: weight}; tokens without a name are left out.

    Raises:
        InputError: a weight that is no number or negative; queries of another vocabulary.
    """
    csr = checked_vectors(queries, "queries")
    if csr.shape[1] != len(names):
        raise InputError(
            f"the queries have {csr.shape[1]:,} dimensions and the vocabulary {len(names):,} tokens: "
            "encode them with the model that encoded the documents"
        )
    rows = []
    for start, end in zip(csr.indptr[:-1].tolist(), csr.indptr[1:].tolist(), strict=True):
        pairs = zip(csr.indices[start:end].tolist(), csr.data[start:end].tolist(), strict=True)
        rows.append({names[token]: weight for token, weight in pairs if names[token]})
    return rows
