"""The hooks of .pre-commit-config.yaml, in a small repository."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.integration
CONFIG = Path(__file__).parents[2] / ".pre-commit-config.yaml"
GOOD = '"""A module."""\n\nVALUE = 1\n'
PROJECT = """
[tool.importlinter]
root_package = "house"

[[tool.importlinter.contracts]]
name = "floors"
type = "layers"
layers = ["house.upper", "house.lower"]
"""


def test_hooks_refuse_what_make_lint_refuses(tmp_path: Path) -> None:
    if shutil.which("git") is None:
        pytest.skip("needs git")
    shutil.copy(CONFIG, tmp_path / CONFIG.name)
    (tmp_path / "pyproject.toml").write_text(PROJECT)
    (tmp_path / ".gitignore").write_text("/.*\n/cache\n/src/house/__pycache__\n")
    (tmp_path / ".venv").symlink_to(Path(sys.prefix))
    package = tmp_path / "src" / "house"
    package.mkdir(parents=True)
    for name in ("__init__", "upper", "lower"):
        (package / f"{name}.py").write_text(GOOD)
    environment = {
        **os.environ,
        "PRE_COMMIT_HOME": str(tmp_path / "cache"),
        "PYTHONPATH": str(tmp_path / "src"),  # an editable installation does the same
    }

    def run(*command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)

    def hooks() -> tuple[int, str]:
        assert run("git", "add", "--all").returncode == 0
        done = run(".venv/bin/pre-commit", "run", "--all-files", "--verbose", "--config", CONFIG.name)
        return done.returncode, done.stdout + done.stderr

    assert run("git", "init", "--quiet").returncode == 0
    status, said = hooks()
    assert status == 0, said
    assert said.count("Passed") == 3
    for content, reason in (
        (GOOD + "import os\n", "F401"),
        (GOOD.replace(" = ", "="), "files were modified"),
        (
            GOOD + "\nfrom house import upper\n\nprint(upper)\n",
            "house.lower is not allowed to import house.upper",
        ),
    ):
        (package / "lower.py").write_text(content)
        status, said = hooks()
        assert status == 1
        assert reason in said
