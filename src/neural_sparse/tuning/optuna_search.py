"""Optuna chooses the values: a search over ranges, for nDCG@10 and FLOPS at once."""

from __future__ import annotations

import json
import re
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from neural_sparse.config import Recipe, recipe_to_dict
from neural_sparse.errors import InputError
from neural_sparse.training.dev import MEASURE
from neural_sparse.tuning.grid import FIXED_KEYS, Trial, run_of, split_settings
from neural_sparse.tuning.judging import Reference
from neural_sparse.tuning.result import FAILED, FINISHED, Outcome, SweepResult
from neural_sparse.tuning.sweep import TrialRunner, check_folder

if TYPE_CHECKING:
    import optuna

    from neural_sparse.tuning.judging import Judge
    from neural_sparse.tuning.result import SweepResult

FILE = "optuna.log"  # in the sweep's folder
AT_RANDOM = 4  # trials before what was learned is used
DIGITS = 3  # of a value: more would tell runs apart by what no one can measure
_RANGE = re.compile(r"([-+.\deE]+?)\.\.([-+.\deE]+?)(:log)?")  # no path: a/../b


@dataclass(frozen=True)
class Range:
    """Numbers from `low` to `high`, whole ones where the recipe's key takes no others."""

    low: float
    high: float
    log: bool
    whole: bool

    def value(self, drawn: float) -> float:
        """What is used of a number drawn."""
        return int(drawn) if self.whole else min(self.high, max(self.low, float(f"{drawn:.{DIGITS}g}")))


@dataclass(frozen=True)
class Space:
    """
    Attributes:
        recipe: file or name.
        fixed: overrides of all runs.
        ranges: of the keys to search.
        choices: of those with a list of values.
    """

    recipe: str | Path
    fixed: tuple[str, ...]
    ranges: Mapping[str, Range]
    choices: Mapping[str, Sequence[Any]]

    @property
    def keys(self) -> tuple[str, ...]:
        return (*self.ranges, *self.choices)

    def run(self, drawn: Mapping[str, Any]) -> Trial:
        """The run of values as Optuna holds them."""
        values = {key: one.value(drawn[key]) for key, one in self.ranges.items()}
        return run_of(self.recipe, self.fixed, values | {key: json.loads(drawn[key]) for key in self.choices})

    @property
    def runs(self) -> tuple[Trial, Trial]:
        """Those at the lower and the upper ends."""
        return self._corner(False), self._corner(True)

    def _corner(self, high: bool) -> Trial:
        ends = {key: one.high if high else one.low for key, one in self.ranges.items()}
        return self.run(ends | {key: json.dumps(values[-high]) for key, values in self.choices.items()})

    def distributions(self) -> dict[str, optuna.distributions.BaseDistribution]:
        from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

        found: dict[str, Any] = {
            key: IntDistribution(int(one.low), int(one.high), log=one.log)
            if one.whole
            else FloatDistribution(one.low, one.high, log=one.log)
            for key, one in self.ranges.items()
        }
        return found | {
            key: CategoricalDistribution([json.dumps(value) for value in values])
            for key, values in self.choices.items()
        }


def has_range(settings: Iterable[str]) -> bool:
    return any(_RANGE.fullmatch(setting.partition("=")[2].strip()) for setting in settings)


def read_space(recipe: str | Path, settings: Iterable[str]) -> Space:
    """A space of "key=low..high" or "key=low..high:log", "key=value,value,..." and overrides "key=value".

    Raises:
        InputError: no range, a bad one; and what `read_grid` refuses, at either end.
    """
    ranges: dict[str, Range] = {}
    others: list[str] = []
    hints = typing.get_type_hints(Recipe)
    for setting in settings:
        key, _, text = setting.partition("=")
        key = key.strip()
        if not (found := _RANGE.fullmatch(text.strip())):
            others.append(setting)
            continue
        if key in ranges:
            raise InputError(f"{key} is given twice")
        try:
            low, high = float(found[1]), float(found[2])
        except ValueError:
            raise InputError(f"{setting}: write numbers, for example {key}=0.005..0.1:log") from None
        hint = hints.get(key)
        whole = hint is int or int in typing.get_args(hint)
        ranges[key] = Range(low, high, found[3] is not None, whole)
        if not low < high or (whole and not (low.is_integer() and high.is_integer())):
            raise InputError(f"{setting}: the range goes from a smaller to a larger{' whole' * whole} number")
        if found[3] and low <= 0:
            raise InputError(f"{setting}: a logarithmic range begins above 0")
    if not ranges:
        raise InputError("nothing to search: give a range, for example lambda_flops=0.005..0.1:log")
    choices, fixed = split_settings(others)
    if twice := sorted(set(ranges) & {*choices, *(one.partition("=")[0].strip() for one in fixed)}):
        raise InputError(f"{twice[0]} is given twice")
    if wrong := sorted(set(ranges) & set(FIXED_KEYS)):
        raise InputError(f"{wrong[0]} cannot be swept")
    space = Space(recipe, tuple(fixed), ranges, choices)
    _ = space.runs  # readable at both ends
    return space


