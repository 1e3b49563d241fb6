"""How the runs of a sweep are judged: on the same collections, once per model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from neural_sparse.config import Recipe
from neural_sparse.data.collection import Collection
from neural_sparse.errors import InputError
from neural_sparse.evaluation.evaluation import Evaluation
from neural_sparse.evaluation.sources import expand_names, load_collection
from neural_sparse.evaluation.systems import evaluate_bm25, evaluate_encoder
from neural_sparse.files import read_json, write_json
from neural_sparse.model.encoder import NeuralSparseEncoder
from neural_sparse.training.dev import MEASURE, sample

FILE = "judged.json"  # in a run's folder
DEPTH = 100  # documents retrieved per query
FIGURES = (MEASURE, "FLOPS", "doc_terms")


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
    def of(cls, recipes: Sequence[Recipe], names: Sequence[str] = (), split: str = "test") -> Judge:
        """The named collections, or the recipes' dev collection, sampled as in training (with the first's seed).

        Raises:
            InputError: neither, several dev collections, or the judgements that are trained on.
        """
        if not names:
            return cls._dev(recipes)
        collections, sources = [], []
        for name in expand_names(names):
            if split == "train" and any(_same(name, path) for recipe in recipes for path in recipe.train):
                raise InputError(
                    f"{name}: its train judgements are what the recipe trains on; judge on others"
                )
            collections.append(load_collection(name, split))
            sources.append(_sized({"collection": name, "split": split}, collections[-1]))
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

    def model(self, model: Path) -> dict[str, float]:
        """Mean figures of a finished run's model; kept beside it, and read from there the next time."""
        loaded: list[NeuralSparseEncoder] = []

        def evaluate(collection: Collection) -> Evaluation:
            if not loaded:
                loaded.append(NeuralSparseEncoder(model))
            return evaluate_encoder(loaded[0], collection, DEPTH, (MEASURE,), latency_queries=0)

        written = (model / "modules.json").stat().st_mtime_ns
        return self._figures(model.parent / FILE, written, evaluate)

    def bm25(self, folder: Path) -> dict[str, float]:
        """Mean figures of BM25, kept in `folder`."""
        return self._figures(
            folder / "bm25.json",
            0,
            lambda collection: evaluate_bm25(collection, DEPTH, (MEASURE,), latency_queries=0),
        )

    def _figures(
        self, file: Path, written: int, evaluate: Callable[[Collection], Evaluation]
    ) -> dict[str, float]:
        kept = read_json(file) if file.is_file() else {}
        known = kept["judged"] if kept.get("written") == written else []
        figures = []
        for collection, source in zip(self.collections, self.sources, strict=True):
            found = next((entry["figures"] for entry in known if entry["of"] == source), None)
            if found is None:
                summary = evaluate(collection).summary()
                found = {key: summary[key] for key in FIGURES}
                known.append({"of": source, "figures": found})
                write_json(file, {"written": written, "judged": known})
            figures.append(found)
        return {key: sum(one[key] for one in figures) / len(figures) for key in FIGURES}


def _sized(source: dict[str, Any], collection: Collection) -> dict[str, Any]:
    return source | {"documents": len(collection.texts), "queries": len(collection.queries)}


def _same(one: str, other: str) -> bool:
    return Path(one).resolve() == Path(other).resolve()
