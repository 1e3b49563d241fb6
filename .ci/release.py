"""Build what would be published, and check it. Nothing is uploaded, no tag is made: the last lines say how.

Refused before anything is built: a tree with changes, a version that has a tag already or no section of its own in
CHANGELOG.md. Built from what is committed, in an empty folder: a `build/` that lies about keeps modules that have
moved away, and they would be published.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import tomllib
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
SECTION = re.compile(r"^## (.+?)\s*$", re.MULTILINE)


def git(*arguments: str) -> str:
    return subprocess.run(
        ["git", *arguments], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout.strip()


def changelog_sections(text: str) -> dict[str, str]:
    """What stands under each heading; of "## 0.2.0 (2026-12-01)" the first word counts."""
    _, *parts = SECTION.split(text)
    return {heading.split()[0]: body.strip() for heading, body in zip(parts[::2], parts[1::2], strict=True)}


def faults(version: str) -> list[str]:
    """Why this commit is no release; empty if nothing stands against it."""
    found = []
    if changed := git("status", "--porcelain"):
        found.append(f"the tree has changes; commit them or put them away:\n{changed}")
    if git("tag", "--list", f"v{version}"):
        found.append(f"there is a tag v{version}; raise `version` in pyproject.toml")
    sections = changelog_sections((ROOT / "CHANGELOG.md").read_text(encoding="utf-8"))
    if not sections.get(version):
        found.append(f'CHANGELOG.md has no entries under "## {version}"; rename "Unreleased" to it')
    if sections.get("Unreleased"):
        found.append(f'CHANGELOG.md has entries under "Unreleased"; move them to "## {version}"')
    return found


def missing_from(wheel: Path, tracked: list[str]) -> list[str]:
    """Files of src/, as git names them, that a wheel lacks: modules, recipes, tables, templates."""
    with zipfile.ZipFile(wheel) as archive:
        packed = set(archive.namelist())
    return [name for name in tracked if name.removeprefix("src/") not in packed]


def build(target: Path) -> list[Path]:
    """Source distribution and wheel of the commit, the wheel from the source distribution."""
    with tempfile.TemporaryDirectory() as folder:
        archive, tree = Path(folder) / "tree.tar", Path(folder) / "tree"
        git("archive", "--output", str(archive), "HEAD")
        with tarfile.open(archive) as packed:
            packed.extractall(tree, filter="data")
        # With the setuptools of the environment, which constraints.txt pins; as old as the commit.
        environment = {**os.environ, "SOURCE_DATE_EPOCH": git("log", "-1", "--format=%ct")}
        command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(Path(folder) / "dist")]
        subprocess.run([*command, str(tree)], check=True, env=environment, stdout=subprocess.DEVNULL)
        target.mkdir(exist_ok=True)
        return [
            Path(shutil.copy(file, target / file.name)) for file in sorted(Path(folder, "dist").iterdir())
        ]


def main() -> int:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    if found := faults(version):
        print(f"{version} is no release yet:", *(f"- {fault}" for fault in found), sep="\n", file=sys.stderr)
        return 1
    files = build(ROOT / "dist")
    names = [str(file.relative_to(ROOT)) for file in files]
    subprocess.run(
        [sys.executable, "-m", "twine", "check", "--strict", *map(str, files)], check=True, cwd=ROOT
    )
    (wheel,) = [file for file in files if file.suffix == ".whl"]
    if missing := missing_from(wheel, git("ls-files", "src").splitlines()):
        print(f"{wheel.name} lacks {', '.join(missing)}: see package-data in pyproject.toml", file=sys.stderr)
        return 1
    print(f"\nBuilt and checked: {', '.join(names)}. Nothing was uploaded. What is next:\n")
    print("    make test slow                       # if that was not done on this commit")
    print(f"    git tag -a v{version} -m {version}")
    print(f"    git push origin v{version}")
    print(f"    .venv/bin/twine upload {' '.join(names)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
