"""A run whose files have changed is not gone on with in silence."""

import json
from pathlib import Path

import pytest

from neural_sparse.config import Recipe
from neural_sparse.errors import InputError
from neural_sparse.training.run_folder import changes, claim, input_sums


def pairs(path: Path, word: str) -> None:
    path.write_text(
        "".join(json.dumps({"query": f"{word} {n}", "pos": f"about {n}"}) + "\n" for n in range(3))
    )


def test_changed_data_are_a_changed_run(tmp_path: Path) -> None:
    pairs(tmp_path / "t.jsonl", "thing")
    recipe = Recipe(
        ranking={"info_nce": 1.0}, init="m", train=(str(tmp_path / "t.jsonl"),), output=str(tmp_path / "r")
    )
    assert claim(tmp_path / "r", recipe, overwrite=False) is None
    (tmp_path / "r" / "checkpoint-2").mkdir()
    (tmp_path / "r" / "checkpoint-2" / "complete").touch()
    assert changes(recipe) == ""
    pairs(tmp_path / "t.jsonl", "cheese")
    with pytest.raises(InputError, match=r"the data of train: .*t\.jsonl have changed"):
        claim(tmp_path / "r", recipe, overwrite=False)
    claim(tmp_path / "r", recipe, overwrite=False, resume_anyway=True)
    assert changes(recipe) == ""  # these are its data now


def test_every_file_that_decides_a_run(tmp_path: Path) -> None:
    folder = tmp_path / "c"
    (folder / "qrels").mkdir(parents=True)
    for name in ("corpus.jsonl", "queries.jsonl", "qrels/train.tsv"):
        (folder / name).write_text("a")
    (tmp_path / "idf.json").write_text("{}")
    recipe = Recipe(
        ranking={"info_nce": 1.0}, init="m", train=(str(folder),), output="r", idf=str(tmp_path / "idf.json")
    )
    before = input_sums(recipe)
    assert list(before) == [f"train: {folder}", f"idf: {tmp_path / 'idf.json'}"]
    for file in (folder / "corpus.jsonl", folder / "qrels/train.tsv", tmp_path / "idf.json"):
        file.write_text("b")
        now = input_sums(recipe)
        assert now != before
        before = now
