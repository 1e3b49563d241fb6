"""Relevance measures by ir_measures name (nDCG@10, R@1000, RR@10, ...), over one rule for ties.

trec_eval keeps scores as 32-bit floats and orders equal ones by document id, last id first, whatever the run
says. Runs made here therefore hold no equal scores (`without_ties`), and runs from elsewhere are put in
trec_eval's order before anything is measured (`trec_order`).
"""

from __future__ import annotations

import io
import math
from collections.abc import Iterable, Mapping, Sequence
from contextlib import redirect_stderr
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from neural_sparse.corpora.qrels_file import whole_grades
from neural_sparse.errors import InputError, refuse_one_string

if TYPE_CHECKING:
    from ir_measures import Measure


_SIGN_FREE = np.int64(0x7FFFFFFF)


def without_ties(scores: npt.NDArray[np.floating]) -> npt.NDArray[np.float32]:
    """Scores of shape [queries, k], sorted descending, nudged down to be strictly descending float32.

    A score moves only where it equals (or was pushed onto) the one before it, by one unit in the last place
    per tie: the order of the engine survives a run file and trec_eval's own tie rule.
    """
    # A finite float32 and its bits, read as sign and magnitude, order alike; neighbours differ by one.
    bits = (np.asarray(scores, dtype=np.float32) + np.float32(0)).view(np.int32).astype(np.int64)
    keys = np.where(bits >= 0, bits, -(bits & _SIGN_FREE))
    steps = np.arange(keys.shape[-1], dtype=np.int64)
    # key'_i = min over j <= i of key_j - (i - j)
    keys = np.minimum.accumulate(keys + steps, axis=-1) - steps
    back = np.where(keys >= 0, keys, -keys | np.int64(0x80000000))
    return back.astype(np.uint32).view(np.float32)


def trec_order(scores: Mapping[str, float]) -> list[str]:
    """Document ids in trec_eval's order: float32 score descending, equal scores by id descending."""
    values = np.fromiter(scores.values(), dtype=np.float32, count=len(scores))
    if len(values) < 2 or bool(np.all(np.diff(values) < 0)):
        return list(scores)
    by_id = sorted(zip(values.tolist(), scores, strict=True), key=lambda pair: pair[1], reverse=True)
    by_id.sort(key=lambda pair: -pair[0])
    return [doc_id for _, doc_id in by_id]


Run = dict[str, dict[str, float]]

DEFAULT_MEASURES = ("nDCG@10", "R@1000", "RR@10")
_OTHER_NAMES = {"ndcg": "nDCG", "recall": "R", "mrr": "RR", "rr": "RR", "map": "AP", "precision": "P"}


@dataclass(frozen=True)
class RunScores:
    """What a run reaches.

    Attributes:
        means: measure -> arithmetic mean over all judged queries.
        per_query: measure -> query id -> value, for every judged query, in the order of the qrels.
        hole_rate: share of unjudged documents among the first ten (over all queries that have results);
            NaN when nothing was retrieved.
        judged_queries: queries the means are taken over.
        unanswered: judged queries for which the run holds nothing; each counts as 0.
        without_relevant: judged queries with no document of grade >= 1; each counts as 0, as in trec_eval.
    """

    means: dict[str, float]
    per_query: dict[str, dict[str, float]]
    hole_rate: float
    judged_queries: int
    unanswered: int
    without_relevant: int


def parse_measures(names: Iterable[str]) -> list[Measure]:
    """ir_measures objects of their names; "ndcg@10", "recall@1000" and "mrr@10" are understood too.

    Raises:
        InputError: an unknown measure, one that cannot be computed here, or none.
    """
    import ir_measures

    refuse_one_string(names, "measures")
    found = []
    for name in names:
        stem = name.split("@")[0].split("(")[0]
        canonical = _OTHER_NAMES.get(stem.lower(), stem) + name[len(stem) :]
        try:
            found.append(_computable(canonical))
        except InputError:
            raise
        except (NameError, ValueError, SyntaxError, TypeError) as error:
            near = get_close_matches(stem, list(ir_measures.measures.registry), n=1, cutoff=0.4)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise InputError(
                f"unknown measure {name!r}{hint} (ir_measures names, such as {', '.join(DEFAULT_MEASURES)})"
            ) from error
    if not found:
        raise InputError("no measure given")
    return found


