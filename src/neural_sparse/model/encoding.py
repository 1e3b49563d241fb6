"""Texts to sparse matrices, without a Python object per text and in the memory of the result alone."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
import scipy.sparse as sp
import torch

from neural_sparse.errors import InputError
from neural_sparse.model.csr_rows import CsrRows, nonzero_rows
from neural_sparse.model.head_bound import FEWEST_TOKENS, HeadBound
from neural_sparse.text.lengths import length_groups
from neural_sparse.text.ragged import offsets_of
from neural_sparse.text.tokens import Tokens, tokenize_windows
from neural_sparse.work.progress import progress
from neural_sparse.work.threads import side_by_side

logger = logging.getLogger(__name__)

TOKENS_PER_BATCH = {"cpu": 4096, "cuda": 65536}


class DocumentEncoder(Protocol):
    """What encoding needs of a model; `NeuralSparseEncoder` is one."""

    name: str
    training: bool

    @property
    def tokenizer(self) -> Any: ...
    @property
    def device(self) -> torch.device: ...
    @property
    def max_length(self) -> int: ...
    @property
    def vocab_size(self) -> int: ...
    def packed(self, tokens: Tokens, device: torch.device) -> dict[str, Any]: ...
    def __call__(self, features: dict[str, Any]) -> dict[str, Any]: ...
    def train(self, mode: bool = True) -> Any: ...
    def eval(self) -> Any: ...


def encode_documents(
    model: DocumentEncoder,
    texts: Sequence[str],
    tokens_per_batch: int | None = None,
    show_progress: bool = False,
    bf16: bool = False,
    task: str = "document",
) -> sp.csr_matrix:
    """Document vectors, csr float32 [documents, vocabulary], in batches of similar length.

    Texts are tokenized and sorted by length a window at a time (`tokenize_windows`), so memory grows by the vectors
    alone. Equal texts in equal order give equal bytes; a text's vector beside other texts is the same within rounding,
    since products of another shape are summed in another order.

    Args:
        texts: read once, in order.
        tokens_per_batch: bound on a batch's padded size; chosen for the device if None.
        bf16: multiply in bfloat16, accumulate in float32.
        task: "query" for the queries of a siamese model.

    Raises:
        InputError: an entry that is no string; weights that are not finite.
    """
    vectors, truncated = CsrRows(model.vocab_size), 0
    with progress(len(texts), "encoding", "documents", show=show_progress) as advance:
        for tokens in tokenize_windows(texts, model.tokenizer, model.max_length, special_tokens=True):
            vectors.append(
                encode_tokens(
                    model, tokens, tokens_per_batch=tokens_per_batch, bf16=bf16, advance=advance, task=task
                )
            )
            truncated += tokens.truncated
    if truncated and show_progress:
        logger.info("%d of %d texts were cut at %d tokens", truncated, len(texts), model.max_length)
    return vectors.matrix()


def encode_tokens(
    model: DocumentEncoder,
    tokens: Tokens,
    tokens_per_batch: int | None = None,
    bf16: bool = False,
    advance: Callable[[int], object] = lambda documents: None,
    task: str = "document",
) -> sp.csr_matrix:
    """As `encode_documents`, of tokenized documents; `advance` is told how many more are done."""
    device = model.device
    budget = tokens_per_batch or TOKENS_PER_BATCH.get(device.type, 16384)
    groups = length_groups(tokens.lengths, max_tokens=budget, min_tokens=budget // 2)
    was_training = model.training
    model.eval()
    parts: list[sp.csr_matrix] = []
    bounded = device.type == "cpu" and not bf16 and len(tokens.ids) >= FEWEST_TOKENS
    bound = HeadBound() if bounded else None  # decided by the first batch, which `side_by_side` makes alone

    def encode(rows: np.ndarray) -> sp.csr_matrix:
        with torch.inference_mode(), torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            features = {**model.packed(tokens.take(rows), device), "bound": bound, "task": task}
            return to_csr(model(features)["sentence_embedding"])

    for rows, vectors in zip(groups, side_by_side(encode, groups, device.type == "cpu"), strict=True):
        if not np.isfinite(vectors.data).all():
            raise InputError(
                f"{model.name}: gives weights that are not finite; its own weights are damaged, "
                "or training had diverged"
            )
        parts.append(vectors)
        advance(len(rows))
    model.train(was_training)
    if not parts:
        return sp.csr_matrix(np.empty((0, model.vocab_size), np.float32))
    matrix = sp.vstack(parts, format="csr")
    return matrix[np.argsort(np.concatenate(groups))]


def packed_features(tokens: Tokens, device: torch.device | str = "cpu") -> dict[str, Any]:
    """What `NeuralSparseEncoder.forward` takes for packed documents."""
    return {
        "input_ids": torch.from_numpy(tokens.ids).to(device),
        "offsets": torch.from_numpy(tokens.offsets),
        "task": "document",
    }


def to_csr(vectors: torch.Tensor) -> sp.csr_matrix:
    """The non-zero entries of dense vectors [texts, vocabulary]."""
    dense = vectors.float()
    if dense.device.type != "cpu":
        rows, columns = dense.nonzero(as_tuple=True)
        indptr = offsets_of(torch.bincount(rows, minlength=len(dense)).cpu().numpy())
        data, indices = dense[rows, columns].cpu().numpy(), columns.to(torch.int32).cpu().numpy()
        return sp.csr_matrix((data, indices, indptr), shape=(dense.shape[0], dense.shape[1]))
    return nonzero_rows(dense.contiguous().numpy())
