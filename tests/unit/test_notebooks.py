"""Notebooks as they are stored, and the versions that they ask for."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "notebooks" / "opensearch-neural-v2"
NOTEBOOKS = sorted(ROOT.glob("notebooks/**/*.ipynb"))


def test_there_are_some() -> None:
    assert FOLDER / "training_guide_v2.ipynb" in NOTEBOOKS


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_stored_without_outputs(path: Path) -> None:
    for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
        if cell["cell_type"] == "code":
            assert not cell["outputs"], cell["id"]
            assert cell["execution_count"] is None, cell["id"]


def test_steps_are_the_guides() -> None:
    cells = json.loads((FOLDER / "training_guide_v2.ipynb").read_text(encoding="utf-8"))["cells"]
    text = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")
    headings = re.findall(r"^## (.+)$", text, re.MULTILINE)
    assert [heading.split(":")[0] for heading in headings[:7]] == [f"Step {step}" for step in range(1, 8)]
    assert headings[7:] == [
        "Evaluation and benchmarking", "Hyperparameters", "Memory", "Troubleshooting", "Next steps", "Citation",
    ]  # fmt: skip


def test_requirements_are_the_projects() -> None:
    """All that the package and its quickstart extra need, at the pinned versions, which pyproject.toml allows."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    lines = (FOLDER / "requirements_v2.txt").read_text(encoding="utf-8").splitlines()
    asked = {}
    for line in lines:
        if line and not line.startswith(("#", "--constraint", ".[quickstart]")):
            requirement = Requirement(line)
            asked[canonicalize_name(requirement.name)] = str(requirement.specifier).removeprefix("==")
    assert ".[quickstart]" in lines
    assert "--constraint ../../constraints.txt" in lines
    pinned = {}
    for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").split():
        name, _, version = line.partition("==")
        pinned[canonicalize_name(name)] = version
    assert asked == {name: pinned[name] for name in asked}
    extras = project["optional-dependencies"]
    needed = [Requirement(line) for line in (*project["dependencies"], *extras["quickstart"])]
    tools = {"accelerate", "ipykernel", "nbclient"}  # accelerate: the guide names it
    assert set(asked) == {canonicalize_name(one.name) for one in needed} | tools
    for requirement in needed:
        assert requirement.specifier.contains(asked[canonicalize_name(requirement.name)]), requirement
