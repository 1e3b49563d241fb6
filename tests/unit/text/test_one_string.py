"""One string where a list of texts belongs is refused, and not taken for its letters."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from neural_sparse.corpora.collection import Collection
from neural_sparse.corpora.names import expand_names
from neural_sparse.data.prepare import prepare
from neural_sparse.data.training_set import TrainingSet, load_training_set
from neural_sparse.errors import InputError
from neural_sparse.evaluation import evaluate_run
from neural_sparse.evaluation.leakage import find_leakage
from neural_sparse.idf import compute_idf_weights
from neural_sparse.mining.duplicates import code_points
from neural_sparse.model.averaging import average_models
from neural_sparse.model.encoder import NeuralSparseEncoder
from neural_sparse.search import BM25Index, SparseIndex, SparseRetriever
from neural_sparse.search.doc_ids import DocumentIds
from neural_sparse.teachers.bm25 import BM25Teacher
from neural_sparse.teachers.ensemble import EnsembleTeacher
from neural_sparse.text.keys import text_keys
from neural_sparse.training.step import train_step

COLLECTION = Collection.of({"d": "a text"}, {"q": "text"}, {"q": {"d": 1}})


def test_every_function_that_takes_texts(tiny_model: Callable[..., Path], tmp_path: Path) -> None:
    model = NeuralSparseEncoder(tiny_model("bert"), max_length=16)
    bm25 = BM25Index.build(["tides follow", "bread"], ["a", "b"])
    index = SparseIndex.build(model.encode_documents(["tides", "bread"]), ["a", "b"])
    retriever = SparseRetriever(index, model.encode_queries)
    teacher = EnsembleTeacher([BM25Teacher()])
    one: Any = "tides"
    batch = {"queries": ["a", "b"], "documents": ["moon", "wind"]}
    calls: dict[str, Callable[[], object]] = {
        "encode_documents": lambda: model.encode_documents(one),
        "encode_queries": lambda: model.encode_queries(one),
        "search_texts": lambda: retriever.search_texts(one, k=1),
        "bm25 search": lambda: bm25.search_texts(one, k=1),
        "bm25 texts": lambda: BM25Index.build(one, list("abcde")),
        "bm25 ids": lambda: BM25Index.build(["a text"] * 5, one),
        "index ids": lambda: SparseIndex.build(index.vectors(), "ab"),
        "ids": lambda: DocumentIds.of(one),
        "idf": lambda: compute_idf_weights(one, model.tokenizer),
        "train_step documents": lambda: train_step(batch, model, None, None),  # type: ignore[arg-type]
        "train_step queries": lambda: train_step({**batch, "queries": "ab"}, model, None, None),  # type: ignore[arg-type]
        "teacher queries": lambda: teacher.score(one, ["a"]),
        "teacher documents": lambda: teacher.score(["a"], one),
        "prepare queries": lambda: teacher.prepare(one, ["a"]),
        "keys": lambda: text_keys(one),
        "training set": lambda: load_training_set(one),
        "training texts": lambda: TrainingSet(one, ["a"], np.zeros(5, np.int64)),
        "prepared": lambda: prepare(one, tmp_path / "out"),
        "average": lambda: average_models(one),
        "measures": lambda: evaluate_run({}, COLLECTION.qrels, "nDCG@10"),
        "leakage": lambda: find_leakage(COLLECTION, one),
        "names": lambda: expand_names(one),
        "shingles": lambda: code_points(one),
    }
    for name, call in calls.items():
        with pytest.raises(InputError, match="list of"):
            print(name, call())
