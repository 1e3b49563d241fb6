"""Documents by their best passage: equal to the plain formula, in an index and in a collection that changes."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from search_reference import assert_same, ids_of, random_vectors

from neural_sparse import InputError, NeuralSparseEncoder
from neural_sparse.search import Hits
from neural_sparse.search import passages as module
from neural_sparse.search.doc_ids import DocumentIds
from neural_sparse.search.encode_corpus import encode_corpus
from neural_sparse.search.encoded import EncodedCollection
from neural_sparse.search.passages import PassageRetriever
from neural_sparse.search.updating import DocumentModel, update_corpus
from neural_sparse.text.passages import passages_of

SIZE = 12


def plain_search(vectors: sp.csr_matrix, counts: np.ndarray, queries: sp.csr_matrix, k: int) -> Hits:
    """Scores of all passages, the greatest of each document's, sorted."""
    exact = queries.toarray().astype(np.float64) @ vectors.toarray().astype(np.float64).T
    first = np.concatenate([[0], np.cumsum(counts)[:-1]])
    scores = np.maximum.reduceat(exact.astype(np.float32), first, axis=1)
    hits = Hits(np.full((len(scores), k), -1, np.int32), np.zeros((len(scores), k), np.float32))
    for row, one in enumerate(scores):
        order = np.argsort(-one, kind="stable")[:k]
        order = order[one[order] > 0]
        hits.docs[row, : len(order)], hits.scores[row, : len(order)] = order, one[order]
    return hits


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    documents=st.integers(1, 60),
    k=st.integers(1, 70),
    levels=st.sampled_from([0, 1, 3]),
)
def test_hits_are_those_of_the_plain_formula(seed: int, documents: int, k: int, levels: int) -> None:
    rng = np.random.default_rng(seed)
    counts = np.maximum(1, (rng.pareto(0.7, documents) * 2).astype(np.int64).clip(0, 200))
    vectors = random_vectors(rng, int(counts.sum()), 12, density=0.3, levels=levels)
    # Long documents weigh more, so that the best passages are of few documents.
    vectors = sp.csr_matrix(vectors.multiply(1 + np.repeat(counts, counts)[:, None]), dtype=np.float32)
    queries = random_vectors(rng, 5, 12, density=0.4, levels=levels)
    retriever = PassageRetriever.of(vectors, ids_of(documents), counts, lambda texts: queries[: len(texts)])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "SPARE", 1)  # so that it has to look deeper
        patch.setattr(module, "QUERIES", 2)
        found = retriever.search_texts(list("abcde"), k)
    assert_same(found, plain_search(vectors, counts, queries, k))


def test_numbers_are_those_of_the_rows() -> None:
    for count in (0, 1, 2, 9, 10, 11, 100, 1234):
        assert list(DocumentIds.numbers(count)) == [str(number) for number in range(count)]


@pytest.fixture(scope="module")
def model(tiny_model: Callable[..., Path]) -> str:
    return str(tiny_model("bert"))


