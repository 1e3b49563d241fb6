"""The hooks, in a repository with this one's settings."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.integration
ROOT = Path(__file__).parents[2]
GOOD = '"""A module."""\n\nVALUE = 1\n'


def test_hooks_refuse_what_make_lint_refuses(tmp_path: Path) -> None:
    if shutil.which("git") is None:
        pytest.skip("needs git")
    for name in (".pre-commit-config.yaml", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path / name)
    (tmp_path / "src" / "neural_sparse").mkdir(parents=True)
    (tmp_path / "src" / "neural_sparse" / "__init__.py").write_text(GOOD)
    (tmp_path / ".venv").symlink_to(Path(sys.prefix))
    environment = {**os.environ, "PRE_COMMIT_HOME": str(tmp_path / "cache")}

    def run(*command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)

    def hooks() -> subprocess.CompletedProcess[str]:
        assert run("git", "add", "src", "pyproject.toml", ".pre-commit-config.yaml").returncode == 0
        return run(".venv/bin/pre-commit", "run", "--all-files", "--verbose")

    assert run("git", "init", "--quiet").returncode == 0
    fine = hooks()
    assert fine.returncode == 0, fine.stdout + fine.stderr
    for name in ("ruff check", "ruff format"):
        assert name in fine.stdout
    module = tmp_path / "src" / "neural_sparse" / "module.py"
    module.write_text(GOOD + "import os\n")
    refused = hooks()
    assert refused.returncode == 1
    assert "F401" in refused.stdout
    module.write_text(GOOD.replace(" = ", "="))
    assert hooks().returncode == 1
    assert module.read_text() == GOOD  # what can be put right is, for a second `git add`
