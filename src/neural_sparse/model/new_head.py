"""A masked-LM head for an encoder that has none, such as a sentence-embedding model: made, then fitted to texts.

The head is the architecture's own (a linear layer, an activation, a norm, the projection, which is the input
embedding), so that the model is a plain masked LM afterwards. A random one would know nothing; this one is fitted so
that each token's last hidden state brings up the token itself and those whose embeddings are near:

    W = argmin sum_i c_i |W h_i - e_i|^2 + r |W|^2      (ridge regression)

with hidden states h_i and embeddings e_i of the tokens of sample texts, centred, and c_i = 1 / frequency of the token.
The activation is passed where it is linear: the layer's bias is far above 0, and the norm takes that away again. The
projection's bias is then set token by token from the mean and deviation of its logits, so that few places bring up a
token that is not theirs, and all is scaled so that a token's own logit is moderate.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn

from neural_sparse.errors import InputError
from neural_sparse.model.calibration import head_layers, ordinary_tokens, padded

if TYPE_CHECKING:
    from neural_sparse.model.encoder import NeuralSparseEncoder

logger = logging.getLogger(__name__)

TEXTS = 1000  # that a head is fitted to
BATCH = 32
RIDGE = 1e-2  # relative to the mean square of a hidden state's entries
FAR = 12.0  # bias of the linear layer: GELU is linear from there down to about 4
RARELY = 3.5  # standard deviations above its mean at which a token's logit is 0: about one place in 4,000
OFTEN = 2.0  # no fewer deviations than that, however bad the fit
KEPT = 0.5  # share of the places that must bring up their own token, if that asks for fewer deviations
OWN = 3.0  # logit of a place's own token, the median of those above 0


def fit_head(model: NeuralSparseEncoder, texts: Sequence[str], seed: int = 0) -> None:
    """Fit the head to texts, in place; the same texts give the same head.

    Raises:
        InputError: a head without a linear layer with a bias and a norm; too few texts.
    """
    linear, norm = head_layers(model)
    bias = model.projection.bias
    if linear is None or norm is None or linear.bias is None or bias is None:
        raise InputError(
            f"{model.name}: new_head fits a linear layer, a norm and a projection, all with biases, as BERT's and "
            f"RoBERTa's heads have; {type(model.mlm).__name__} has another one"
        )
    chosen = np.random.default_rng(seed).permutation(len(texts))[:TEXTS]
    sample = [texts[row] for row in sorted(chosen.tolist())]
    ids, states = _entering(model, linear, sample)
    if len(ids) < 2 * states.shape[1]:
        raise InputError(
            f"new_head: {len(ids):,} tokens in the training documents are too few to fit a head of width "
            f"{states.shape[1]}; add documents (corpus=...)"
        )
    embeddings = model.projection.weight.detach().double().cpu()
    targets = embeddings[ids] - embeddings.mean(0)
    weights = 1.0 / torch.bincount(ids, minlength=len(embeddings))[ids].double()
    weights /= weights.sum()
    mean = weights @ states
    centred = states - mean
    moment = centred.T @ (centred * weights[:, None])
    moment += RIDGE * moment.diagonal().mean() * torch.eye(len(moment), dtype=torch.float64)
    fitted = torch.linalg.solve(moment, centred.T @ (targets * weights[:, None])).T
    # A moderate size: the activation is passed where it is linear, and the norm divides by it anyway.
    fitted /= (centred @ fitted.T).std()
    with torch.no_grad():
        linear.weight.copy_(fitted)
        linear.bias.copy_(FAR - fitted @ mean)
        for name, parameter in norm.named_parameters(recurse=False):
            parameter.fill_(1.0 if name == "weight" else 0.0)
        entered = norm((centred @ fitted.T + FAR).float().to(model.device)).double().cpu()
    spread = torch.cov(entered.T)
    mean_logit = embeddings @ entered.mean(0)
    deviation = ((embeddings @ spread) * embeddings).sum(1).clamp(min=0).sqrt()
    own = (entered * embeddings[ids]).sum(1)
    above = (own - mean_logit[ids]) / deviation[ids].clamp(min=1e-9)
    offsets = -(
        mean_logit + float(above[_some(len(above))].quantile(1 - KEPT).clamp(OFTEN, RARELY)) * deviation
    )
    own += offsets[ids]
    median = float(own[own > 0].median())
    logger.info(
        "new head, fitted to %s tokens of %s texts: a token's own logit is above 0 for %.0f%% of them",
        f"{len(ids):,}",
        f"{len(sample):,}",
        100 * float((own > 0).double().mean()),
    )
    factor = OWN / median
    with torch.no_grad():
        norm.weight.fill_(factor)  # type: ignore[operator,union-attr]
        ordinary = ordinary_tokens(model)
        bias[ordinary] = (factor * offsets).to(bias)[ordinary]


def _some(count: int, most: int = 1 << 20) -> torch.Tensor:
    """Places of an even part, for `quantile` takes no more than 16 million."""
    return torch.arange(0, count, -(-count // most))


@torch.inference_mode()
def _entering(
    model: NeuralSparseEncoder, linear: nn.Linear, texts: Sequence[str]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Ids int64 [tokens] of the texts' ordinary tokens, and what enters the layer there, float64 [tokens, width]."""
    taken: list[torch.Tensor] = []
    special = torch.tensor(model.tokenizer.all_special_ids)
    hook = linear.register_forward_pre_hook(lambda module, inputs: taken.append(inputs[0]))
    all_ids, states = [], []
    try:
        for start in range(0, len(texts), BATCH):
            ids, mask = padded(model, texts[start : start + BATCH])
            taken.clear()
            model.mlm(input_ids=ids, attention_mask=mask)
            kept = mask.bool() & ~torch.isin(ids, special.to(ids.device))
            all_ids.append(ids[kept].cpu())
            states.append(taken[0].reshape(*ids.shape, -1)[kept].double().cpu())
    finally:
        hook.remove()
    return torch.cat(all_ids), torch.cat(states)
