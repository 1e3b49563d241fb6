"""Ship, keep BM25, or not enough evidence: decided on queries that nothing was chosen by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from neural_sparse.errors import InputError
from neural_sparse.evaluation.ab_design import queries_needed
from neural_sparse.evaluation.significance import Comparison, compare_scores, holm

MEASURE = "nDCG@10"
LEVEL = 0.05
OVER = 1.02  # times the cost allowed, from which on a candidate costs too much
EASY = 0.8  # BM25's nDCG@10 on made queries, from which on they share too many words with their documents
WORTH = 0.01  # of nDCG@10: the least gain that is worth a change
SHIP, KEEP, UNSURE = "ship", "keep BM25", "not enough evidence"
Values = Mapping[str, float]


@dataclass(frozen=True)
class Standing:
    """A candidate before the verdict.

    Attributes:
        name: as shown.
        kind: "bm25", "start", "free", "trained" or "teacher"; the last cannot be recommended, for its queries need a
            model.
        select: nDCG@10 on the queries that choose.
        flops: multiplications per query and document; None for a dense teacher.
        of_limit: what queries cost, as a share of the most that they may cost (FLOPS, or the time of the slowest
            hundredth); 0 where there is no limit.
        lead: by which it is surely ahead of BM25 on the queries that choose, see `sure_lead`.
    """

    name: str
    kind: str
    select: float
    flops: float | None = None
    of_limit: float = 0.0
    lead: float = 0.0


@dataclass(frozen=True)
class Test:
    """One comparison of the verdict's family: b against a."""

    __test__ = False  # pytest: not a class of tests

    a: str
    b: str
    comparison: Comparison
    p: float  # adjusted (Holm) over the family

    @property
    def mark(self) -> int:
        """1 where b is significantly better, -1 where worse, else 0."""
        if self.p >= LEVEL:
            return 0
        return 1 if self.comparison.difference > 0 else -1

    def to_dict(self) -> dict[str, Any]:
        return {"a": self.a, "b": self.b, **self.comparison.to_dict(), "p_holm": self.p}


@dataclass(frozen=True)
class Verdict:
    """Attributes:
    decision: "ship", "keep BM25" or "not enough evidence".
    recommended: the candidate to use until there is more evidence.
    chosen: the one that was most surely ahead of BM25 on the queries that choose.
    baseline: the BM25 it is compared with: the better one on the judging queries, so that the choice of it can only
        speak against the candidate.
    queries: that judged. queries_needed: judged queries that would settle it; None where it is settled.
    made_queries: whether the queries were made from the documents.
    tests: all comparisons.
    sentences: the verdict in words.
    """

    decision: str
    recommended: str
    chosen: str
    baseline: str
    queries: int
    queries_needed: int | None
    made_queries: bool
    tests: tuple[Test, ...] = ()
    sentences: tuple[str, ...] = ()

    def test(self, a: str, b: str) -> Test | None:
        return next((one for one in self.tests if (one.a, one.b) == (a, b)), None)

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "tests": [one.to_dict() for one in self.tests]}


@dataclass
class Choice:
    """Attributes:
    chosen: candidate that is most surely ahead where the choice is made, among those cheap enough.
    untrained: the best that needs no training. over_cost: those that cost too much.
    """

    chosen: str
    untrained: str
    over_cost: list[str] = field(default_factory=list)


def sure_lead(values: Values, bm25: Values) -> float:
    """The mean difference from BM25 less its standard error: of candidates that seem as good, the one that is nearer to
    BM25 risks less, and the best of several is less often the luckiest.

    >>> round(sure_lead({"a": 0.6, "b": 0.2, "c": 0.4}, {"a": 0.5, "b": 0.2, "c": 0.2}), 4)
    0.0423
    """
    gains = np.array([values[key] - bm25[key] for key in values])
    if len(gains) < 2:
        return float(gains.sum())
    return float(gains.mean() - gains.std(ddof=1) / len(gains) ** 0.5)


def choose(standings: Sequence[Standing]) -> Choice:
    """By the queries that choose alone: the surest lead over BM25. Of equals the better and then the cheaper one;
    candidates that cost more than they may stand back unless all do."""
    models = [one for one in standings if one.kind in ("start", "free", "trained")]
    dear = [one.name for one in models if one.of_limit > OVER]

    def best(among: Sequence[Standing]) -> str:
        fitting = [one for one in among if one.name not in dear] or among
        return max(
            fitting, key=lambda one: (round(one.lead, 4), round(one.select, 4), -(one.flops or 0.0))
        ).name

    untrained = [one for one in models if one.kind != "trained"]
    return Choice(best(models), best(untrained), dear)


