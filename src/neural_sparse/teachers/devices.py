"""Encoding block after block: in this process, in one process per device, or on a cluster."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeVar

import numpy as np
import torch
from scipy.sparse import csr_matrix, vstack
from sentence_transformers.util import get_device_name

from neural_sparse.errors import InputError
from neural_sparse.model.location import content_hash, model_folder
from neural_sparse.teachers.rows import Matrix
from neural_sparse.teachers.token_batches import Split
from neural_sparse.work.threads import side_by_side
from neural_sparse.work.workers import DoPiece, Engine, available_cores, in_workers

Item = TypeVar("Item")
Encode = Callable[[list[Item]], Matrix]


def encode_blocks(
    blocks: Iterable[list[Item]],
    name: str,
    encode: Encode[Item],
    split: Split,
    *,
    devices: Sequence[str] = (),
    engine: Engine | None = None,
    weights: str | None = None,
    advance: Callable[[int], object] = lambda _: None,
) -> Iterator[tuple[list[Item], Matrix]]:
    """Each block and its vectors, in order; one that is done before an earlier one waits in memory for it.

    Args:
        name: of the teacher, for messages.
        encode: vectors of a batch of items; picklable where others encode, as is `split`.
        split: a block into batches.
        devices: a process encodes on each; fewer than two: this process. Each block is encoded by one device, so
            which device it was does not show.
        engine: encodes elsewhere instead, such as `RayEngine`.
        weights: `content_hash` of the model here, which must be that of the model where the engine encodes.
        advance: called with the number of items that are done since.

    Raises:
        InputError: NaN or infinity among the vectors; as the engine.
    """
    if engine is None and len(devices) < 2:
        for block in blocks:
            yield block, encode_block(name, encode, items=block, split=split, advance=advance)
        return
    run: Engine = engine or in_workers
    arguments = (name, encode, split, *((weights, ()) if engine else (None, devices)))
    early: dict[int, tuple[list[Item], Matrix]] = {}
    following = 0
    for (number, block), vectors in run(
        _start, arguments, enumerate(blocks), None if engine else len(devices), advance
    ):
        early[number] = block, vectors
        while following in early:
            yield early.pop(following)
            following += 1


def encode_block(
    name: str,
    encode: Encode[Item],
    items: list[Item],
    split: Split,
    advance: Callable[[int], object] = lambda _: None,
) -> Matrix:
    """Vectors of any number of items, batch by batch; on cores as many batches at once as torch has threads.

    Raises:
        InputError: NaN or infinity among them.
    """
    batches = split(items)
    pieces: list[Matrix] = []
    for piece, matrix in zip(
        batches, side_by_side(lambda piece: encode(items[piece]), batches, _on_cores()), strict=True
    ):
        pieces.append(_checked(matrix, name, items[piece]))
        advance(piece.stop - piece.start)
    if isinstance(pieces[0], csr_matrix):
        sparse_pieces: Any = pieces
        return csr_matrix(vstack(sparse_pieces, format="csr"))
    return np.concatenate([np.asarray(piece) for piece in pieces])


def _on_cores() -> bool:
    """Whether models compute on the processor, as they do where there is nothing else."""
    return bool(get_device_name() == "cpu")


def _checked(matrix: Matrix, name: str, items: Sequence[object]) -> Matrix:
    values = matrix.data if isinstance(matrix, csr_matrix) else matrix
    if not np.isfinite(values).all():
        raise InputError(
            f"teacher {name} gave NaN or infinite values for one of these texts: {items!s:.200}; "
            "its weights may be damaged, or its values too large for 16 bits"
        )
    if matrix.shape[0] != len(items):
        raise ValueError(f"teacher {name} gave {matrix.shape[0]} rows for {len(items)} texts")
    return matrix


def _start(
    name: str, encode: Encode[Any], split: Split, weights: str | None, devices: Sequence[str], worker: int
) -> DoPiece[Matrix]:
    """What encodes (number, block) on one of the devices, or on a machine of a cluster.

    Raises:
        InputError: that machine has another model under the name.
    """
    if weights is not None and content_hash(model_folder(name)) != weights:
        raise InputError(
            f"teacher {name} on {platform.node()} is not the model it is where the work was started; put it on a "
            "disk that all machines share, or use the same revision of a hub model"
        )
    if devices:
        kind, _, number = devices[worker].partition(":")
        # Read when a device is first used, which has not happened yet.
        os.environ["CUDA_VISIBLE_DEVICES"] = number if kind == "cuda" else ""
        os.environ.pop("TOKENIZERS_PARALLELISM", None)  # on the cores that the device leaves idle
        torch.set_num_threads(max(1, available_cores() // len(devices)))
    return lambda piece, advance: encode_block(name, encode, items=piece[1], split=split, advance=advance)
