from __future__ import annotations

import sys

import numpy as np
import pytest
import scipy.sparse as sp
from search_reference import ids_of, random_vectors

from neural_sparse.errors import InputError
from neural_sparse.search import Hits, Retriever, SeismicRetriever, SparseIndex, recall


def test_recall_is_the_share_of_the_exact_hits() -> None:
    scores = np.ones((3, 2), np.float32)
    exact = Hits(np.array([[1, 2], [3, -1], [-1, -1]], np.int32), scores)
    found = Hits(np.array([[2, 7], [3, 4], [5, -1]], np.int32), scores)
    assert recall(found, exact) == pytest.approx((1 / 2 + 1) / 2)
    with pytest.raises(InputError, match="undefined"):
        recall(found, Hits(np.full((3, 2), -1, np.int32), scores))


def test_a_missing_package_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "seismic", None)
    with pytest.raises(InputError, match=r"neural-sparse\[seismic\]"):
        SeismicRetriever(
            SparseIndex.build(sp.csr_matrix([[1.0]]), ["a"]), lambda texts: sp.csr_matrix((1, 1))
        )


@pytest.mark.parametrize("width", [40, 70_000])  # the greater needs 32-bit terms
def test_seismic_finds_nearly_what_the_exact_index_finds(
    width: int, capfd: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("seismic", reason="needs the extra `seismic`")
    rng = np.random.default_rng(0)
    small = random_vectors(rng, 200, 40, 0.3)
    docs = sp.csr_matrix((small.data, small.indices + (width - 40), small.indptr), shape=(200, width))
    queries = docs[:20]
    index = SparseIndex.build(docs, ids_of(200))
    retriever: Retriever = SeismicRetriever(
        index, lambda texts: queries[: len(texts)], query_cut=40, heap_factor=0.3, threads=1
    )
    hits = retriever.search_texts(["text"] * 20, 10)
    exact = index.search(queries, 10)
    assert recall(hits, exact) > 0.9
    assert retriever.mode(10) == "approximate, recall not measured"  # type: ignore[attr-defined]
    assert retriever.recall(queries, 10) == pytest.approx(recall(hits, exact))  # type: ignore[attr-defined]
    told = f"approximate, recall {recall(hits, exact):.3f} of the 10 best of 20 queries"
    assert retriever.mode(10) == told  # type: ignore[attr-defined]
    same = hits.docs[:, 0] == exact.docs[:, 0]
    assert same.mean() > 0.9
    np.testing.assert_allclose(hits.scores[same, 0], exact.scores[same, 0], rtol=1e-2)
    assert (np.diff(hits.scores, axis=1) <= 0).all()
    assert capfd.readouterr().out == ""


def test_seismic_input_is_checked() -> None:
    pytest.importorskip("seismic", reason="needs the extra `seismic`")
    index = SparseIndex.build(sp.csr_matrix([[1.0, 0.0], [0.5, 2.0]]), ["a", "b"])
    retriever = SeismicRetriever(index, lambda texts: sp.csr_matrix((len(texts), 2)))
    assert (retriever.search_texts(["", ""], 3).docs == -1).all()
    assert retriever.search(sp.csr_matrix([[0.0, 1.0]]), 5).docs.tolist() == [[1, -1, -1, -1, -1]]
    with pytest.raises(InputError, match="3 dimensions"):
        retriever.search(sp.csr_matrix((1, 3)), 1)
    with pytest.raises(InputError, match="at least 1"):
        retriever.search(sp.csr_matrix((1, 2)), 0)
    with pytest.raises(InputError, match="nothing to index"):
        SeismicRetriever(
            SparseIndex.build(sp.csr_matrix((2, 2)), ["a", "b"]), lambda texts: sp.csr_matrix((0, 2))
        )
