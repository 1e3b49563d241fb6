"""Examples in docstrings: each runs, and the doors of the packages have some.

`pytest --doctest-modules` would import all of src/ in every tier, and passes over functions that a decorator of
another module wraps. Here only modules that hold an example are imported, and none of their examples is lost.
"""

from __future__ import annotations

import doctest
import importlib
import inspect
from pathlib import Path

import pytest

import neural_sparse

SOURCES = Path(neural_sparse.__file__).parent
MARK = ">>> "
FILES = [file for file in sorted(SOURCES.rglob("*.py")) if MARK in file.read_text(encoding="utf-8")]
# What a newcomer calls first; each shows itself.
ENTRIES = {
    "neural_sparse": ("BM25Index", "IDFAwareLoss", "SparseIndex", "read_recipe"),
    "neural_sparse.evaluation": ("evaluate_run", "flops_metric"),
    "neural_sparse.idf": ("idf_from_counts",),
    "neural_sparse.mining": ("hard_negatives", "union_by_rank"),
    "neural_sparse.opensearch": ("neural_sparse_query", "rank_feature_query", "stored"),
    "neural_sparse.teachers": ("combine", "min_max"),
}


def examples(file: Path) -> list[doctest.DocTest]:
    name = ".".join(("neural_sparse", *file.relative_to(SOURCES).with_suffix("").parts))
    module = importlib.import_module(name.removesuffix(".__init__"))
    finder = doctest.DocTestFinder(exclude_empty=True)
    found = finder.find(module, module.__name__, globs={}) if MARK in (module.__doc__ or "") else []
    for member in vars(module).values():
        if getattr(member, "__module__", None) == module.__name__ and callable(member):
            found += finder.find(member, f"{name}.{member.__name__}", module, dict(vars(module)))
    return [test for test in found if test.examples]


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.relative_to(SOURCES).as_posix())
def test_examples(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    said: list[str] = []
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS, verbose=False)
    found = examples(file)
    for test in found:
        runner.run(test, out=said.append, clear_globs=False)
    assert not runner.failures, "".join(said)
    written = sum(line.lstrip().startswith(MARK) for line in file.read_text(encoding="utf-8").splitlines())
    assert sum(len(test.examples) for test in found) == written


@pytest.mark.parametrize("package", ENTRIES)
def test_doors_have_examples(package: str) -> None:
    module = importlib.import_module(package)
    for name in ENTRIES[package]:
        assert MARK in (inspect.getdoc(getattr(module, name)) or ""), name
