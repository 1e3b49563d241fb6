"""The engine and the measures on real collections, against figures known from elsewhere."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import pytrec_eval
from scipy.sparse import csr_matrix

from neural_sparse.corpora.collection import Collection
from neural_sparse.evaluation import (
    evaluate_bm25,
    evaluate_external_run,
    evaluate_retriever,
    evaluate_run,
    measure_cost,
)
from neural_sparse.evaluation.evaluation import Evaluation
from neural_sparse.search import SparseIndex, SparseRetriever

pytestmark = pytest.mark.integration


def test_splade_v3_vectors_of_nfcorpus_reach_the_known_score(shared_data: Path) -> None:
    collection = Collection.load(shared_data / "collections" / "nfcorpus")
    terms: dict[str, int] = {}
    docs = read_vectors(shared_data / "vectors" / "nfcorpus-splade-v3-docs.jsonl", terms)
    (file,) = (shared_data / "vectors").glob("nfcorpus-test-queries-*.jsonl")
    queries = read_vectors(file, terms)
    size = len(terms)
    matrix = to_matrix([docs[doc_id] for doc_id in collection.doc_ids], size)
    by_text = {text: queries[query_id] for query_id, text in collection.queries.items()}
    index = SparseIndex.build(matrix, collection.doc_ids)
    retriever = SparseRetriever(index, lambda texts: to_matrix([by_text[text] for text in texts], size))
    cost = measure_cost(to_matrix(list(by_text.values()), size), matrix, index_bytes=index.nbytes)

    result = evaluate_retriever(retriever, collection, k=1000, cost=cost, latency_queries=5)

    # Integer weights tie often: .3568 with the engine's rule, .3559 with trec_eval's own (last id first).
    assert result.means["nDCG@10"] == pytest.approx(0.356812, abs=1e-6)
    scores = (to_matrix(list(by_text.values()), size) @ matrix.T).toarray().astype(np.float64)
    plain = {
        query_id: dict(zip(collection.doc_ids, row.tolist(), strict=True))
        for query_id, row in zip(collection.queries, scores, strict=True)
    }
    assert evaluate_run(plain, collection.qrels).means["nDCG@10"] == pytest.approx(0.355923, abs=1e-6)
    assert cost.doc_terms == pytest.approx(275, abs=1)
    assert result.details["judged_queries"] == 323


def test_bm25_on_scifact_agrees_with_pytrec_eval_and_survives_a_run_file(
    shared_data: Path, tmp_path: Path
) -> None:
    collection = Collection.load(shared_data / "collections" / "scifact")
    result = evaluate_bm25(collection, latency_queries=5)

    reference = pytrec_eval.RelevanceEvaluator(collection.qrels, {"ndcg_cut_10", "recall_1000"})
    expected = reference.evaluate(result.run)
    for ours, theirs in {"nDCG@10": "ndcg_cut_10", "R@1000": "recall_1000"}.items():
        for query_id in collection.qrels:
            value = expected.get(query_id, {}).get(theirs, 0.0)
            assert result.per_query[ours][query_id] == pytest.approx(value, abs=1e-6)
    assert result.means["nDCG@10"] == pytest.approx(0.67, abs=0.02)

    result.save(tmp_path)
    again = evaluate_external_run(Evaluation.load(tmp_path).run, collection)
    assert again.per_query == result.per_query
    assert again.hole_rate == result.hole_rate


def read_vectors(path: Path, terms: dict[str, int]) -> dict[str, dict[int, float]]:
    vectors = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        vectors[row["_id"]] = {
            terms.setdefault(token, len(terms)): float(weight) for token, weight in row["vector"].items()
        }
    return vectors


def to_matrix(rows: list[dict[int, float]], size: int) -> csr_matrix:
    indptr = np.cumsum([0, *map(len, rows)])
    indices = np.fromiter((term for row in rows for term in row), dtype=np.int32)
    data = np.fromiter((weight for row in rows for weight in row.values()), dtype=np.float32)
    matrix = csr_matrix((data, indices, indptr), shape=(len(rows), size))
    matrix.sort_indices()
    return matrix
