"""The model being trained as a source of candidates."""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import scipy.sparse as sp
import torch
from tqdm.auto import tqdm

from neural_sparse.data.training_set import TrainingSet
from neural_sparse.disk import require_space
from neural_sparse.mining.sources import SparseSource
from neural_sparse.model.csr_rows import CsrRows
from neural_sparse.parts import Parts

if TYPE_CHECKING:
    from neural_sparse.model.encoder import NeuralSparseEncoder

logger = logging.getLogger(__name__)

PART = 16_384  # documents encoded between two writes to disk: what a kill can lose


def student_source(
    model: NeuralSparseEncoder, data: TrainingSet, folder: Path, digest: str, bf16: bool = False
) -> SparseSource:
    """A student as it is now.

    Args:
        folder: where its vectors wait, in a folder student-DIGEST, until they are no longer wanted. What is there
            of the very same student, bit by bit, is not encoded again; what is there of another one is deleted.
        digest: of `data`.

    Raises:
        InputError: the disk will not hold the vectors (seen after the first part).
    """
    identity = student_identity(model, bf16)
    name = folder / f"student-{_digest({**identity, 'data': digest})}"
    for other in folder.glob("student-*"):
        if other != name:
            logger.info("vectors in %s are of another student: encoding anew", other)
            shutil.rmtree(other)
    documents = len(data.documents)
    parts = Parts(name, {**identity, "data": digest}, -(-documents // PART), "safetensors")
    with tqdm(total=documents, desc="student encodes", unit=" docs", disable=None) as progress:
        missing = parts.missing()
        progress.update(documents - sum(len(_rows(number, documents)) for number in missing))
        for left, number in zip(range(len(missing), 0, -1), missing, strict=True):
            rows = _rows(number, documents)
            encoded = model.encode_documents(data.documents[rows.start : rows.stop], bf16=bf16)
            with parts.write(number) as temporary:
                _save(encoded, temporary)
            if left == len(missing):
                require_space(name, parts.size(number) * (left - 1), "keeping the student's vectors")
            progress.update(len(rows))
    vectors = CsrRows(model.vocab_size)
    for file in parts.files():
        vectors.append(_load(file, model.vocab_size))
    return SparseSource(
        "student",
        identity,
        lambda rows: model.encode_queries([data.queries[row] for row in rows.tolist()]),
        vectors.matrix(),
    )


def student_identity(model: NeuralSparseEncoder, bf16: bool) -> dict[str, Any]:
    """All that a student's vectors depend on beside the texts: every bit of its weights, and how it computes."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        values = tensor.detach().cpu().contiguous()
        digest.update(f"{name} {values.dtype} {list(values.shape)};".encode())
        digest.update(values.reshape(-1).view(torch.uint8).numpy())
    return {
        "student": digest.hexdigest(),
        "activation": model.activation,
        "max_length": model.max_length,
        "bf16": bf16,
        "device": model.device.type,
    }


def _digest(settings: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:16]


def _rows(number: int, documents: int) -> range:
    return range(number * PART, min((number + 1) * PART, documents))


def _save(vectors: sp.csr_matrix, path: Path) -> None:
    from safetensors.numpy import save_file

    save_file({name: getattr(vectors, name) for name in ("data", "indices", "indptr")}, path)


def _load(path: Path, width: int) -> sp.csr_matrix:
    from safetensors.numpy import load_file

    part = load_file(path)
    shape = len(part["indptr"]) - 1, width
    return sp.csr_matrix((part["data"], part["indices"], part["indptr"]), shape=shape)