def write(folder: Path, documents: dict[str, str]) -> Path:
    rows = [{"_id": key, "text": text, "metadata": {"size": len(text)}} for key, text in documents.items()]
    (folder / "corpus.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder / "corpus.jsonl"


def encode(model: str, folder: Path, documents: dict[str, str], name: str) -> EncodedCollection:
    file = write(folder, documents)
    encode_corpus(
        model, file, folder / name, passages=SIZE, fields=["size"], part_bytes=300, show_progress=False
    )
    return EncodedCollection(folder / name)


def check(folder: Path, model: NeuralSparseEncoder, documents: dict[str, str]) -> None:
    """Against the plain formula over the documents in the order in which they were written last."""
    collection = EncodedCollection(folder)
    snapshot = collection.snapshot
    assert {snapshot.doc_id(row): snapshot.text(row) for row in snapshot.rows().tolist()} == documents
    assert len(snapshot) == len(documents) == collection.about["documents"]
    if not documents:
        return
    names = list(collection.doc_ids)
    passages, counts = passages_of([documents[name] for name in names], model.tokenizer, SIZE)
    queries = collection.encode_queries(["open a file", "sorted items of a list", "stream"])
    parts = [part for row in snapshot.rows().tolist() for part in snapshot.parts(row)]
    assert [part.text for part in parts] == passages
    vectors = sp.vstack([part.vector for part in parts], format="csr")
    np.testing.assert_allclose(vectors.toarray(), model.encode_documents(passages).toarray(), atol=2e-5)
    for k in (1, 4, 50):
        expected = plain_search(vectors, counts, queries, k)
        hits = snapshot.search(queries, k)
        np.testing.assert_array_equal(hits.scores, expected.scores)
        assert hits.ids() == expected._replace(doc_ids=names).ids()
    small = {name for name, text in documents.items() if len(text) < 60}
    assert set(snapshot.search(queries[:1], 50, filters={"size": {"lt": 60}}).ids()[0]) <= small
    best = snapshot.search(queries[:1], 1, without=names[:1])
    assert best.ids()[0] != names[:1]


@pytest.fixture(scope="module")
def documents(texts: list[str]) -> dict[str, str]:
    rng = np.random.default_rng(0)
    words = " ".join(texts).replace(".", "").split()
    sentences = [" ".join(rng.choice(words, 6)) + "." for _ in range(200)]
    return {f"d{n}": " ".join(rng.choice(sentences, rng.integers(1, 12))) for n in range(30)}


@pytest.fixture(scope="module")
def encoded(model: str, documents: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("passages")
    encode(model, folder, documents, "out")
    return folder / "out"


steps = st.lists(
    st.tuples(
        st.dictionaries(st.integers(0, 8), st.integers(0, 29), max_size=3),
        st.lists(st.integers(0, 29), max_size=6),
        st.booleans(),
    ),
    min_size=1,
    max_size=4,
)


@settings(max_examples=4, deadline=None, suppress_health_check=list(HealthCheck))
@given(steps=steps)
def test_any_order_of_changes_gives_what_a_fresh_build_gives(
    model: str, encoded: Path, documents: dict[str, str], tmp_path: Path, steps: list
) -> None:
    from neural_sparse.search.changes import changing

    folder = tmp_path / "changed"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(encoded, folder)
    expected = dict(documents)
    names = list(documents)
    with changing(folder) as collection:
        encode_documents = DocumentModel(model).encode_for(collection.collection.about, folder)
        for writes, deletes, merge in steps:
            new = {names[place]: documents[names[text]] + f" {place}." for place, text in writes.items()}
            gone = [names[place] for place in deletes if names[place] not in new]
            fields = [{"size": len(text)} for text in new.values()]
            collection.change(list(new), list(new.values()), encode_documents, gone, fields=fields)
            expected = {key: text for key, text in (expected | new).items() if key not in gone}
            while merge and collection.merge():
                pass
    check(folder, NeuralSparseEncoder(model, device="cpu"), expected)


def test_an_updated_collection_is_a_fresh_one(
    model: str, encoded: Path, documents: dict[str, str], tmp_path: Path
) -> None:
    shutil.copytree(encoded, tmp_path / "out")
    after = dict(list(documents.items())[5:]) | {"d9": "changed.", "new": documents["d1"] + " More of it."}
    done = update_corpus(model, write(tmp_path, after), tmp_path / "out", delete_missing=True)
    assert (done.added, done.replaced, done.deleted, done.documents) == (1, 1, 5, 26)
    check(tmp_path / "out", NeuralSparseEncoder(model, device="cpu"), after)


def test_the_best_part_makes_the_score(encoded: Path) -> None:
    collection = EncodedCollection(encoded)
    snapshot = collection.snapshot
    query = collection.encode_queries(["sorted items of a list"])
    hits = snapshot.search(query, 5)
    several = 0
    for row, score in zip(hits.docs[0].tolist(), hits.scores[0].tolist(), strict=True):
        part = snapshot.best_part(row, query)
        assert float((part.vector @ query.T).sum()) == pytest.approx(score, rel=1e-6)
        assert part.text in snapshot.text(row)
        parts = snapshot.parts(row)
        assert "".join(one.text for one in parts) == snapshot.text(row)
        assert [one.before for one in parts] == [False] + [True] * (len(parts) - 1)
        assert [one.after for one in parts] == [True] * (len(parts) - 1) + [False]
        several += len(parts) > 1
        most = sp.vstack([one.vector for one in parts]).toarray().max(axis=0)
        np.testing.assert_array_equal(snapshot.vectors([row]).toarray()[0], most)
    assert several


def test_refusals(model: str, encoded: Path, documents: dict[str, str], tmp_path: Path) -> None:
    with pytest.raises(InputError, match="encode the corpus without --passages"):
        EncodedCollection(encoded).index  # noqa: B018
    with pytest.raises(InputError, match="longer than the model reads"):
        encode_corpus(model, write(tmp_path, documents), tmp_path / "x", passages=4000, show_progress=False)
    shutil.copytree(encoded, tmp_path / "damaged")
    first = np.load(tmp_path / "damaged" / "passages.npy")
    np.save(tmp_path / "damaged" / "passages.npy", first[::-1])
    with pytest.raises(InputError, match=r"passages\.npy is damaged"):
        EncodedCollection(tmp_path / "damaged")
    with pytest.raises(InputError, match="passages are not those of its index"):
        EncodedCollection(tmp_path / "damaged", verify=False)
