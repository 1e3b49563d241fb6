"""From sources in their own layouts to a prepared folder."""

from __future__ import annotations

import errno
import gzip
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from filelock import FileLock

from neural_sparse.corpora.collection import Collection
from neural_sparse.data import prepare as module
from neural_sparse.data.cleaning import Cleaning
from neural_sparse.data.prepare import PrepareOptions, prepare
from neural_sparse.data.prepared import PreparedSet, statistics
from neural_sparse.errors import InputError
from neural_sparse.evaluation.leakage import find_leakage, read_training_texts
from neural_sparse.io.files import sha256_file

Make = Callable[[str, Any], Path]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """Writes a file: rows as JSON lines or Parquet, lists of cells as TSV, text as it is."""

    def write(name: str, rows: Any) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".parquet":
            pq.write_table(pa.Table.from_pylist(rows), path)
        elif isinstance(rows, str):
            path.write_text(rows)
        elif ".tsv" in name:
            path.write_text("".join("\t".join(cells) + "\n" for cells in rows))
        else:
            lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
            path.write_bytes(gzip.compress(lines.encode()) if name.endswith(".gz") else lines.encode())
        return path

    return write


def examples(data: PreparedSet) -> list[tuple[str, ...]]:
    """Query, relevant document and negatives, as texts."""
    return [
        (
            data.queries[data.query_rows[at]],
            data.documents[data.positives[at]],
            *(data.documents[row] for row in data.negatives[at]),
        )
        for at in range(len(data))
    ]


def sums(folder: Path) -> dict[str, str]:
    return {path.name: sha256_file(path) for path in sorted(folder.iterdir())}


def run(tmp_path: Path, *sources: Path, **options: Any) -> PreparedSet:
    return prepare([str(source) for source in sources], tmp_path / "out", PrepareOptions(**options))


