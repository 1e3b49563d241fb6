"""Vectors as rank_features, the 9 significant bits that Lucene keeps of a weight, and bodies of search requests."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from neural_sparse.errors import InputError
from neural_sparse.opensearch.guards import servable_query_weights
from neural_sparse.search.postings import checked_vectors

MIN_WEIGHT = float(np.finfo(np.float32).tiny)  # FeatureField takes positive normal floats only


def truncated(weights: NDArray[np.float32]) -> NDArray[np.float32]:
    """float32 weights >= 0 as FeatureField stores them: cut, not rounded, to 9 significant bits."""
    bits = np.ascontiguousarray(weights, np.float32).view(np.uint32)
    return (bits >> np.uint32(15) << np.uint32(15)).view(np.float32)


def stored(vectors: sp.csr_matrix) -> sp.csr_matrix:
    """Document vectors as the index holds them; weights too small to be stored are left out.

    >>> stored(sp.csr_matrix([[0.1, 0.0, 3.0]])).data.tolist()
    [0.099853515625, 3.0]
    """
    csr = sp.csr_matrix(vectors, dtype=np.float32, copy=True)
    csr.data = truncated(np.where(csr.data < MIN_WEIGHT, np.float32(0), csr.data))
    csr.eliminate_zeros()
    return csr


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


MAX_CLAUSES = 1024  # indices.query.bool.max_clause_count, unless the cluster says otherwise


def rank_feature_query(
    tokens: Mapping[str, float], field: str, max_clauses: int = MAX_CLAUSES
) -> dict[str, Any]:
    """A query that any OpenSearch or Elasticsearch understands: score = sum of weight * stored weight.

    Args:
        tokens: {token: weight}, as the documents' features are called (see `features.escaped`).

    Raises:
        InputError: a weight outside (0, 64]; more tokens than a query may have clauses.

    >>> rank_feature_query({"sort": 2.5}, "tokens")["bool"]["should"]
    [{'rank_feature': {'field': 'tokens.sort', 'linear': {}, 'boost': 2.5}}]
    """
    _check(tokens, max_clauses)
    if not tokens:
        return {"match_none": {}}
    clauses = [
        {"rank_feature": {"field": f"{field}.{token}", "linear": {}, "boost": weight}}
        for token, weight in tokens.items()
    ]
    return {"bool": {"should": clauses}}


def neural_sparse_query(
    tokens: Mapping[str, float], field: str, max_clauses: int = MAX_CLAUSES
) -> dict[str, Any]:
    """The same for OpenSearch 2.14 or later with the neural-search plugin.

    Raises:
        InputError: as `rank_feature_query`.

    >>> neural_sparse_query({"sort": 2.5, "list": 1.5}, "embedding")
    {'neural_sparse': {'embedding': {'query_tokens': {'sort': 2.5, 'list': 1.5}}}}
    """
    _check(tokens, max_clauses)
    if not tokens:
        return {"match_none": {}}
    return {"neural_sparse": {field: {"query_tokens": dict(tokens)}}}


def field_types(mappings: Mapping[str, Any]) -> dict[str, str]:
    """{field: its type} of a mapping's first level, and what lies in nested fields, as "path.field"."""
    types = {}
    for name, about in mappings.get("properties", {}).items():
        types[name] = str(about.get("type", "object"))
        if types[name] == "nested":
            inner = about.get("properties", {}).items()
            types |= {f"{name}.{one}": str(of_it.get("type", "object")) for one, of_it in inner}
    return types


def best_passage(query: dict[str, Any], field: str) -> dict[str, Any]:
    """A query of the vectors in `field`, which scores a document as its best passage where the field is nested.

    >>> best_passage({"match_none": {}}, "passages.vector")
    {'nested': {'path': 'passages', 'score_mode': 'max', 'query': {'match_none': {}}}}
    >>> best_passage({"match_none": {}}, "embedding")
    {'match_none': {}}
    """
    path, _, inner = field.rpartition(".")
    return {"nested": {"path": path, "score_mode": "max", "query": query}} if path and inner else query


def _check(tokens: Mapping[str, float], max_clauses: int) -> None:
    servable_query_weights(tokens)
    if len(tokens) > max_clauses:
        raise InputError(
            f"a query of {len(tokens):,} tokens has more clauses than the server takes ({max_clauses:,}): shorten "
            "it, or raise indices.query.bool.max_clause_count on the cluster and max_clauses here"
        )
