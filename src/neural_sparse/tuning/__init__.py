"""Many runs of one recipe (`sweep.sweep`, `search.search`): what they share, how they are judged, which one to take."""

from typing import TYPE_CHECKING

from neural_sparse.lazy import lazy

if TYPE_CHECKING:
    from neural_sparse.tuning.choice import pareto_front
    from neural_sparse.tuning.grid import Grid, Trial, read_grid
    from neural_sparse.tuning.judging import Judge, Judged
    from neural_sparse.tuning.result import SweepResult

__all__ = ["Grid", "Judge", "Judged", "SweepResult", "Trial", "pareto_front", "read_grid"]
__getattr__, __dir__ = lazy(__name__)
