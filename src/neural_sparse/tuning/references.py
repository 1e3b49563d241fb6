"""Systems from elsewhere that a sweep's picture shows beside its runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from neural_sparse.data.collection import Collection
from neural_sparse.errors import InputError

# nDCG@10 in the models' cards. Those trained on these two collections are left out, and FLOPS, published
# only as a mean over thirteen collections, too.
PUBLISHED = {
    "opensearch doc-v1": {"nfcorpus": 0.352, "scifact": 0.716},
    "opensearch doc-v2-mini": {"nfcorpus": 0.336, "scifact": 0.699},
    "opensearch doc-v2-distill": {"nfcorpus": 0.343, "scifact": 0.715},
}
SIZES = {"nfcorpus": (3633, 323), "scifact": (5183, 300)}  # documents, judged queries: a part is not the same


@dataclass(frozen=True)
class Reference:
    """A system's name, nDCG@10 (0 to 1) and FLOPS, None where that is not known."""

    name: str
    relevance: float
    cost: float | None = None


def parse_reference(text: str) -> Reference:
    """A reference of "NAME=NDCG" or "NAME=NDCG,FLOPS".

    Raises:
        InputError: it is written otherwise, or the figures are out of range.
    """
    name, equals, figures = text.rpartition("=")
    try:
        relevance, *cost = (float(figure) for figure in figures.split(","))
    except ValueError:
        relevance, cost = -1.0, []
    if (
        not equals
        or not name
        or len(cost) > 1
        or not 0 <= relevance <= 1
        or any(not one >= 0 for one in cost)
    ):
        raise InputError(
            f"--reference {text}: write NAME=NDCG,FLOPS or NAME=NDCG, with nDCG@10 from 0 to 1, for example "
            "'our old model=0.431,2.3'"
        )
    return Reference(name, relevance, cost[0] if cost else None)


def published(collections: Sequence[Collection]) -> list[Reference]:
    """Published models on just these collections (the mean over several); none where one has no such figure."""
    names = []
    for collection in collections:
        name = collection.name.lower()
        if SIZES.get(name) != (len(collection.texts), len(collection.queries)):
            return []
        names.append(name)
    return [
        Reference(f"{model}, published", sum(figures[name] for name in names) / len(names))
        for model, figures in PUBLISHED.items()
    ]
