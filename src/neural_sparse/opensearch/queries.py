"""Bodies of search requests."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from neural_sparse.errors import InputError
from neural_sparse.opensearch.guards import servable_query_weights

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


def _check(tokens: Mapping[str, float], max_clauses: int) -> None:
    servable_query_weights(tokens)
    if len(tokens) > max_clauses:
        raise InputError(
            f"a query of {len(tokens):,} tokens has more clauses than the server takes ({max_clauses:,}): shorten "
            "it, or raise indices.query.bool.max_clause_count on the cluster and max_clauses here"
        )
