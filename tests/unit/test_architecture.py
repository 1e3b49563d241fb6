"""docs/architecture.md shows the floors that `make lint` holds the imports to."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "architecture.md").read_text()


def floors() -> list[list[str]]:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
    (contract,) = (one for one in settings["contracts"] if one["type"] == "layers")
    return [floor.split(" : ") for floor in contract["layers"]]


def test_the_picture_is_the_contract() -> None:
    picture = re.search(r"^    cli\n(?:    .*\n)+", PAGE, re.M)
    assert picture is not None
    assert [line.split() for line in picture.group().splitlines()] == floors()


def test_the_table_has_every_floor_in_order() -> None:
    table = PAGE[PAGE.index("| floor |") : PAGE.index("**Faces.**")]
    named = [
        name for row in re.findall(r"^\| (`.*?) \|", table, re.M) for name in re.findall(r"`(\w+)`", row)
    ]
    assert named == [name for floor in floors() for name in floor]


def test_every_module_stands_on_a_floor() -> None:
    package = ROOT / "src" / "neural_sparse"
    there = {
        path.stem for path in package.iterdir() if path.suffix == ".py" or (path / "__init__.py").is_file()
    }
    assert there - {"__init__", "__main__"} == {name for floor in floors() for name in floor}
