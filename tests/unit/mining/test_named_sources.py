"""Sources by name, with a tiny model as teacher and student."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_models import TEXTS

from neural_sparse.data.training_set import TrainingSet, load_training_set
from neural_sparse.errors import InputError
from neural_sparse.mining import Miner, MiningOptions, Sources, mine_to_file, student_source
from neural_sparse.model.encoder import NeuralSparseEncoder
from neural_sparse.teachers.cache import TeacherCache


@pytest.fixture
def data() -> TrainingSet:
    return TrainingSet([text[:20] for text in TEXTS], [*TEXTS, "A file of cats."], np.arange(len(TEXTS)))


@pytest.fixture
def student(tiny_model: Callable[..., Path], tmp_path: Path) -> Path:
    NeuralSparseEncoder(tiny_model("bert")).save_pretrained(str(tmp_path / "student"))
    return tmp_path / "student"


def test_a_saved_student_finds_what_the_model_in_memory_finds(
    data: TrainingSet, student: Path, tmp_path: Path
) -> None:
    cache = TeacherCache()
    sources = Sources(data, cache)
    saved = sources.source(f"student:{student}")
    living = student_source(NeuralSparseEncoder(student), data, tmp_path, "any")
    rows = np.arange(len(data))
    np.testing.assert_array_equal(saved.search(rows, 4), living.search(rows, 4))
    everything = np.tile(np.arange(len(data.documents)), (len(data), 1))
    np.testing.assert_allclose(
        saved.pair_scores(rows, everything), living.pair_scores(rows, everything), rtol=1e-2
    )
    assert sources.source(f"sparse:{student}") is saved  # made once
    texts = len({*data.documents}) + len({*data.queries})
    assert sum(cache.encoded.values()) == texts
    Sources(data, cache).source(f"student:{student}")
    assert sum(cache.encoded.values()) == texts  # nothing is encoded twice


def test_a_students_vectors_are_good_for_the_very_same_student(
    data: TrainingSet, student: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Encoding that is cut off goes on where the weights are the same to the bit, and begins anew where not."""
    monkeypatch.setattr("neural_sparse.mining.sources.PART", 2)
    model = NeuralSparseEncoder(student)
    encode, encoded = NeuralSparseEncoder.encode_documents, []

    def counting(self: NeuralSparseEncoder, texts: Any, *more: Any, **rest: Any) -> Any:
        encoded.append(len(texts))
        if len(encoded) == stop:
            raise KeyboardInterrupt
        return encode(self, texts, *more, **rest)

    monkeypatch.setattr(NeuralSparseEncoder, "encode_documents", counting)
    stop = 3
    with pytest.raises(KeyboardInterrupt):
        student_source(model, data, tmp_path / "kept", "any")
    encoded.clear()
    stop = 100
    resumed = student_source(model, data, tmp_path / "kept", "any")
    assert encoded == [2] * (-(-len(data.documents) // 2) - 2)
    whole = student_source(model, data, tmp_path / "whole", "any")
    for name in ("data", "indices", "indptr"):
        np.testing.assert_array_equal(getattr(resumed._documents, name), getattr(whole._documents, name))
    for change in (
        lambda: model.query_weights.data[7:8].view(torch.int32).add_(1),  # the last bit of one weight
        lambda: model.set_max_length(9),
    ):
        encoded.clear()
        change()
        student_source(model, data, tmp_path / "kept", "any")
        assert sum(encoded) == len(data.documents)
        assert len(list((tmp_path / "kept").iterdir())) == 1
    encoded.clear()
    student_source(model, data, tmp_path / "kept", "other data")
    assert sum(encoded) == len(data.documents)


@pytest.mark.parametrize("ending", [".jsonl", ""])
def test_given_negatives_are_kept_where_asked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], ending: str
) -> None:
    from neural_sparse.cli.main import app
    from neural_sparse.data.prepare import prepare

    lines = [{"query": f"sort list {n}", "pos": f"sort the list {n}"} for n in range(12)]
    lines[3]["negs"] = lines[8]["negs"] = ["given one", "given two", "given three"]  # type: ignore[assignment]
    source = tmp_path / "pairs.jsonl"
    source.write_text("".join(json.dumps(line) + "\n" for line in lines))
    if not ending:
        prepare([str(source)], tmp_path / "data")
        source = tmp_path / "data"
    options = ["mine", str(source), "-n", "2", "--ranks", "1-9", "--jaccard", "0", "--containment", "0"]
    app([*options, "-o", str(tmp_path / f"kept{ending}"), "--keep"], standalone_mode=False)
    assert "2 examples bring negatives of their own, which are kept" in " ".join(
        capsys.readouterr().out.split()
    )
    app([*options, "-o", str(tmp_path / f"anew{ending}")], standalone_mode=False)
    assert "which are replaced" in " ".join(capsys.readouterr().out.split())
    kept, anew = (load_training_set([tmp_path / f"{name}{ending}"]) for name in ("kept", "anew"))
    assert list(kept.queries) == list(anew.queries)
    for row in range(12):
        theirs = [kept.documents[at] for at in kept.negatives[row]]
        if row in (3, 8):
            assert theirs == ["given one", "given two", "given three"]
        assert len(anew.negatives[row]) == 2
        assert (len(theirs) == 3) == (row in (3, 8))
    with pytest.raises(InputError, match="scores are of mined negatives"):
        app(
            [*options, "-o", str(tmp_path / f"s{ending}"), "--keep", "--scores", "--teacher", "bm25"],
            standalone_mode=False,
        )
    again = str(tmp_path / f"kept{ending}")
    with pytest.raises(InputError, match="leave out --keep"):
        app(["mine", again, "-n", "2", "-o", str(tmp_path / f"all{ending}"), "--keep"], standalone_mode=False)


