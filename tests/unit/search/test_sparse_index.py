from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse as sp
from search_reference import assert_same, ids_of, plain_search, random_vectors

from neural_sparse.errors import InputError
from neural_sparse.search import SparseIndex, doc_ids, vocabulary_fingerprint
from neural_sparse.search.doc_ids import DocumentIds
from neural_sparse.search.exact import BLOCK


@pytest.mark.parametrize("levels", [0, 3])
@pytest.mark.parametrize(
    ("rows", "width", "density", "k"),
    [
        (1, 5, 0.9, 1),
        (50, 20, 0.3, 10),
        (200, 30, 0.02, 300),
        (BLOCK, 40, 0.1, 7),
        (BLOCK + 1, 40, 0.1, 1000),
        (3 * BLOCK + 17, 25, 0.4, 10),
        (3 * BLOCK + 17, 25, 0.4, 5000),
    ],
)
def test_search_equals_the_dense_product(rows: int, width: int, density: float, k: int, levels: int) -> None:
    rng = np.random.default_rng(rows + k)
    docs = random_vectors(rng, rows, width, density, levels)
    queries = random_vectors(rng, 12, width, 0.3, levels)
    index = SparseIndex.build(docs, ids_of(rows))
    expected = plain_search(docs, queries, k)
    assert_same(index.search(queries, k, threads=1), expected)
    assert_same(index.search(queries, k, threads=3), expected)


@pytest.mark.parametrize("at_once", [2, 100])
def test_ids_are_kept_however_many_are_taken_at_once(monkeypatch: pytest.MonkeyPatch, at_once: int) -> None:
    monkeypatch.setattr(doc_ids, "_AT_ONCE", at_once)
    given = ["plain", "größer", "문서", "x", "😀", "last"]
    ids = DocumentIds.of(iter(given))
    assert list(ids) == given
    assert ids.take(np.array([4, 1])) == ["😀", "größer"]
    assert ids.rows(["last", "문서"]).tolist() == [5, 2]
    assert len(DocumentIds.of([])) == 0
    for bad in ("", None, 7):
        with pytest.raises(InputError, match=f"non-empty str; row 3 has {bad!r}"):
            DocumentIds.of([*given[:3], bad, "y"])  # type: ignore[list-item]
    with pytest.raises(InputError, match="'größer' occurs twice, in rows 1 and 6"):
        DocumentIds.of([*given, "größer"])


def test_ties_go_to_the_first_documents() -> None:
    docs = sp.csr_matrix(np.ones((3 * BLOCK, 1), np.float32))
    hits = SparseIndex.build(docs, ids_of(3 * BLOCK)).search(sp.csr_matrix([[2.0]]), 1500)
    assert hits.docs[0].tolist() == list(range(1500))
    assert (hits.scores == 2).all()


def test_nearly_equal_scores_are_ranked_exactly() -> None:
    """Thousands of scores in one bucket of the histogram: only selections raise the threshold."""
    weights = (1 + np.arange(6 * BLOCK) * 2.0**-22).astype(np.float32)[:, None]
    query = sp.csr_matrix([[1.0]])
    for docs in map(sp.csr_matrix, (weights, np.random.default_rng(0).permutation(weights))):
        index = SparseIndex.build(docs, ids_of(6 * BLOCK))
        for k in (1, 10, 3000):
            assert_same(index.search(query, k), plain_search(docs, query, k))


def test_a_score_that_rounds_to_zero_is_no_hit() -> None:
    tiny = sp.csr_matrix([[1e-30]], dtype=np.float32)
    assert SparseIndex.build(tiny, ["a"]).search(tiny, 1).docs.tolist() == [[-1]]


def test_scores_do_not_depend_on_the_order_of_the_terms() -> None:
    """Float32 sums of these would differ in the last bits."""
    rng = np.random.default_rng(3)
    docs = random_vectors(rng, 300, 60, 0.8)
    queries = random_vectors(rng, 5, 60, 0.8)
    order = rng.permutation(60)
    plain = SparseIndex.build(docs, ids_of(300)).search(queries, 300)
    mixed = SparseIndex.build(docs[:, order], ids_of(300)).search(queries[:, order], 300)
    np.testing.assert_array_equal(plain.docs, mixed.docs)
    np.testing.assert_array_equal(plain.scores, mixed.scores)


