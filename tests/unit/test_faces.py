"""Every package says what is public, and has it; showing a name imports no more than that name needs."""

from __future__ import annotations

import importlib
import pkgutil
import subprocess
import sys

import pytest

import neural_sparse

PACKAGES = ["neural_sparse"] + [
    f"neural_sparse.{module.name}"
    for module in pkgutil.iter_modules(neural_sparse.__path__)
    if module.ispkg and module.name != "cli"
]


def lazy_packages() -> list[str]:
    found = [name for name in PACKAGES if "lazy" in vars(importlib.import_module(name))]
    assert len(found) > 10
    return found


@pytest.mark.parametrize("name", PACKAGES)
def test_what_is_public_is_there(name: str) -> None:
    package = importlib.import_module(name)
    assert package.__all__, name
    assert package.__doc__, name
    for public in package.__all__:
        assert getattr(package, public) is not None
    assert set(package.__all__) <= set(dir(package))
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        package.nothing  # noqa: B018


def test_a_name_is_no_module() -> None:
    """`from package import name` would give one or the other, whichever was imported first."""
    for name in lazy_packages():
        package = importlib.import_module(name)
        modules = {module.name for module in pkgutil.iter_modules(package.__path__)}
        assert not modules & set(package.__all__), name


def test_faces_are_light() -> None:
    code = f"import sys, {', '.join(lazy_packages())}; print('torch' in sys.modules, 'numpy' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]


@pytest.mark.parametrize(
    ("old", "new"), [("evaluation.sources", "corpora.names"), ("evaluation.report", "report.comparison")]
)
def test_documented_paths_forward_for_one_release(old: str, new: str) -> None:
    sys.modules.pop(f"neural_sparse.{old}", None)
    with pytest.warns(DeprecationWarning, match=f"has moved to neural_sparse.{new}"):
        found = importlib.import_module(f"neural_sparse.{old}")
    assert found is importlib.import_module(f"neural_sparse.{new}")
