"""Who does the work: processes of this machine, ranks of a training run, a Ray cluster."""

from typing import TYPE_CHECKING

from neural_sparse.lazy import lazy

if TYPE_CHECKING:
    from neural_sparse.work.ray_engine import RayEngine
    from neural_sparse.work.workers import available_cores, in_workers, worker_processes

__all__ = ["RayEngine", "available_cores", "in_workers", "worker_processes"]
__getattr__, __dir__ = lazy(__name__)