class TestLayouts:
    def test_pairs_gzipped_as_on_the_hub(self, tmp_path: Path, make: Make) -> None:
        path = make("gooaq_pairs.jsonl.gz", [["what is x", "x is this"], ["what is y", "y is that"]])
        data = run(tmp_path, path)
        assert examples(data) == [("what is x", "x is this"), ("what is y", "y is that")]
        assert data.manifest["sources"][0]["name"] == "gooaq_pairs"

    def test_sets_give_a_pair_each(self, tmp_path: Path, make: Make) -> None:
        path = make(
            "WikiAnswers.jsonl.gz", [{"set": ["a a", "b b", "c c"]}, {"set": ["d"]}, {"set": ["e", "f"]}]
        )
        data = run(tmp_path, path)
        assert len(data) == 2
        assert data.manifest["sources"][0]["dropped"] == {"too_few_texts": 1}

    def test_parquet_folder(self, tmp_path: Path, make: Make) -> None:
        make(
            "hub/train-00000-of-00002.parquet",
            [{"anchor": "q one", "positive": "d one", "negative": "n one"}],
        )
        make(
            "hub/train-00001-of-00002.parquet",
            [{"anchor": "q two", "positive": "d two", "negative": "n one"}],
        )
        data = run(tmp_path, tmp_path / "hub")
        assert examples(data) == [("q one", "d one", "n one"), ("q two", "d two", "n one")]
        assert len(data.documents) == 3  # the shared negative once

    def test_beir_keeps_every_document(self, tmp_path: Path, make: Make) -> None:
        corpus = [{"_id": f"d{n}", "title": "T" * (n == 0), "text": f"text {n}"} for n in range(4)]
        make("beir/corpus.jsonl", corpus)
        make("beir/queries.jsonl", [{"_id": "q1", "text": "ask one"}, {"_id": "q2", "text": "ask two"}])
        judged = [["query-id", "corpus-id", "score"], ["q1", "d2", "1"], ["q1", "d0", "2"], ["q2", "d1", "0"]]
        make("beir/qrels/train.tsv", [*judged, ["q9", "d1", "1"], ["q2", "d9", "1"]])
        data = run(tmp_path, tmp_path / "beir")
        assert examples(data) == [("ask one", "text 2"), ("ask one", "T text 0")]
        assert list(data.documents) == ["T text 0", "text 1", "text 2", "text 3"]
        (source,) = data.manifest["sources"]
        assert (source["read"], source["documents"], source["dropped"]) == (4, 4, {"unknown_id": 2})

    def test_beir_without_the_split_says_so_and_makes_queries(
        self, tmp_path: Path, make: Make, caplog: pytest.LogCaptureFixture
    ) -> None:
        make("beir/corpus.jsonl", [{"_id": "d", "title": "some title", "text": "some body"}])
        make("beir/queries.jsonl", [{"_id": "q", "text": "ask one"}])
        make("beir/qrels/dev.tsv", [["q", "d", "1"]])
        assert examples(run(tmp_path, tmp_path / "beir")) == [("some title", "some body")]
        assert "no qrels/train.tsv (there is dev): queries are made" in caplog.text
        data = prepare([str(tmp_path / "beir")], tmp_path / "dev", PrepareOptions(split="dev"))
        assert examples(data) == [("ask one", "some title some body")]

    def test_beir_in_parquet(self, tmp_path: Path, make: Make) -> None:
        make("hub/corpus/c-00000-of-00001.parquet", [{"_id": "d1", "title": "", "text": "one doc"}])
        make("hub/queries/q-00000-of-00001.parquet", [{"_id": "q1", "title": "", "text": "ask one"}])
        make("hub/qrels/train.tsv", [["q1", "d1", "1"]])
        assert examples(run(tmp_path, tmp_path / "hub")) == [("ask one", "one doc")]

    def test_msmarco_with_judgements(self, tmp_path: Path, make: Make) -> None:
        make("ms/collection.tsv", [["0", "passage zero"], ["1", "passage one"], ["2", "passage two"]])
        make("ms/queries.train.tsv", [["7", "ask seven"], ["8", "ask eight"]])
        make("ms/qrels.train.tsv", [["7", "0", "2", "1"], ["8", "0", "0", "1"]])
        data = run(tmp_path, tmp_path / "ms")
        assert examples(data) == [("ask seven", "passage two"), ("ask eight", "passage zero")]
        assert len(data.documents) == 3

    def test_msmarco_with_triples(self, tmp_path: Path, make: Make) -> None:
        make("ms/collection.tsv", [["0", "passage zero"], ["1", "passage one"], ["2", "passage two"]])
        make("ms/queries.train.tsv", [["7", "ask seven"]])
        make("ms/qidpidtriples.train.full.2.tsv", [["7", "2", "0"], ["7", "1", "2"]])
        data = run(tmp_path, tmp_path / "ms")
        # A passage that is relevant to the query elsewhere is no negative.
        assert examples(data) == [("ask seven", "passage two", "passage zero"), ("ask seven", "passage one")]
        assert data.manifest["sources"][0]["negatives_dropped"] == 1

    def test_scores(self, tmp_path: Path, make: Make) -> None:
        rows = [
            {"query": "q one", "docs": ["a doc", "b doc", "c doc"], "scores": [1, 3, None]},
            {"query": "q two", "pos": "d two"},
            {"query": "q one", "pos": "a doc"},
        ]
        data = run(tmp_path, make("scored.jsonl", rows))
        assert examples(data) == [("q one", "b doc", "c doc"), ("q two", "d two"), ("q one", "a doc")]
        np.testing.assert_array_equal(data.scores[0], np.array([3, np.nan], np.float32))
        assert [len(data.scores[at]) for at in range(3)] == [2, 0, 0]
        assert statistics(data)["with_scores"] == 1

    def test_a_folder_of_documents(self, tmp_path: Path, make: Make) -> None:
        make("docs/a.md", "# Sorting long lists\n\nUse sorted.\n")
        make("docs/sub/b.txt", "The index is built only once. It is then read by every worker of it.\n")
        make("docs/.hidden/c.md", "# Not seen at all\n\nno\n")
        assert examples(run(tmp_path, tmp_path / "docs")) == [
            ("Sorting long lists", "Use sorted."),
            ("The index is built only once.", "It is then read by every worker of it."),
        ]

    def test_a_corpus(self, tmp_path: Path, make: Make) -> None:
        path = make(
            "corpus.jsonl", [{"_id": "1", "title": "a title", "text": "its body"}, {"_id": "2", "text": "no"}]
        )
        data = run(tmp_path, path)
        assert examples(data) == [("a title", "its body")]
        assert list(data.documents) == ["its body", "no"]

    def test_own_columns(self, tmp_path: Path, make: Make) -> None:
        path = make("x.tsv", [["title", "text", "label"], ["frage eins", "antwort eins", "x"]])
        with pytest.raises(InputError, match="no column for a query; found: title, text, label"):
            run(tmp_path, path, fields={"query": "frage"})
        data = run(tmp_path, path, fields={"query": "title", "positive": "text"})
        assert examples(data) == [("frage eins", "antwort eins")]

    @pytest.mark.parametrize(
        ("names", "message"),
        [
            (["a.xls", "b.bin"], r"no training data found \(there is a.xls, b.bin\); expected corpus"),
            ([], r"there is nothing"),
            (["corpus.jsonl"], r"corpus.jsonl, line 1: lacks 'text'"),
        ],
    )
    def test_a_folder_of_something_else(self, tmp_path: Path, names: list[str], message: str) -> None:
        (tmp_path / "folder").mkdir()
        for name in names:
            (tmp_path / "folder" / name).write_text("{}\n")
        with pytest.raises(InputError, match=message):
            run(tmp_path, tmp_path / "folder")


