"""The order of examples, and a batch's tensors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from neural_sparse.data.training_set import TrainingSet, load_training_set
from neural_sparse.errors import InputError
from neural_sparse.text.tokens import Tokens, tokenize
from neural_sparse.training.batches import Collator, Schedule, pad


def training_set(examples: int = 11, documents: int = 30, negatives: int = 6, seed: int = 0) -> TrainingSet:
    rng = np.random.default_rng(seed)
    positives = rng.integers(0, documents, examples)
    pools = [rng.choice(np.setdiff1d(np.arange(documents), [p]), negatives, replace=False) for p in positives]
    return TrainingSet(
        [f"query {number}" for number in range(examples)],
        [f"list {number} file" for number in range(documents)],
        positives,
        pools,
    )


class TestSchedule:
    def test_every_example_once_an_epoch(self) -> None:
        data = training_set()
        schedule = Schedule(data, 33, 2, seed=1)
        order = [schedule[position][0] for position in range(33)]
        epochs = [order[start : start + 11] for start in (0, 11, 22)]
        assert all(sorted(epoch) == list(range(11)) for epoch in epochs)
        assert epochs[0] != epochs[1]
        assert epochs[0] != sorted(epochs[0])

    def test_depends_on_the_seed_and_the_position_alone(self) -> None:
        data = training_set()
        one, other = Schedule(data, 40, 2, seed=1), Schedule(data, 40, 2, seed=1)
        positions = np.random.default_rng(0).permutation(40)
        for position in positions:  # in any order, as a run that resumes asks for them
            example, negatives = one[int(position)]
            assert other[int(position)][0] == example
            np.testing.assert_array_equal(other[int(position)][1], negatives)
        third = Schedule(data, 40, 2, seed=2)
        assert [third[i][0] for i in range(11)] != [one[i][0] for i in range(11)]

    def test_a_longer_run_begins_like_a_shorter_one(self) -> None:
        data = training_set()
        short, long = Schedule(data, 12, 2, seed=1), Schedule(data, 99, 2, seed=1)
        for position in range(12):
            assert short[position][0] == long[position][0]
            np.testing.assert_array_equal(short[position][1], long[position][1])

    def test_negatives(self) -> None:
        data = training_set(negatives=6)
        schedule = Schedule(data, 110, 4, seed=0)
        seen: dict[int, set[int]] = {}
        for position in range(110):
            example, negatives = schedule[position]
            assert len(set(negatives.tolist())) == 4
            assert set(negatives.tolist()) <= set(data.negatives[example].tolist())
            assert data.positives[example] not in negatives
            seen.setdefault(example, set()).update(negatives.tolist())
        assert all(len(found) == 6 for found in seen.values())  # over epochs, all are used

    def test_fewer_negatives_than_wanted(self) -> None:
        schedule = Schedule(training_set(negatives=3), 5, 7, seed=0)
        assert len(schedule[0][1]) == 3
        assert len(Schedule(training_set(), 5, 0, seed=0)[0][1]) == 0

    def test_ends(self) -> None:
        schedule = Schedule(training_set(), 5, 1, seed=0)
        assert len(schedule) == 5
        for position in (5, -1):
            with pytest.raises(IndexError):
                schedule[position]


def mixture(sizes: tuple[int, ...], weights: tuple[float, ...] = ()) -> TrainingSet:
    data = training_set(sum(sizes))
    sources = np.random.default_rng(0).permutation(np.repeat(np.arange(len(sizes)), sizes))
    return TrainingSet(data.queries, data.documents, data.positives, sources=sources, weights=weights)


class TestMixture:
    @pytest.mark.parametrize("batch_size", [1, 4, 7])
    def test_a_batch_comes_from_one_source(self, batch_size: int) -> None:
        data = mixture((30, 9, 2))
        schedule = Schedule(data, 50 * batch_size, 0, 3, batch_size)
        order = [schedule[position][0] for position in range(len(schedule))]
        for start in range(0, len(order), batch_size):
            assert len({int(data.sources[example]) for example in order[start : start + batch_size]}) == 1

    @pytest.mark.parametrize(
        ("weights", "shares"),
        [((), (0.6, 0.3, 0.1)), ((1, 1, 2), (0.25, 0.25, 0.5)), ((0, 1, 1), (0, 0.5, 0.5))],
    )
    def test_shares_hold_at_any_length(self, weights: tuple[float, ...], shares: tuple[float, ...]) -> None:
        data = mixture((60, 30, 10), weights)
        schedule = Schedule(data, 4 * 1000, 0, 1, 4)
        sources = np.array([data.sources[schedule[4 * batch][0]] for batch in range(1000)])
        for length in (10, 100, 333, 1000):
            counts = np.bincount(sources[:length], minlength=3)
            np.testing.assert_allclose(counts, np.array(shares) * length, atol=4)

    def test_every_example_of_a_source_once_before_any_twice(self) -> None:
        data = mixture((12, 8), (1, 1))
        schedule = Schedule(data, 200, 0, 5, 4)
        order = np.array([schedule[position][0] for position in range(200)])
        for source, size in ((0, 12), (1, 8)):
            used = order[data.sources[order] == source]
            for start in range(0, len(used) - size, size):
                assert len(set(used[start : start + size].tolist())) == size
        assert set(order.tolist()) == set(range(20))

    def test_depends_on_the_seed_and_the_position_alone(self) -> None:
        data = mixture((13, 9, 30), (1, 2, 3))
        one, other = Schedule(data, 120, 0, 1, 4), Schedule(data, 400, 0, 1, 4)
        for position in np.random.default_rng(0).permutation(120).tolist():
            assert one[position][0] == other[position][0]
        assert [one[at][0] for at in range(120)] != [Schedule(data, 120, 0, 2, 4)[at][0] for at in range(120)]

    def test_two_devices_see_all_sources(self) -> None:
        data = mixture((50, 50))
        schedule = Schedule(data, 4 * 400, 0, 1, 4)
        sources = np.array([data.sources[schedule[4 * batch][0]] for batch in range(400)])
        for device in (0, 1):  # a device takes every other batch
            assert 80 <= sources[device::2].sum() <= 120

    def test_one_source_is_ordered_as_ever(self) -> None:
        data = training_set()
        one, other = Schedule(data, 40, 2, 1), Schedule(data, 40, 2, 1, batch_size=4)
        assert [one[at][0] for at in range(40)] == [other[at][0] for at in range(40)]
        expected = np.random.default_rng((1, 0, 0)).permutation(11).tolist()
        assert [one[at][0] for at in range(11)] == expected


class RowTeachers:
    """Scores that tell which query and document they are for; unknown outside a query's own candidates."""

    def scores(self, query_rows: np.ndarray, doc_rows: np.ndarray, own: np.ndarray) -> tuple[Any, Any]:
        targets = torch.from_numpy(1000.0 * query_rows[:, None] + doc_rows).float()
        mask = torch.from_numpy(own)
        return targets.masked_fill(~mask, torch.nan), mask


