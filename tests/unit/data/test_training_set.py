"""Prepared folders as training sets: lazily read, equal to what plain lists give."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from neural_sparse.data.prepare import PrepareOptions, prepare
from neural_sparse.data.training_set import TrainingSet, load_training_set
from neural_sparse.errors import InputError
from neural_sparse.mining.mined import Mined, write_jsonl
from neural_sparse.text.ragged import RelevantRows, RowLists
from neural_sparse.text.texts import ArrowTexts, JoinedTexts, PickedTexts


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


ROWS = [
    {"query": "ask one", "pos": "first document"},
    {"query": "ask two", "pos": "second document", "negs": ["first document", "third document"]},
    {"query": "ask one", "pos": "third document"},
]
OTHER = [{"query": f"wonder {n}", "pos": f"reply {n} about {n * n}"} for n in range(5)]


def texts(data: TrainingSet) -> list[tuple[Any, ...]]:
    return [
        (
            data.queries[at],
            data.documents[data.positives[at]],
            [data.documents[row] for row in data.negatives[at]],
            {data.documents[row] for row in data.relevant[at]},
        )
        for at in range(len(data))
    ]


@pytest.fixture
def prepared(tmp_path: Path) -> Path:
    sources = [write(tmp_path / "a.jsonl", ROWS), write(tmp_path / "b.jsonl", OTHER)]
    prepare([str(path) for path in sources], tmp_path / "out", PrepareOptions(weights=(1, 3)))
    return tmp_path / "out"


def test_as_the_same_files_read_into_memory(tmp_path: Path, prepared: Path) -> None:
    data = load_training_set([prepared])
    plain = load_training_set([tmp_path / "a.jsonl", tmp_path / "b.jsonl"])
    assert isinstance(data.documents, ArrowTexts)
    assert texts(data) == texts(plain)
    assert data.sources.tolist() == plain.sources.tolist() == [0, 0, 0, 1, 1, 1, 1, 1]
    assert list(data.documents) == list(plain.documents)
    assert (data.weights, plain.weights) == ((1.0, 3.0), ())
    assert (data.shares, plain.shares) == ([1.0, 3.0], [3.0, 5.0])


def test_together_with_others(tmp_path: Path, prepared: Path) -> None:
    own = write(tmp_path / "own.jsonl", [{"query": "mine", "pos": "my document", "negs": ["not mine"]}])
    corpus = write(
        tmp_path / "corpus.jsonl",
        [{"_id": "1", "text": "first document"}, {"_id": "2", "text": "a new one"}],
    )
    data = load_training_set([prepared, own], corpus)
    alone = load_training_set([prepared])
    assert texts(data) == [*texts(alone), ("mine", "my document", ["not mine"], {"my document"})]
    assert data.sources.tolist() == [0, 0, 0, 1, 1, 1, 1, 1, 2]
    assert list(data.documents)[-1] == "a new one"
    assert list(data.documents).count("first document") == 1
    # 8 and 1 examples share by size; within the folder its own weights do.
    np.testing.assert_allclose(data.shares, [2, 6, 1])


def test_a_folder_without_examples(tmp_path: Path) -> None:
    path = write(tmp_path / "corpus.jsonl", [{"_id": "1", "text": "short"}])
    prepare([str(path)], tmp_path / "out")
    with pytest.raises(InputError, match="holds documents but no example"):
        load_training_set([tmp_path / "out"])


def test_what_is_mined_from_a_mixture_is_one(tmp_path: Path, prepared: Path) -> None:
    data = load_training_set([prepared])
    rows = np.array([[at, -1] for at in (2, 0, 1, 4, 5, 6, 7, 3)])
    write_jsonl(tmp_path / "mined.jsonl", data, [Mined(rows, None, {})])
    mined = load_training_set([tmp_path / "mined.jsonl"])
    assert mined.sources.tolist() == data.sources.tolist()
    assert list(mined.queries) == list(data.queries)
    assert mined.weights == data.weights == (1.0, 3.0)
    plain = write(tmp_path / "plain.jsonl", ROWS)
    both = load_training_set([plain, tmp_path / "mined.jsonl"])
    assert both.sources.tolist() == [0, 0, 0, *(data.sources + 1)]
    np.testing.assert_allclose(both.shares, [3, 2, 6])  # 3 and 8 examples; the 8 share as their weights say


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ((1, 2), r"source 'a' has the weights 1 and 2"),
        ((0, 0), r"line 1: the weight of a source must be a number above 0, not 0"),
        (("much", 1), "line 1: the weight of a source .* not 'much'"),
        ((float("inf"), 1), "line 1: the weight of a source .* not inf"),
    ],
)
def test_weights_that_cannot_be(tmp_path: Path, weights: tuple[Any, Any], message: str) -> None:
    rows = [{**row, "source": "a", "weight": weight} for row, weight in zip(ROWS, weights, strict=False)]
    with pytest.raises(InputError, match=message):
        load_training_set([write(tmp_path / "weighted.jsonl", rows)])


def test_a_source_without_a_weight_among_weighted_ones(tmp_path: Path) -> None:
    rows = [{**ROWS[0], "source": "a", "weight": 2}, {**ROWS[1], "source": "b"}]
    with pytest.raises(InputError, match="some of its sources have a weight and some have none"):
        load_training_set([write(tmp_path / "weighted.jsonl", rows)])


def test_negatives_are_neither_relevant_nor_repeated(tmp_path: Path) -> None:
    rows = [
        {"query": "q", "pos": "a", "negs": ["d", "b", "c", "d", "a", "c"]},
        {"query": "other", "pos": "b", "negs": ["a", "c"]},
        {"query": "q", "pos": "b"},
    ]
    data = load_training_set([write(tmp_path / "pairs.jsonl", rows)])
    assert [negatives for _, _, negatives, _ in texts(data)] == [["d", "c"], ["a", "c"], []]


def test_millions_of_examples_are_arrays(prepared: Path, tmp_path: Path) -> None:
    own = write(tmp_path / "own.jsonl", ROWS)
    for data in (load_training_set([prepared]), load_training_set([prepared, own]), load_training_set([own])):
        assert isinstance(data.negatives, RowLists)
        assert isinstance(data.relevant, RelevantRows)
        assert data.without_negatives.tolist() == [
            row for row in range(len(data)) if not len(data.negatives[row])
        ]
        assert len(data.without_negatives) < len(data)
    assert len(load_training_set([write(own, OTHER)]).without_negatives) == len(OTHER)


@pytest.mark.parametrize("seed", range(20))
def test_some_lists_are_replaced(seed: int) -> None:
    rng = np.random.default_rng(seed)
    count = int(rng.integers(1, 9))
    lists = [rng.integers(0, 50, rng.integers(0, 5)) for _ in range(count)]
    rows = np.flatnonzero(rng.random(count) < 0.5)
    others = [rng.integers(50, 99, rng.integers(0, 5)) for _ in rows]
    found = RowLists.of(lists).filled(rows, RowLists.of(others))
    expected = [lists[row].tolist() for row in range(count)]
    for row, other in zip(rows.tolist(), others, strict=True):
        expected[row] = other.tolist()
    assert [one.tolist() for one in found] == expected
    start = int(rng.integers(0, count + 1))
    matrix = found.matrix(start, start + 3)
    assert [row[row >= 0].tolist() for row in matrix] == expected[start : start + 3]


class TestTexts:
    def test_behave_as_lists(self, prepared: Path) -> None:
        stored = ArrowTexts(prepared / "documents.arrow")
        expected = list(stored)
        picked = PickedTexts(stored, np.array([2, 0, 0]))
        joined = JoinedTexts([stored, ["x", "y"], picked])
        for sequence, as_list in (
            (stored, expected),
            (picked, [expected[2], expected[0], expected[0]]),
            (joined, [*expected, "x", "y", expected[2], expected[0], expected[0]]),
        ):
            assert list(sequence) == as_list
            assert [sequence[at] for at in range(-len(as_list), len(as_list))] == as_list * 2
            assert sequence[1:-1] == as_list[1:-1]
            assert as_list[1] in sequence
            for place in (len(as_list), -len(as_list) - 1):
                with pytest.raises(IndexError):
                    sequence[place]

    def test_picked_from_many_batches(self, tmp_path: Path) -> None:
        texts = [f"text {row}" for row in range(50)]
        schema = pa.schema([("text", pa.string())])
        with pa.ipc.new_file(str(tmp_path / "texts.arrow"), schema) as writer:
            for start in range(0, 50, 7):
                writer.write_batch(pa.record_batch([pa.array(texts[start : start + 7])], schema=schema))
        stored, rows = ArrowTexts(tmp_path / "texts.arrow"), np.random.default_rng(0).integers(0, 50, 2500)
        assert list(PickedTexts(stored, rows)) == [texts[row] for row in rows.tolist()]
        assert list(PickedTexts(texts, rows)) == [texts[row] for row in rows.tolist()]
        assert list(PickedTexts(stored, rows[:0])) == []

    def test_travel_to_other_processes_as_their_path(self, prepared: Path) -> None:
        stored = ArrowTexts(prepared / "documents.arrow")
        sent = pickle.dumps(stored)
        assert len(sent) < 500
        assert list(pickle.loads(sent)) == list(stored)  # noqa: S301 - our own bytes


class TestRows:
    def test_row_lists(self) -> None:
        rows = RowLists(np.array([5, 6, 7]), np.array([0, 2, 2, 3]))
        assert [found.tolist() for found in rows] == [[5, 6], [], [7]]
        assert rows[-1].tolist() == [7]
        assert [found.tolist() for found in rows[1:]] == [[], [7]]
        with pytest.raises(IndexError):
            rows[3]

    def test_row_lists_are_what_lists_of_arrays_are(self) -> None:
        rng = np.random.default_rng(0)
        for _ in range(30):
            lists = [rng.integers(0, 9, rng.integers(0, 4)) for _ in range(rng.integers(1, 8))]
            more = [rng.integers(0, 9, rng.integers(0, 4)) for _ in range(rng.integers(1, 8))]
            rows, first = RowLists.of(lists), rng.integers(0, 9, len(lists))
            plain = [one.tolist() for one in lists]
            assert [one.tolist() for one in rows] == plain
            assert rows.lengths.tolist() == [len(one) for one in plain]
            assert rows.examples.tolist() == [row for row, one in enumerate(plain) for _ in one]
            after = [[int(head), *one] for head, one in zip(first, plain, strict=True)]
            assert [one.tolist() for one in rows.after(first)] == after
            assert [one.tolist() for one in rows.where(rows.flat > 4)] == [
                [row for row in one if row > 4] for one in plain
            ]
            joined = RowLists.join([rows, RowLists.of(more)], [0, 10])
            assert [one.tolist() for one in joined] == plain + [(one + 10).tolist() for one in more]
        assert RowLists.of(rows) is rows
        assert [one.tolist() for one in RowLists.empty(2)] == [[], []]

    def test_a_matrix_without_its_filling(self) -> None:
        rows = RowLists.of_matrix(np.array([[3, 1, -1], [-1, -1, -1], [5, 6, 7]]))
        assert [row.tolist() for row in rows] == [[3, 1], [], [5, 6, 7]]

    def test_relevant_rows(self) -> None:
        rng = np.random.default_rng(0)
        queries, positives = rng.integers(0, 20, 100), rng.integers(0, 50, 100)
        expected = [frozenset(positives[queries == query].tolist()) for query in queries]
        assert list(RelevantRows(queries, positives)) == expected
        assert RelevantRows(queries, positives)[2:5] == expected[2:5]
        joined = RelevantRows.join([RelevantRows(queries, positives)] * 2, [0, 50])
        assert list(joined) == expected + [frozenset(row + 50 for row in one) for one in expected]
