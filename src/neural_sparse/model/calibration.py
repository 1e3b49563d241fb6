"""The range of a masked-LM head's logits: measured, and brought by a factor and a shift to where training works.

A backbone whose head gives logits of large norm has all dimensions active with weights far out on the logarithm, where
neither FLOPS nor ranking moves them (arXiv 2606.18811). Both cures are folded into the weights, so that the model stays
a plain one: the norm before the projection takes the factor, the projection's bias the shift.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from neural_sparse.errors import InputError
from neural_sparse.text.tokens import tokenize

if TYPE_CHECKING:
    from neural_sparse.model.encoder import NeuralSparseEncoder

LARGE = 8.0  # standard deviation of a token's logits; published masked LMs have 1 to 4
MODERATE = 2.0  # what a large one is brought to
DENSE = 0.05  # share of the dimensions that are active in a text; a masked LM that trains well may have more
WANTED = 0.01  # what a dense one is brought to
ENOUGH = (
    100  # dimensions: with fewer active ones a random start has too little to be ranked by, and becomes empty
)
LONGEST = 128  # tokens of a text that are looked at


@dataclass(frozen=True)
class LogitRange:
    """Of a head on sample texts, over all dimensions but those of special tokens.

    Attributes:
        row_norm: mean length of the projection's rows.
        hidden_norm: mean length of what enters it.
        spread: standard deviation of a token's logits over the vocabulary, the mean over tokens.
        active: share of the dimensions above 0 in a text, the mean over texts.
        weight: mean pooled logit of the active ones.
        peak: pooled logit that a share `WANTED` of the dimensions exceeds, or `ENOUGH` of them if that is more.
        dense: share of active dimensions from which a start is dense.
        terms: active dimensions of each text.
    """

    row_norm: float
    hidden_norm: float
    spread: float
    active: float
    weight: float
    peak: float
    dense: float
    terms: tuple[int, ...]

    @property
    def scale(self) -> float:
        """The factor that brings a large spread to a moderate one; 1 where it is moderate."""
        return 1.0 if self.spread <= LARGE else float(f"{MODERATE / self.spread:.2g}")

    @property
    def shift(self) -> float:
        """After the factor: what makes a dense start sparse; 0 where it is sparse."""
        return 0.0 if self.active <= self.dense else -float(f"{self.peak * self.scale:.2g}")


@torch.inference_mode()
def logit_range(model: NeuralSparseEncoder, texts: Sequence[str]) -> LogitRange:
    """Measure the head of `model` on a few texts, each cut at `LONGEST` tokens."""
    special = torch.zeros(model.vocab_size, dtype=torch.bool)
    special[model.tokenizer.all_special_ids] = True
    projection = model.projection
    weight = projection.weight.float().cpu()
    rows, norms, spreads, terms, peaks, weights = weight[~special].norm(dim=1), [], [], [], [], []
    for text in texts:
        ids, mask = padded(model, [text])
        hidden = model.mlm(input_ids=ids, attention_mask=mask).logits[0].float().cpu()
        logits = nn.functional.linear(
            hidden, weight, None if projection.bias is None else projection.bias.float().cpu()
        )
        logits = logits[:, ~special]
        norms.append(float(hidden.norm(dim=1).mean()))
        spreads.append(float(logits.std(dim=1).mean()))
        pooled = logits.amax(0)
        peaks.append(
            float(pooled.topk(min(len(pooled), max(ENOUGH, round(WANTED * len(pooled))))).values[-1])
        )
        terms.append(int((pooled > 0).sum()))
        weights.append(float(pooled[pooled > 0].sum()))
    columns = int((~special).sum())
    return LogitRange(
        row_norm=float(rows.mean()),
        hidden_norm=float(np.mean(norms)),
        spread=float(np.mean(spreads)),
        active=float(np.mean(terms)) / columns,
        weight=sum(weights) / max(1, sum(terms)),
        peak=float(np.mean(peaks)),
        dense=max(DENSE, 2 * ENOUGH / columns),
        terms=tuple(terms),
    )


def padded(model: NeuralSparseEncoder, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
    """Ids and mask, int64 [texts, longest], special tokens among them, cut at `LONGEST`; on the model's device."""
    tokens = tokenize(texts, model.tokenizer, min(LONGEST, model.max_length), special_tokens=True)
    mask = np.arange(tokens.lengths.max(initial=0)) < tokens.lengths[:, None]
    ids = np.full(mask.shape, int(model.tokenizer.pad_token_id or 0), np.int64)
    ids[mask] = tokens.ids
    return torch.from_numpy(ids).to(model.device), torch.from_numpy(mask).long().to(model.device)


