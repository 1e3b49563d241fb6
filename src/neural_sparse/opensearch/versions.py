"""What came with which version of OpenSearch."""

from __future__ import annotations

import re
from dataclasses import dataclass

from neural_sparse.errors import InputError


@dataclass(frozen=True)
class Feature:
    """Something that not every version has.

    Attributes:
        since: (major, minor).
        instead: what does without it.
    """

    what: str
    since: tuple[int, int]
    instead: str = ""


SEARCH_PIPELINES = Feature("search pipelines, and _none in the body of a search", (2, 9))
HYBRID = Feature("hybrid queries with a normalization-processor", (2, 10), "search")
PASSAGES = Feature("text_chunking processors", (2, 13))
QUERY_TOKENS = Feature("neural_sparse queries by query_tokens", (2, 14), "rank_feature queries")
TWO_PHASE = Feature("two-phase search", (2, 15), "--exact")
PRUNING = Feature("pruning in the ingest pipeline", (2, 19), "--prune none")
ANALYZER = Feature("neural_sparse queries by analyzer", (3, 1), "--query model")
SPARSE_VECTOR = Feature("sparse_vector fields with SEISMIC", (3, 3), "--field rank_features")
FEATURES = (
    SEARCH_PIPELINES,
    HYBRID,
    PASSAGES,
    QUERY_TOKENS,
    TWO_PHASE,
    PRUNING,
    ANALYZER,
    SPARSE_VECTOR,
)


def numbers(version: str) -> tuple[int, int]:
    """(major, minor) of "3.6.0" or "3.6.0-SNAPSHOT". Raises InputError."""
    found = re.match(r"(\d+)\.(\d+)", version)
    if found is None:
        raise InputError(f"{version!r} is no version of OpenSearch")
    return int(found[1]), int(found[2])


def require(version: str, feature: Feature) -> None:
    """Raises InputError where a version lacks a feature."""
    if numbers(version) < feature.since:
        since = ".".join(map(str, feature.since))
        instead = f"; there is {feature.instead}" if feature.instead else ""
        raise InputError(f"OpenSearch {version} lacks {feature.what}, which came with {since}{instead}")
