"""What terms a document should have: classes of tokens, BM25's counts, neighbors, and their sum."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp
from tiny_models import make_tokenizer

from neural_sparse import InputError
from neural_sparse.config import Recipe, TeacherConfig
from neural_sparse.search.bm25 import BM25Index
from neural_sparse.teachers.bi_encoder import PreparedVectors
from neural_sparse.teachers.rows import StoredVectors
from neural_sparse.teachers.term_targets import (
    DocumentTerms,
    bm25_words,
    nearest,
    prepare_term_targets,
)
from neural_sparse.text.tokens import vocabulary
from neural_sparse.text.words import token_classes

DOCUMENTS = ["open the file", "", "files and files opened", "sorted list of the list", "the and if"]


class Vocabulary:
    """As much of a tokenizer as its vocabulary is."""

    all_special_ids = (0,)

    def __init__(self, *names: str) -> None:
        self.names = names

    def get_vocab(self) -> dict[str, int]:
        return {name: number for number, name in enumerate(self.names)}


def vectors(matrix: Any) -> PreparedVectors:
    rows = np.arange(matrix.shape[0])
    return PreparedVectors("any", StoredVectors.of(matrix), rows, StoredVectors.of(matrix), rows)


def test_forms_of_a_word_are_one_class() -> None:
    names = [
        "[PAD]",
        "file",
        "files",
        "filed",
        "sort",
        "the",
        ",",
        "a",
        "7",
        "##s",
        "##file",
        "한국",
        "한국어",
    ]
    found = dict(zip(names, token_classes(Vocabulary(*names)).tolist(), strict=True))
    assert found["file"] == found["files"] == found["filed"] >= 0
    assert [found[left_out] for left_out in ("[PAD]", "the", ",", "a")] == [-1] * 4
    others = [found[name] for name in ("file", "sort", "7", "##s", "##file", "한국", "한국어")]
    assert len(set(others)) == len(others)
    assert min(others) >= 0


def test_tokenizers_that_mark_where_words_begin() -> None:
    names = ["<s>", "▁file", "▁files", "files", "▁the", "the"]
    found = dict(zip(names, token_classes(Vocabulary(*names)).tolist(), strict=True))
    assert found["▁file"] == found["▁files"] >= 0
    assert found["▁the"] == -1
    assert len({found["▁file"], found["files"], found["the"]}) == 3  # parts of longer words


def test_bm25_counts_as_the_index_does() -> None:
    """Where every word is a token: the index's weights without their IDF."""
    tokenizer = make_tokenizer("bert")
    classes = token_classes(tokenizer)
    words = [name for name in vocabulary(tokenizer) if name.isalpha() and len(name) > 2]
    rng = np.random.default_rng(0)
    texts = [" ".join(rng.choice(words, rng.integers(1, 20))) for _ in range(30)]
    ours = bm25_words(texts, tokenizer, classes, 512)
    index = BM25Index.build(texts, [str(row) for row in range(len(texts))])
    theirs = index.document_weights()
    assert ours.nnz == theirs.nnz > 100
    document_frequency = np.asarray((theirs > 0).sum(0)).ravel()
    idf = np.log(1 + (len(texts) - document_frequency + 0.5) / (document_frequency + 0.5))
    plain = (theirs @ sp.diags_array(1 / idf)).toarray()
    for word in words:
        column = index.words.count([word]).indices
        token = classes[vocabulary(tokenizer).index(word)]
        if len(column) and token >= 0:
            np.testing.assert_allclose(ours.toarray()[:, token], plain[:, column[0]], rtol=1e-5)


