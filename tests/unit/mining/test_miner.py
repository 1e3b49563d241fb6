"""Mining as a whole, against a loop that follows the words of the documentation."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from neural_sparse.data.training_set import TrainingSet, load_training_set
from neural_sparse.errors import InputError
from neural_sparse.mining import DenseSource, Miner, MiningOptions, mine_to_file
from neural_sparse.mining import miner as miner_module
from neural_sparse.mining.duplicates import Shingles

QUERIES, DOCUMENTS = 23, 60


class Table:
    """Scores pairs from a table, and counts how often it is asked for one."""

    def __init__(self, scores: np.ndarray) -> None:
        self.scores, self.asked = scores.astype(np.float32), np.zeros(scores.shape, int)
        self.name, self.identity = "table", {"kind": "table"}

    def pair_scores(self, queries: np.ndarray, documents: np.ndarray) -> np.ndarray:
        found = np.take_along_axis(self.scores[queries], np.maximum(documents, 0), 1)
        np.add.at(
            self.asked,
            (queries[:, None].repeat(documents.shape[1], 1)[documents >= 0], documents[documents >= 0]),
            1,
        )
        return np.where(documents < 0, np.float32(np.nan), found)


@pytest.fixture
def data() -> TrainingSet:
    rng = np.random.default_rng(0)
    words = ["alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta"]
    documents = [f"{' '.join(rng.choice(words, 6))} {row}" for row in range(DOCUMENTS)]
    for row in range(0, 20, 4):
        documents[row + 1] = documents[row] + " tail"
        documents[row + 2] = documents[row].upper() + "?"
    queries = [f"query {row // 2}" for row in range(QUERIES)]  # two positives each
    return TrainingSet(queries, documents, rng.integers(0, 24, QUERIES))


def sources(seed: int) -> list[DenseSource]:
    rng = np.random.default_rng(seed)
    result = []
    for name in "ab":
        queries = rng.normal(size=(QUERIES, 8)).astype(np.float32)
        queries = queries[np.arange(QUERIES) // 2 * 2]
        documents = rng.normal(size=(DOCUMENTS, 8)).astype(np.float32)
        result.append(DenseSource(name, {"name": name}, lambda rows, q=queries: q[rows], documents))
    return result


def by_the_words(
    data: TrainingSet,
    found: list[DenseSource],
    options: MiningOptions,
    teacher: Table | None,
    cross: Table | None,
) -> list[list[int]]:
    """The top of the ranks that passes all filters (no draw)."""
    result = []
    for example in range(len(data)):
        rankings = [source.search(np.array([example]), DOCUMENTS)[0].tolist() for source in found]
        union: list[int] = []
        for ranks in zip(*rankings, strict=True):
            union += [row for row in dict.fromkeys(ranks) if row not in union]
        window = [row for row in union if row not in data.relevant[example]]
        window = window[options.first_rank - 1 : options.last_rank]
        positive = int(data.positives[example])
        kept: list[int] = []
        for row in window:
            equal, near = Shingles(data.documents).overlap(
                np.array([positive]),
                np.array([[row]]),
                np.ones((1, 1), bool),
                options.jaccard,
                options.containment,
            )
            if equal[0, 0] or near[0, 0] or len(kept) == options.num_negatives:
                continue
            if teacher is not None and options.relative_margin is not None:
                known = float(teacher.scores[example, positive])
                if float(teacher.scores[example, row]) > known - options.relative_margin * abs(known):
                    continue
            if cross is not None and cross.scores[example, row] > (options.max_cross_encoder_score or 0):
                continue
            kept.append(row)
        result.append(kept)
    return result


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(miner_module, "BLOCK", 8)


OPTIONS = MiningOptions(num_negatives=4, first_rank=3, last_rank=15, sample=False)


@pytest.mark.parametrize(
    ("margin", "threshold"),
    [(None, None), (0.1, None), (None, 0.3), (0.3, 0.2)],
    ids=["plain", "margin", "ce", "both"],
)
def test_equals_the_words(data: TrainingSet, margin: float | None, threshold: float | None) -> None:
    rng = np.random.default_rng(5)
    options = replace(OPTIONS, relative_margin=margin, max_cross_encoder_score=threshold)
    teacher = Table(rng.random((QUERIES, DOCUMENTS))) if margin is not None else None
    cross = Table(rng.random((QUERIES, DOCUMENTS))) if threshold is not None else None
    found = sources(1)
    miner = Miner(data, found, options, teacher, cross)
    mined = [miner.mine(block) for block in range(miner.blocks)]
    rows = [row.tolist() for part in mined for row in part.rows()]
    assert rows == by_the_words(data, found, options, teacher, cross)
    counts = {name: sum(part.counts[name] for part in mined) for name in mined[0].counts}
    assert counts["kept"] == sum(map(len, rows))
    assert counts["queries"] == QUERIES
    assert counts["fewer"] == sum(len(row) < 4 for row in rows)
    assert counts["known_relevant"] > 0
    assert counts["equal"] > 0
    assert counts["near_duplicate"] > 0
    assert (counts["teacher"] > 0) == (margin is not None)
    assert (counts["cross_encoder"] > 0) == (threshold is not None)
    if cross is not None:
        assert cross.asked.max() == 1
        scores = np.concatenate([part.scores for part in mined])
        for example, row in enumerate(rows):
            expected = cross.scores[example, [int(data.positives[example]), *row]]
            np.testing.assert_array_equal(scores[example, : 1 + len(row)], expected)


def test_the_draw_is_seeded_and_stays_in_the_window(data: TrainingSet) -> None:
    def mine(seed: int) -> list[list[int]]:
        miner = Miner(data, sources(1), replace(OPTIONS, sample=True, seed=seed))
        return [row.tolist() for block in range(miner.blocks) for row in miner.mine(block).rows()]

    whole = replace(OPTIONS, num_negatives=13)
    window = Miner(data, sources(1), whole)
    allowed = [row.tolist() for block in range(window.blocks) for row in window.mine(block).rows()]
    assert mine(1) == mine(1) != mine(2)
    for drawn, full in zip(mine(1), allowed, strict=True):
        assert len(drawn) == 4
        assert drawn == [row for row in full if row in drawn]  # in the order of the ranks


def test_every_place_of_the_window_is_drawn_alike() -> None:
    data = TrainingSet(
        [f"q{i}" for i in range(2000)], [f"document {i}" for i in range(11)], np.full(2000, 10)
    )
    vectors = np.linspace(1, 0, 11, dtype=np.float32)[:, None]
    source = DenseSource("d", {}, lambda rows: np.ones((len(rows), 1), np.float32), vectors)
    miner = Miner(
        data, [source], MiningOptions(num_negatives=3, last_rank=10, jaccard=None, containment=None)
    )
    drawn = np.concatenate([miner.mine(block).negatives for block in range(miner.blocks)])
    counts = np.bincount(drawn.ravel(), minlength=11)
    assert counts[10] == 0
    assert abs(counts[:10] - 600).max() < 5 * np.sqrt(2000 * 0.3 * 0.7)


def test_what_is_written_is_read_back(data: TrainingSet, tmp_path: Path) -> None:
    miner = Miner(data, sources(1), OPTIONS)
    counts = mine_to_file(miner, tmp_path / "mined.jsonl")
    read = load_training_set([tmp_path / "mined.jsonl"])
    mined = [row for block in range(miner.blocks) for row in miner.mine(block).rows()]
    assert list(read.queries) == list(data.queries)
    for example in range(QUERIES):
        assert read.documents[read.positives[example]] == data.documents[data.positives[example]]
        assert [read.documents[row] for row in read.negatives[example]] == [
            data.documents[row] for row in mined[example]
        ]
    assert counts["kept"] == sum(map(len, mined))
    assert [path.name for path in tmp_path.iterdir()] == ["mined.jsonl"]


@pytest.mark.parametrize("judge", [False, True])
def test_scores_go_with_the_documents(data: TrainingSet, tmp_path: Path, judge: bool) -> None:
    teacher = Table(np.random.default_rng(3).random((QUERIES, DOCUMENTS)))
    if judge:
        miner = Miner(data, sources(1), replace(OPTIONS, below_positive=True), cross_encoder=teacher)
    else:
        miner = Miner(data, sources(1), replace(OPTIONS, below_positive=True), teacher)
    mine_to_file(miner, tmp_path / "mined.jsonl", with_scores=True)
    read = load_training_set([tmp_path / "mined.jsonl"])
    assert [read.documents[row] for row in read.positives] == [data.documents[row] for row in data.positives]
    assert [len(row) for row in read.negatives] == [
        len(row) for block in range(miner.blocks) for row in miner.mine(block).rows()
    ]
    for example, line in enumerate((tmp_path / "mined.jsonl").read_text().splitlines()):
        row = json.loads(line)
        assert row["docs"][0] == data.documents[data.positives[example]]
        rows = [data.documents.index(text) for text in row["docs"]]
        assert row["scores"][0] == max(row["scores"])
        np.testing.assert_allclose(row["scores"], teacher.scores[example, rows], rtol=1e-6)
    with pytest.raises(InputError, match="scores are a teacher's"):
        mine_to_file(Miner(data, sources(1), OPTIONS), tmp_path / "other.jsonl", with_scores=True)


def test_goes_on_where_it_was_stopped(
    data: TrainingSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine_to_file(Miner(data, sources(1), OPTIONS), tmp_path / "whole.jsonl")
    stopped = Miner(data, sources(1), OPTIONS)
    mined: list[int] = []

    def stop(block: int) -> Any:
        if len(mined) == 1:
            raise KeyboardInterrupt
        mined.append(block)
        return Miner.mine(stopped, block)

    monkeypatch.setattr(stopped, "mine", stop)
    with pytest.raises(KeyboardInterrupt):
        mine_to_file(stopped, tmp_path / "cut.jsonl")
    with pytest.raises(InputError, match="num_negatives"):
        mine_to_file(Miner(data, sources(1), replace(OPTIONS, num_negatives=3)), tmp_path / "cut.jsonl")
    again = Miner(data, sources(1), OPTIONS)
    done: list[int] = []
    monkeypatch.setattr(again, "mine", lambda block: done.append(block) or Miner.mine(again, block))
    counts = mine_to_file(again, tmp_path / "cut.jsonl")
    assert done == [1, 2]
    assert counts["queries"] == QUERIES
    assert (tmp_path / "cut.jsonl").read_bytes() == (tmp_path / "whole.jsonl").read_bytes()


def test_fewer_documents_than_asked(tmp_path: Path) -> None:
    data = TrainingSet(["q", "r"], ["yes", "no", "perhaps"], np.array([0, 1]))
    source = DenseSource(
        "d", {}, lambda rows: np.ones((len(rows), 1), np.float32), np.array([[3], [2], [1]], np.float32)
    )
    counts = mine_to_file(Miner(data, [source], MiningOptions()), tmp_path / "mined.jsonl")
    assert counts | {"queries": 2, "fewer": 2, "none": 0, "kept": 4} == counts
    assert json.loads((tmp_path / "mined.jsonl").read_text().splitlines()[0])["negs"] == ["no", "perhaps"]


def test_a_score_that_is_no_number_is_refused(data: TrainingSet) -> None:
    scores = np.random.default_rng(3).random((QUERIES, DOCUMENTS))
    scores[:, 7] = np.nan
    miner = Miner(data, sources(1), replace(OPTIONS, relative_margin=0.1), Table(scores))
    with pytest.raises(InputError, match="not a number"):
        [miner.mine(block) for block in range(miner.blocks)]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"first_rank": 0}, "ranks 0-100"),
        ({"first_rank": 10, "last_rank": 9}, "ranks 10-9"),
        ({"num_negatives": 0}, "at least one"),
        ({"num_negatives": 30, "first_rank": 90}, "widen the ranks"),
        ({"jaccard": 1.5}, "jaccard"),
        ({"relative_margin": -0.1}, "must not be negative"),
        ({"max_score": float("nan")}, "finite"),
    ],
)
def test_options_that_make_no_sense(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        MiningOptions(**wrong)


def test_filters_without_what_they_compare(data: TrainingSet) -> None:
    with pytest.raises(InputError, match="name one"):
        Miner(data, sources(1), replace(OPTIONS, relative_margin=0.1))
    with pytest.raises(InputError, match="needs a cross-encoder"):
        Miner(data, sources(1), replace(OPTIONS, max_cross_encoder_score=0.1))
    with pytest.raises(InputError, match="at least one source"):
        Miner(data, [], OPTIONS)


def test_a_disk_that_is_too_small_is_said_before_the_start(
    data: TrainingSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1000))
    message = rf"mining {OPTIONS.num_negatives} negatives for {QUERIES} queries needs about .* kB at"
    with pytest.raises(InputError, match=message):
        mine_to_file(Miner(data, sources(1), OPTIONS), tmp_path / "mined.jsonl")
    assert list(tmp_path.iterdir()) == []
    monkeypatch.undo()
    mine_to_file(Miner(data, sources(1), OPTIONS), tmp_path / "mined.jsonl")
    assert (tmp_path / "mined.jsonl").stat().st_size > 1000
