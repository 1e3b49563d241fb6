from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pytest
from scipy.sparse import csr_matrix

from neural_sparse.corpora.collection import Collection
from neural_sparse.errors import InputError
from neural_sparse.evaluation.cost import measure_cost
from neural_sparse.evaluation.evaluate import evaluate_external_run, evaluate_retriever, queries_are_documents
from neural_sparse.evaluation.evaluation import Evaluation


class Hits(NamedTuple):
    docs: npt.NDArray[np.int32]
    scores: npt.NDArray[np.float32]


class WordOverlap:
    """The plainest retriever: score = words shared; ties by document row."""

    def __init__(self, doc_ids: Sequence[str], texts: Sequence[str]) -> None:
        self.doc_ids = list(doc_ids)
        self.words = [set(text.lower().split()) for text in texts]

    def search_texts(self, texts: Sequence[str], k: int) -> Hits:
        docs = np.full((len(texts), k), -1, dtype=np.int32)
        scores = np.zeros((len(texts), k), dtype=np.float32)
        for row, text in enumerate(texts):
            found = [
                (len(set(text.lower().split()) & words), number) for number, words in enumerate(self.words)
            ]
            best = sorted((pair for pair in found if pair[0]), key=lambda pair: (-pair[0], pair[1]))[:k]
            for place, (score, number) in enumerate(best):
                docs[row, place], scores[row, place] = number, score
        return Hits(docs, scores)


CORPUS = {"z": "red fox", "a": "red hen", "m": "blue whale sings", "k": "grey goose"}
QUERIES = {"q1": "red animal", "q2": "blue whale", "q3": "purple"}
QRELS = {"q1": {"a": 1}, "q2": {"m": 2, "k": 1}, "q3": {"k": 1}}


@pytest.fixture
def collection() -> Collection:
    return Collection.of(CORPUS, QUERIES, QRELS, name="toy")


def overlap(collection: Collection) -> WordOverlap:
    return WordOverlap(collection.doc_ids, collection.texts)


def test_the_engines_tie_order_decides(collection: Collection) -> None:
    result = evaluate_retriever(overlap(collection), collection, k=3, name="overlap")
    # "red fox" and "red hen" tie and the engine puts the earlier row first. So would trec_eval (last id
    # first), so the corpus is turned round as well.
    assert result.per_query["RR@10"] == {"q1": 0.5, "q2": 1.0, "q3": 0.0}
    assert list(result.run["q1"]) == ["z", "a"]
    backwards = WordOverlap(collection.doc_ids[::-1], collection.texts[::-1])
    assert evaluate_retriever(backwards, collection, k=3).per_query["RR@10"]["q1"] == 1.0
    assert result.details["unanswered_queries"] == 1
    assert result.means["RR@10"] == pytest.approx(0.5)
    assert result.hole_rate == pytest.approx(1 / 3)
    assert result.latency is not None
    assert result.latency.queries == 3
    assert 0 < result.latency.p50 <= result.latency.p95 <= result.latency.p99


def test_k_cuts_the_run_and_may_exceed_the_corpus(collection: Collection) -> None:
    assert max(map(len, evaluate_retriever(overlap(collection), collection, k=1).run.values())) == 1
    assert len(evaluate_retriever(overlap(collection), collection, k=10**6).run["q1"]) == 2
    with pytest.raises(InputError, match="at least one"):
        evaluate_retriever(overlap(collection), collection, k=0)


def test_saved_and_loaded_it_is_the_same(collection: Collection, tmp_path: Path) -> None:
    vectors = csr_matrix(np.array([[1.0, 0], [0.5, 2.0]], dtype=np.float32))
    result = evaluate_retriever(
        overlap(collection), collection, name="word overlap", cost=measure_cost(vectors, vectors)
    )
    assert Evaluation.from_dict(result.to_dict()) == result
    result.save(tmp_path / "out")
    loaded = Evaluation.load(tmp_path / "out")
    assert loaded.run.pop("q3", None) is None  # a run file has no line for a query without results
    assert loaded == Evaluation(**{**vars(result), "run": {"q1": result.run["q1"], "q2": result.run["q2"]}})
    # ... and scored again from the file, ties and all, it reaches the same.
    again = evaluate_external_run(loaded.run, collection)
    assert again.per_query == result.per_query
    assert loaded.summary()["FLOPS"] == pytest.approx(1.25)


