"""What the stages will take on a user's own corpus and hardware, before they start."""

from typing import TYPE_CHECKING

from neural_sparse.lazy import lazy

if TYPE_CHECKING:
    from neural_sparse.planning.estimate import Estimate, Figure
    from neural_sparse.planning.hardware import Hardware
    from neural_sparse.planning.stages import Planner, plan
    from neural_sparse.planning.workload import Workload

__all__ = ["Estimate", "Figure", "Hardware", "Planner", "Workload", "plan"]
__getattr__, __dir__ = lazy(__name__)
