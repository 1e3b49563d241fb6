"""Where long work runs: options that `idf`, `encode`, `teach` and `mine` share."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from neural_sparse.work.ray_engine import RayEngine


class EngineName(StrEnum):
    """Where pieces of work are done."""

    local = "local"
    ray = "ray"


ENGINE = typer.Option(EngineName.local, "--engine", help="local: processes here; ray: a Ray cluster.")
ADDRESS = typer.Option(
    None,
    "--address",
    help="Of the Ray cluster: HOST:PORT on one of its nodes, ray://HOST:PORT, auto or local.",
    show_default="RAY_ADDRESS, or a cluster on this machine alone",
)


@contextmanager
def chosen_engine(
    name: EngineName, address: str | None, *, threads: int | None = None, gpus: bool = True
) -> Iterator[RayEngine | None]:
    """The engine that was asked for; None for the processes that need none.

    Raises:
        InputError: an address without --engine ray; as `RayEngine`.
    """
    from neural_sparse.errors import InputError

    if name is EngineName.local:
        if address is not None:
            raise InputError(f"--address {address} is that of a Ray cluster; say --engine ray, too")
        yield None
        return
    from neural_sparse.work.ray_engine import RayEngine

    engine = RayEngine(address, threads=threads or 1, gpus=gpus)
    print(f"Ray: {engine.describe()}")
    try:
        yield engine
    finally:
        import ray

        ray.shutdown()
