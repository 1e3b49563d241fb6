"""One training step, for a loop of one's own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from neural_sparse.errors import InputError, refuse_one_string
from neural_sparse.losses.idf_aware import IDFAwareLoss
from neural_sparse.model.precision import native_bf16
from neural_sparse.teachers.ensemble import EnsembleTeacher
from neural_sparse.text.tokens import tokenize
from neural_sparse.training.batches import pad


def train_step(
    batch: Mapping[str, Sequence[Any]],
    model: Any,
    loss_fn: IDFAwareLoss,
    optimizer: torch.optim.Optimizer,
    scaler: Any = None,
    teacher: EnsembleTeacher | None = None,
    scheduler: Any = None,
    max_grad_norm: float = 1.0,
) -> dict[str, float]:
    """Forward, backward and one optimiser step; `neural_sparse.train` does this and everything around it.

    In bfloat16 on a GPU that multiplies it, in float32 elsewhere.

    Args:
        batch: "queries", B texts, and "documents", B lists of as many texts each, the relevant one first.
            Every query is scored against every document of the batch.
        model: a NeuralSparseEncoder, compiled or not.
        loss_fn: its `step` is advanced.
        scaler: a torch GradScaler, or None.
        teacher: scores the batch; None for a ranking loss that needs none.
        scheduler: a learning-rate scheduler to advance.

    Returns:
        "loss", "ranking", "flops", "lambda", and "avg_nonzero_terms" of the documents.

    Raises:
        InputError: lists of unequal length, or a loss that is not finite (nothing is updated then).
    """
    for what in ("queries", "documents"):
        refuse_one_string(batch[what], what)
    queries = list(batch["queries"])
    for group in batch["documents"]:
        refuse_one_string(group, "the documents of each query")
    groups = [list(group) for group in batch["documents"]]
    if len(groups) != len(queries) or len({len(group) for group in groups}) != 1 or not groups[0]:
        raise InputError(
            "a batch needs one list of documents per query, all of one length, the relevant one first"
        )
    texts = [text for group in groups for text in group]
    device = next(model.parameters()).device
    ids, token_mask = (
        part.to(device) for part in pad(tokenize(texts, model.tokenizer, model.max_length, True))
    )
    query_ids, query_mask = (part.to(device) for part in pad(tokenize(queries, model.tokenizer)))
    targets = mask = None
    if teacher is not None:
        targets = teacher.score(queries, texts).to(device)
        mask = ~targets.isnan()
        targets = targets.nan_to_num()
    model.train()
    half = device.type == "cuda" and native_bf16(device)
    with torch.autocast(device.type, dtype=torch.bfloat16, enabled=half):
        documents = model(ids, token_mask)
        vectors = None
        if getattr(model, "query_encoder", "inference-free") != "inference-free":
            asked = pad(tokenize(queries, model.tokenizer, model.max_length, True))
            features = dict(
                zip(("input_ids", "attention_mask"), (one.to(device) for one in asked), strict=True)
            )
            vectors = model({**features, "task": "query"})["sentence_embedding"]
    parts = loss_fn(query_ids, query_mask, documents, targets, mask=mask, queries=vectors)
    loss = parts["loss"]
    if not torch.isfinite(loss):
        raise InputError("the loss is not finite; try a smaller learning rate or a longer warm-up")
    optimizer.zero_grad(set_to_none=True)
    (scaler.scale(loss) if scaler is not None else loss).backward()
    if scaler is not None:
        scaler.unscale_(optimizer)
    torch.nn.utils.clip_grad_norm_(
        [p for group in optimizer.param_groups for p in group["params"]], max_grad_norm
    )
    if scaler is not None:
        scaler.step(optimizer)
        scaler.update()
    else:
        optimizer.step()
    if scheduler is not None:
        scheduler.step()
    used_lambda = float(loss_fn.current_lambda)
    loss_fn.step += 1
    return {
        "loss": loss.item(),
        "ranking": parts["ranking"].item(),
        "flops": parts["flops"].item(),
        "lambda": used_lambda,
        "avg_nonzero_terms": (documents.detach() != 0).sum(1).float().mean().item(),
    }
