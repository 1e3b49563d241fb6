"""Mined negatives as prepared data: the texts and the mixture stay, the negatives are those of the JSONL file."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from neural_sparse.data.prepare import PrepareOptions, prepare
from neural_sparse.data.prepared import PreparedSet, statistics
from neural_sparse.data.training_set import load_training_set
from neural_sparse.errors import InputError
from neural_sparse.mining import Miner, MiningOptions, bm25_source, mine_to_file
from neural_sparse.teachers import PrecomputedTeacher, TeacherCache


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    words = ["alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta", "iota", "kappa"]
    rng = np.random.default_rng(0)
    for name, count in (("a", 12), ("b", 7)):
        rows = [
            {
                "query": f"{' '.join(rng.choice(words, 2))} {name}{row}",
                "pos": f"{' '.join(rng.choice(words, 9))} {row}",
            }
            for row in range(count)
        ]
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    options = PrepareOptions(weights=(1, 3))
    prepare([str(tmp_path / "a.jsonl"), str(tmp_path / "b.jsonl")], tmp_path / "data", options)
    return tmp_path / "data"


@pytest.mark.parametrize("with_scores", [False, True])
def test_as_the_jsonl_file(folder: Path, with_scores: bool) -> None:
    data, prepared = load_training_set([folder]), PreparedSet.load(folder)
    bm25 = bm25_source(data.queries, data.documents)
    miner = Miner(data, [bm25], MiningOptions(num_negatives=4, below_positive=with_scores), bm25)
    counts = mine_to_file(miner, folder.parent / "mined.jsonl", with_scores)
    output = folder.parent / "mined"
    assert mine_to_file(miner, output, with_scores, prepared=prepared) == counts
    plain, mined = load_training_set([folder.parent / "mined.jsonl"]), load_training_set([output])
    assert list(mined.queries) == list(plain.queries)
    assert mined.sources.tolist() == plain.sources.tolist() == data.sources.tolist()
    assert mined.weights == plain.weights == (1.0, 3.0)
    for at in range(len(data)):
        assert mined.documents[mined.positives[at]] == plain.documents[plain.positives[at]]
        assert [mined.documents[row] for row in mined.negatives[at]] == [
            plain.documents[row] for row in plain.negatives[at]
        ]
    written = PreparedSet.load(output)
    written.verify()
    assert statistics(written)["negatives"] == pytest.approx(counts["kept"] / len(data))
    assert statistics(written)["with_scores"] == (len(data) if with_scores else 0)
    if with_scores:
        own = np.ones((len(data), len(data.documents)), bool)
        rows = np.arange(len(data)), np.arange(len(data.documents)), own
        texts = list(data.queries), list(data.documents), None, TeacherCache()
        expected, known = PrecomputedTeacher(folder.parent / "mined.jsonl").prepare(*texts).scores(*rows)
        scores, also_known = PrecomputedTeacher(output).prepare(*texts).scores(*rows)
        np.testing.assert_array_equal(known, also_known)
        np.testing.assert_allclose(scores[known], expected[known], rtol=1e-6)


def test_what_is_there_is_kept(folder: Path) -> None:
    data = load_training_set([folder])
    miner = Miner(data, [bm25_source(data.queries, data.documents)], MiningOptions(num_negatives=4))
    with pytest.raises(InputError, match="data exists; choose another output"):
        mine_to_file(miner, folder, prepared=PreparedSet.load(folder))
    assert len(load_training_set([folder])) == len(data)
