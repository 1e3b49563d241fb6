"""Whether OpenSearch ships a query table: the weights of its own analyzers."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import numpy as np

# sha256 over name, 0 byte and little-endian float32 weight of every token with a name, in the order of ids
_ANALYZERS = {
    "5b36e776fed859482f3906af4e6501cb72be627a5e9f2730369f09122c686534": "bert-uncased",
    "7498a750de43688e04b4ea0037617d452473283147cbc3a2ce906a28cc9b2c9a": "mbert-uncased",
}


def query_table_digest(weights: Mapping[str, float]) -> str:
    """Hex sha256 of {token: weight}, which is in the order of ids."""
    digest = hashlib.sha256()
    for name, weight in weights.items():
        digest.update(name.encode() + b"\0" + np.float32(weight).astype("<f4").tobytes())
    return digest.hexdigest()


def published_analyzer(weights: Mapping[str, float]) -> str | None:
    """The analyzer whose queries weigh exactly as `weights`, if there is one."""
    return _ANALYZERS.get(query_table_digest(weights))
