"""Texts of similar length together, so that padding costs next to nothing."""

from __future__ import annotations

import numpy as np

MIN_TOKENS = 2048  # a smaller group does not keep a processor busy
MAX_PADDING = 0.1  # share of a group's positions that may be padding


def length_groups(
    lengths: np.ndarray,
    max_tokens: int | None = None,
    min_tokens: int = MIN_TOKENS,
    max_padding: float = MAX_PADDING,
) -> list[np.ndarray]:
    """Partition texts into groups of similar length, longest first.

    Args:
        lengths: tokens per text.
        max_tokens: bound on a group's padded size (at least one text is always taken).
        min_tokens: a group goes on growing to this padded size whatever its padding.
        max_padding: beyond that, it is closed when its share of padding would exceed this.

    Returns:
        Row numbers of each group; together each row exactly once. Equal lengths keep their order.
    """
    order = np.argsort(-lengths, kind="stable")
    groups, start, real = [], 0, 0
    for position, row in enumerate(order):
        longest = int(lengths[order[start]])
        padded = longest * (position - start + 1)
        if position > start and (
            (max_tokens is not None and padded > max_tokens)
            or (padded > min_tokens and real + lengths[row] < (1 - max_padding) * padded)
        ):
            groups.append(order[start:position])
            start, real = position, 0
        real += int(lengths[row])
    if len(order):
        groups.append(order[start:])
    return groups
