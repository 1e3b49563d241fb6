"""Encoding block after block: in this process, in one process per device, or on a cluster."""

from __future__ import annotations

import os
import platform
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, TypeVar

import numpy as np
from scipy.sparse import csr_matrix, vstack

from neural_sparse.errors import InputError
from neural_sparse.model.location import content_hash, model_folder
from neural_sparse.teachers.rows import Matrix
from neural_sparse.teachers.token_batches import Split
from neural_sparse.work.workers import Engine, available_cores, worker_processes

Item = TypeVar("Item")
Encode = Callable[[list[Item]], Matrix]
Encoded = Iterator[tuple[list[Item], Matrix]]
AHEAD = 2  # blocks waiting per device


@contextmanager
def encoder(
    name: str,
    encode: Encode[Item],
    split: Split,
    devices: Sequence[str],
    advance: Callable[[int], object],
) -> Iterator[Callable[[Iterator[list[Item]]], Encoded[Item]]]:
    """A function that turns an iterator of blocks into (block, its vectors), in order.

    Args:
        name: of the teacher, for messages.
        encode: vectors of a batch of items; picklable where there are several devices, as is `split`.
        split: a block into batches.
        devices: fewer than two: this process encodes. Each block is encoded by one device, so which device
            it was does not show.
        advance: told how many items are done.
    """
    if len(devices) < 2:
        yield lambda blocks: ((block, encode_block(name, encode, block, split, advance)) for block in blocks)
        return
    with ExitStack() as stack:
        pools = [
            stack.enter_context(worker_processes(1, _start, name, encode, split, device, len(devices)))
            for device in devices
        ]

        def encoded(blocks: Iterator[list[Item]]) -> Encoded[Item]:
            pending: deque[tuple[list[Item], Any]] = deque()

            def oldest() -> tuple[list[Item], Matrix]:
                block, future = pending.popleft()
                vectors = future.result()
                advance(len(block))
                return block, vectors

            for number, block in enumerate(blocks):
                pending.append((block, pools[number % len(pools)].submit(_encode_in_worker, block)))
                if len(pending) == AHEAD * len(pools):
                    yield oldest()
            while pending:
                yield oldest()

        yield encoded


def on_engine(
    engine: Engine,
    name: str,
    encode: Encode[Item],
    split: Split,
    advance: Callable[[int], object],
    weights: str | None = None,
) -> Callable[[Iterator[list[Item]]], Encoded[Item]]:
    """As what `encoder` yields, with the blocks encoded by an engine's workers, such as those of `RayEngine`.

    Blocks that are done before an earlier one wait in memory for it.

    Args:
        weights: `content_hash` of the model here, which must be that of the model there.
    """

    def encoded(blocks: Iterator[list[Item]]) -> Encoded[Item]:
        early: dict[int, tuple[list[Item], Matrix]] = {}
        following = 0
        arguments = (name, encode, split, weights)
        for (number, block), vectors in engine(_start_piece, arguments, enumerate(blocks), None, advance):
            early[number] = block, vectors
            while following in early:
                yield early.pop(following)
                following += 1

    return encoded


def encode_block(
    name: str,
    encode: Encode[Item],
    items: list[Item],
    split: Split,
    advance: Callable[[int], object] = lambda _: None,
) -> Matrix:
    """Vectors of any number of items, batch by batch.

    Raises:
        InputError: NaN or infinity among them.
    """
    pieces: list[Matrix] = []
    for piece in split(items):
        pieces.append(_checked(encode(items[piece]), name, items[piece]))
        advance(piece.stop - piece.start)
    if isinstance(pieces[0], csr_matrix):
        sparse_pieces: Any = pieces
        return csr_matrix(vstack(sparse_pieces, format="csr"))
    return np.concatenate([np.asarray(piece) for piece in pieces])


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


_job: dict[str, Any] = {}  # of a worker process


def _start(name: str, encode: Encode[Any], split: Split, device: str, workers: int) -> None:
    import torch

    kind, _, number = device.partition(":")
    # Read when a device is first used, which has not happened yet.
    os.environ["CUDA_VISIBLE_DEVICES"] = number if kind == "cuda" else ""
    torch.set_num_threads(max(1, available_cores() // workers))
    _job.update(name=name, encode=encode, split=split)


def _start_piece(
    name: str, encode: Encode[Any], split: Split, weights: str | None, worker: int
) -> Callable[[tuple[int, list[Any]], Callable[[int], object]], Matrix]:
    """What encodes (number, block) on a machine of a cluster.

    Raises:
        InputError: that machine has another model under the name.
    """
    if weights is not None and content_hash(model_folder(name)) != weights:
        raise InputError(
            f"teacher {name} on {platform.node()} is not the model it is where the work was started; put it on a "
            "disk that all machines share, or use the same revision of a hub model"
        )
    return lambda piece, advance: encode_block(name, encode, piece[1], split, advance)


def _encode_in_worker(items: list[Any]) -> Matrix:
    return encode_block(items=items, **_job)