def test_shards_build_the_same_index_as_one_matrix() -> None:
    docs = random_vectors(np.random.default_rng(0), 90, 15, 0.3)
    one = SparseIndex.build(docs, ids_of(90))
    many = SparseIndex.build(iter([docs[:30], docs[30:31], docs[31:31], docs[31:]]), ids_of(90))
    for name in ("offsets", "docs", "impacts"):
        np.testing.assert_array_equal(getattr(one.postings, name), getattr(many.postings, name))
    assert (many.vectors() != docs).nnz == 0
    assert many.posting_lengths.tolist() == docs.getnnz(axis=0).tolist()
    assert len(many) == 90
    assert many.doc_ids[-1] == "doc-89"


@pytest.mark.parametrize("bits", [8, 32])
def test_vectors_of_some_rows(bits: int) -> None:
    docs = random_vectors(np.random.default_rng(0), 90, 15, 0.3)
    index = SparseIndex.build(docs, ids_of(90), bits=bits)
    whole = index.vectors()
    for rows in ([], [3], [89, 0, 0, 41]):
        some = index.vectors(rows)
        assert some.shape == (len(rows), 15)
        assert (some != whole[rows]).nnz == 0
    for bad in (90, -1):
        with pytest.raises(IndexError):
            index.vectors([bad])


def test_vectors_are_made_canonical_and_left_alone() -> None:
    """Unsorted, repeated and zero entries count as the vector they mean."""
    given = sp.csr_matrix((np.array([1.0, 2, 3, 0], np.float32), [2, 0, 2, 1], [0, 4]), shape=(1, 3))
    index = SparseIndex.build(given, ["a"])
    assert index.posting_lengths.tolist() == [1, 0, 1]
    assert index.vectors().toarray().tolist() == [[2, 0, 4]]
    assert given.indices.tolist() == [2, 0, 2, 1]
    hits = index.search(sp.csr_matrix((np.array([1.0, 1]), [2, 2], [0, 2]), shape=(1, 3)), 1)
    assert hits.scores.tolist() == [[8]]


def test_queries_without_terms_or_matches_find_nothing() -> None:
    index = SparseIndex.build(sp.csr_matrix([[1.0, 0.0], [0.0, 0.0]]), ["a", "b"])
    hits = index.search(sp.csr_matrix([[0.0, 0.0], [0.0, 3.0], [2.0, 1.0]]), 3)
    assert hits.docs.tolist() == [[-1, -1, -1], [-1, -1, -1], [0, -1, -1]]
    assert hits.scores.tolist() == [[0, 0, 0], [0, 0, 0], [2, 0, 0]]
    assert index.ids(hits) == [[], [], ["a"]]
    none = index.search(sp.csr_matrix((0, 2)), 3)
    assert none.docs.shape == (0, 3)


def test_filters() -> None:
    rng = np.random.default_rng(1)
    docs = random_vectors(rng, 2 * BLOCK, 12, 0.4, levels=3)
    queries = random_vectors(rng, 6, 12, 0.4, levels=3)
    index = SparseIndex.build(docs, ids_of(2 * BLOCK))
    odd = np.arange(2 * BLOCK) % 2 == 1
    some = [f"doc-{row}" for row in np.flatnonzero(odd)]
    assert_same(index.search(queries, 400, only=some), plain_search(docs, queries, 400, odd))
    assert_same(index.search(queries, 400, without=some), plain_search(docs, queries, 400, ~odd))
    assert (index.search(queries, 5, only=[]).docs == -1).all()
    first = np.arange(2 * BLOCK) == 3
    assert_same(
        index.search(queries, 5, only=["doc-3", "doc-5"], without=["doc-5"]),
        plain_search(docs, queries, 5, first),
    )
    with pytest.raises(InputError, match="no document 'nowhere'"):
        index.search(queries, 5, only=["nowhere"])


@pytest.mark.parametrize("bad", [-1.0, np.nan, np.inf])
def test_bad_weights_are_refused(bad: float) -> None:
    index = SparseIndex.build(sp.csr_matrix([[1.0]]), ["a"])
    with pytest.raises(InputError, match="queries: weights must be >= 0 and finite"):
        index.search(sp.csr_matrix([[bad]]), 1)
    with pytest.raises(InputError, match="document vectors: weights must be"):
        SparseIndex.build(sp.csr_matrix([[bad]]), ["a"])


