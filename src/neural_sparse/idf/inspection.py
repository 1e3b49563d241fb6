"""What is in a weight table, whether it can be right, and how two of them differ."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from neural_sparse.errors import InputError
from neural_sparse.idf.weights import DEFAULT_IDF

HEAVIEST_ALLOWED = 64.0  # Lucene refuses a query with a heavier feature, or one of weight 0 or less

Weighted = tuple[str, float]


@dataclass(frozen=True)
class Inspection:
    """What `inspect` prints.

    Attributes:
        tokens: in the table.
        unseen: how many weigh exactly the default, which the formula gives no token that occurs.
        low, high, mean, median: of all weights, unseen tokens among them, as the training guide checks them.
        documents: of the corpus, if the heaviest token occurs in one of them.
        lightest, heaviest: tokens that were seen, from the end of the scale on.
        problems: what cannot be right.
    """

    tokens: int
    unseen: int
    low: float
    high: float
    mean: float
    median: float
    documents: int
    lightest: list[Weighted]
    heaviest: list[Weighted]
    problems: list[str]


def inspect(table: Mapping[str, float], top: int = 15, default_idf: float = DEFAULT_IDF) -> Inspection:
    """Statistics of a table and what is wrong with it."""
    names, values = list(table), np.fromiter(table.values(), np.float64, len(table))
    seen = np.flatnonzero(values != default_idf)
    order = seen[np.argsort(values[seen], kind="stable")]
    heaviest = float(values[seen].max(initial=0.0))

    def named(rows: np.ndarray) -> list[Weighted]:
        return [(names[row], float(values[row])) for row in rows]

    return Inspection(
        tokens=len(values),
        unseen=len(values) - len(seen),
        low=float(values.min()),
        high=float(values.max()),
        mean=float(values.mean()),
        median=float(np.median(values)),
        documents=round((np.exp(heaviest) - 1) * 1.5 + 0.5),
        lightest=named(order[:top]),
        heaviest=named(order[::-1][:top]),
        problems=_problems(values, seen),
    )


def _problems(values: np.ndarray, seen: np.ndarray) -> list[str]:
    found = []
    if (low := int((values <= 0).sum())) > 0:
        found.append(f"{low:,} tokens weigh 0 or less: OpenSearch fails queries that contain one")
    if (high := int((values > HEAVIEST_ALLOWED).sum())) > 0:
        found.append(
            f"{high:,} tokens weigh more than {HEAVIEST_ALLOWED:.0f}: OpenSearch fails their queries"
        )
    if np.ptp(values) == 0:
        found.append("all weights are equal: no IDF was computed")
    elif len(seen) < 0.5 * len(values):
        found.append(
            f"{1 - len(seen) / len(values):.0%} of the tokens occur in no document: the corpus is small for this "
            "vocabulary, or of another language, and unseen tokens all weigh the same"
        )
    if len(seen) and values[seen].min() > 2:
        found.append(
            f"the lightest token weighs {values[seen].min():.2f}, as if no token were frequent: "
            "was the corpus counted whole, and by documents?"
        )
    return found


@dataclass(frozen=True)
class TableComparison:
    """What `compare` prints.

    Attributes:
        common: tokens in both tables.
        only_first, only_second: tokens that the other table lacks.
        seen_in_both: how many tokens the next figures rest on.
        unseen_first, unseen_second: common tokens that only the other table has seen.
        pearson, spearman: correlations; NaN for fewer than two tokens.
        shift: median of first - second; corpora of different size differ by about ln of their ratio.
        spread: mean distance from that shift.
        largest: (token, first, second) farthest from the shift.
    """

    common: int
    only_first: list[str]
    only_second: list[str]
    seen_in_both: int
    unseen_first: int
    unseen_second: int
    pearson: float
    spearman: float
    shift: float
    spread: float
    largest: list[tuple[str, float, float]]


def compare(
    first: Mapping[str, float], second: Mapping[str, float], top: int = 15, default_idf: float = DEFAULT_IDF
) -> TableComparison:
    """Two tables over the tokens that both have.

    Raises:
        InputError: not one token in common.
    """
    common = [token for token in first if token in second]
    if not common:
        raise InputError("the tables have no token in common: they belong to different tokenizers")
    a = np.array([first[token] for token in common], np.float64)
    b = np.array([second[token] for token in common], np.float64)
    both = np.flatnonzero((a != default_idf) & (b != default_idf))
    difference = a[both] - b[both]
    shift = float(np.median(difference)) if len(both) else 0.0
    order = both[np.argsort(-np.abs(difference - shift), kind="stable")][:top]
    return TableComparison(
        common=len(common),
        only_first=[token for token in first if token not in second],
        only_second=[token for token in second if token not in first],
        seen_in_both=len(both),
        unseen_first=int(((a == default_idf) & (b != default_idf)).sum()),
        unseen_second=int(((a != default_idf) & (b == default_idf)).sum()),
        pearson=_correlation(a[both], b[both]),
        spearman=_correlation(_ranks(a[both]), _ranks(b[both])),
        shift=shift,
        spread=float(np.abs(difference - shift).mean()) if len(both) else 0.0,
        largest=[(common[row], float(a[row]), float(b[row])) for row in order],
    )


def _ranks(values: np.ndarray) -> np.ndarray:
    """Ranks from 0; equal values share the mean of theirs."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts + 1) / 2)[inverse]


def _correlation(a: np.ndarray, b: np.ndarray) -> float:
    if len(a) < 2 or np.ptp(a) == 0 or np.ptp(b) == 0:
        return float("nan")
    return float(np.corrcoef(a, b)[0, 1])


def draw_histogram(table: Mapping[str, float], path: str | Path, default_idf: float = DEFAULT_IDF) -> None:
    """A PNG: how many tokens weigh how much, unseen ones apart.

    Raises:
        InputError: the file cannot be written.
    """
    from matplotlib.figure import Figure

    from neural_sparse.io.files import replacing

    values = np.fromiter(table.values(), np.float64, len(table))
    seen = values[values != default_idf]
    unseen = len(values) - len(seen)
    figure = Figure((7, 4), layout="constrained")
    axes = figure.subplots()
    axes.hist(seen, bins=60, color="#3b8bc9", label=f"{len(seen):,} tokens seen")
    if unseen:
        axes.axvline(default_idf, color="#e0701a", label=f"{unseen:,} unseen, all {default_idf:g}")
    axes.axvline(values.mean(), color="black", linestyle="--", label=f"mean {values.mean():.2f}")
    axes.set(xlabel="IDF", ylabel="tokens", title=f"range {values.min():.2f} to {values.max():.2f}")
    figure.legend(loc="outside lower center", ncols=3, frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png", dpi=150)
