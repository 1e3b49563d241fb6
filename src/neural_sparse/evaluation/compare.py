"""Set evaluated systems against each other: means, cost, significance, and the queries that differ most."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from neural_sparse.errors import InputError, check_seed
from neural_sparse.evaluation.evaluation import Evaluation
from neural_sparse.evaluation.significance import (
    RESAMPLES,
    SAMPLES,
    Comparison,
    compare_macro,
    compare_scores,
    holm,
)

logger = logging.getLogger(__name__)

LEVEL = 0.05
ALL_PAIRS_UP_TO = 5  # more systems than this are only set against the first


@dataclass
class System:
    """One system and its evaluations: collection name -> evaluation."""

    name: str
    evaluations: dict[str, Evaluation]

    @classmethod
    def of(cls, *evaluations: Evaluation, name: str | None = None) -> System:
        return cls(name or evaluations[0].name, {one.collection: one for one in evaluations})

    @classmethod
    def load(cls, folder: str | Path, name: str | None = None) -> System:
        """A folder that `Evaluation.save` wrote, or a folder of such folders (one per collection).

        Raises:
            InputError: a folder without an evaluation, or with evaluations of several systems.
        """
        folder = Path(folder)
        if (folder / "per_query.json").is_file():
            return cls.of(Evaluation.load(folder, with_run=False), name=name)
        parts = sorted(file.parent for file in folder.glob("*/per_query.json"))
        if not parts:
            raise InputError(
                f"{folder}: holds no evaluation (metrics.json and per_query.json, here or one folder down); "
                "make one with `neural-sparse evaluate ... --output`"
            )
        found = [Evaluation.load(part, with_run=False) for part in parts]
        names = {one.name for one in found}
        if len(names) > 1:
            raise InputError(
                f"{folder}: holds several systems ({', '.join(sorted(names))}); name their folders"
            )
        return cls.of(*found, name=name)


@dataclass
class Pair:
    """System b against system a by one measure.

    Attributes:
        collections: collection -> comparison.
        macro: over all collections, each weighing the same.
        adjusted: collection -> p-value after Holm's correction over all that the report compares: every pair, measure,
            collection and mean.
        macro_adjusted: the same of `macro`.
    """

    a: str
    b: str
    measure: str
    collections: dict[str, Comparison]
    macro: Comparison
    adjusted: dict[str, float] = field(default_factory=dict)
    macro_adjusted: float = 1.0

    def verdict(self, collection: str) -> int:
        """1 where b is significantly better (p after Holm below `LEVEL`), -1 where worse, else 0."""
        if self.adjusted[collection] >= LEVEL:
            return 0
        return 1 if self.collections[collection].difference > 0 else -1

    def macro_verdict(self) -> int:
        if self.macro_adjusted >= LEVEL:
            return 0
        return 1 if self.macro.difference > 0 else -1


@dataclass
class Difference:
    """One query on which two systems differ."""

    collection: str
    query_id: str
    query: str
    a: float
    b: float
    documents_a: list[dict[str, Any]]
    documents_b: list[dict[str, Any]]


@dataclass
class Report:
    """Everything a comparison shows.

    Attributes:
        collections: those every system was evaluated on, in the first system's order.
        measures: those every system has; the first leads.
        pairs: by (measure, pair of systems), a before b in the order given.
        tests: how many comparisons p-values are corrected for.
        gains, losses: (a, b) -> the queries on which b gains or loses most by the first measure.
    """

    systems: list[System]
    collections: list[str]
    measures: list[str]
    pairs: list[Pair]
    tests: int = 0
    gains: dict[tuple[str, str], list[Difference]] = field(default_factory=dict)
    losses: dict[tuple[str, str], list[Difference]] = field(default_factory=dict)

    @property
    def measure(self) -> str:
        return self.measures[0]

    def pair(self, a: str, b: str, measure: str | None = None) -> Pair:
        wanted = (a, b, measure or self.measure)
        return next(pair for pair in self.pairs if (pair.a, pair.b, pair.measure) == wanted)

    def macro(self, system: System) -> dict[str, float]:
        """Mean over the collections of every figure the system has on all of them."""
        summaries = [system.evaluations[name].summary() for name in self.collections]
        shared = [key for key in summaries[0] if all(key in summary for summary in summaries)]
        return {key: sum(summary[key] for summary in summaries) / len(summaries) for key in shared}

    def to_dict(self) -> dict[str, Any]:
        """As JSON can hold it."""
        return {
            "collections": self.collections,
            "measures": self.measures,
            "level": LEVEL,
            "tests": self.tests,
            "systems": [
                {
                    "name": system.name,
                    "mean": self.macro(system),
                    "collections": {name: system.evaluations[name].summary() for name in self.collections},
                }
                for system in self.systems
            ],
            "comparisons": [
                {
                    "a": pair.a,
                    "b": pair.b,
                    "measure": pair.measure,
                    "mean": {
                        **pair.macro.to_dict(),
                        "p_holm": pair.macro_adjusted,
                        "verdict": pair.macro_verdict(),
                    },
                    "collections": {
                        name: {
                            **comparison.to_dict(),
                            "p_holm": pair.adjusted[name],
                            "verdict": pair.verdict(name),
                        }
                        for name, comparison in pair.collections.items()
                    },
                }
                for pair in self.pairs
            ],
            "gains": _listed(self.gains),
            "losses": _listed(self.losses),
        }


def compare_systems(
    systems: Sequence[System],
    measures: Sequence[str] | None = None,
    shown: int = 5,
    seed: int = 0,
    *,
    samples: int = SAMPLES,
    resamples: int = RESAMPLES,
) -> Report:
    """Compare systems pairwise on the collections they share; the first is the baseline.

    P-values are corrected over everything that is compared, so that a report of systems that are equally good has a
    mark anywhere with a probability below `LEVEL`.

    Args:
        measures: those to compare by, the leading one first; all that the systems share if None.
        shown: how many of the largest gains and losses to keep for each pair.
        samples, resamples: of each randomisation test and bootstrap.

    Raises:
        InputError: fewer than one system, two of one name, no collection or measure in common.
    """
    check_seed(seed)
    if not systems:
        raise InputError("there is nothing to compare")
    names = [system.name for system in systems]
    if len(set(names)) < len(names):
        raise InputError(f"two systems have the same name ({', '.join(names)}); give them other names")
    first, *others = systems
    collections = [name for name in first.evaluations if all(name in other.evaluations for other in others)]
    if not collections:
        seen = "; ".join(f"{system.name}: {', '.join(system.evaluations)}" for system in systems)
        raise InputError(f"the systems share no collection ({seen})")
    left_out = {name for system in systems for name in system.evaluations} - set(collections)
    if left_out:
        logger.warning("left out, not evaluated for every system: %s", ", ".join(sorted(left_out)))
    shared = [
        measure
        for measure in first.evaluations[collections[0]].means
        if all(measure in system.evaluations[name].means for system in systems for name in collections)
    ]
    measures = list(measures) if measures else shared
    if missing := [measure for measure in measures if measure not in shared]:
        raise InputError(
            f"not every system has {', '.join(missing)} (all have: {', '.join(shared) or 'nothing'})"
        )
    if not measures:
        raise InputError("the systems share no measure")
    report = Report(list(systems), collections, measures, [])
    pairs = list(itertools.combinations(systems, 2)) if len(systems) <= ALL_PAIRS_UP_TO else []
    for a, b in pairs or [(first, other) for other in others]:
        for measure in measures:
            values = [
                (a.evaluations[name].per_query[measure], b.evaluations[name].per_query[measure])
                for name in collections
            ]
            compared = {
                name: compare_scores(*both, samples, resamples, seed)
                for name, both in zip(collections, values, strict=True)
            }
            macro = compare_macro(values, samples, resamples, seed)
            report.pairs.append(Pair(a.name, b.name, measure=measure, collections=compared, macro=macro))
        changes = _differences(a, b, collections, measures[0])
        report.gains[a.name, b.name] = [change for change in changes[:shown] if change.b > change.a]
        report.losses[a.name, b.name] = [change for change in changes[::-1][:shown] if change.b < change.a]
    _correct(report)
    return report


def _correct(report: Report) -> None:
    """Adjust the p-values of all pairs, for everything that is compared together."""
    found: dict[tuple[int, str | None], float] = {
        (number, name): comparison.p_value
        for number, pair in enumerate(report.pairs)
        for name, comparison in pair.collections.items()
    }
    several = len(report.collections) > 1  # else the mean is the collection
    if several:
        found |= {(number, None): pair.macro.p_value for number, pair in enumerate(report.pairs)}
    adjusted = holm(found)
    report.tests = len(found)
    for number, pair in enumerate(report.pairs):
        pair.adjusted = {name: adjusted[number, name] for name in report.collections}
        pair.macro_adjusted = adjusted[number, None if several else report.collections[0]]


def _differences(a: System, b: System, collections: Sequence[str], measure: str) -> list[Difference]:
    """Queries both have, from b's largest gain to its largest loss."""
    found = []
    for name in collections:
        ours, theirs = a.evaluations[name], b.evaluations[name]
        for query_id, value in ours.per_query[measure].items():
            if query_id in theirs.per_query[measure]:
                reasons_a = ours.explanations.get(query_id, {})
                reasons_b = theirs.explanations.get(query_id, {})
                found.append(
                    Difference(
                        name,
                        query_id,
                        query=reasons_a.get("query") or reasons_b.get("query") or "",
                        a=value,
                        b=theirs.per_query[measure][query_id],
                        documents_a=reasons_a.get("documents", []),
                        documents_b=reasons_b.get("documents", []),
                    )
                )
    return sorted(found, key=lambda one: (one.a - one.b, one.collection, one.query_id))


def _listed(changes: Mapping[tuple[str, str], list[Difference]]) -> list[dict[str, Any]]:
    return [{"a": a, "b": b, **asdict(change)} for (a, b), found in changes.items() for change in found]
