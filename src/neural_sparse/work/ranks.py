"""Training on several devices: who this process is, and sums and columns over all of them.

Every rank sees the whole batch of queries and encodes its share of the documents. Scores and FLOPS are put
together from all ranks, and every rank computes the loss of the whole batch; so neither depends on the number
of devices. Without torchrun (or accelerate launch) there is one rank and nothing here does anything.
"""

from __future__ import annotations

import atexit
import gc
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import torch
from torch import Tensor, distributed

from neural_sparse.errors import InputError

# Rank 0 may work for hours (teachers) while the others wait; a rank that fails ends the others through
# torchrun, not through this.
WAIT = timedelta(days=7)
MEET = timedelta(minutes=10)  # for all to be there: machines start one after another


def join() -> None:
    """Meet the other processes, if a launcher has started several.

    Raises:
        InputError: the launcher's settings are incomplete, or not all are there within ten minutes.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) < 2 or distributed.is_initialized():
        return
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    try:
        store, number, count = next(distributed.rendezvous("env://", timeout=MEET))
        store.set_timeout(MEET)
        backend = "nccl" if torch.cuda.is_available() else "gloo"
        distributed.init_process_group(backend, store=store, rank=number, world_size=count, timeout=WAIT)
        store.set_timeout(WAIT)
    except (RuntimeError, ValueError) as error:
        raise InputError(
            f"the other processes cannot be reached ({error}); start all of them, with "
            "`torchrun --nproc-per-node N -m neural_sparse train ...` or `accelerate launch`, and see that "
            "MASTER_ADDR and MASTER_PORT lead to the first from every machine"
        ) from error
    atexit.register(_leave)


def _leave() -> None:
    # What still holds the group is freed first: freed last, torch's reducer may wait for a thread of gloo that waits
    # for it.
    gc.collect()
    distributed.destroy_process_group()


def rank() -> int:
    return distributed.get_rank() if distributed.is_initialized() else 0


def world_size() -> int:
    return distributed.get_world_size() if distributed.is_initialized() else 1


def device() -> str | None:
    """This rank's device; None where there is one rank, which takes the best there is."""
    if world_size() == 1:
        return None
    return f"cuda:{torch.cuda.current_device()}" if torch.cuda.is_available() else "cpu"


def unused_devices() -> str | None:
    """That GPUs are visible which this run leaves idle, and how to use them all; None if there are none."""
    if world_size() > 1 or not torch.cuda.is_available() or (count := torch.cuda.device_count()) < 2:
        return None
    return (
        f"{count} GPUs are visible, this process uses cuda:0; "
        f"`torchrun --nproc-per-node {count} -m neural_sparse train ...` trains on all of them"
    )


@contextmanager
def first_rank_first() -> Iterator[None]:
    """Rank 0 runs the body alone, then the others: they find what it has written."""
    if rank():
        distributed.barrier()
    yield
    if not rank() and world_size() > 1:
        distributed.barrier()


def wait_for_all() -> None:
    if world_size() > 1:
        distributed.barrier()


def from_first_rank(value: Any) -> Any:
    """Rank 0's value, on every rank."""
    if world_size() == 1:
        return value
    values = [value]
    distributed.broadcast_object_list(values, src=0)
    return values[0]


def check_same(settings: Mapping[str, Any], what: str) -> None:
    """
    Raises:
        InputError: ranks hold different settings; says on every rank which keys differ.
    """
    if world_size() == 1:
        return
    of_ranks: list[Any] = [None] * world_size()
    distributed.all_gather_object(of_ranks, dict(settings))
    if differing := sorted(
        key for key in settings if any(other.get(key) != of_ranks[0].get(key) for other in of_ranks)
    ):
        values = "; ".join(f"{key}: {[other.get(key) for other in of_ranks]}" for key in differing)
        raise InputError(f"the ranks were started with different {what}s ({values})")


def share(count: int) -> slice:
    """This rank's part of `count` things: every n-th."""
    return slice(rank(), count, world_size())


def order(count: int) -> list[int]:
    """`count` things as the ranks hold them, one rank's share after another's."""
    return [number for first in range(world_size()) for number in range(first, count, world_size())]


def summed(value: Tensor) -> Tensor:
    """Sum over ranks, on every rank. Its gradient is multiplied by the number of ranks: see `_Summed`."""
    return value if world_size() == 1 else _Summed.apply(value)


def all_columns(part: Tensor, count: int | None = None) -> Tensor:
    """Columns [rows, all] of all ranks' parts [rows, own], in the order of ranks; gradient as `summed`.

    Args:
        count: of all, if each rank has its `share` of them; the ranks tell each other otherwise, and wait for it.
    """
    return part if world_size() == 1 else _Columns.apply(part, count)


class _Summed(torch.autograd.Function):
    """Every rank has the loss of the whole batch, and DistributedDataParallel will average the gradients of the
    parameters over the ranks, where their sum is wanted; so they are multiplied by the number of ranks here,
    which everything of a loss passes through."""

    @staticmethod
    def forward(ctx: Any, value: Tensor) -> Tensor:
        total = value.clone()
        distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:  # type: ignore[override]
        return gradient * world_size()


class _Columns(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, part: Tensor, count: int | None) -> Tensor:
        if count is None:
            counts = torch.zeros(world_size(), dtype=torch.int64, device=part.device)
            counts[rank()] = part.shape[1]
            distributed.all_reduce(counts)
            widths = counts.tolist()
        else:
            widths = [len(range(first, count, world_size())) for first in range(world_size())]
            if widths[rank()] != part.shape[1]:
                raise ValueError(f"rank {rank()} holds {part.shape[1]} of {count} columns, not every n-th")
        padded = part.new_zeros(part.shape[0], max(widths))
        padded[:, : part.shape[1]] = part
        parts = [torch.empty_like(padded) for _ in widths]
        distributed.all_gather(parts, padded)
        ctx.own = slice(sum(widths[: rank()]), sum(widths[: rank() + 1]))
        return torch.cat([other[:, :width] for other, width in zip(parts, widths, strict=True)], 1)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:  # type: ignore[override]
        return gradient[:, ctx.own] * world_size(), None
