"""A sample of the vocabulary, from which sums over all of it are estimated without bias.

The ranking loss needs the columns of the batch's query tokens and no others; what is asked of the whole vocabulary is
sums over it: FLOPS, terms per document, distances to term targets. A step of training that has all tokens with
certainty which matter most, and some of the others, knows these sums up to an error of mean 0, in their gradients too.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from neural_sparse.idf import DEFAULT_IDF


@dataclass(frozen=True)
class VocabularySample:
    """Some tokens, and how many of the vocabulary each stands for.

    The sum over `columns` of weight times f(token) has the sum of f over the whole vocabulary as its expectation
    (Horvitz and Thompson 1952), for any f that does not depend on the draw.

    Attributes:
        columns: int64 [sampled], token ids, ascending, each once.
        weights: float32 [sampled], 1 for a token that is there with certainty, else one by the probability with
            which it was drawn.
    """

    columns: Tensor
    weights: Tensor

    def within(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Where tokens int64 [any] stand among the columns, and their weights, 0 for those that are not there."""
        places = torch.searchsorted(self.columns, tokens).clamp(max=len(self.columns) - 1)
        return places, self.weights[places] * (self.columns[places] == tokens)


class VocabularySampler:
    """Draws samples: the first tokens of an order always, others anew in each step, what a step's queries hold as well.

    The others, in their order, are cut into as many strata of equal size as tokens are drawn, and one is drawn from
    each: a token's neighbours are most like it in what documents give it. Tokens that queries hold are there with
    certainty, so they are taken out before, and weigh 1 whether or not they would have been drawn.

    Args:
        order: int64 [vocabulary], all tokens, those first that matter most: `most_frequent_first`, until it is known
            which documents give the greatest weights.
        always: so many of the first are in every sample.
        drawn: so many of the others are drawn.
        seed: with the step it decides the draw, so that a run that is resumed, and all ranks, have the same.
    """

    def __init__(self, order: NDArray[np.int64], always: int, drawn: int, seed: int) -> None:
        self.order = order
        self.always = always
        self.drawn = drawn
        self.seed = seed

    def sample(
        self, step: int, certain: NDArray[np.int64], order: NDArray[np.int64] | None = None
    ) -> VocabularySample:
        """The sample of optimiser step `step`, with all tokens of `certain` (repeats do no harm) in it.

        Args:
            order: instead of that of the sampler. It may follow from earlier steps, but not from this one.
        """
        order = self.order if order is None else order
        known = np.zeros(len(order), bool)
        known[order[: self.always]] = True
        known[certain] = True
        rest = order[~known[order]]
        drawn = min(self.drawn, len(rest))
        edges = np.arange(drawn + 1) * len(rest) // max(1, drawn)
        sizes = np.diff(edges)
        weights = known.astype(np.float32)
        place = np.random.default_rng((self.seed, 3, step)).integers(0, sizes)
        weights[rest[edges[:-1] + place]] = sizes
        columns = np.flatnonzero(weights)
        return VocabularySample(torch.from_numpy(columns), torch.from_numpy(weights[columns]))


def most_frequent_first(idf: Tensor, default_idf: float = DEFAULT_IDF) -> NDArray[np.int64]:
    """All tokens, those first that most documents hold, those last that none does.

    Args:
        idf: [vocabulary], ln((N + 1) / (df + 0.5)), 0 for special tokens.
        default_idf: of tokens that no document holds.
    """
    counted = (idf > 0) & (idf != default_idf)
    key = torch.where(counted, idf.double(), torch.inf)
    return np.argsort(key.cpu().numpy(), kind="stable").astype(np.int64)