class TestDuplicates:
    def test_across_sources_the_first_stays(self, tmp_path: Path, make: Make) -> None:
        first = make("a.jsonl", [["what is x", "x is a letter"], ["What is X?", "X is a letter."]])
        second = make("b.jsonl", [["what is x", "x is a letter"], ["what is x", "another answer"]])
        data = run(tmp_path, first, second)
        assert examples(data) == [("what is x", "x is a letter"), ("what is x", "another answer")]
        assert data.sources.tolist() == [0, 1]
        assert [one["dropped"] for one in data.manifest["sources"]] == [{"duplicate": 1}, {"duplicate": 1}]
        assert list(data.queries) == ["what is x"]  # stored once

    def test_nearly_the_same_query_and_document(self, tmp_path: Path, make: Make) -> None:
        text = " ".join(f"word{n}" for n in range(80))
        query = "how does one sort a long list of names"
        rows = [
            [query, text],
            [query + " ?", text + " end"],  # both nearly the same
            ["a completely different question", text + " end"],  # only the document
            [query, "a completely different answer"],  # only the query
        ]
        path = make("a.jsonl", rows)
        data = run(tmp_path, path)
        assert data.manifest["sources"][0]["dropped"] == {"near_duplicate": 1}
        assert [pair[0] for pair in examples(data)] == [query, "a completely different question", query]
        kept = prepare([str(path)], tmp_path / "all", PrepareOptions(cleaning=Cleaning(near_duplicates=None)))
        assert len(kept) == 4

    def test_test_queries_are_kept_out(self, tmp_path: Path, make: Make) -> None:
        make("test/corpus.jsonl", [{"_id": "d", "text": "the answer that is wanted"}])
        make("test/queries.jsonl", [{"_id": "q", "text": "How is this done?"}])
        make("test/qrels/test.tsv", [["q", "d", "1"]])
        rows = [["how is this done", "like so"], ["other thing", "the ANSWER that is wanted"], ["x y", "z"]]
        path = make("a.jsonl", rows)
        tests = (str(tmp_path / "test"),)
        data = run(tmp_path, path, cleaning=Cleaning(decontaminate=tests))
        assert [pair[0] for pair in examples(data)] == ["other thing", "x y"]
        cleaning = Cleaning(decontaminate=tests, decontaminate_documents=True)
        data = prepare([str(path)], tmp_path / "both", PrepareOptions(cleaning=cleaning))
        assert data.manifest["sources"][0]["dropped"] == {"test_query": 1, "test_document": 1}


