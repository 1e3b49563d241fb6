from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse as sp
from search_reference import assert_same, ids_of, plain_search, random_vectors

from neural_sparse.errors import InputError
from neural_sparse.io.files import read_json, sha256_file, write_json
from neural_sparse.search import SparseIndex
from neural_sparse.search.storage import BYTES_PER_POSTING


def assert_equal_indexes(one: SparseIndex, other: SparseIndex) -> None:
    for name in ("offsets", "docs", "impacts"):
        np.testing.assert_array_equal(getattr(one.postings, name), getattr(other.postings, name), name)
        assert getattr(one.postings, name).dtype == getattr(other.postings, name).dtype
    assert (one.postings.n_docs, one.postings.scale) == (other.postings.n_docs, other.postings.scale)
    assert list(one.doc_ids) == list(other.doc_ids)


@pytest.mark.parametrize("bits", [8, 32])
@pytest.mark.parametrize("budget", [1, 40, 10**6])
@pytest.mark.parametrize("sizes", [[200], [1, 0, 60, 3, 136], [1] * 40])
def test_building_in_a_stream_equals_building_at_once(
    tmp_path: Path, sizes: list[int], budget: int, bits: int
) -> None:
    rng = np.random.default_rng(sum(sizes) + budget)
    docs = random_vectors(rng, sum(sizes), 30, 0.1)
    docs = sp.csr_matrix(docs.multiply(np.arange(sum(sizes))[:, None] > 4))  # five documents without terms
    ends = np.cumsum(sizes)
    shards = (docs[end - size : end] for size, end in zip(sizes, ends, strict=True))
    memory = budget * BYTES_PER_POSTING
    streamed = SparseIndex.build(
        shards,
        (f"doc-{i}" for i in range(sum(sizes))),
        "v",
        bits=bits,
        folder=tmp_path / "index",
        memory=memory,
    )
    whole = SparseIndex.build(docs, ids_of(sum(sizes)), "v", bits=bits)
    assert_equal_indexes(streamed, whole)
    assert_equal_indexes(SparseIndex.load(tmp_path / "index"), whole)
    names = ["docs.npy", "id_offsets.npy", "id_text.npy", "impacts.npy", "index.json", "offsets.npy"]
    assert sorted(path.name for path in (tmp_path / "index").iterdir()) == names
    queries = random_vectors(rng, 4, 30, 0.4)
    assert_same(streamed.search(queries, 20), whole.search(queries, 20))


def test_a_failed_stream_leaves_the_old_index(tmp_path: Path) -> None:
    docs = random_vectors(np.random.default_rng(0), 20, 5, 0.5)
    SparseIndex.build(docs, ids_of(20), folder=tmp_path / "index")
    for vectors, ids, message in [
        ([docs, docs], ids_of(20), "20 document ids for 40 document vectors"),
        ([docs], ids_of(25), "at least 21 document ids for 20"),
        ([docs, docs], ids_of(20) * 2, "occurs twice, in rows"),
        ([docs, sp.csr_matrix((20, 6))], ids_of(40), "different widths: 5 and 6"),
        ([], [], "no document vectors"),
    ]:
        with pytest.raises(InputError, match=message):
            SparseIndex.build(iter(vectors), iter(ids), folder=tmp_path / "index", memory=0)
    assert len(SparseIndex.load(tmp_path / "index")) == 20
    assert [path.name for path in tmp_path.iterdir()] == ["index"]
    (tmp_path / "mine").write_text("precious")
    with pytest.raises(InputError, match="it is a file"):
        SparseIndex.build(docs, ids_of(20), folder=tmp_path / "mine")


