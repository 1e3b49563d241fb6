"""Query weights after documents were added, and which tokens moved."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from neural_sparse.errors import InputError
from neural_sparse.idf.counting import DocumentFrequencies
from neural_sparse.idf.weights import IdfWeights, idf_weights, weights_of
from neural_sparse.text.tokens import vocabulary

UNSEEN_RATIO = 2.0  # either way: what training may have made of the weight of a token that no document held
LEAST_DOCUMENTS = 5  # that hold a token, for a change of its weight to be shown


@dataclass(frozen=True)
class MovedToken:
    """Attributes:
    old, new: share of the old and of the new documents that hold the token.
    before, after: its query weight. change: after / before, over that of the median token.
    """

    token: str
    old: float
    new: float
    before: float
    after: float
    change: float

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class MovedTokens:
    """Attributes:
    lighter, heavier: tokens whose weight changed most, against the change that all have because there are more
        documents.
    first_seen: tokens that only the new documents hold, most frequent first. unseen: how many these are.
    shift: the median token's after / before.
    """

    lighter: tuple[MovedToken, ...]
    heavier: tuple[MovedToken, ...]
    first_seen: tuple[MovedToken, ...]
    unseen: int
    shift: float

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def refreshed_weights(
    weights: Mapping[str, float],
    before: DocumentFrequencies,
    after: DocumentFrequencies,
    tokenizer: Any,
    start: Mapping[str, float] | None = None,
) -> IdfWeights:
    """Query weights of a corpus that grew: its IDF now, times what training made of the IDF then.

    weight * idf(after) / idf(before). With the same counts before and after the weights stay as they are. A token that
    no document holds keeps its weight; one that only the new ones hold was weighed without being known: it gets the
    IDF it has now, times the ratio if that is near 1 (a weight that training moved; not one of another corpus's table).

    Args:
        weights: of the model or index, trained or not.
        before, after: document frequencies that the weights stand on, and those of today.
        start: the table that training began at, in place of IDF of `before`.

    Raises:
        InputError: counts or tables of another tokenizer.
    """
    base = weights_of(before, tokenizer) if start is None else idf_weights(start, tokenizer)
    old, began = (table.astype(np.float64) for table in (idf_weights(weights, tokenizer).vector, base.vector))
    now = weights_of(after, tokenizer).vector.astype(np.float64)
    ratio = np.divide(old, began, out=np.ones_like(old), where=began > 0)
    known = before.counts > 0 if start is None else began != base.default_idf
    strange = ~known & ((ratio > UNSEEN_RATIO) | (ratio < 1 / UNSEEN_RATIO))
    ratio[strange] = 1.0
    found = np.where(after.counts > 0, now * ratio, old)
    found[old == 0] = 0.0  # special tokens, and those that training silenced
    return idf_weights(dict(zip(vocabulary(tokenizer), found.tolist(), strict=True)), tokenizer)


def moved_tokens(
    old: DocumentFrequencies,
    new: DocumentFrequencies,
    before: IdfWeights,
    after: IdfWeights,
    top: int = 8,
) -> MovedTokens:
    """Which query weights the new documents moved.

    Args:
        old, new: document frequencies of the old and of the new documents.

    Raises:
        InputError: counts of different tokenizers.
    """
    if old.tokenizer != new.tokenizer:
        raise InputError("the counts belong to different tokenizers; count both with the same model")
    names = list(after)
    weighed = (before.vector > 0) & (after.vector > 0)
    logs = np.zeros(len(names))
    logs[weighed] = np.log(after.vector[weighed].astype(np.float64) / before.vector[weighed])
    seen = weighed & (old.counts > 0)
    shift = float(np.median(logs[seen])) if seen.any() else 0.0
    shown = np.flatnonzero(seen & (old.counts + new.counts >= LEAST_DOCUMENTS))
    order = shown[np.argsort(logs[shown], kind="stable")]

    def of(rows: np.ndarray) -> tuple[MovedToken, ...]:
        return tuple(
            MovedToken(
                names[row],
                old.counts[row] / max(1, old.documents),
                new.counts[row] / max(1, new.documents),
                before=float(before.vector[row]),
                after=float(after.vector[row]),
                change=float(np.exp(logs[row] - shift)),
            )
            for row in rows.tolist()
        )

    fresh = np.flatnonzero(weighed & (old.counts == 0) & (new.counts > 0))
    often = fresh[np.argsort(-new.counts[fresh], kind="stable")]
    lighter = order[logs[order] < shift - 1e-9][:top]
    heavier = order[logs[order] > shift + 1e-9][::-1][:top]
    return MovedTokens(
        of(lighter), of(heavier), first_seen=of(often[:top]), unseen=len(fresh), shift=float(np.exp(shift))
    )
