"""One rule for ties, so that every measure and every tool sees the same order.

trec_eval keeps scores as 32-bit floats and orders equal ones by document id, last id first, whatever the run
says. Runs made here therefore hold no equal scores (`without_ties`), and runs from elsewhere are put in
trec_eval's order before anything is measured (`trec_order`).
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

_SIGN_FREE = np.int64(0x7FFFFFFF)


def without_ties(scores: npt.NDArray[np.floating]) -> npt.NDArray[np.float32]:
    """Scores of shape [queries, k], sorted descending, nudged down to be strictly descending float32.

    A score moves only where it equals (or was pushed onto) the one before it, by one unit in the last place
    per tie: the order of the engine survives a run file and trec_eval's own tie rule.
    """
    # A finite float32 and its bits, read as sign and magnitude, order alike; neighbours differ by one.
    bits = (np.asarray(scores, dtype=np.float32) + np.float32(0)).view(np.int32).astype(np.int64)
    keys = np.where(bits >= 0, bits, -(bits & _SIGN_FREE))
    steps = np.arange(keys.shape[-1], dtype=np.int64)
    # key'_i = min over j <= i of key_j - (i - j)
    keys = np.minimum.accumulate(keys + steps, axis=-1) - steps
    back = np.where(keys >= 0, keys, -keys | np.int64(0x80000000))
    return back.astype(np.uint32).view(np.float32)


def trec_order(scores: Mapping[str, float]) -> list[str]:
    """Document ids in trec_eval's order: float32 score descending, equal scores by id descending."""
    values = np.fromiter(scores.values(), dtype=np.float32, count=len(scores))
    if len(values) < 2 or bool(np.all(np.diff(values) < 0)):
        return list(scores)
    by_id = sorted(zip(values.tolist(), scores, strict=True), key=lambda pair: pair[1], reverse=True)
    by_id.sort(key=lambda pair: -pair[0])
    return [doc_id for _, doc_id in by_id]
