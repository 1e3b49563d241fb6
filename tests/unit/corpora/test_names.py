from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from neural_sparse.corpora.hub import read_hub_layout
from neural_sparse.corpora.names import BEIR_13, NANOBEIR, expand_names, load_collection, load_queries
from neural_sparse.errors import InputError

CORPUS = [{"_id": "1", "title": "T", "text": "one"}, {"_id": "2", "title": "", "text": "two"}]
QUERIES = [{"_id": "q", "title": "", "text": "which"}]


def parquet(path: Path, rows: list[dict]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows), path)


def beir_repositories(root: Path) -> tuple[Path, Path]:
    parquet(root / "texts" / "corpus" / "toy-corpus.parquet", CORPUS)
    parquet(root / "texts" / "queries" / "toy-queries.parquet", QUERIES)
    (root / "judged").mkdir()
    (root / "judged" / "test.tsv").write_text("query-id\tcorpus-id\tscore\nq\t1\t2\nq\t2\t-1\n")
    return root / "texts", root / "judged"


def test_a_beir_repository_in_parquet(tmp_path: Path) -> None:
    loaded = read_hub_layout("toy", *beir_repositories(tmp_path), "test")
    assert (loaded.doc_ids, loaded.texts) == (["1", "2"], ["T one", "two"])
    assert (loaded.queries, loaded.qrels) == ({"q": "which"}, {"q": {"1": 2, "2": 0}})


def test_an_older_beir_repository_in_compressed_lines(tmp_path: Path) -> None:
    texts, judged = beir_repositories(tmp_path / "new")
    old = tmp_path / "old"
    old.mkdir()
    for name, rows in (("corpus", CORPUS), ("queries", QUERIES)):
        with gzip.open(old / f"{name}.jsonl.gz", "wt", encoding="utf-8") as out:
            out.writelines(json.dumps(row) + "\n" for row in rows)
    assert read_hub_layout("toy", old, judged, "test") == read_hub_layout("toy", texts, judged, "test")


def test_a_nanobeir_repository_has_judgements_without_grades(tmp_path: Path) -> None:
    parquet(tmp_path / "corpus" / "train-00000-of-00001.parquet", [{"_id": "1", "text": "one"}])
    parquet(tmp_path / "queries" / "train-00000-of-00001.parquet", [{"_id": "q", "text": "which"}])
    parquet(tmp_path / "qrels" / "train-00000-of-00001.parquet", [{"query-id": "q", "corpus-id": "1"}])
    loaded = read_hub_layout("NanoToy", tmp_path, tmp_path, "train")
    assert (loaded.texts, loaded.qrels) == (["one"], {"q": {"1": 1}})


def test_a_download_cut_short_is_no_corpus(tmp_path: Path) -> None:
    _, judged = beir_repositories(tmp_path)
    parquet(tmp_path / "part" / "corpus" / "corpus-00000-of-00002.parquet", CORPUS)
    parquet(tmp_path / "part" / "queries" / "queries-00000-of-00001.parquet", QUERIES)
    with pytest.raises(InputError, match="holds no corpus"):
        read_hub_layout("toy", tmp_path / "part", judged, "test")


def test_a_lacking_split_names_those_there_are(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="split 'dev'; found: test"):
        read_hub_layout("toy", *beir_repositories(tmp_path), "dev")


def test_names_of_whole_benchmarks() -> None:
    assert len(BEIR_13) == len(NANOBEIR) == 13
    assert expand_names(["BEIR-13", "scifact", "mine"]) == [*BEIR_13, "mine"]
    with pytest.raises(InputError, match="13 collections"):
        load_collection("beir-13")


def test_a_folder_goes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    collection = read_hub_layout("toy", *beir_repositories(tmp_path), "test")
    collection.save(tmp_path / "scifact")
    monkeypatch.chdir(tmp_path)
    assert load_collection("scifact").texts == ["T one", "two"]


