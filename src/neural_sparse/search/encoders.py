"""What encodes the documents of a collection: torch, or an ONNX export without it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import scipy.sparse as sp

from neural_sparse.errors import InputError
from neural_sparse.model.exported import ExportedEncoder, is_onnx_export
from neural_sparse.model.location import resolve_model
from neural_sparse.text.tokens import Tokens

if TYPE_CHECKING:
    from neural_sparse.model.encoder import NeuralSparseEncoder

Backend = Literal["torch", "onnx", "openvino"]


def backend_of(model: str, asked: Backend | None = None) -> Backend:
    """What a model is encoded with: ONNX Runtime if it is an ONNX export, torch if not, unless something is asked for.

    Raises:
        InputError: the model is of the other kind than was asked for.
    """
    exported = is_onnx_export(Path(resolve_model(model)))
    if asked == "torch" and exported:
        raise InputError(
            f"{model} is an ONNX export, which torch cannot load: --backend onnx or openvino, or neither"
        )
    if asked not in (None, "torch") and not exported:
        raise InputError(
            f"the backend {asked} takes an ONNX export, and {model} is none: make one with "
            f"`neural-sparse export {model} --format onnx --output FOLDER`, and name that folder"
        )
    return asked or ("onnx" if exported else "torch")


def load_encoder(
    model: str,
    max_length: int | None = None,
    *,
    backend: Backend,
    device: str | None = None,
    threads: int | None = None,
    bf16: bool = False,
) -> NeuralSparseEncoder | ExportedEncoder:
    """
    Args:
        device: torch's. threads, bf16: of ONNX exports; torch is told elsewhere.

    Raises:
        InputError: as the encoder does.
    """
    if backend == "torch":
        from neural_sparse.model.encoder import NeuralSparseEncoder

        return NeuralSparseEncoder(model, max_length, device=device)
    return ExportedEncoder(resolve_model(model), backend, max_length=max_length, threads=threads, bf16=bf16)


def encode_tokens(
    encoder: NeuralSparseEncoder | ExportedEncoder,
    tokens: Tokens,
    *,
    bf16: bool = False,
    advance: Callable[[int], object] = lambda documents: None,
) -> sp.csr_matrix:
    """Vectors of tokenized documents, csr float32 [documents, vocabulary].

    Args:
        bf16: torch's; an ONNX export was loaded with it.
    """
    if isinstance(encoder, ExportedEncoder):
        return encoder.encode_tokens(tokens, advance)
    from neural_sparse.model import encoding

    return encoding.encode_tokens(encoder, tokens, bf16=bf16, advance=advance)
