"""Documents and queries in parts: nothing that judges is trained on, nor what is nearly the same."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from neural_sparse.adapt.corpus import Text, clean_corpus, documents_at, held_documents
from neural_sparse.adapt.data import AdaptData, make_data, with_general
from neural_sparse.adapt.queries import length_of, query_of, unambiguous
from neural_sparse.adapt.split import LEAST_PAIRS, SELECT_SHARE, split_documents
from neural_sparse.errors import InputError

RNG = random.Random(0)
VOCABULARY = [f"{a}{b}" for a in "bcdfghklmnprst" for b in ("ane", "ilo", "ume", "orta", "eck")]


def text(words: int) -> str:
    return " ".join(RNG.choices(VOCABULARY, k=words))


BODIES = [text(30) for _ in range(200)]
IDS = [str(number) for number in range(200)]


def test_near_duplicates_are_in_one_part() -> None:
    bodies = [*BODIES, *(f"{body} more" for body in BODIES[:100])]
    ids = [str(number) for number in range(300)]
    made = [(text(5), "title") for _ in ids]
    split = split_documents(ids, bodies, made, seed=1)
    assert (len(split.test.queries), len(split.select.queries)) == (50, 25)
    judged = {doc_id for part in (split.select, split.test) for one in part.qrels.values() for doc_id in one}
    trained = {ids[row] for row, there in enumerate(split.trainable.tolist()) if there}
    assert not judged & trained
    copies = {str(row): str(row + 200) for row in range(100)}
    for part in (split.select, split.test):
        for grades in part.qrels.values():
            (first, *rest) = sorted(grades, key=int)
            assert rest == ([copies[first]] if first in copies else [])
    assert {row for _, row, _ in split.train} <= {int(one) for one in trained}
    again = split_documents(ids, bodies, made, seed=1)
    assert again.test.queries == split.test.queries


def test_training_texts_that_hold_a_judged_query_are_left_out() -> None:
    made = [(f"{text(6)}", "title") for _ in IDS]
    same = made[0][0]
    split = split_documents(
        IDS, BODIES, [(same, "title") if row % 2 else one for row, one in enumerate(made)], seed=3
    )
    assert same in split.test.queries.values()
    assert same not in {query for query, _, _ in split.train}
    assert split.left_out > 30


@pytest.mark.parametrize(("count", "chosen_by"), [(40, "title"), (90, "real")])
def test_real_queries_judge(count: int, chosen_by: str) -> None:
    real = {f"q{number}": text(4) for number in range(count)}
    qrels = {key: {IDS[number]: 1} for number, key in enumerate(real)}
    split = split_documents(IDS, BODIES, [(text(5), "title")] * 200, seed=1, real=(real, qrels))
    assert set(split.test.kinds.values()) == {"real"}
    assert set(split.select.kinds.values()) == {chosen_by}
    judged = {
        int(doc_id) for part in (split.select, split.test) for one in part.qrels.values() for doc_id in one
    }
    assert not split.trainable[sorted(judged)].any()


@pytest.mark.parametrize(("trained", "chosen_by"), [(170, "training"), (40, "title")])
def test_training_queries_take_the_place_of_made_ones(trained: int, chosen_by: str) -> None:
    """A part of them chooses, all others judge; what is judged is not trained on, nor its document."""
    judging = {f"q{number}": {IDS[number]: 1} for number in range(10)}
    training = {f"t{number}": {IDS[number]: 1} for number in range(200 - trained, 200)} | {"q3": {"7": 1}}
    texts = {key: text(4) for key in (*judging, *training)}
    made = [(text(5), "title") for _ in IDS]
    split = split_documents(IDS, BODIES, made, seed=1, real=(texts, judging), training=training)
    assert set(split.test.queries) == set(judging)
    asked = {query for query, _, _ in split.train}
    if chosen_by == "training":
        assert set(split.select.queries) <= set(training)
        assert len(split.select.queries) == round(SELECT_SHARE * trained)
    else:
        assert set(split.select.kinds.values()) == {"title"}
    assert asked <= {texts[key] for key in training} - {texts["q3"]} - set(split.select.queries.values())
    assert len(asked) > LEAST_PAIRS
    kept = {doc for part in (split.select, split.test) for one in part.qrels.values() for doc in one}
    assert not split.trainable[[int(doc_id) for doc_id in kept]].any()
    # Too few to train on alone: made ones, too.
    few = {key: training[key] for key in list(training)[:9]}
    mixed = split_documents(IDS, BODIES, made, seed=1, real=(texts, judging), training=few)
    assert {kind for _, _, kind in mixed.train} == {"title", "real"}


def test_one_query_of_a_document_which_then_lacks_it() -> None:
    body = "Milk is warmed slowly. Rennet is added and after an hour the curd is cut into cubes."
    kinds = set()
    for number in range(20):
        found = query_of(Text(str(number), "How cheese is made", body), seed=0)
        kinds.add(found.kind)
        assert found.query not in found.text
    assert kinds == {"title", "sentence"}
    assert {
        query_of(Text(str(number), "How cheese is made", body), seed=0, titles=True).kind
        for number in range(9)
    } == {"title"}
    assert query_of(Text("a", "", body), seed=0, titles=True).query == ""
    heading = query_of(Text("a.md", "", f"# Notes on cheese\n\n{body}"), seed=0)
    assert (heading.kind, heading.query) == ("heading", "Notes on cheese")
    assert query_of(Text("a", "", "Two words"), seed=0).query == ""
    # Neither title nor full stops: the first words.
    plain = "a digital data storage system with capacity up to bits and random and or sequential access is described"
    queries = set()
    for number in range(9):
        opening = query_of(Text(str(number), "", plain), seed=0)
        assert (opening.kind, f"{opening.query} {opening.text}") == ("opening", plain)
        assert 5 <= len(opening.query.split()) <= 10
        queries.add(opening.query)
    assert len(queries) > 1
    unspaced = query_of(Text("a", "", "東京は日本の首都であり、世界最大の都市圏のひとつに数えられる"), seed=0)
    assert unspaced.kind == "opening"
    assert query_of(Text("a", "", plain), seed=0, titles=True).query == ""
    assert [length_of("one " * count) for count in (1, 4, 9)] == [
        "1 to 3 words",
        "4 to 7 words",
        "8 words and more",
    ]


def test_a_query_that_several_documents_give_is_asked_of_none() -> None:
    documents = [
        Text(str(number), title, text(20)) for number, title in enumerate(("An end", "AN END!", "A start"))
    ]
    found = unambiguous([query_of(one, seed=0, titles=True) for one in documents], documents)
    assert [one.query for one in found] == ["", "", "A start"]
    assert found[0].text == documents[0].whole


def write(folder: Path, rows: list[dict[str, str]]) -> Path:
    file = folder / "corpus.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


def test_cleaning_counts_what_it_leaves_out(tmp_path: Path) -> None:
    rows = [{"_id": str(n), "title": "", "text": f"Number {n} is itâ€™s own."} for n in range(8)]
    rows += [
        {"_id": "copy", "title": "", "text": "NUMBER 3 is it’s own"},
        {"_id": "none", "title": "", "text": " .. "},
    ]
    counts = clean_corpus(write(tmp_path, rows), tmp_path / "clean.jsonl")
    assert (counts["documents"], counts["copies"], counts["empty"], counts["repaired"]) == (8, 1, 1, 8)
    assert counts["copy_of"] == {"copy": "3"}
    held = held_documents(tmp_path / "clean.jsonl", 4, seed=0, needed=frozenset({"7"}))
    assert len(held) == 4
    assert held[-1].doc_id == "7"
    assert held[0].text.endswith("it’s own.")
    with pytest.raises(InputError, match="1 are different"):
        clean_corpus(
            write(tmp_path, [{"_id": str(n), "text": "the same"} for n in range(50)]), tmp_path / "c.jsonl"
        )


def test_a_folder_of_texts_and_one_of_nothing(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.md").write_text("# A heading\n\nText")
    (tmp_path / "b.txt").write_text("Text b")
    (tmp_path / "C.TXT").write_text("Text c")
    (tmp_path / "folder.md").mkdir()
    (tmp_path / ".obsidian").mkdir()
    (tmp_path / ".obsidian" / "hidden.md").write_text("An editor's own")
    assert [one.doc_id for one in documents_at(tmp_path)] == ["C.TXT", "b.txt", "in/a.md"]
    assert [one.text for one in documents_at(tmp_path / "b.txt")] == ["Text b"]
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="nor any"):
        list(documents_at(tmp_path / "empty"))


def test_data_come_back_from_their_folder(tmp_path: Path) -> None:
    rows = [{"_id": doc_id, "title": text(4), "text": body} for doc_id, body in zip(IDS, BODIES, strict=True)]
    corpus = write(tmp_path, rows)
    queries, qrels = tmp_path / "queries.jsonl", tmp_path / "qrels.tsv"
    queries.write_text("".join(json.dumps({"_id": f"q{n}", "text": text(3)}) + "\n" for n in range(10)))
    judged = [f"q{n}\t{n}\t1\n" for n in range(9)] + ["q9\tcopy\t1\n", "q9\tgone\t1\n"]
    qrels.write_text("query-id\tcorpus-id\tscore\n" + "".join(judged))
    data = make_data(corpus, {"copy": "50"}, seed=0, real=(queries, qrels))
    assert data.split.test.qrels["q9"] == {"50": 1}
    hidden = {doc_id for grades in data.split.select.qrels.values() for doc_id in grades}
    for row, doc_id in enumerate(
        data.doc_ids
    ):  # as they are searched: whole, but for what became a query that chooses
        assert (data.judged_texts[row] == data.texts[row]) == (doc_id in hidden)
    data.save(tmp_path / "data")
    again = AdaptData.load(tmp_path / "data", real=True)
    for name in ("doc_ids", "texts", "judged_texts"):
        assert getattr(again, name) == getattr(data, name)
    assert again.split.train == data.split.train
    assert (again.split.trainable == data.split.trainable).all()
    assert again.collection("c", 60, seed=0).queries == {
        **data.split.select.queries,
        **data.split.test.queries,
    }
    training = again.training(1000, seed=0)
    assert training is not None
    assert not set(training.documents) & {data.texts[int(doc_id)] for doc_id in data.split.test.qrels["q9"]}
    train = tmp_path / "train.tsv"
    train.write_text("".join(f"t{n}\t{n}\t1\n" for n in range(20, 100)))
    with queries.open("a") as file:
        file.writelines(json.dumps({"_id": f"t{n}", "text": text(3)}) + "\n" for n in range(20, 100))
    taught = make_data(corpus, {}, seed=0, real=(queries, qrels), train_qrels=train)
    assert {kind for _, _, kind in taught.split.train} == {"real"}
    unhidden = [row for row, doc_id in enumerate(taught.doc_ids) if taught.split.trainable[row]]
    assert all(taught.texts[row] == f"{rows[row]['title']} {rows[row]['text']}" for row in unhidden)
    train.write_text("t20\tgone\t1\n")
    with pytest.raises(InputError, match=r"train.tsv: no judgement above 0"):
        make_data(corpus, {}, seed=0, real=(queries, qrels), train_qrels=train)
    pairs = tmp_path / "pairs.jsonl"
    pairs.write_text("".join(json.dumps({"query": text(3), "pos": text(9)}) + "\n" for _ in range(60)))
    mixed = with_general(training, pairs, share=0.25, seed=0)
    assert mixed.shares == [0.75, 0.25]
    assert len(mixed) - len(training) == max(32, round(len(training) / 3))
    qrels.write_text("q0\tgone\t1\n")
    with pytest.raises(InputError, match="do the ids agree"):
        make_data(corpus, {}, seed=0, real=(queries, qrels))