def test_a_system_that_finds_nothing_is_kept_too(collection: Collection, tmp_path: Path) -> None:
    result = evaluate_retriever(WordOverlap(collection.doc_ids, ["-"] * 4), collection, latency_queries=0)
    assert set(result.means.values()) == {0.0}
    assert result.hole_rate is None
    result.save(tmp_path)
    assert Evaluation.load(tmp_path).means == result.means


def test_a_folder_that_is_no_evaluation(tmp_path: Path) -> None:
    (tmp_path / "metrics.json").write_text("{}")
    (tmp_path / "per_query.json").write_text("{}")
    with pytest.raises(InputError, match="no stored evaluation"):
        Evaluation.load(tmp_path)


def test_an_index_of_another_collection_is_refused(collection: Collection) -> None:
    with pytest.raises(InputError, match="none of the documents judged in toy"):
        evaluate_retriever(WordOverlap(["other"], ["red"]), collection)


def test_unknown_documents_of_a_run_are_counted_and_keep_their_places(
    collection: Collection, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        result = evaluate_external_run({"q1": {"nowhere": 2.0, "a": 1.0}}, collection, name="theirs")
    assert result.details["unknown_documents"] == 1
    assert result.per_query["RR@10"]["q1"] == 0.5
    assert "theirs: 1 of 2 retrieved documents are not in the collection (first: nowhere)" in caplog.text


def test_a_query_taken_from_the_corpus_does_not_find_itself() -> None:
    corpus = {"x1": "cats are good pets", "x2": "cats are no good pets", "x3": "stamps"}
    made = Collection.of(corpus, {"x1": "cats are good pets"}, {"x1": {"x2": 1}}, name="arguments")
    assert queries_are_documents(made)
    result = evaluate_retriever(overlap(made), made, k=1)
    assert result.means["RR@10"] == 1.0
    assert list(result.run["x1"]) == ["x2"]  # k documents are left after the drop
    kept = evaluate_retriever(overlap(made), made, k=2, ignore_identical_ids=False)
    assert kept.means["RR@10"] == 0.5
    external = evaluate_external_run({"x1": {"x1": 9.0, "x2": 1.0}}, made)
    assert external.means["RR@10"] == 1.0


def test_equal_ids_by_chance_are_kept() -> None:
    made = Collection.of(
        {"1": "cats purr", "2": "dogs bark"}, {"1": "who is it that purrs"}, {"1": {"1": 1}}, name="numbered"
    )
    assert not queries_are_documents(made)
    assert evaluate_external_run({"1": {"1": 1.0}}, made).means["RR@10"] == 1.0
    # Not even where it is asked for: it is judged relevant.
    assert evaluate_external_run({"1": {"1": 1.0}}, made, ignore_identical_ids=True).means["RR@10"] == 1.0


def test_judged_documents_stay_and_how_many_others_go_is_said(caplog: pytest.LogCaptureFixture) -> None:
    """Query i answered by document i, which holds its words (beir 169): no heuristic goes against the judgements."""
    texts = {"1": "cats are good pets", "2": "dogs bark at night"}
    made = Collection.of(
        texts, {"1": "cats pets", "2": "dogs bark"}, {"1": {"1": 1}, "2": {"2": 1}}, name="items"
    )
    assert not queries_are_documents(made)
    assert evaluate_retriever(overlap(made), made, k=2).means["nDCG@10"] == 1.0
    mixed = Collection.of(
        texts, {"1": "cats pets", "2": "dogs bark"}, {"1": {"1": 1}, "2": {"1": 1}}, name="mixed"
    )
    with caplog.at_level("INFO", logger="neural_sparse"):
        run = {"1": {"1": 1.0}, "2": {"2": 2.0, "1": 1.0}}
        assert evaluate_external_run(run, mixed).means["RR@10"] == 1.0
    assert "mixed: left out 1 retrieved documents that are the query itself" in caplog.text