class TestCollator:
    @pytest.mark.parametrize("seed", range(5))
    def test_batch(self, bert_tokenizer: Any, seed: int) -> None:
        data = training_set(documents=9, seed=seed)  # so few that documents are shared
        schedule = Schedule(data, 44, 3, seed)
        examples = [schedule[position] for position in range(6)]
        batch = Collator(data, bert_tokenizer, 8, RowTeachers())(examples)

        rows = sorted(
            {data.positives[e] for e, _ in examples} | {row for _, n in examples for row in n.tolist()}
        )
        expected = tokenize([data.documents[row] for row in rows], bert_tokenizer, 8, special_tokens=True)
        assert batch["documents"]["input_ids"].tolist() == expected.ids.tolist()  # each document once
        assert batch["documents"]["offsets"].tolist() == expected.offsets.tolist()
        for row, (example, negatives) in enumerate(examples):
            assert rows[batch["positive"][row]] == data.positives[example]
            query = bert_tokenizer(data.queries[example], add_special_tokens=False)["input_ids"]
            assert batch["query_ids"][row][batch["query_mask"][row]].tolist() == query
            own = {rows[column] for column in batch["mask"][row].nonzero()[:, 0].tolist()}
            assert own == {data.positives[example], *negatives.tolist()}
            for column, doc in enumerate(rows):
                if batch["mask"][row, column]:
                    assert batch["targets"][row, column] == 1000 * example + doc

    def test_without_teachers(self, bert_tokenizer: Any) -> None:
        data = training_set()
        batch = Collator(data, bert_tokenizer, 8, None)([(0, np.array([], np.int64)), (1, np.array([2]))])
        assert not {"targets", "mask"} & set(batch)

    def test_a_teacher_that_gives_no_number(self, bert_tokenizer: Any) -> None:
        class Broken(RowTeachers):
            def scores(self, *args: Any) -> tuple[Any, Any]:
                targets, mask = super().scores(*args)
                return targets * torch.inf, mask

        with pytest.raises(InputError, match="a teacher gave a score that is not a number"):
            Collator(training_set(), bert_tokenizer, 8, Broken())([(0, np.array([1])), (1, np.array([2]))])


