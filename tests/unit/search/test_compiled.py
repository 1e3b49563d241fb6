from __future__ import annotations

import numba.core.caching
import pytest

from neural_sparse.search.compiled import compiled


def double(x: int) -> int:
    return 2 * x


def test_code_is_cached_on_disk() -> None:
    function = compiled(double)
    assert function(21) == 42
    assert function.stats.cache_path  # type: ignore[attr-defined]


def test_where_nothing_can_be_written_code_is_compiled_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """A read-only installation whose user has no home folder."""
    for name in ("CacheImpl", "_CacheImpl"):
        if hasattr(numba.core.caching, name):
            monkeypatch.setattr(getattr(numba.core.caching, name), "_locator_classes", [])
    with pytest.raises(RuntimeError, match="cannot cache"):
        numba.njit(cache=True)(double)
    assert compiled(double)(21) == 42
