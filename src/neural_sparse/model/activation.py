"""From pooled logits to term weights."""

from __future__ import annotations

from typing import Literal, get_args

from torch import Tensor

from neural_sparse.errors import InputError

Activation = Literal["log1p", "double_log1p"]

# sentence-transformers' SpladePooling calls them by what stands inside its outer log1p.
SPLADE_POOLING_NAMES: dict[Activation, str] = {"log1p": "relu", "double_log1p": "log1p_relu"}


def check_activation(name: str) -> Activation:
    if name not in get_args(Activation):
        raise InputError(f"unknown activation {name!r}: choose from {', '.join(get_args(Activation))}")
    return name  # type: ignore[return-value]


def activate(pooled: Tensor, activation: Activation) -> Tensor:
    """log1p(x) (SPLADE, arXiv 2109.10086) or log1p(log1p(x)) (arXiv 2504.14839) of x = relu(max logit).

    Both are monotone with f(0) = 0, so pooling first gives the weights of pooling last.
    """
    weights = pooled.log1p()
    return weights.log1p() if activation == "double_log1p" else weights
