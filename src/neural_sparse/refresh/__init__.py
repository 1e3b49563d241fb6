"""Right as documents change: query weights anew, judged, versioned; no document is encoded again."""

from typing import TYPE_CHECKING

from neural_sparse.lazy import lazy

if TYPE_CHECKING:
    from neural_sparse.refresh.run import RefreshResult, refresh
    from neural_sparse.refresh.settings import RefreshSettings
    from neural_sparse.refresh.versions import Versions

__all__ = ["RefreshResult", "RefreshSettings", "Versions", "refresh"]
__getattr__, __dir__ = lazy(__name__)