def search(
    space: Space,
    trials: int,
    judge: Judge,
    *,
    within: float | None = None,
    references: Sequence[Reference] = (),
    overwrite: bool = False,
    say: Callable[[str], None] = print,
) -> SweepResult:
    """Train and judge `trials` runs at values that Optuna's TPE sampler chooses by those before.

    Trial i depends on the earlier ones and the recipe's seed alone, so an interrupted search goes on as one
    that was not; asked for more trials, a finished one goes on, too.

    Args:
        space: from `read_space`.
        trials: in all, with those made before.
        judge, within, references, overwrite, say: as `sweep`.

    Raises:
        InputError: Optuna is not installed; the folder holds a search of another recipe or judged otherwise.
    """
    first = space.runs[0].recipe
    output = Path(first.output).parent
    study = _study(output, _identity(space, first, judge), overwrite)
    optuna = _optuna()
    result = SweepResult(
        output,
        space.keys,
        collection=judge.name,
        sources=judge.sources,
        bm25={},
        outcomes=[],
        references=references,
        within=within,
    )
    work = TrialRunner(result, judge, max(trials, len(study.trials)), overwrite=overwrite, say=say)
    for number in range(work.runs):
        if number == len(study.trials):
            study.sampler = optuna.samplers.TPESampler(n_startup_trials=AT_RANDOM, seed=first.seed + number)
            study.ask(space.distributions())
        trial = study.trials[number]
        if set(trial.params) != set(space.keys):  # killed while it was written down
            study.tell(number, state=optuna.trial.TrialState.FAIL)
            continue
        one = Outcome(space.run(trial.params))
        result.outcomes.append(one)
        if not overwrite:
            check_folder(one.run)
        work.do(one)
        if trial.state == optuna.trial.TrialState.RUNNING:
            if one.status == FINISHED:
                study.tell(number, [one.figures[MEASURE], one.figures["FLOPS"]])
            elif one.status == FAILED:
                study.tell(number, state=optuna.trial.TrialState.FAIL)
    result.draw()
    return result


def _optuna() -> Any:
    try:
        import optuna
    except ImportError as error:
        raise InputError("--trials needs Optuna: pip install 'neural-sparse[tune]'") from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna


def _study(output: Path, identity: dict[str, Any], overwrite: bool) -> optuna.Study:
    optuna = _optuna()
    file = output / FILE
    output.mkdir(parents=True, exist_ok=True)
    if overwrite:
        file.unlink(missing_ok=True)
    storage = optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(str(file)))
    study = optuna.create_study(
        storage=storage, study_name="sweep", directions=["maximize", "minimize"], load_if_exists=True
    )
    known = study.user_attrs.get("of", identity)
    changed = [key for key in sorted({*known, *identity}) if known.get(key) != identity.get(key)]
    if changed:
        raise InputError(
            f"{output} holds a search with another {changed[0]} ({known.get(changed[0])!r} -> "
            f"{identity.get(changed[0])!r}); choose another output=, or overwrite it"
        )
    study.set_user_attr("of", identity)
    return study


def _identity(space: Space, recipe: Recipe, judge: Judge) -> dict[str, Any]:
    """What earlier trials have to agree in, for their figures to say anything about the next."""
    plain = recipe_to_dict(recipe)
    kept = {key: value for key, value in plain.items() if key not in (*FIXED_KEYS, *space.keys)}
    identity = kept | {
        "keys to search": list(space.keys),
        "list of values": {key: list(values) for key, values in space.choices.items()},
        "collection": [dict(source) for source in judge.sources],
    }
    read_back: dict[str, Any] = json.loads(json.dumps(identity))
    return read_back
