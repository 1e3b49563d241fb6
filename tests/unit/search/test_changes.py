"""Collections that change: what is found is what an index built anew would find, and a kill leaves a whole state."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from neural_sparse import InputError, NeuralSparseEncoder
from neural_sparse.search import SparseIndex
from neural_sparse.search import changes as module
from neural_sparse.search.changes import ChangingCollection, changing
from neural_sparse.search.doc_ids import DocumentIds
from neural_sparse.search.encoded import EncodedCollection
from neural_sparse.search.snapshot import PackedTexts

WIDTH = 12


@pytest.fixture(scope="module")
def model(tiny_model: Callable[..., Path]) -> NeuralSparseEncoder:
    """Whose tokenizer and query side the collection holds; its vectors are not its own."""
    return NeuralSparseEncoder(str(tiny_model("bert")))


@pytest.fixture
def empty(tmp_path: Path, model: NeuralSparseEncoder) -> Path:
    """A collection of two documents."""
    width = model.vocab_size
    EncodedCollection.write(
        tmp_path / "out",
        model,
        [encoder(width)(["first", "second"])],
        DocumentIds.of(["a", "b"]),
        [PackedTexts.of(["first", "second"])],
        {},
    )
    return tmp_path / "out"


def encoder(width: int) -> Callable[[Sequence[str]], sp.csr_matrix]:
    """A vector that follows from the text, with few weights, so that scores are often equal."""

    def encode(texts: Sequence[str]) -> sp.csr_matrix:
        rows = np.zeros((len(texts), width), np.float32)
        for row, text in enumerate(texts):
            for place, letter in enumerate(text):
                rows[row, ord(letter) % WIDTH] += 0.5 + place % 2
        return sp.csr_matrix(rows)

    return encode


def check(folder: Path, snapshot: object, expected: dict[str, str], width: int) -> None:
    """Against an index built anew from the documents, in the order in which they were written."""
    found = snapshot if snapshot is not None else EncodedCollection(folder).snapshot
    rows = found.rows().tolist()  # type: ignore[attr-defined]
    assert {found.doc_id(row): found.text(row) for row in rows} == expected  # type: ignore[attr-defined]
    assert [found.doc_id(row) for row in rows] == list(expected)  # type: ignore[attr-defined]
    assert len(found) == len(expected)  # type: ignore[arg-type]
    queries = encoder(width)(["abc", "first", "zy", "e"])
    for k in (1, 3, 50):
        hits = found.search(queries, k)  # type: ignore[attr-defined]
        if not expected:
            assert (hits.docs == -1).all()
            continue
        fresh = SparseIndex.build(encoder(width)(list(expected.values())), list(expected))
        whole = fresh.search(queries, k)
        assert hits.ids() == whole.ids()
        np.testing.assert_array_equal(hits.scores, whole.scores)
    if expected:
        np.testing.assert_array_equal(
            found.vectors(rows[::-1]).toarray(),
            fresh.vectors().toarray()[::-1],  # type: ignore[attr-defined]
        )
        np.testing.assert_array_equal(found.joined().vectors().toarray(), fresh.vectors().toarray())  # type: ignore[attr-defined]


names = st.sampled_from("abcdefgh")
written = st.dictionaries(names, st.text("abxyz", max_size=4), max_size=5)
steps = st.lists(st.tuples(written, st.lists(names, max_size=4), st.booleans(), st.booleans()), max_size=8)


@settings(
    max_examples=6,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(steps=steps)
def test_any_order_of_changes_gives_what_a_fresh_build_gives(
    empty: Path, tmp_path: Path, bert_tokenizer: object, steps: list
) -> None:
    width = len(bert_tokenizer.get_vocab())  # type: ignore[attr-defined]
    shutil.rmtree(tmp_path / "changed", ignore_errors=True)
    shutil.copytree(empty, tmp_path / "changed")
    expected = {"a": "first", "b": "second"}
    collection = ChangingCollection(tmp_path / "changed")
    for upserts, deletes, merge, reopen in steps:
        deletes = [name for name in deletes if name not in upserts]
        new = {name: text for name, text in upserts.items() if expected.get(name) != text}
        done = collection.change(list(upserts), list(upserts.values()), encoder(width), deletes)
        there = [name for name in dict.fromkeys(deletes) if name in expected]
        assert (done.added, done.replaced, done.unchanged, done.deleted, done.missing) == (
            len(set(new) - set(expected)),
            len(set(new) & set(expected)),
            len(upserts) - len(new),
            len(there),
            len(set(deletes)) - len(there),
        )
        for name in (*new, *there):
            expected.pop(name, None)
        expected |= new
        if merge:
            while collection.merge():
                pass
            assert len(collection.snapshot.segments) <= 1 + np.log2(max(1, len(expected)) + 1)
        check(tmp_path / "changed", collection.snapshot, expected, width)
        if reopen:
            collection = ChangingCollection(tmp_path / "changed")
    check(tmp_path / "changed", None, expected, width)


def test_a_search_goes_on_over_the_documents_it_began_with(empty: Path, bert_tokenizer: object) -> None:
    width = len(bert_tokenizer.get_vocab())  # type: ignore[attr-defined]
    with changing(empty) as collection:
        before = collection.snapshot
        collection.change(["a"], ["zzz"], encoder(width), ["b"])
        while collection.merge():
            pass
        check(empty, before, {"a": "first", "b": "second"}, width)
        check(empty, collection.snapshot, {"a": "zzz"}, width)


def test_documents_deleted_while_segments_are_merged(
    empty: Path, bert_tokenizer: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    width = len(bert_tokenizer.get_vocab())  # type: ignore[attr-defined]
    encode = encoder(width)
    with changing(empty) as collection:
        collection.change(["c", "d", "e"], ["cc", "dd", "ee"], encode, ["a"])
        write = module._write_merged

        def meanwhile(folder: Path, segments: Sequence[object]) -> None:
            write(folder, segments)  # type: ignore[arg-type]
            collection.change(["d", "f"], ["new", "ff"], encode, ["b"])

        with monkeypatch.context() as patch:
            patch.setattr(module, "_write_merged", meanwhile)
            assert collection.merge()
        expected = {"c": "cc", "e": "ee", "d": "new", "f": "ff"}
        check(empty, collection.snapshot, expected, width)
        check(empty, None, expected, width)


STOPS = ("replacing_folder", "file_sums", "settle", "write_json", "load_segment")


@pytest.mark.parametrize("stop", STOPS)
@pytest.mark.parametrize("merge", [False, True])
def test_stopped_anywhere_the_state_before_is_there(
    empty: Path, bert_tokenizer: object, monkeypatch: pytest.MonkeyPatch, stop: str, merge: bool
) -> None:
    width = len(bert_tokenizer.get_vocab())  # type: ignore[attr-defined]
    expected = {"b": "second", "c": "cc", "d": "dd"}
    collection = ChangingCollection(empty)
    collection.change(["c", "d"], ["cc", "dd"], encoder(width), ["a"])

    def full(*arguments: object, **named: object) -> None:
        raise OSError(28, "No space left on device", str(empty / "segments"))

    with monkeypatch.context() as patch:
        patch.setattr(module, stop, full)
        with pytest.raises((InputError, OSError)):
            collection.merge() if merge else collection.change(
                ["e", "c"], ["ee", "changed"], encoder(width), ["b"]
            )
    check(empty, collection.snapshot, expected, width)
    check(empty, None, expected, width)
    done = ChangingCollection(empty).change(["e", "c"], ["ee", "changed"], encoder(width), ["b"])
    assert (done.added, done.replaced, done.deleted) == (1, 1, 1)
    check(empty, None, {"d": "dd", "e": "ee", "c": "changed"}, width)


def test_refusals(empty: Path, bert_tokenizer: object) -> None:
    width = len(bert_tokenizer.get_vocab())  # type: ignore[attr-defined]
    with changing(empty) as collection:
        with pytest.raises(InputError, match="another process is at work"), changing(empty):
            pass
        with pytest.raises(InputError, match="'a' is to be written and deleted"):
            collection.change(["a"], ["x"], encoder(width), ["a"])
        with pytest.raises(InputError, match="'a' occurs twice"):
            collection.change(["a", "a"], ["x", "y"], encoder(width))
        with pytest.raises(InputError, match="encode with the collection's model"):
            collection.change(["a"], ["x"], encoder(width + 1))
        check(empty, collection.snapshot, {"a": "first", "b": "second"}, width)


def test_a_damaged_segment_is_named(empty: Path, bert_tokenizer: object) -> None:
    width = len(bert_tokenizer.get_vocab())  # type: ignore[attr-defined]
    ChangingCollection(empty).change(["c"], ["cc"], encoder(width))
    texts = empty / json.loads((empty / "encoded.json").read_text())["segments"][1]["folder"] / "texts.bin"
    texts.write_bytes(b"xx")
    with pytest.raises(InputError, match=r"texts\.bin is damaged"):
        EncodedCollection(empty)
