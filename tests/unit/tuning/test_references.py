"""Systems that a sweep's picture shows beside its runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from neural_sparse.corpora.collection import Collection
from neural_sparse.errors import InputError
from neural_sparse.tuning.judging import SIZES, Reference, parse_reference, published


def test_references_are_read() -> None:
    assert parse_reference("old=0.431,2.3") == Reference("old", 0.431, 2.3)
    assert parse_reference("a=b=0.4") == Reference("a=b", 0.4, None)


@pytest.mark.parametrize(
    "text", ["old", "=0.4", "old=", "old=43.1,2", "old=0.4,-1", "old=0.4,1,2", "old=0.4,x"]
)
def test_what_is_no_reference_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="NAME=NDCG,FLOPS"):
        parse_reference(text)


def collection(name: str, documents: int, queries: int) -> Collection:
    ids = [str(number) for number in range(documents)]
    return Collection(
        name, ids, ids, {key: key for key in ids[:queries]}, {key: {key: 1} for key in ids[:queries]}
    )


def test_published_figures_are_for_the_same_collection_only() -> None:
    nfcorpus, scifact = (collection(name, *SIZES[name]) for name in ("nfcorpus", "scifact"))
    assert Reference("opensearch doc-v2-distill, published", 0.343) in published([nfcorpus])
    both = {one.name: one for one in published([nfcorpus, scifact])}
    assert both["opensearch doc-v1, published"].relevance == pytest.approx((0.352 + 0.716) / 2)
    assert all(one.cost is None for one in both.values())
    assert published([nfcorpus, collection("mine", 5, 2)]) == []
    assert published([collection("nfcorpus", 100, 50)]) == []  # a sample of it


def test_the_sizes_are_those_of_the_collections(shared_data: Path) -> None:
    for name, size in SIZES.items():
        loaded = Collection.load(shared_data / "collections" / name)
        assert (len(loaded.texts), len(loaded.queries)) == size