def test_pad() -> None:
    ids, mask = pad(Tokens(np.array([5, 6, 7]), np.array([0, 2, 2, 3])))
    assert ids.tolist() == [[5, 6], [0, 0], [7, 0]]
    assert mask.tolist() == [[True, True], [False, False], [True, False]]
    ids, mask = pad(Tokens(np.empty(0, np.int64), np.array([0, 0])))
    assert ids.shape == (1, 1)
    assert not mask.any()


class TestLoading:
    def test_texts_are_kept_once(self, tmp_path: Path) -> None:
        file = tmp_path / "pairs.jsonl"
        file.write_text(
            '{"query": "a", "pos": "one"}\n'
            '{"query": "b", "pos": "two", "negs": ["one", "three"]}\n'
            '{"query": "a", "pos": "two"}\n'
            '{"query": " ", "pos": "four"}\n'
        )
        (tmp_path / "corpus.jsonl").write_text(
            '{"_id": 1, "text": "two"}\n{"_id": 2, "title": "t", "text": "five"}\n'
        )
        data = load_training_set([file], tmp_path / "corpus.jsonl")
        assert data.documents == ["one", "two", "three", "t five"]
        assert data.queries == ["a", "b", "a"]
        assert data.positives.tolist() == [0, 1, 1]
        assert [rows.tolist() for rows in data.negatives] == [[], [0, 2], []]
        assert list(data.relevant) == [{0, 1}, {1}, {0, 1}]  # the same query asked twice

    def test_negatives_are_never_relevant_and_each_once(self, tmp_path: Path) -> None:
        file = tmp_path / "pairs.jsonl"
        file.write_text(
            '{"query": "a", "pos": "one", "negs": ["one", "two", "three", "three"]}\n{"query": "a", "pos": "two"}\n'
        )
        data = load_training_set([file])
        assert [rows.tolist() for rows in data.negatives] == [[2], []]

    def test_a_collection(self, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        (tmp_path / "qrels").mkdir()
        (tmp_path / "corpus.jsonl").write_text(
            '{"_id": "d1", "title": "t", "text": "x"}\n{"_id": "d2", "text": "y"}\n'
        )
        (tmp_path / "queries.jsonl").write_text('{"_id": "q1", "text": "q"}\n')
        with pytest.raises(InputError, match=r"lacks qrels/train.tsv"):
            load_training_set([tmp_path])
        (tmp_path / "qrels" / "train.tsv").write_text(
            "query-id\tcorpus-id\tscore\nq1\td2\t1\nq1\td1\t0\nq1\td9\t1\nq9\td1\t1\n"
        )
        data = load_training_set([tmp_path])
        assert (data.queries, data.documents, data.positives.tolist()) == (["q"], ["t x", "y"], [1])
        assert "left out 1 judged queries without a text and 1 judgements of documents" in caplog.text

    @pytest.mark.parametrize(
        ("line", "message"),
        [
            ('{"query": "a"}', "line 1: no column for a relevant document; found: query"),
            ('{"query": "a", "pos": 3}', "line 1: pos must be a text, found a number: 3"),
            ('{"query": "a", "pos": "b", "negs": [3]}', "line 1: negs must be a text, found a number: 3"),
            ('{"query": "a", ', "line 1: not valid JSON"),
            ('{"query": "", "pos": ""}', "no example with a query and a relevant document"),
            ("", "pairs.jsonl: holds nothing to train on"),
        ],
    )
    def test_refuses(self, tmp_path: Path, line: str, message: str) -> None:
        file = tmp_path / "pairs.jsonl"
        file.write_text(line)
        with pytest.raises(InputError, match=message):
            load_training_set([file])

    def test_missing_file(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match=r"absent\.jsonl: no such file"):
            load_training_set([tmp_path / "absent.jsonl"])


def test_without_in_batch_negatives_a_query_has_its_own_candidates_alone(bert_tokenizer: Any) -> None:
    class All:
        def scores(self, query_rows: Any, doc_rows: Any, own: Any) -> Any:
            return torch.zeros(own.shape), torch.ones(own.shape, dtype=torch.bool)

    data = training_set()
    examples = [(number, data.negatives[number][:2]) for number in range(4)]
    whole = Collator(data, bert_tokenizer, 16, All())(examples)
    alone = Collator(data, bert_tokenizer, 16, All(), in_batch=False)(examples)
    assert whole["mask"].all()
    assert alone["mask"].sum(1).tolist() == [3] * 4
    left = ~alone["other_relevant"]
    assert torch.equal(left, alone["mask"])
    assert left[torch.arange(4), alone["positive"]].all()
