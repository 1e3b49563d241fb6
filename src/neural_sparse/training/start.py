"""The model a recipe starts from, with the cures that the recipe names: the one way from a recipe to a student."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import torch

from neural_sparse.config import Recipe
from neural_sparse.model.calibration import scale_logits, shift_logits
from neural_sparse.model.encoder import SILENT, NeuralSparseEncoder
from neural_sparse.model.folding import fold_variants, folded_tokenizer
from neural_sparse.model.new_head import fit_head
from neural_sparse.model.tokenizer import load_tokenizer

logger = logging.getLogger(__name__)


def starting_model(
    recipe: Recipe, documents: Sequence[str], device: str | torch.device | None = None
) -> NeuralSparseEncoder:
    """The student before its first step; the same recipe and documents give the same one.

    Args:
        documents: those of the training data, which a new head is fitted to.

    Raises:
        InputError: no such model; a cure that its architecture does not take.
    """
    model = NeuralSparseEncoder(
        recipe.init,
        recipe.max_length,
        activation=recipe.activation,  # type: ignore[arg-type]
        own_words=0.0 if recipe.own_words == 0 else None,
        device=device,
        new_head=recipe.new_head,
        attention=recipe.attention,
        # A cure is for one side; the other then shares it, or begins as its copy.
        query_encoder="inference-free" if _cured(recipe) else recipe.query_encoder,
    )
    if recipe.fold_variants:
        gone = fold_variants(model, SILENT)
        logger.info("fold_variants: %d of %d tokens are silent now", gone, model.vocab_size)
    if recipe.new_head:
        fit_head(model, documents, recipe.seed)
    if recipe.logit_scale is not None:
        scale_logits(model, recipe.logit_scale)
    if recipe.logit_shift is not None:
        shift_logits(model, recipe.logit_shift)
    model.set_query_encoder(recipe.query_encoder)
    return model


def _cured(recipe: Recipe) -> bool:
    changed = (recipe.logit_scale, recipe.logit_shift)
    return recipe.fold_variants or recipe.new_head or any(one is not None for one in changed)


def starting_tokenizer(recipe: Recipe) -> Any:
    """The tokenizer of `starting_model`, without its weights.

    Raises:
        InputError: as `starting_model`.
    """
    tokenizer = load_tokenizer(recipe.init)
    return folded_tokenizer(tokenizer) if recipe.fold_variants else tokenizer
