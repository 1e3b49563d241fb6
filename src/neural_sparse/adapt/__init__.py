"""From a folder of documents to a verdict: ship a model of their own, keep BM25, or ask for more judged queries."""

from typing import TYPE_CHECKING

from neural_sparse.lazy import lazy

if TYPE_CHECKING:
    from neural_sparse.adapt.run import AdaptResult, adapt
    from neural_sparse.adapt.settings import AdaptSettings
    from neural_sparse.adapt.verdict import Verdict

__all__ = ["AdaptResult", "AdaptSettings", "Verdict", "adapt"]
__getattr__, __dir__ = lazy(__name__)