@cache
def _computable(name: str) -> Measure:
    """The measure, tried once on two documents: some need a program, a package or other judgements."""
    import ir_measures

    measure = ir_measures.parse_measure(name)
    if measure.params.get("cutoff", 1) < 1:
        raise InputError(f"the measure {name} looks at no document: its cutoff must be at least 1")
    try:
        with redirect_stderr(io.StringIO()):
            list(ir_measures.iter_calc([measure], {"q": {"a": 1, "b": 0}}, {"q": {"a": 2.0, "b": 1.0}}))
    except Exception as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise InputError(
            f"the measure {name} cannot be computed here ({type(error).__name__}: {reason:.120}); choose another, such "
            f"as {', '.join(DEFAULT_MEASURES)}"
        ) from error
    return measure


def deeper_than(measures: Sequence[str], depth: int) -> list[str]:
    """Those of the measures whose cutoff is beyond the `depth` documents that a ranking has."""
    return [
        str(measure) for measure in parse_measures(measures) if (measure.params.get("cutoff") or 0) > depth
    ]


def evaluate_run(
    run: Mapping[str, Mapping[str, float]],
    qrels: Mapping[str, Mapping[str, int]],
    measures: Sequence[str] = DEFAULT_MEASURES,
) -> RunScores:
    """Score a run (query id -> document id -> score) against judgements.

    Every judged query counts: without results it scores 0, and so does one without any relevant document.
    Queries of the run that no one judged are left out. Equal scores are ordered as trec_eval does
    (see `ranking`), for every measure alike.

    Raises:
        InputError: an unknown measure, no judgements, a grade that is no whole number, a score that is no
            number, or a run that shares no query with the judgements.

    >>> run = {"q1": {"a": 3.1, "b": 2.0, "c": 0.5}, "q2": {"b": 1.0}}
    >>> qrels = {"q1": {"b": 1}, "q2": {"b": 1}}
    >>> evaluate_run(run, qrels, ["RR@10", "R@1"]).means
    {'RR@10': 0.75, 'R@1': 0.5}
    """
    import ir_measures

    parsed = parse_measures(measures)
    grades = whole_grades(qrels)
    if not grades:
        raise InputError("there is no judged query to evaluate on")
    if run and not any(query_id in run for query_id in grades):
        raise InputError(
            f"the run and the judgements share no query id (run: {next(iter(run))!r}, ..., "
            f"judgements: {next(iter(grades))!r}, ...): is this the right collection and split?"
        )
    ordered: dict[str, list[str]] = {}
    for query_id in grades:
        scores = run.get(query_id) or {}
        if not all(map(math.isfinite, scores.values())):
            bad = next(doc_id for doc_id, score in scores.items() if not math.isfinite(score))
            raise InputError(f"the run gives document {bad!r} of query {query_id!r} the score {scores[bad]}")
        ordered[query_id] = trec_order(scores)
    ranked = {
        query_id: {doc_id: float(len(docs) - place) for place, doc_id in enumerate(docs)}
        for query_id, docs in ordered.items()
        if docs
    }
    per_query: dict[str, dict[str, float]] = {str(measure): dict.fromkeys(grades, 0.0) for measure in parsed}
    for value in ir_measures.iter_calc(parsed, grades, ranked):
        per_query[str(value.measure)][value.query_id] = float(value.value)
    shown = [(doc_id, grades[query_id]) for query_id, docs in ordered.items() for doc_id in docs[:10]]
    return RunScores(
        means={name: math.fsum(values.values()) / len(values) for name, values in per_query.items()},
        per_query=per_query,
        hole_rate=sum(doc_id not in judged for doc_id, judged in shown) / len(shown) if shown else math.nan,
        judged_queries=len(grades),
        unanswered=len(grades) - len(ranked),
        without_relevant=sum(max(judged.values(), default=0) < 1 for judged in grades.values()),
    )