def test_unknown_names_say_what_is_known() -> None:
    with pytest.raises(InputError, match=r"did you mean .*scifact"):
        load_collection("scifcat")
    with pytest.raises(InputError, match="ir_datasets"):
        load_collection("irds:no-such-data-set")


def offline(code: str, home: Path) -> subprocess.CompletedProcess[str]:
    """Run code where the hub's cache is `home` and nothing can be downloaded."""
    environment = {**os.environ, "HF_HOME": str(home), "HF_HUB_OFFLINE": "1"}
    return subprocess.run(
        [sys.executable, "-c", code],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_the_hubs_cache_is_read_offline_and_its_lack_is_explained(tmp_path: Path) -> None:
    texts, judged = beir_repositories(tmp_path)
    for folder, repository in ((texts, "webis-touche2020"), (judged, "webis-touche2020-qrels")):
        cached = tmp_path / "home" / "hub" / f"datasets--BeIR--{repository}"
        (cached / "snapshots").mkdir(parents=True)
        (cached / "refs").mkdir()
        folder.rename(cached / "snapshots" / ("0" * 40))
        (cached / "refs" / "main").write_text("0" * 40)
    code = (
        "from neural_sparse.corpora.names import load_collection\n"
        "print(load_collection('touche-2020').qrels)\n"
        "load_collection('NanoNQ')"
    )
    done = offline(code, tmp_path / "home")
    assert done.stdout.strip() == "{'q': {'1': 2, '2': 0}}"
    assert "NanoNQ: the hub's data set zeta-alpha-ai/NanoNQ is not on this machine" in done.stderr


def test_ir_datasets(tmp_path: Path) -> None:
    ir_datasets = pytest.importorskip("ir_datasets", reason="needs the optional ir-datasets")
    from neural_sparse.corpora.ir_datasets import from_ir_dataset

    (tmp_path / "docs.tsv").write_text("1\tone\n2\ttwo\n")
    (tmp_path / "queries.tsv").write_text("q\twhich\n")
    (tmp_path / "qrels").write_text("q 0 1 1\n")
    dataset = ir_datasets.create_dataset(
        docs_tsv=str(tmp_path / "docs.tsv"),
        queries_tsv=str(tmp_path / "queries.tsv"),
        qrels_trec=str(tmp_path / "qrels"),
    )
    loaded = from_ir_dataset(dataset, "toy")
    assert (loaded.texts, loaded.queries, loaded.qrels) == (["one", "two"], {"q": "which"}, {"q": {"1": 1}})


def test_queries_are_loaded_without_the_documents(tmp_path: Path) -> None:
    (tmp_path / "qrels").mkdir()
    (tmp_path / "queries.jsonl").write_text('{"_id": 1, "text": "one"}\n{"_id": "2", "text": "two"}\n')
    (tmp_path / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\n1\td1\t1\n")
    assert load_queries(str(tmp_path)) == {"1": "one"}
    with pytest.raises(InputError, match=r"lacks qrels/dev.tsv .*splits found: test"):
        load_queries(str(tmp_path), "dev")


def test_queries_of_beir_from_the_hub_s_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    for name in ("webis-touche2020", "webis-touche2020-qrels"):
        folder = tmp_path / f"datasets--BeIR--{name}"
        (folder / "refs").mkdir(parents=True)
        (folder / "refs" / "main").write_text("a" * 40)
    texts = tmp_path / "datasets--BeIR--webis-touche2020" / "snapshots" / ("a" * 40) / "queries"
    texts.mkdir(parents=True)
    rows = [{"_id": "1", "title": "", "text": "one"}, {"_id": "2", "title": "", "text": "two"}]
    pq.write_table(pa.Table.from_pylist(rows), texts / "queries-00000-of-00001.parquet")
    judged = tmp_path / "datasets--BeIR--webis-touche2020-qrels" / "snapshots" / ("a" * 40)
    judged.mkdir(parents=True)
    (judged / "test.tsv").write_text("2\td1\t1\n")
    assert load_queries("touche-2020") == {"2": "two"}
