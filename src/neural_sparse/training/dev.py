"""The student on a small collection while it trains."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp
from sentence_transformers.base.evaluation import BaseEvaluator

from neural_sparse.corpora.collection import Collection
from neural_sparse.evaluation.cost import measure_cost
from neural_sparse.evaluation.measures import evaluate_run
from neural_sparse.evaluation.runs import run_from_hits
from neural_sparse.model.encoder import NeuralSparseEncoder
from neural_sparse.model.precision import wanted_bf16
from neural_sparse.search import SparseIndex

MEASURE = "nDCG@10"
KEY = "ndcg10"  # the trainer puts "eval_" in front


def sample(collection: Collection, queries: int, documents: int, seed: int) -> Collection:
    """At most so many judged queries, with their judged documents and others up to `documents`.

    The judged ones are all kept, so figures are comparable over a run and not with those on the whole
    collection, where there is more to confuse them with.
    """
    rng = np.random.default_rng(seed)
    judged = [query_id for query_id in collection.queries if query_id in collection.qrels]
    chosen = {judged[at] for at in rng.permutation(len(judged))[:queries]}
    qrels = {query_id: grades for query_id, grades in collection.qrels.items() if query_id in chosen}
    needed = {doc_id for grades in qrels.values() for doc_id in grades}
    order = rng.permutation(len(collection.doc_ids))
    others = [row for row in order if collection.doc_ids[row] not in needed]
    kept = set(others[: max(0, documents - len(needed))])
    rows = [row for row, doc_id in enumerate(collection.doc_ids) if doc_id in needed or row in kept]
    return Collection(
        collection.name,
        [collection.doc_ids[row] for row in rows],
        texts=[collection.texts[row] for row in rows],
        queries={query_id: text for query_id, text in collection.queries.items() if query_id in chosen},
        qrels=qrels,
    )


class DevEvaluator(BaseEvaluator):
    """nDCG@10, FLOPS and terms per document on a collection, for the trainer to call.

    Args:
        collection: see `sample`.
        bf16: mixed precision; where the device has it if None.
        min_query_weight: tokens that weigh less are left out, as the finished model will leave them out.
    """

    def __init__(
        self, collection: Collection, bf16: bool | None = None, min_query_weight: float = 0.0
    ) -> None:
        super().__init__()
        self.min_query_weight = min_query_weight
        self.collection = collection
        self.bf16 = bf16
        self.primary_metric = KEY

    def __call__(self, model: Any, *args: Any, **kwargs: Any) -> dict[str, float]:
        encoder: NeuralSparseEncoder = getattr(model, "module", model)
        documents = encoder.encode_documents(
            self.collection.texts, bf16=wanted_bf16(self.bf16, encoder.device)
        )
        queries = encoder.encode_queries(list(self.collection.queries.values()))
        if self.min_query_weight:
            kept = encoder.query_weights.detach().float().cpu().numpy() >= self.min_query_weight
            queries, documents = (sp.csr_matrix(found.multiply(kept)) for found in (queries, documents))
        hits = SparseIndex.build(documents, self.collection.doc_ids).search(
            queries, min(100, len(self.collection.doc_ids))
        )
        run = run_from_hits(hits, list(self.collection.queries), self.collection.doc_ids)
        cost = measure_cost(queries, documents)
        return {
            KEY: evaluate_run(run, self.collection.qrels, (MEASURE,)).means[MEASURE],
            "flops": cost.flops,
            "terms": cost.doc_terms,
        }


class MeanEvaluator(BaseEvaluator):
    """The means of several collections' figures, and each one's nDCG@10 under its name.

    Args:
        evaluators: of the collections; each counts the same, however many queries it has.
    """

    def __init__(self, evaluators: Sequence[DevEvaluator]) -> None:
        super().__init__()
        self.evaluators = evaluators
        self.primary_metric = KEY

    def __call__(self, model: Any, *args: Any, **kwargs: Any) -> dict[str, float]:
        found = [evaluator(model) for evaluator in self.evaluators]
        figures = {key: float(np.mean([one[key] for one in found])) for key in found[0]}
        for place, (evaluator, one) in enumerate(zip(self.evaluators, found, strict=True), 1):
            figures[f"{KEY}_{place}_{Path(evaluator.collection.name).name}"] = one[KEY]
        return figures