def test_added_and_deleted_documents_leave_what_a_fresh_index_would_hold(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    docs = random_vectors(rng, 300, 25, 0.2, levels=4)
    ids = ids_of(300)
    SparseIndex.build(docs[:200], ids[:200], "v").save(tmp_path / "index")
    index = SparseIndex.load(tmp_path / "index")
    index.add(docs[200:250], ids[200:250])
    index.add(docs[250:], iter(ids[250:]))
    assert_equal_indexes(index, SparseIndex.build(docs, ids))

    gone = rng.choice(300, 120, replace=False)
    index.delete([ids[row] for row in gone])
    left = np.setdiff1d(np.arange(300), gone)
    assert_equal_indexes(index, SparseIndex.build(docs[left], [ids[row] for row in left]))
    queries = random_vectors(rng, 8, 25, 0.3, levels=4)
    assert_same(index.search(queries, 50), plain_search(docs[left], queries, 50))
    index.add(docs[gone], [ids[row] for row in gone])  # a deleted id is free again
    order = np.concatenate([left, gone])
    assert_equal_indexes(index, SparseIndex.build(docs[order], [ids[row] for row in order]))
    index.delete(ids)
    assert len(index) == 0
    assert (index.search(queries, 3).docs == -1).all()


def test_bad_changes_change_nothing() -> None:
    docs = random_vectors(np.random.default_rng(0), 10, 5, 0.5)
    index = SparseIndex.build(docs, ids_of(10))
    for vectors, ids, message in [
        (docs[:1], ["doc-3"], "'doc-3' occurs twice"),
        (docs[:2], ["new"], "1 document ids for 2"),
        (sp.csr_matrix((1, 6)), ["new"], "different widths"),
    ]:
        with pytest.raises(InputError, match=message):
            index.add(vectors, ids)
    with pytest.raises(InputError, match="holds no document 'new'"):
        index.delete(["doc-1", "new"])
    assert_equal_indexes(index, SparseIndex.build(docs, ids_of(10)))
    with pytest.raises(InputError, match="8-bit index cannot be added to"):
        index.quantized().add(docs[:1], ["new"])
    with pytest.raises(InputError, match="8 or 32 bits, not 16"):
        SparseIndex.build(docs, ids_of(10), bits=16)


def test_eight_bits_round_to_a_255th_of_the_greatest_weight(tmp_path: Path) -> None:
    rng = np.random.default_rng(4)
    docs = random_vectors(rng, 400, 30, 0.3)
    docs.data[:3] = [1e-6, 1e-5, 9.0]
    index = SparseIndex.build(docs, ids_of(400), bits=8)
    step = 9 / 255
    vectors = index.vectors()
    given, stored = docs.toarray(), vectors.toarray()
    allowed = np.where(given < step / 2, step, step / 2)
    assert (np.abs(stored - given) <= allowed + 1e-5).all()
    assert stored.max() == pytest.approx(9)
    assert ((stored > 0) == (given > 0)).all()  # no posting is lost
    queries = random_vectors(rng, 6, 30, 0.3)
    assert_same(index.search(queries, 30), plain_search(vectors, queries, 30))
    index.save(tmp_path / "index")
    assert_equal_indexes(SparseIndex.load(tmp_path / "index"), index)
    assert index.bits == 8
    assert index.quantized() is index
    assert index.postings.nbytes < 0.7 * SparseIndex.build(docs, ids_of(400)).postings.nbytes
    kept = SparseIndex.load(tmp_path / "index")
    kept.delete(["doc-5"])
    left = np.arange(400) != 5
    np.testing.assert_array_equal(kept.vectors().toarray(), vectors.toarray()[left])


def test_hits_keep_their_ids_when_documents_go(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    docs, queries = random_vectors(rng, 50, 8, 0.5), random_vectors(rng, 5, 8, 0.6)
    index = SparseIndex.build(docs, ids_of(50))
    before = index.search(queries, 10)
    expected = [[f"doc-{row}" for row in rows if row >= 0] for rows in before.docs.tolist()]
    index.delete(ids_of(30))
    assert before.ids() == index.ids(before) == expected
    assert index.search(queries, 10).ids() != expected


def test_a_search_sees_the_documents_of_one_moment() -> None:
    """Generation g holds documents "g-0" ... "g-9", all found by one term; others are added and deleted meanwhile."""
    width, size = 40, 10
    query = sp.csr_matrix(np.ones((1, width), np.float32))

    def generation(number: int) -> tuple[sp.csr_matrix, list[str]]:
        docs = sp.csr_matrix((np.ones(size), ([*range(size)], [number % width] * size)), (size, width))
        return docs, [f"{number}-{row}" for row in range(size)]

    index = SparseIndex.build(*generation(0))

    def change() -> None:
        for number in range(1, 300):
            index.add(*generation(number))
            index.delete(generation(number - 1)[1])

    changing = threading.Thread(target=change)
    changing.start()
    while changing.is_alive():
        (found,) = index.search(query, 3 * size).ids()
        generations = {int(name.partition("-")[0]) for name in found}
        assert len(found) == len(set(found)) == size * len(generations)
        assert len(generations) == 1 or max(generations) - min(generations) == 1
    changing.join()
    assert index.search(query, 3 * size).ids() == [generation(299)[1]]


@pytest.mark.parametrize("damage", [-1, 500, "order"])
def test_damaged_postings_are_found_before_they_are_used(tmp_path: Path, damage: int | str) -> None:
    rng = np.random.default_rng(3)
    docs = random_vectors(rng, 500, 4, 0.5)
    SparseIndex.build(docs, ids_of(500)).save(tmp_path / "index")
    file = tmp_path / "index" / "docs.npy"
    postings = np.load(file)
    start, end = np.searchsorted(np.arange(len(postings)), np.cumsum(np.diff(docs.tocsc().indptr))[1:3])
    if damage == "order":
        postings[start : start + 2] = postings[start : start + 2][::-1]
    else:
        postings[end - 1 if damage == 500 else start] = damage
    np.save(file, postings)
    manifest = read_json(tmp_path / "index" / "index.json")
    manifest["files"]["docs"]["sha256"] = sha256_file(file)  # as a faulty writer would
    write_json(tmp_path / "index" / "index.json", manifest)
    with pytest.raises(InputError, match="the postings of term 2 are damaged"):
        SparseIndex.load(tmp_path / "index")
    for use in (
        lambda index: index.search(sp.csr_matrix(np.ones((1, 4), np.float32))),
        lambda index: index.vectors(),
        lambda index: index.delete(["doc-0"]),
        lambda index: index.add(docs, [f"new-{row}" for row in range(500)]),
        lambda index: index.quantized(),
        lambda index: index.save(tmp_path / "copy"),
    ):
        index = SparseIndex.load(tmp_path / "index", verify=False)
        assert index.search(sp.csr_matrix(np.eye(1, 4, dtype=np.float32))).ids()[
            0
        ]  # another term's are sound
        with pytest.raises(InputError, match="the postings of term 2 are damaged"):
            use(index)
