"""How the runs of a sweep are judged, and systems from elsewhere beside them: on the same collections, each once."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from neural_sparse.config import Recipe
from neural_sparse.corpora.collection import Collection
from neural_sparse.corpora.names import expand_names, has_splits, load_collection
from neural_sparse.errors import InputError, NoJudgementsError
from neural_sparse.evaluation.evaluation import Evaluation
from neural_sparse.evaluation.systems import evaluate_bm25, evaluate_encoder
from neural_sparse.io.files import read_json, write_json
from neural_sparse.model.encoder import NeuralSparseEncoder
from neural_sparse.training.dev import MEASURE, sample

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


FILE = "judged.json"  # in a run's folder
DEPTH = 100  # documents retrieved per query
FIGURES = (MEASURE, "FLOPS", "doc_terms")
SPLITS = (
    "dev",
    "validation",
    "train",
    "test",
)  # what to choose by, best first: test queries are for the report

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Judged:
    """What a system reached.

    Attributes:
        figures: nDCG@10, FLOPS and terms per document, means over the collections.
        per_query: query id -> nDCG@10, one for each collection.
    """

    figures: dict[str, float]
    per_query: tuple[dict[str, float], ...]


@dataclass(frozen=True)
class Judge:
    """Collections to judge on; figures are means over them.

    Attributes:
        collections: their documents, judged queries and judgements.
        sources: where each is from, as JSON holds it; figures count only for the same source.
    """

    collections: tuple[Collection, ...]
    sources: tuple[dict[str, Any], ...]

    @classmethod
    def of(cls, recipes: Sequence[Recipe], names: Sequence[str] = (), split: str | None = None) -> Judge:
        """The named collections, or the recipes' dev collection, sampled as in training (with the first's seed).

        Args:
            split: which judgements; if None, those of each collection's first of dev, validation, train (unless it is
                trained on) and test. A warning says where a choice is made by test queries.

        Raises:
            InputError: neither, several dev collections, or the judgements that are trained on.
        """
        if not names:
            return cls._dev(recipes)
        collections, sources = [], []
        for name in expand_names(names):
            trained_on = any(_same(name, path) for recipe in recipes for path in recipe.train)
            if split == "train" and trained_on:
                raise InputError(
                    f"{name}: its train judgements are what the recipe trains on; judge on others"
                )
            splits = [split] if split else ["test"]
            if not split and has_splits(name):
                splits = [one for one in SPLITS if one != "train" or not trained_on]
            collection, used = _first_split(name, splits)
            if used == "test":
                logger.warning(
                    "%s: the runs are chosen by its test queries, which flatters the one that is chosen; %s",
                    name,
                    "name its dev or train judgements (--split)"
                    if split
                    else "it has no dev or train judgements to choose by, so report the choice on other queries",
                )
            collections.append(collection)
            sources.append(_sized({"collection": name, "split": used}, collection))
        return cls(tuple(collections), tuple(sources))

    @classmethod
    def _dev(cls, recipes: Sequence[Recipe]) -> Judge:
        first = recipes[0]
        if first.dev is None:
            raise InputError(
                "what are the runs judged on? Name a collection (--collection FOLDER or a name such as scifact), or a "
                "dev collection in the recipe (dev=FOLDER); the training data cannot say which run is best"
            )
        keys = ("dev", "dev_split", "dev_queries", "dev_documents")
        if any(getattr(recipe, key) != getattr(first, key) for recipe in recipes for key in keys):
            raise InputError(
                "the runs have different dev collections; name one to judge all on: --collection"
            )
        whole = load_collection(first.dev, first.dev_split)
        collection = sample(whole, first.dev_queries, first.dev_documents, first.seed)
        source = {key: getattr(first, key) for key in keys} | {"seed": first.seed}
        return cls((collection,), (_sized(source, collection),))

    @property
    def name(self) -> str:
        names = [collection.name for collection in self.collections]
        return ", ".join(names) if len(names) <= 3 else f"{len(names)} collections"

    def model(self, model: Path) -> Judged:
        """What a finished run's model reaches; kept beside it, and read from there the next time."""
        loaded: list[NeuralSparseEncoder] = []

        def evaluate(collection: Collection) -> Evaluation:
            if not loaded:
                loaded.append(NeuralSparseEncoder(model))
            return evaluate_encoder(loaded[0], collection, DEPTH, (MEASURE,), latency_queries=0)

        written = (model / "modules.json").stat().st_mtime_ns
        return self._figures(model.parent / FILE, written, evaluate)

    def bm25(self, folder: Path) -> Judged:
        """What BM25 reaches, kept in `folder`."""
        return self._figures(
            folder / "bm25.json",
            0,
            lambda collection: evaluate_bm25(collection, DEPTH, (MEASURE,), latency_queries=0),
        )

    def _figures(self, file: Path, written: int, evaluate: Callable[[Collection], Evaluation]) -> Judged:
        kept = read_json(file) if file.is_file() else {}
        known = kept["judged"] if kept.get("written") == written else []
        found_all = []
        for collection, source in zip(self.collections, self.sources, strict=True):
            found = next((entry for entry in known if entry["of"] == source and "per_query" in entry), None)
            if found is None:
                evaluation = evaluate(collection)
                summary = evaluation.summary()
                found = {
                    "of": source,
                    "figures": {key: summary[key] for key in FIGURES},
                    "per_query": evaluation.per_query[MEASURE],
                }
                known = [entry for entry in known if entry["of"] != source] + [found]
                write_json(file, {"written": written, "judged": known})
            found_all.append(found)
        return Judged(
            {key: sum(one["figures"][key] for one in found_all) / len(found_all) for key in FIGURES},
            tuple(one["per_query"] for one in found_all),
        )


def _first_split(name: str, splits: Sequence[str]) -> tuple[Collection, str]:
    """A collection by the first of the splits that it has judgements of."""
    for split in splits[:-1]:
        try:
            return load_collection(name, split), split
        except NoJudgementsError:
            continue
    return load_collection(name, splits[-1]), splits[-1]


def _sized(source: dict[str, Any], collection: Collection) -> dict[str, Any]:
    return source | {"documents": len(collection.texts), "queries": len(collection.queries)}


def _same(one: str, other: str) -> bool:
    return Path(one).resolve() == Path(other).resolve()
