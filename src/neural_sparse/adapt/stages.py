"""Stages of a long job, each with a file that is whole or absent: what is there is not made again."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from rich.console import Console

from neural_sparse.errors import InputError
from neural_sparse.io.files import read_json, write_json
from neural_sparse.planning.table import duration

SETTINGS = "adapt.json"


class Stages:
    """Runs stages in order, says what is going on and how long each took; a finished one is read from its file.

    Args:
        folder: of the whole job; its stages are in `folder`/stages.
        settings: all that the result depends on (JSON values).
        console: where the story is told.
        budget: seconds, of which is said what is left; None where there is no limit.

    Raises:
        InputError: the folder holds the work of other settings (the message names them), or something else.
    """

    def __init__(
        self, folder: Path, settings: Mapping[str, Any], console: Console, budget: float | None
    ) -> None:
        self.folder, self.console, self.budget = folder, console, budget
        self.seconds: dict[str, float] = {}
        file = folder / SETTINGS
        if file.is_file():
            before = read_json(file)
            keys = sorted({*before, *settings})
            if changed := [key for key in keys if before.get(key) != settings.get(key)]:
                what = "; ".join(f"{key}: {before.get(key)!r} -> {settings.get(key)!r}" for key in changed)
                raise InputError(
                    f"{folder} holds the work of another command ({what}); choose another --output, or delete it"
                )
        elif folder.is_dir() and any(folder.iterdir()):
            raise InputError(f"{folder} exists and holds something else; choose another --output")
        else:
            write_json(file, dict(settings))

    @property
    def spent(self) -> float:
        """Seconds that the stages so far took, those of an earlier process among them."""
        return sum(self.seconds.values())

    def __call__(self, name: str, title: str, work: Callable[[], Any]) -> Any:
        """What `work` gives, as JSON holds it; from the stage's file if it was finished before."""
        file = self.folder / "stages" / f"{name}.json"
        number = len(self.seconds) + 1
        if file.is_file():
            kept = read_json(file)
            self.seconds[name] = kept["seconds"]
            self.console.print(f"{number}. {title}: done before", style="dim")
            return kept["value"]
        self.console.print(f"{number}. {title}", style="bold")
        started = time.perf_counter()
        value = work()
        self.seconds[name] = time.perf_counter() - started
        write_json(file, {"seconds": self.seconds[name], "value": value})
        told = f"  {duration(self.seconds[name])}"
        if self.budget is not None:
            told += f"; {duration(max(0.0, self.budget - self.spent))} of {duration(self.budget)} left"
        self.console.print(told, style="dim")
        return value