def decide(
    choice: Choice, standings: Sequence[Standing], values: Mapping[str, Values], made_queries: bool
) -> Verdict:
    """The verdict on the judging queries.

    A model is recommended only if it is significantly better than every kind of BM25: the chosen one, or else the
    untrained one, or else BM25 itself.

    Args:
        values: candidate -> query id -> nDCG@10.
    """
    kinds = {one.name: one.kind for one in standings}
    kinds_of_bm25 = [one.name for one in standings if one.kind == "bm25"]
    baseline = max(kinds_of_bm25, key=lambda name: sum(values[name].values()))
    queries = len(values[baseline])
    if queries < 2:
        return Verdict(
            UNSURE,
            baseline,
            choice.chosen,
            baseline,
            queries=queries,
            queries_needed=None,
            made_queries=made_queries,
            sentences=(
                f"{queries} judging queries are too few to compare anything.",
                "Keep BM25 until there are real queries with judgements (--queries, --qrels).",
            ),
        )
    pairs = [(baseline, name) for name in values if name != baseline]
    others = [name for name in kinds_of_bm25 if name != baseline]
    for name in dict.fromkeys((choice.chosen, choice.untrained)):
        pairs += [(other, name) for other in others]
    pairs += [
        (name, choice.chosen)
        for name in values
        if kinds[name] in ("start", "teacher") and name != choice.chosen
    ]
    found = {(a, b): compare_scores(values[a], values[b]) for a, b in pairs}
    adjusted = holm({pair: one.p_value for pair, one in found.items()})
    tests = tuple(Test(a, b, found[a, b], adjusted[a, b]) for a, b in pairs)
    ahead = {one.b: one for one in tests if one.a == baseline}
    of_chosen = ahead[choice.chosen]

    def better(name: str) -> bool:
        return all(one.mark > 0 for one in tests if one.b == name and one.a in kinds_of_bm25)

    needed = None
    if better(choice.chosen):
        decision, recommended = SHIP, choice.chosen
    elif kinds[choice.chosen] == "trained" and better(choice.untrained):
        decision, recommended = SHIP, choice.untrained
    elif made_queries and too_easy(values[baseline]):
        decision, recommended = UNSURE, baseline
        needed = _needed(of_chosen.comparison, values[baseline], values[choice.chosen])
    elif of_chosen.mark < 0 or of_chosen.comparison.high < WORTH:
        decision, recommended = KEEP, baseline
    else:
        decision, recommended = UNSURE, baseline
        needed = _needed(of_chosen.comparison, values[baseline], values[choice.chosen])
    verdict = Verdict(
        decision,
        recommended,
        choice.chosen,
        baseline,
        queries=queries,
        queries_needed=needed,
        made_queries=made_queries,
        tests=tests,
    )
    return Verdict(**{**vars(verdict), "sentences": _sentences(verdict, of_chosen, ahead, kinds)})


def too_easy(values: Values) -> bool:
    """Whether BM25 nearly always answers them: such made queries say nothing of those that people would ask."""
    return sum(values.values()) / len(values) >= EASY


def p_text(value: float) -> str:
    """As it is read: "= .012", or "< .001"."""
    return f"= {value:.3f}" if value >= 0.001 else "< .001"


def _needed(found: Comparison, a: Values, b: Values) -> int | None:
    """Judged queries that find the difference seen, or one point if it is smaller, with a power of 80%."""
    spread = float(np.std([b[key] - a[key] for key in a if key in b], ddof=1))
    if spread == 0:
        return None
    try:
        return queries_needed(max(abs(found.difference), WORTH), spread, alpha=LEVEL)
    except InputError:
        return None


def _sentences(
    verdict: Verdict, test: Test, ahead: Mapping[str, Test], kinds: Mapping[str, str]
) -> tuple[str, ...]:
    one = test.comparison
    seen = (
        f"{verdict.chosen} is {100 * abs(one.difference):.1f} points of {MEASURE} "
        f"{'above' if one.difference >= 0 else 'below'} {verdict.baseline} on {verdict.queries:,} queries that nothing "
        f"was chosen by (95% interval {100 * one.low:+.1f} to {100 * one.high:+.1f}, p {p_text(test.p)} after Holm)."
    )
    said = [seen]
    if verdict.decision == SHIP:
        if verdict.recommended == verdict.chosen:
            said.append(f"Ship {verdict.recommended}: the gain is more than chance.")
        else:
            gain = ahead[verdict.recommended].comparison.difference
            said.append(
                f"No trained model is better than BM25 with significance; {verdict.recommended}, which needs no "
                f"training, is ({100 * gain:+.1f} points): ship that."
            )
    elif verdict.decision == KEEP:
        why = (
            "the candidate is worse, and that is more than chance"
            if test.mark < 0
            else "a gain of a point is not within the interval"
        )
        said.append(f"Keep BM25: {why}.")
    else:
        said.append(
            f"BM25 reaches {one.mean_a:.3f} on these made queries, which share too many words with their documents to "
            "say what people's queries would: keep BM25 until there are real ones."
            if verdict.made_queries and one.mean_a >= EASY
            else "That may be chance: keep BM25 until there is more evidence."
        )
        if verdict.queries_needed is not None:
            said.append(
                f"About {verdict.queries_needed:,} judged queries would settle a difference of "
                f"{100 * max(abs(one.difference), WORTH):.1f} points (power 80%); {verdict.queries:,} were there."
            )
        elif one.wins == one.losses == 0:
            said.append("On no query is there any difference: these queries cannot tell the two apart.")
    if kinds[verdict.chosen] == "trained" and verdict.recommended != verdict.chosen:
        said.append("No trained model is recommended, for none is better with significance.")
    if verdict.made_queries:
        said.append(
            "The queries were made from the documents themselves, not asked by people: the verdict is provisional. "
            "Real queries with judgements (--queries, --qrels) override it."
        )
    return tuple(said)
