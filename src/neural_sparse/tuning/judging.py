"""How the runs of a sweep are judged: on one collection, once per model."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from neural_sparse.config import Recipe
from neural_sparse.data.collection import Collection
from neural_sparse.errors import InputError
from neural_sparse.evaluation.evaluation import Evaluation
from neural_sparse.evaluation.sources import load_collection
from neural_sparse.evaluation.systems import evaluate_bm25, evaluate_encoder
from neural_sparse.files import read_json, write_json
from neural_sparse.model.encoder import NeuralSparseEncoder
from neural_sparse.training.dev import MEASURE, sample

FILE = "judged.json"  # in a run's folder
DEPTH = 100  # documents retrieved per query


@dataclass(frozen=True)
class Judge:
    """A collection to judge on.

    Attributes:
        collection: its documents, judged queries and judgements.
        source: where it is from, as JSON holds it; figures count only for the same source.
    """

    collection: Collection
    source: dict[str, Any]

    @classmethod
    def of(cls, recipes: list[Recipe], name: str | None = None, split: str = "test") -> Judge:
        """The named collection, or the recipes' dev collection, sampled as in training (with the first's seed).

        Raises:
            InputError: neither, several dev collections, or the judgements that are trained on.
        """
        first = recipes[0]
        if name is not None:
            if split == "train" and any(_same(name, path) for recipe in recipes for path in recipe.train):
                raise InputError(
                    f"{name}: its train judgements are what the recipe trains on; judge on others"
                )
            collection = load_collection(name, split)
            source: dict[str, Any] = {"collection": name, "split": split}
        elif first.dev is None:
            raise InputError(
                "what are the runs judged on? Name a collection (--collection FOLDER or a name such as scifact), or a "
                "dev collection in the recipe (dev=FOLDER); the training data cannot say which run is best"
            )
        else:
            keys = ("dev", "dev_split", "dev_queries", "dev_documents")
            if any(getattr(recipe, key) != getattr(first, key) for recipe in recipes for key in keys):
                raise InputError(
                    "the runs have different dev collections; name one to judge all on: --collection"
                )
            source = {key: getattr(first, key) for key in keys} | {"seed": first.seed}
            whole = load_collection(first.dev, first.dev_split)
            collection = sample(whole, first.dev_queries, first.dev_documents, first.seed)
        source |= {"documents": len(collection.texts), "queries": len(collection.queries)}
        return cls(collection, source)

    @property
    def name(self) -> str:
        return self.collection.name

    def model(self, model: Path) -> dict[str, float]:
        """Figures of a finished run's model; kept beside it, and read from there the next time."""
        identity = {**self.source, "written": (model / "modules.json").stat().st_mtime_ns}
        file = model.parent / FILE
        if file.is_file() and (kept := read_json(file))["of"] == identity:
            figures: dict[str, float] = kept["figures"]
            return figures
        encoder = NeuralSparseEncoder(model)
        figures = _figures(evaluate_encoder(encoder, self.collection, DEPTH, (MEASURE,), latency_queries=0))
        write_json(file, {"of": identity, "figures": figures})
        return figures

    def bm25(self, folder: Path) -> dict[str, float]:
        """Figures of BM25, kept in `folder`."""
        file = folder / "bm25.json"
        if file.is_file() and (kept := read_json(file))["of"] == self.source:
            figures: dict[str, float] = kept["figures"]
            return figures
        figures = _figures(evaluate_bm25(self.collection, DEPTH, (MEASURE,), latency_queries=0))
        write_json(file, {"of": self.source, "figures": figures})
        return figures


def _figures(result: Evaluation) -> dict[str, float]:
    """nDCG@10, FLOPS and terms per document."""
    summary = result.summary()
    return {key: summary[key] for key in (MEASURE, "FLOPS", "doc_terms")}


def _same(one: str, other: str) -> bool:
    return Path(one).resolve() == Path(other).resolve()