def test_words_are_counted_window_by_window(monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer = make_tokenizer("bert")
    classes = token_classes(tokenizer)
    whole = bm25_words(DOCUMENTS, tokenizer, classes, 512)
    monkeypatch.setattr("neural_sparse.text.tokens.WINDOW_TEXTS", 2)
    monkeypatch.setattr("neural_sparse.teachers.term_targets.WEIGHED_AT_ONCE", 3)
    parts = bm25_words(DOCUMENTS, tokenizer, classes, 512)
    for name in ("data", "indices", "indptr"):
        np.testing.assert_array_equal(getattr(parts, name), getattr(whole, name))


@pytest.mark.parametrize("total", [2, 5, 60])
def test_neighbors_are_the_nearest_by_cosine(total: int) -> None:
    dense = np.random.default_rng(total).normal(size=(total, 8)).astype(np.float32)
    found = nearest(vectors(dense), total, count=4).toarray()
    unit = dense / np.linalg.norm(dense, axis=1, keepdims=True)
    similarity = unit @ unit.T
    np.fill_diagonal(similarity, -np.inf)
    for row in range(total):
        best = np.argsort(-similarity[row])[: min(4, total - 1)]
        expected = np.zeros(total)
        expected[best] = np.maximum(similarity[row, best], 0)
        np.testing.assert_allclose(found[row], expected / max(expected.sum(), 1e-9), atol=1e-6)


def test_neighbors_among_a_sample_and_of_a_single_document() -> None:
    dense = np.random.default_rng(0).normal(size=(40, 8)).astype(np.float32)
    found = nearest(vectors(dense), 40, count=3, pool=10)
    assert len(np.unique(found.indices)) <= 10
    assert (found.diagonal() == 0).all()
    assert nearest(vectors(dense[:1]), 1).nnz == 0


def test_the_sum_of_the_sources_and_its_heaviest_terms() -> None:
    words = sp.csr_matrix(np.array([[0.5, 0.0], [0.0, 0.25]], np.float32))
    members = sp.csr_matrix(np.array([[1, 1, 0, 0], [0, 0, 1, 0]], np.float32))  # token 3 is left out
    sparse = vectors(sp.csr_matrix(np.array([[0, 0, 0.1, 9], [0.2, 0, 0, 9]], np.float32)))
    neighbors = sp.csr_matrix(np.array([[0, 1], [1, 0]], np.float32))
    idf = np.array([1, 2, 4, 8], np.float32)
    shares = {"bm25": 2.0, "sparse": 1.0, "neighbors": 0.4}
    terms = DocumentTerms(words, members, idf, shares, 10, sparse, neighbors)
    expected = np.array([[1.0, 1.0, 0.2, 0], [0.4, 0.2, 0.5, 0]])
    np.testing.assert_allclose(terms(np.array([1, 0, 1])).toarray(), expected[[1, 0, 1]], rtol=1e-6)
    two = DocumentTerms(words, members, idf, shares, 2, sparse, neighbors)
    expected[0, 2] = expected[1, 1] = 0  # by IDF times weight: 1, 2, .8 and .4, .4, 2; of equals the first
    np.testing.assert_allclose(two(np.arange(2)).toarray(), expected, rtol=1e-6)
    own = DocumentTerms(words, members, idf, {"bm25": 1.0}, 10)
    np.testing.assert_allclose(own(np.arange(2)).toarray(), (words @ members).toarray())


def test_edge_cases_of_documents() -> None:
    tokenizer = make_tokenizer("bert")
    idf = np.ones(len(vocabulary(tokenizer)), np.float32)
    idf[tokenizer.all_special_ids] = 0
    terms = prepare_term_targets({"bm25": 1.0}, 160, DOCUMENTS, tokenizer, idf, 16)
    found = terms(np.arange(len(DOCUMENTS)))
    assert found.shape == (len(DOCUMENTS), len(idf))
    assert np.diff(found.indptr)[[1, 4]].tolist() == [0, 0]  # empty, and stopwords alone
    held = {vocabulary(tokenizer)[token] for token in found[[0]].indices}
    assert {"file", "open"} <= held
    assert not held & {"the", "[CLS]", "[SEP]", "list"}


def test_a_sparse_teacher_of_another_vocabulary(tiny_model: Any) -> None:
    config = TeacherConfig("sparse", str(tiny_model("roberta")))
    ensemble = SimpleNamespace(teachers=[None])
    with pytest.raises(InputError, match="another vocabulary than the student; leave out sparse"):
        prepare_term_targets(
            {"sparse": 1.0}, 9, DOCUMENTS, make_tokenizer("bert"), np.ones(9), 16, [config], ensemble
        )  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"term_targets": {"bm26": 1.0}}, "bm26.*choose from bm25, sparse, neighbors"),
        ({"term_targets": {"bm25": -1.0}}, "must not be negative"),
        ({"term_targets": {"bm25": 0.0}}, "above 0"),
        ({"term_weight": -1.0}, "must not be negative"),
        ({"terms_kept": 0}, "terms_kept must be at least 1"),
        ({"term_targets": {"sparse": 1.0}}, "sparse needs a sparse teacher"),
        ({"term_targets": {"neighbors": 1.0}}, "neighbors needs a dense teacher"),
    ],
)
def test_recipes_that_cannot_be(changes: dict[str, Any], told: str) -> None:
    with pytest.raises(InputError, match=told):
        Recipe("m", ("t",), teachers=(TeacherConfig("bm25"),), **changes)