def test_the_leakage_check_finds_nothing_in_what_was_decontaminated(tmp_path: Path) -> None:
    vocabulary = [f"w{number}" for number in range(40)]
    rng = np.random.default_rng(0)

    def text(words: int) -> str:
        return " ".join(rng.choice(vocabulary, words))

    queries = [text(int(rng.integers(1, 9))) for _ in range(40)]
    documents = [text(20) for _ in range(40)]
    collection = Collection.of(
        {str(at): document for at, document in enumerate(documents)},
        {str(at): query for at, query in enumerate(queries)},
        {str(at): {str(at): 1} for at in range(40)},
    )
    collection.save(tmp_path / "test")
    pairs = [[text(6), text(15)] for _ in range(300)]
    pairs += [[rng.choice(queries), text(15)] for _ in range(30)] + [
        [text(5), rng.choice(documents)] for _ in range(30)
    ]
    pairs += [[text(4), f"{text(4)} {rng.choice(queries)} {text(4)}"] for _ in range(30)]
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(list(map(str, pair))) + "\n" for pair in pairs))
    cleaning = Cleaning(decontaminate=(str(tmp_path / "test"),), decontaminate_documents=True)
    data = run(tmp_path, tmp_path / "pairs.jsonl", cleaning=cleaning)
    dirty = find_leakage(collection, (one for pair in pairs for one in map(str, pair)))
    assert dirty.exact_queries > 10
    assert dirty.near_queries > 3
    assert dirty.exact_documents > 10
    clean = find_leakage(collection, read_training_texts(tmp_path / "out"))
    assert 250 < len(data) < 340
    assert (clean.exact_queries, clean.near_queries, clean.exact_documents, clean.near_documents) == (
        0,
        0,
        0,
        0,
    )


def _interrupted(*_: Any, **__: Any) -> None:
    raise KeyboardInterrupt


def _no_space(*_: Any, **__: Any) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def many(count: int, start: int = 0) -> list[list[str]]:
    return [[f"question number {n}", f"answer {n} to question {n}"] for n in range(start, start + count)]


class TestSampling:
    def test_exactly_as_many_as_wanted_in_order_and_by_the_seed(self, tmp_path: Path, make: Make) -> None:
        path = make("a.jsonl", many(500))
        cleaning = Cleaning(near_duplicates=None)
        one = run(tmp_path, path, samples=(50,), cleaning=cleaning)
        numbers = [int(query.split()[-1]) for query, _ in examples(one)]
        assert len(numbers) == 50
        assert numbers == sorted(numbers)
        assert one.manifest["sources"][0]["dropped"] == {"not_sampled": 450}
        options = PrepareOptions(samples=(50,), seed=7, cleaning=cleaning)
        other = prepare([str(path)], tmp_path / "other", options)
        assert examples(other) != examples(one)

    def test_far_more_than_wanted_are_not_all_read(self, tmp_path: Path, make: Make) -> None:
        path = make("a.jsonl", many(9000))
        data = run(tmp_path, path, samples=(100,), cleaning=Cleaning(near_duplicates=None))
        (source,) = data.manifest["sources"]
        assert (len(data), source["read"], source["dropped"]) == (100, 9000, {"not_sampled": 8900})

    def test_one_number_per_source_or_one_for_all(self, tmp_path: Path, make: Make) -> None:
        paths = [make("a.jsonl", many(30)), make("b.jsonl", many(30, 100))]
        options: dict[str, Any] = {"cleaning": Cleaning(near_duplicates=None)}
        assert np.bincount(run(tmp_path, *paths, samples=(5, 0), **options).sources).tolist() == [5, 30]
        with pytest.raises(InputError, match="3 samples for 2 sources"):
            run(tmp_path, *paths, samples=(1, 2, 3), **options)


