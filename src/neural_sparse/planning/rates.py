"""How fast the stages' parts run, per core of the machine they were measured on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from neural_sparse.planning.estimate import Figure, assumed, derived, measured

HERE = "2 cores of an Intel Xeon with AVX-512 and AMX"


@dataclass(frozen=True)
class Rates:
    """
    Attributes:
        tokenizing: tokens a second and core.
        counting: tokens a second and core, in `idf`.
        reading: documents a second, ids and lines checked: one process, however many cores there are.
        hashing: bytes a second, one process.
        bm25_indexing: tokens a second, one process.
        indexing: postings a second, one process.
        mining_query: core seconds per query that do not depend on the number of documents (filters, writing).
        mining_bm25: core seconds per query and document.
        mining_dense: core seconds per query, document and dimension.
        mining_sparse: core seconds per query and document.
        encoding, training, teaching: FLOP a second and core.
        of_devices: FLOP a second and device of these three, where that was measured; else follows from the
            hardware's tflops and utilisation.
        of_this_machine: timed on the machine that is planned for; otherwise its cores are assumed to be
            `core_speed` times as fast as those measured.
    """

    tokenizing: Figure
    counting: Figure
    reading: Figure
    hashing: Figure
    bm25_indexing: Figure
    indexing: Figure
    mining_query: Figure
    mining_bm25: Figure
    mining_dense: Figure
    mining_sparse: Figure
    encoding: Figure
    training: Figure
    teaching: Figure
    of_devices: Mapping[str, Figure] = field(default_factory=dict)
    of_this_machine: bool = False


_IDF = f"docs/idf.md ({HERE}), divided by the cores"
_MINING = f"docs/mining.md ({HERE}): what grows with 100,000 documents, filters taken as 0.7 ms"
_GUESS = "a guess of the order of magnitude; --measure times it"
_ENCODE = f"docs/scaling.md ({HERE}): 201 documents of 59.8 tokens a second and core, 8.69 MFLOP a token"

DEFAULT = Rates(
    tokenizing=measured(24_856 * 57.6 / 2, _IDF),
    counting=measured(55_535 * 57.6 / 2, _IDF),
    reading=assumed(200_000, _GUESS),
    hashing=assumed(1.2e9, _GUESS),
    bm25_indexing=measured(100_000 * 80 / 5.0, "docs/mining.md: 100,000 documents in 5.0 s"),
    indexing=measured(4e6 * 119 / 102, f"docs/search.md ({HERE}): 4M documents x 119 terms in 102 s"),
    mining_query=derived(0.7e-3, _MINING),
    mining_bm25=derived((2 / 985 - 0.7e-3) / 1e5, _MINING),
    mining_dense=derived((2 / 602 - 0.7e-3) / 1e5 / 384, _MINING),
    mining_sparse=derived((2 / 2388 - 0.7e-3) / 1e5, _MINING),
    encoding=measured(104.5e9, _ENCODE),
    training=assumed(50e9, _GUESS),
    teaching=assumed(60e9, _GUESS),
)
