from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from scipy.sparse import csr_matrix

from neural_sparse.corpora.collection import Collection
from neural_sparse.errors import InputError
from neural_sparse.evaluation.evaluation import contributions
from neural_sparse.evaluation.systems import evaluate_bm25, evaluate_encoder, evaluate_model

WORDS = ["red", "fox", "hen", "blue", "whale"]
CORPUS = {"a": {"title": "red", "text": "fox fox"}, "b": "red hen", "c": "blue whale"}
QUERIES = {"q1": "red hen", "q2": "whale", "unjudged": "fox"}
QRELS = {"q1": {"b": 1}, "q2": {"c": 1, "a": 0}}


class Counter:
    """An encoder that counts words of a small vocabulary; queries weigh 2."""

    def encode_documents(self, texts: Sequence[str], *, show_progress: bool = False) -> csr_matrix:
        return csr_matrix(
            np.array([[text.split().count(word) for word in WORDS] for text in texts], np.float32)
        )

    def encode_queries(self, texts: Sequence[str]) -> csr_matrix:
        found = [[2.0 * (word in text.split()) for word in WORDS] for text in texts]
        return csr_matrix(np.array(found, dtype=np.float32).reshape(-1, len(WORDS)))


def test_the_guides_function_gives_relevance_and_cost() -> None:
    results = evaluate_model(Counter(), CORPUS, QUERIES, QRELS, show_progress=False)
    assert results["nDCG@10"] == results["R@1000"] == results["RR@10"] == 1.0
    assert results["FLOPS"] == pytest.approx((1 * 2 + 1 + 1) / 2 / 3)
    assert results["L1"] == pytest.approx(7 / 3)
    assert results["doc_terms"] == 2.0
    assert results["query_terms"] == 1.5
    assert results["index_bytes"] > 0
    assert results["documents_per_second"] > 0
    assert results["hole_rate"] == pytest.approx(1 / 3)


def test_reasons_add_up_to_the_score() -> None:
    collection = Collection.of(CORPUS, QUERIES, QRELS)
    result = evaluate_encoder(Counter(), collection, show_progress=False)
    reasons = result.explanations["q1"]
    assert reasons["query"] == "red hen"
    (first,) = reasons["documents"]
    assert (first["doc"], first["rank"], first["grade"], first["text"]) == ("b", 1, 1, "red hen")
    assert first["terms"] == [["0", 2.0], ["2", 2.0]]
    assert sum(value for _, value in first["terms"]) == pytest.approx(result.run["q1"]["b"])
    assert set(result.explanations) == {"q1", "q2"}


def test_contributions_are_the_products_of_shared_terms() -> None:
    rng = np.random.default_rng(1)
    for _ in range(20):
        query, document = (csr_matrix(rng.random((1, 30)) * (rng.random((1, 30)) < 0.4)) for _ in range(2))
        found = contributions(query, document)
        assert sum(value for _, value in found) == pytest.approx(float((query @ document.T).toarray()[0, 0]))
        assert [value for _, value in found] == sorted((value for _, value in found), reverse=True)


def test_bm25_shows_its_words() -> None:
    result = evaluate_bm25(Collection.of(CORPUS, QUERIES, QRELS), latency_queries=1)
    assert result.means["RR@10"] == 1.0
    assert [term for term, _ in result.explanations["q2"]["documents"][0]["terms"]] == ["whale"]
    assert result.cost is not None
    assert result.cost.query_terms == 1.5


def test_documents_encoded_before_are_not_encoded_again() -> None:
    collection = Collection.of(CORPUS, QUERIES, QRELS)
    vectors = Counter().encode_documents(collection.texts)
    result = evaluate_encoder(Counter(), collection, doc_vectors=vectors, latency_queries=0)
    assert "documents_per_second" not in result.summary()
    assert result.latency is None


def test_a_document_scores_as_its_best_passage(bert_tokenizer: Any) -> None:
    corpus = {"a": "red red. hen hen. file file.", "b": "red hen.", "c": "whale."}
    collection = Collection.of(corpus, {"q1": "red hen"}, {"q1": {"b": 1}})

    class Plain(Counter):
        tokenizer = bert_tokenizer

        def encode_documents(self, texts: Sequence[str], *, show_progress: bool = False) -> csr_matrix:
            return super().encode_documents([text.replace(".", " ") for text in texts])

    size = len(bert_tokenizer("red hen.")["input_ids"])
    whole = evaluate_encoder(Plain(), collection, latency_queries=0)
    split = evaluate_encoder(Plain(), collection, passages=size, latency_queries=0)
    assert whole.run["q1"] == {"a": 8.0, "b": 4.0}
    assert split.run["q1"] == pytest.approx({"a": 4.0, "b": 4.0})
    assert split.details["passages"] == size
    assert whole.cost is not None
    assert split.cost is not None
    assert split.cost.documents == 3
    assert split.cost.flops == pytest.approx(whole.cost.flops)  # no word is in two passages of a document
    shown = {one["doc"]: one["terms"] for one in split.explanations["q1"]["documents"]}
    assert [value for _, value in shown["a"]] == [4.0]
    with pytest.raises(InputError, match="cannot be split"):
        evaluate_encoder(Plain(), collection, passages=9, doc_vectors=csr_matrix((3, 4)))


def test_bad_input_is_named() -> None:
    with pytest.raises(InputError, match="corpus is empty"):
        evaluate_model(Counter(), {}, QUERIES, QRELS)
    with pytest.raises(InputError, match="no judgement names"):
        evaluate_model(Counter(), CORPUS, QUERIES, {"q9": {"a": 1}})
