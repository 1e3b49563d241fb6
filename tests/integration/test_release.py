"""`make release` in a repository of its own, and what it builds in an environment without torch."""

from __future__ import annotations

import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.requirements import Requirement

pytestmark = pytest.mark.integration
ROOT = Path(__file__).parents[2]
# All that `--help` and `recipes` may need; torch and its family are 3 GB.
LIGHT = ("typer", "rich", "pyyaml")


def run(*command: str | Path, cwd: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*map(str, command)], cwd=cwd, env={**os.environ, **variables}, capture_output=True, text=True
    )


def git(repository: Path, *arguments: str) -> str:
    identity = ("-c", "user.name=test", "-c", "user.email=test@localhost")
    done = run("git", *identity, *arguments, cwd=repository)
    assert done.returncode == 0, done.stderr
    return done.stdout


def release(repository: Path) -> subprocess.CompletedProcess[str]:
    return run(sys.executable, ".ci/release.py", cwd=repository)


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tracked files of this tree, as they are, in a new repository."""
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        pytest.skip("needs git and a checkout")
    folder = tmp_path_factory.mktemp("repository")
    for name in git(ROOT, "ls-files", "--cached", "--others", "--exclude-standard").splitlines():
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    git(folder, "init", "--quiet")
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--message", "all")
    return folder


@pytest.fixture(scope="module")
def version(repository: Path) -> str:
    found = re.search(r'^version = "(.+)"$', (repository / "pyproject.toml").read_text(), re.MULTILINE)
    assert found
    return found[1]


@pytest.fixture(scope="module")
def refusals(repository: Path, version: str) -> list[str]:
    """What `make release` says of a tree that is not ready, in turn; after the last it is."""
    said = []
    log = repository / "CHANGELOG.md"
    log.write_text("# Changelog\n\n## Unreleased\n\n- One thing.\n")
    (repository / f"src/neural_sparse/_stale_{os.getpid()}.py").write_text("")
    said.append(release(repository))
    (repository / f"src/neural_sparse/_stale_{os.getpid()}.py").unlink()
    git(repository, "commit", "--quiet", "--all", "--message", "changelog")
    git(repository, "tag", f"v{version}")
    said.append(release(repository))
    git(repository, "tag", "--delete", f"v{version}")
    log.write_text(f"# Changelog\n\n## Unreleased\n\n## {version} (a day)\n\n- One thing.\n")
    git(repository, "commit", "--quiet", "--all", "--message", "changelog")
    assert not (repository / "dist").exists()
    assert [done.returncode for done in said] == [1, 1]
    return [done.stderr for done in said]


def test_what_is_no_release_is_refused_before_it_is_built(refusals: list[str], version: str) -> None:
    dirty, tagged = refusals
    for fault in ("the tree has changes", "_stale_", f'no entries under "## {version}"', '"Unreleased"'):
        assert fault in dirty
    assert "the tree has changes" not in tagged
    assert f"there is a tag v{version}" in tagged


@pytest.fixture(scope="module")
def wheel(repository: Path, refusals: list[str]) -> Path:
    # Left by an earlier build of a module that has moved since: not of this commit.
    old = repository / "build" / "lib" / "neural_sparse"
    old.mkdir(parents=True)
    (old / "moved_away.py").write_text("")
    done = release(repository)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("PASSED") == 2
    assert "Nothing was uploaded" in done.stdout
    assert "git tag -a v" in done.stdout
    (built,) = (repository / "dist").glob("*.whl")
    assert len(list((repository / "dist").glob("*.tar.gz"))) == 1
    return built


def test_wheel_holds_what_is_tracked_and_no_more(wheel: Path, repository: Path) -> None:
    tracked = {name.removeprefix("src/") for name in git(repository, "ls-files", "src").splitlines()}
    for kind in (".yaml", ".txt", "py.typed"):  # that the list itself is whole
        assert any(name.endswith(kind) for name in tracked), kind
    with zipfile.ZipFile(wheel) as archive:
        packed = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert packed == tracked


def files_of(distributions: tuple[str, ...]) -> Iterator[tuple[Path, str]]:
    """Every file of installed distributions and of what they require, with its place in site-packages."""
    todo, done = list(distributions), set()
    while todo:
        name = todo.pop()
        if name in done:
            continue
        done.add(name)
        found = importlib.metadata.distribution(name)
        for file in found.files or ():
            if ".." not in file.parts and file.suffix != ".pyc":
                yield Path(str(file.locate())), str(file)
        for line in found.requires or ():
            requirement = Requirement(line)
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                todo.append(requirement.name)


def test_wheel_runs_in_an_environment_with_three_small_packages(wheel: Path, tmp_path: Path) -> None:
    """No network: the three packages are copied from the environment of the tests."""
    environment = tmp_path / "empty"
    uv = Path(sys.executable).parent / "uv"
    assert run(uv, "venv", "--offline", "--python", sys.executable, environment, cwd=tmp_path).returncode == 0
    python = environment / "bin" / "python"
    command = (uv, "pip", "install", "--offline", "--no-deps", "--python", python, wheel)
    installed = run(*command, cwd=tmp_path)
    assert installed.returncode == 0, installed.stderr
    (site,) = environment.glob("lib/python*/site-packages")
    for source, name in files_of(LIGHT):
        (site / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, site / name)
    for heavy in ("torch", "transformers", "numpy"):
        assert run(python, "-c", f"import {heavy}", cwd=tmp_path, PYTHONPATH="").returncode == 1

    def neural_sparse(*arguments: str) -> str:
        program = environment / "bin" / "neural-sparse"
        done = run(program, *arguments, cwd=tmp_path, PYTHONPATH="", COLUMNS="120")
        assert done.returncode == 0, done.stderr
        return done.stdout

    said = neural_sparse("--help")
    commands = ("quickstart", "train", "evaluate", "export", "data", "idf", "teach")
    for name in commands:
        assert f" {name} " in said
        assert "--help" in neural_sparse(name, "--help")
    assert "finetune-own-corpus" in neural_sparse("recipes")
    assert "lambda_flops: 0.004" in neural_sparse("recipes", "tiny-cpu")