class TestOutput:
    def test_parts_change_nothing_but_the_settings(self, tmp_path: Path, make: Make) -> None:
        paths = [str(make("a.jsonl", many(60))), str(make("b.tsv", many(40, 30)))]
        outputs = [tmp_path / "one", tmp_path / "many"]
        for output, rows in zip(outputs, (100, 7), strict=True):
            prepare(paths, output, PrepareOptions(rows_per_part=rows))
        assert sums(outputs[0]).keys() == sums(outputs[1]).keys()
        one, other = map(PreparedSet.load, outputs)
        assert examples(one) == examples(other)

    @pytest.mark.integration  # processes
    def test_workers_change_nothing(self, tmp_path: Path, make: Make) -> None:
        paths = [str(make("a.jsonl", many(60))), str(make("b.tsv", many(40, 30)))]
        for workers in (1, 2):
            options = PrepareOptions(workers=workers, rows_per_part=7)
            prepare(paths, tmp_path / str(workers), options)
        assert sums(tmp_path / "1") == sums(tmp_path / "2")

    def test_interrupted_anywhere_it_ends_with_the_same_bytes(
        self, tmp_path: Path, make: Make, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path = str(make("a.jsonl", many(60)))
        options = PrepareOptions(rows_per_part=7)
        prepare([path], tmp_path / "whole", options)
        write = module.Parts.write
        made: list[int] = []

        def stopping(self: Any, number: int) -> Any:
            if number in stop_at:
                raise KeyboardInterrupt
            made.append(number)
            return write(self, number)

        monkeypatch.setattr(module.Parts, "write", stopping)
        for stop_at in ({0}, {4}, {8}, set()):
            if stop_at:
                with pytest.raises(KeyboardInterrupt):
                    prepare([path], tmp_path / "out", options)
            else:
                prepare([path], tmp_path / "out", options)
        assert made == list(range(9))  # nothing was made twice
        assert sums(tmp_path / "out") == sums(tmp_path / "whole")
        assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]

    def test_parts_of_other_settings_are_refused_until_overwritten(
        self, tmp_path: Path, make: Make, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path = make("a.jsonl", many(5))
        with monkeypatch.context() as patch:
            patch.setattr(module, "_assemble", _interrupted)
            with pytest.raises(KeyboardInterrupt):
                run(tmp_path, path)
        with pytest.raises(InputError, match=r"parts of other work \(seed: 42 -> 3\).* or add --overwrite"):
            run(tmp_path, path, seed=3)
        data = prepare([str(path)], tmp_path / "out", PrepareOptions(seed=3), overwrite=True)
        assert data.manifest["settings"]["seed"] == 3

    def test_other_settings_are_refused_until_overwritten(self, tmp_path: Path, make: Make) -> None:
        path = make("a.jsonl", many(5))
        run(tmp_path, path)
        run(tmp_path, path)  # the same again is no work
        with pytest.raises(InputError, match="other data or other settings"):
            run(tmp_path, path, seed=3)
        prepare([str(path)], tmp_path / "out", PrepareOptions(seed=3), overwrite=True)
        with pytest.raises(InputError, match="holds something else"):
            prepare([str(path)], tmp_path, PrepareOptions())
        with pytest.raises(InputError, match="is a file"):
            prepare([str(path)], path, PrepareOptions())

    def test_weights_are_in_the_manifest(self, tmp_path: Path, make: Make) -> None:
        paths = [make("a.jsonl", many(30)), make("b.jsonl", many(10, 100))]
        data = run(tmp_path, *paths, weights=(1, 3), cleaning=Cleaning(near_duplicates=None))
        assert [one["share"] for one in statistics(data)["sources"]] == [0.25, 0.75]
        with pytest.raises(InputError, match="3 weights for 2 sources"):
            run(tmp_path, *paths, weights=(1, 2, 3))

    def test_nothing_left(self, tmp_path: Path, make: Make) -> None:
        with pytest.raises(InputError, match="nothing is left: of 1 examples were dropped 1 empty"):
            run(tmp_path, make("a.jsonl", [["?", "!"]]))

    def test_a_disk_that_is_too_small(
        self, tmp_path: Path, make: Make, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        usage = module.shutil.disk_usage(tmp_path)
        monkeypatch.setattr(module.shutil, "disk_usage", lambda _: usage._replace(free=10))
        with pytest.raises(InputError, match=r"preparing a needs about .*B at .*, but 10 B are free"):
            run(tmp_path, make("a.jsonl", many(5)))

    def test_one_process_at_a_time(self, tmp_path: Path, make: Make) -> None:
        path = make("a.jsonl", many(5))
        with FileLock(tmp_path / ".out.work.lock"), pytest.raises(InputError, match="another process"):
            run(tmp_path, path)
        assert len(run(tmp_path, path)) == 5

    def test_a_disk_that_fills_up(self, tmp_path: Path, make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
        path = make("a.jsonl", many(5))
        with monkeypatch.context() as patch:
            patch.setattr(module, "write_json", _no_space)
            with pytest.raises(
                InputError, match="No space left on device; make room, and the same command goes on"
            ):
                run(tmp_path, path)
        assert len(run(tmp_path, path)) == 5

    def test_a_folder_that_cannot_be_written(self, tmp_path: Path, make: Make) -> None:
        path = make("a.jsonl", many(5))
        with pytest.raises(InputError, match="cannot write"):
            prepare([str(path)], path / "out")

    def test_damage_is_found(self, tmp_path: Path, make: Make) -> None:
        data = run(tmp_path, make("a.jsonl", many(5)))
        file = tmp_path / "out" / "documents.arrow"
        content = bytearray(file.read_bytes())
        content[len(content) // 2] ^= 1
        file.write_bytes(content)
        with pytest.raises(InputError, match=r"documents.arrow is damaged"):
            data.verify()
        file.write_bytes(content[:-8])
        with pytest.raises(InputError, match=r"documents.arrow is truncated"):
            PreparedSet.load(tmp_path / "out")

    def test_every_example_is_counted(self, tmp_path: Path, make: Make) -> None:
        rows = many(20) + many(20) + [["?", "x"], ["same", "Same"], ["kurze frage", "das ist nicht englisch"]]
        data = run(tmp_path, make("a.jsonl", rows), cleaning=Cleaning(languages=("en",)), samples=(5,))
        (source,) = data.manifest["sources"]
        assert source["read"] == len(rows) == source["examples"] + sum(source["dropped"].values())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"weights": (0.0,)}, "weights must be above 0"),
        ({"samples": (-1,)}, "samples must be positive"),
        ({"fields": {"pos": "x"}}, "unknown pos; known are query"),
        ({"queries_from": "headings"}, "choose auto, title, heading"),
        ({"workers": 0}, "at least 1"),
    ],
)
def test_options_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        PrepareOptions(**options)


def test_columns_of_tsv_by_unusual_names(tmp_path: Path) -> None:
    path = tmp_path / "a.tsv"
    path.write_text("antwort\tfrage\nit is y\twhat is x\n")
    fields = {"query": "frage", "positive": "antwort"}
    data = prepare([str(path)], tmp_path / "out", PrepareOptions(fields=fields))
    assert (list(data.queries), list(data.documents)) == (["what is x"], ["it is y"])
    with pytest.raises(
        InputError, match=r"a.tsv: --fields names columns, but the first line has none of ask"
    ):
        prepare([str(path)], tmp_path / "other", PrepareOptions(fields={"query": "ask"}))


def test_a_header_is_no_example_that_was_left_out(tmp_path: Path) -> None:
    rows = "".join(f"what is {number}\tit is {number * number}\n" for number in range(3000))
    (tmp_path / "a.tsv").write_text(f"query\tpos\n{rows}")
    for seed in range(3):  # the header is drawn with some of them
        options = PrepareOptions(samples=(10,), seed=seed)
        (source,) = prepare([str(tmp_path / "a.tsv")], tmp_path / f"out-{seed}", options).manifest["sources"]
        assert (source["read"], source["examples"]) == (3000, 10)