def test_a_source_and_the_margin_share_one_model(data: TrainingSet, student: Path, tmp_path: Path) -> None:
    sources = Sources(data, TeacherCache())
    name = f"student:{student}"
    options = MiningOptions(num_negatives=2, last_rank=5, relative_margin=0.01)
    miner = Miner(data, [sources.source("bm25"), sources.source(name)], options, sources.scorer(name))
    counts = mine_to_file(miner, tmp_path / "mined.jsonl")
    assert counts["kept"] + counts["teacher"] > 0


def test_a_teacher_that_is_not_there(data: TrainingSet) -> None:
    sources = Sources(data, TeacherCache())
    for text in ("dense:no/such", "sparse:no/such", "student:no/such"):
        with pytest.raises(InputError, match="was not found"):
            sources.source(text)
    with pytest.raises(InputError, match="was not found"):
        sources.scorer("cross-encoder:no/such").pair_scores(np.array([0]), np.array([[0]]))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--ranks", "10"], "write them as 10-100"),
        (["-s", "dens:a"], "unknown kind 'dens'"),
        (["--scores"], "name one with --teacher"),
        (["--max-cross-encoder-score", "0"], "needs --cross-encoder"),
        (["--teacher", "cross-encoder"], "write cross-encoder:NAME"),
        (["-n", "200"], "widen the ranks"),
    ],
)
def test_command_lines_that_make_no_sense(
    options: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from neural_sparse.cli.main import app

    (tmp_path / "pairs.jsonl").write_text('{"query": "a", "pos": "a b"}\n')
    with pytest.raises(InputError, match=message):
        app(
            ["mine", str(tmp_path / "pairs.jsonl"), "-o", str(tmp_path / "out.jsonl"), *options],
            standalone_mode=False,
        )
    assert os.listdir(tmp_path) == ["pairs.jsonl"]  # noqa: PTH208


def test_a_malformed_line_is_named(tmp_path: Path) -> None:
    from neural_sparse.cli.main import app

    (tmp_path / "pairs.jsonl").write_text('{"query": "a", "pos": "a b"}\n{"query": "a"\n')
    with pytest.raises(InputError, match=r"line 2: not valid JSON"):
        app(["mine", str(tmp_path / "pairs.jsonl"), "-o", str(tmp_path / "o.jsonl")], standalone_mode=False)


def test_the_table_says_what_was_dropped(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from neural_sparse.cli.main import app

    lines = [f'{{"query": "sort list {n}", "pos": "sort the list {n}"}}\n' for n in range(40)]
    lines.append('{"query": "sort list 3", "pos": "SORT the list 3!"}\n')
    (tmp_path / "pairs.jsonl").write_text("".join(lines))
    arguments = ["mine", str(tmp_path / "pairs.jsonl"), "-o", str(tmp_path / "o.jsonl")]
    app([*arguments, "-n", "5", "--ranks", "1-9", "--containment", "0"], standalone_mode=False)
    output = capsys.readouterr().out
    assert "41 examples, 41 documents" in output
    assert "near-duplicate of the positive" in output
    assert "known to be relevant" in output
    assert len((tmp_path / "o.jsonl").read_text().splitlines()) == 41
