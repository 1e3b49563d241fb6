"""The main job from end to end on text that is already installed."""

from typing import TYPE_CHECKING

from neural_sparse.lazy import lazy

if TYPE_CHECKING:
    from neural_sparse.quickstart.data import QuickstartData, quickstart_data
    from neural_sparse.quickstart.run import QuickstartResult, quickstart, quickstart_recipe

__all__ = ["QuickstartData", "QuickstartResult", "quickstart", "quickstart_data", "quickstart_recipe"]
__getattr__, __dir__ = lazy(__name__)