def test_wrong_input_says_what_to_do() -> None:
    vectors = sp.csr_matrix([[1.0, 2.0]])
    index = SparseIndex.build(vectors, ["a"], vocabulary=vocabulary_fingerprint(["x", "y"]))
    with pytest.raises(InputError, match="k must be at least 1"):
        index.search(vectors, 0)
    with pytest.raises(InputError, match="3 dimensions and the index 2"):
        index.search(sp.csr_matrix((1, 3)), 1)
    with pytest.raises(InputError, match="vocabulary is not the one"):
        index.search(vectors, 1, vocabulary=vocabulary_fingerprint(["y", "x"]))
    with pytest.raises(InputError, match=r"expected a scipy\.sparse matrix"):
        index.search(np.ones((1, 2)), 1)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="2 document ids for 1 document vectors"):
        SparseIndex.build(vectors, ["a", "b"])
    with pytest.raises(InputError, match="'a' occurs twice, in rows 0 and 2"):
        SparseIndex.build(sp.csr_matrix((3, 2)), ["a", "b", "a"])
    with pytest.raises(InputError, match="non-empty str; row 1"):
        SparseIndex.build(sp.csr_matrix((2, 2)), ["a", 7])  # type: ignore[list-item]
    with pytest.raises(InputError, match="different widths: 2 and 3"):
        SparseIndex.build([vectors, sp.csr_matrix((1, 3))], ["a", "b"])
    with pytest.raises(InputError, match="no document vectors"):
        SparseIndex.build([], [])


def test_fingerprints_tell_vocabularies_apart() -> None:
    assert vocabulary_fingerprint(["ab", "c"]) != vocabulary_fingerprint(["a", "bc"])
    assert vocabulary_fingerprint({"가": 0, "나": 1}) == vocabulary_fingerprint(["가", "나"])


def _saved(folder: Path) -> tuple[SparseIndex, sp.csr_matrix]:
    rng = np.random.default_rng(5)
    docs = random_vectors(rng, 300, 20, 0.3)
    index = SparseIndex.build(docs, [f"문서/{row}" for row in range(300)], vocabulary="fingerprint")
    index.save(folder)
    return index, random_vectors(rng, 9, 20, 0.3)


def test_a_saved_index_searches_the_same(tmp_path: Path) -> None:
    index, queries = _saved(tmp_path / "index")
    for verify in (True, False):
        loaded = SparseIndex.load(tmp_path / "index", verify=verify)
        assert_same(loaded.search(queries, 50), index.search(queries, 50))
        assert list(loaded.doc_ids) == list(index.doc_ids)
        assert loaded.vocabulary == "fingerprint"
        assert loaded.nbytes == index.nbytes
    loaded.save(tmp_path / "index")  # over the very files that are mapped
    assert_same(SparseIndex.load(tmp_path / "index").search(queries, 50), index.search(queries, 50))


@pytest.mark.parametrize("file", ["offsets", "docs", "impacts", "id_text", "id_offsets"])
def test_damaged_files_are_refused(tmp_path: Path, file: str) -> None:
    _saved(tmp_path / "index")
    path = tmp_path / "index" / f"{file}.npy"
    whole = path.read_bytes()
    path.write_bytes(whole[:-10])
    with pytest.raises(InputError, match=rf"{file}\.npy is truncated"):
        SparseIndex.load(tmp_path / "index", verify=False)
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(InputError, match="checksum differs"):
        SparseIndex.load(tmp_path / "index")
    path.unlink()
    with pytest.raises(InputError, match="is missing"):
        SparseIndex.load(tmp_path / "index")


def test_what_is_no_index_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no index here"):
        SparseIndex.load(tmp_path)
    index, _ = _saved(tmp_path / "index")
    manifest = json.loads((tmp_path / "index" / "index.json").read_text())
    (tmp_path / "index" / "index.json").write_text(json.dumps({**manifest, "documents": 7}))
    with pytest.raises(InputError, match="contradict"):
        SparseIndex.load(tmp_path / "index")
    (tmp_path / "index" / "index.json").write_text(json.dumps({**manifest, "format": "other"}))
    with pytest.raises(InputError, match="expected format"):
        SparseIndex.load(tmp_path / "index")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "precious.txt").write_text("x")
    with pytest.raises(InputError, match="holds something else"):
        index.save(tmp_path / "mine")
    assert (tmp_path / "mine" / "precious.txt").exists()
