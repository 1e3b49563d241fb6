"""The numba decorator of this package."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba

F = TypeVar("F", bound=Callable[..., object])


def compiled(function: F) -> F:
    """Compile `function` without the GIL, keeping the machine code on disk between processes.

    numba writes it beside the source or, where that is read-only, to the user's cache folder. Where neither
    can be written it raises; then every process compiles anew, which costs seconds and is no failure.

    Compiled code copies arrays in loops: numba takes seconds to compile `a[:n] = b[:n]`, for the message of its error,
    and one for each of `sort` and `min`.
    """
    try:
        result: Any = numba.njit(cache=True, nogil=True)(function)
    except RuntimeError:
        result = numba.njit(nogil=True)(function)
    return cast(F, result)
