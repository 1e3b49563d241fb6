"""The runs of a sweep: a recipe with every combination of some keys' values."""

from __future__ import annotations

import hashlib
import itertools
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from neural_sparse.config import Recipe, read_recipe, recipe_to_dict
from neural_sparse.errors import InputError

LONGEST_NAME = 80  # characters of a folder's name
FIXED_KEYS = ("output", "teacher_cache")  # where things are kept: the sweep's own business


@dataclass(frozen=True)
class Trial:
    """One run of a sweep.

    Attributes:
        label: its values, as a picture shows them: "0.01" or, of several keys, "0.01, 42".
        group: the same without the seed: runs of a group are averaged.
        values: swept key -> value.
        recipe: complete, with an output folder of its own.
    """

    label: str
    group: str
    values: Mapping[str, Any]
    recipe: Recipe

    @property
    def name(self) -> str:
        """That of its folder."""
        return Path(self.recipe.output).name


@dataclass(frozen=True)
class Grid:
    """
    Attributes:
        keys: swept, in the order given; the last changes fastest.
        runs: one per combination of their values.
        output: folder of the sweep.
    """

    keys: tuple[str, ...]
    runs: tuple[Trial, ...]
    output: Path


def read_grid(recipe: str | Path, settings: Iterable[str]) -> Grid:
    """Runs of a recipe.

    Args:
        recipe: a file or the name of a shipped one.
        settings: "key=value", an override of all runs, or "key=value,value,...", a key to sweep. Values are
            YAML, and separated as those of a YAML list are: a comma inside [], {} or quotes separates nothing.

    Raises:
        InputError: no key has several values, a key or a value is given twice, a key that cannot be
            swept; and what `read_recipe` refuses, for any of the runs.
    """
    swept, fixed = split_settings(settings)
    if not swept:
        raise InputError(
            "nothing to sweep: give a key several values, for example lambda_flops=0.005,0.01,0.02"
        )
    combinations = [dict(zip(swept, values, strict=True)) for values in itertools.product(*swept.values())]
    runs = tuple(run_of(recipe, fixed, one) for one in combinations)
    for number, run in enumerate(runs):
        if run.recipe in [other.recipe for other in runs[:number]]:
            raise InputError(f"two runs would be the same: a value is given twice ({run.name})")
    return Grid(tuple(swept), runs, Path(runs[0].recipe.output).parent)


def split_settings(settings: Iterable[str]) -> tuple[dict[str, list[Any]], list[str]]:
    """Keys with several values, and the settings of all others as they are.

    Raises:
        InputError: as `read_grid`.
    """
    swept: dict[str, list[Any]] = {}
    fixed: dict[str, str] = {}
    for setting in settings:
        key, equals, text = setting.partition("=")
        key = key.strip()
        if not equals:
            raise InputError(f"{setting!r}: write key=value, or key=value,value,... to sweep a key")
        if key in swept or key in fixed:
            raise InputError(f"{key} is given twice; write all its values in one: {key}=value,value")
        values = _values(setting, text)
        if len(values) > 1:
            swept[key] = values
        else:
            fixed[key] = setting
    if wrong := [key for key in FIXED_KEYS if key in swept]:
        raise InputError(
            f"{wrong[0]} cannot be swept: the runs have folders of their own and share one cache"
        )
    return swept, list(fixed.values())


def run_of(recipe: str | Path, fixed: Sequence[str], values: Mapping[str, Any]) -> Trial:
    """The run of a recipe with `fixed` overrides and the swept `values`, in a folder inside the recipe's.

    Raises:
        InputError: as `read_recipe`.
    """
    swept = [f"{key}={json.dumps(value)}" for key, value in values.items()]
    complete = read_recipe(recipe, [*fixed, *swept])
    return _run(tuple(values), complete, Path(complete.output))


def _values(setting: str, text: str) -> list[Any]:
    try:
        values = yaml.safe_load(f"[{text}\n]")
    except yaml.YAMLError as error:
        raise InputError(f"{setting}: not a list of YAML values ({error})") from error
    return list(values)


def _run(keys: Sequence[str], recipe: Recipe, output: Path) -> Trial:
    plain = recipe_to_dict(recipe)
    values = {key: plain[key] for key in keys}
    name = "__".join(f"{key}={_shown(value)}" for key, value in values.items())
    folder = re.sub(r"[^A-Za-z0-9._=+-]+", "-", name)[:LONGEST_NAME]
    if folder != name:
        folder += "-" + hashlib.sha256(json.dumps(values).encode()).hexdigest()[:8]
    label = ", ".join(_shown(value) for value in values.values())
    group = ", ".join(_shown(value) for key, value in values.items() if key != "seed")
    return Trial(label, group or label, values, replace(recipe, output=str(output / folder)))


def _shown(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:g}" if float(f"{value:g}") == value else repr(value)
    return value if isinstance(value, str) else json.dumps(value)
