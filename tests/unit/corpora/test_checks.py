from __future__ import annotations

import json
from pathlib import Path

import pytest

from neural_sparse.corpora.checks import check_collection, normalised
from neural_sparse.corpora.collection import Collection
from neural_sparse.errors import InputError
from neural_sparse.evaluation.leakage import find_leakage, read_training_texts

LONG = "the quick brown fox jumps over the lazy dog near the river bank every single morning in spring"
CORPUS = {
    "d1": LONG,
    "d2": "THE quick, brown fox jumps over the lazy dog near the river-bank every single morning in spring!",
    "d3": "",
    "d4": "a short one",
    "d5": "—",
}
QUERIES = {"q1": "what does the quick fox do", "q2": "What does the QUICK fox do?", "q3": "short"}
QRELS = {"q1": {"d1": 1, "d3": 1}, "q2": {"d1": 1}, "q3": {"d4": 1}}


@pytest.fixture
def collection() -> Collection:
    return Collection.of(CORPUS, QUERIES, QRELS)


class Spaces:
    """A tokenizer that splits at spaces and adds two special tokens, called as transformers' are."""

    def num_special_tokens_to_add(self) -> int:
        return 2

    def __call__(self, texts: list[str], **_: object) -> dict[str, list[list[str]]]:
        return {"input_ids": [text.split() for text in texts]}


def test_what_is_odd_is_counted_and_named(collection: Collection) -> None:
    result = check_collection(collection, Spaces(), max_length=10)
    assert (result.empty_documents, result.duplicate_documents) == (2, 1)
    assert (result.empty_queries, result.duplicate_queries) == (0, 1)
    assert result.relevant_empty == 1
    assert result.examples["duplicate_documents"] == ["d2"]
    assert result.truncated_documents == pytest.approx(2 / 5)
    assert result.truncated_tokens == pytest.approx((10 + 9) / (18 + 17 + 3 + 1))
    assert len(result.remarks()) == 5
    assert any("2 of 5 documents have no text (d3, d5)" in remark for remark in result.remarks())


def test_a_sound_collection_gets_no_remark() -> None:
    assert check_collection(Collection.of({"d": "one"}, {"q": "two"}, {"q": {"d": 1}})).remarks() == []


def test_normalisation() -> None:
    assert normalised("  The  “Ｑuick”—FOX's ") == "the quick fox s"
    assert normalised("학교에 갔다.") == "학교에 갔다"
    assert normalised("東京") == "東 京"


def test_exact_and_near_copies_are_found(collection: Collection) -> None:
    training = [
        "nothing of the kind",
        LONG.upper(),  # d1 and d2, exactly
        "so: what does the quick fox do today",  # q1 and q2, nearly
        "short",  # q3, exactly (too short for n-grams)
    ]
    result = find_leakage(collection, training)
    assert (result.exact_documents, result.near_documents) == (2, 0)
    assert (result.exact_queries, result.near_queries) == (1, 2)
    assert result.relevant_documents == 1
    assert result.training_texts == 4
    assert len(result.remarks()) == 2
    assert {one.id for one in result.examples} == {"q1", "q2", "q3", "d1", "d2"}


def test_a_document_with_one_sentence_changed_is_near(collection: Collection) -> None:
    text = " ".join([*LONG.split()[:-1], "winter", "and", "autumn"])
    result = find_leakage(collection, [text])
    assert (result.exact_documents, result.near_documents) == (0, 2)
    assert all(one.contained == pytest.approx(10 / 11) for one in result.examples)
    assert find_leakage(collection, [text], contained=0.95).near_documents == 0


def test_pieces_in_different_training_texts_do_not_add_up(collection: Collection) -> None:
    words = LONG.split()
    assert (
        find_leakage(collection, [" ".join(words[:12]), " ".join(words[4:])], contained=1.0).near_documents
        == 0
    )
    assert find_leakage(collection, []).remarks() == []


def test_training_files(tmp_path: Path) -> None:
    rows = [
        {"query_id": "7", "query": "one", "pos": ["two", "three"], "score": 0.5},
        {"_id": "x", "text": "four", "negatives": [{"id": "y", "text": "five"}]},
    ]
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert list(read_training_texts(tmp_path / "pairs.jsonl")) == ["one", "two", "three", "four", "five"]
    with pytest.raises(InputError, match="is a folder"):
        list(read_training_texts(tmp_path))
