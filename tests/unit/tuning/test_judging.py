"""Which judgements runs are chosen by."""

from __future__ import annotations

from pathlib import Path

import pytest

from neural_sparse.config import Recipe
from neural_sparse.corpora.collection import Collection
from neural_sparse.errors import InputError
from neural_sparse.tuning.judging import Judge


def collection(folder: Path, *splits: str) -> str:
    for split in splits:
        qrels = {f"{split} query": {"d": 1}}
        Collection(
            "c", ["d"], ["text"], dict.fromkeys(("dev query", "train query", "test query"), "q"), qrels
        ).save(folder, split)
    return str(folder)


@pytest.mark.parametrize(
    ("splits", "trained_on", "chosen"),
    [
        (["test", "train", "dev"], False, "dev"),
        (["test", "train"], False, "train"),
        (["test", "train"], True, "test"),
        (["test"], False, "test"),
    ],
)
def test_test_queries_come_last_and_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, splits: list[str], trained_on: bool, chosen: str
) -> None:
    folder = collection(tmp_path / "c", *splits)
    recipe = Recipe("m", (folder if trained_on else "other",), ranking={"info_nce": 1})
    judge = Judge.of([recipe], [folder])
    assert [source["split"] for source in judge.sources] == [chosen]
    assert list(judge.collections[0].qrels) == [f"{chosen} query"]
    assert ("flatters the one that is chosen" in caplog.text) == (chosen == "test")


def test_a_split_that_is_named_is_taken(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = collection(tmp_path / "c", "test", "dev")
    assert Judge.of([], [folder], "test").sources[0]["split"] == "test"
    assert "name its dev or train judgements (--split)" in caplog.text
    with pytest.raises(InputError, match=r"lacks qrels/train.tsv .* splits found: dev, test"):
        Judge.of([], [folder], "train")


def test_a_collection_without_any_judgements_is_refused(tmp_path: Path) -> None:
    folder = collection(tmp_path / "c", "test")
    (tmp_path / "c" / "qrels" / "test.tsv").unlink()
    with pytest.raises(InputError, match=r"lacks qrels/test.tsv"):
        Judge.of([], [folder])