def scale_logits(model: NeuralSparseEncoder, factor: float) -> None:
    """Multiply all logits by `factor`, in the weights.

    The norm before the projection takes it, for the projection is the input embedding as a rule; where there is none,
    a projection of its own does.

    Raises:
        InputError: neither is there.
    """
    projection = model.projection
    norm = norm_before_projection(model)
    with torch.no_grad():
        if norm is not None:
            for parameter in norm.parameters(recurse=False):
                parameter.mul_(factor)
        elif projection.weight is not model.mlm.get_input_embeddings().weight:
            projection.weight.mul_(factor)
        else:
            raise InputError(
                f"{model.name}: logit_scale finds no norm before the projection, whose weights are the input "
                "embeddings as well; leave it out, and use temperature and a smaller learning_rate"
            )
        if projection.bias is not None:
            ordinary = ordinary_tokens(model)
            projection.bias[ordinary] *= factor


def shift_logits(model: NeuralSparseEncoder, by: float) -> None:
    """Add `by` to all logits but those of special tokens, in the projection's bias.

    Raises:
        InputError: it has none.
    """
    bias = model.projection.bias
    if bias is None:
        raise InputError(
            f"{model.name}: logit_shift needs an output projection with a bias, which this one has not"
        )
    with torch.no_grad():
        bias[ordinary_tokens(model)] += by


def ordinary_tokens(model: NeuralSparseEncoder) -> Tensor:
    """int64: ids of all tokens but special ones, on the model's device."""
    ids = np.setdiff1d(np.arange(model.vocab_size), model.tokenizer.all_special_ids)
    return torch.from_numpy(ids).to(model.device)


def norm_before_projection(model: NeuralSparseEncoder) -> nn.Module | None:
    """The norm whose very output enters the projection; None if something else does."""
    return _before_projection(model)[1]


def head_layers(model: NeuralSparseEncoder) -> tuple[nn.Linear | None, nn.Module | None]:
    """The last linear layer before the projection, and the norm whose output enters it."""
    return _before_projection(model)


@torch.inference_mode()
def _before_projection(model: NeuralSparseEncoder) -> tuple[nn.Linear | None, nn.Module | None]:
    """Found by running the model once: which modules ran before the projection, and whose output it was given."""
    projection, entered, ran = model.projection, [], []

    def note(module: nn.Module, inputs: Any, output: Any) -> None:
        if module is projection:
            entered.append(inputs[0])
        elif isinstance(output, Tensor):
            ran.append((module, output))

    hooks = [
        module.register_forward_hook(note)
        for module in model.mlm.modules()
        if module is projection or not list(module.children())
    ]
    try:
        ids = torch.tensor([[0, 1]], device=model.device)
        model.mlm(input_ids=ids, attention_mask=torch.ones_like(ids))
    finally:
        for hook in hooks:
            hook.remove()
    norm = None
    for place in range(len(ran) - 1, -1, -1):
        module, output = ran[place]
        if norm is None and output is not entered[-1]:
            continue
        if norm is None:
            if not _is_norm(module):
                return None, None
            norm = module
        elif isinstance(module, nn.Linear):
            return module, norm
    return None, norm


def _is_norm(module: nn.Module) -> bool:
    parameters = list(module.parameters(recurse=False))
    return (
        "norm" in type(module).__name__.lower() and bool(parameters) and all(p.ndim == 1 for p in parameters)
    )
