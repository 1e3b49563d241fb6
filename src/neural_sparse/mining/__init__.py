"""Hard negatives: candidates from retrievers, filters against false negatives."""

from neural_sparse.mining.filters import hard_negatives, union_by_rank
from neural_sparse.mining.mined import Mined, write_jsonl
from neural_sparse.mining.miner import Miner, MiningOptions
from neural_sparse.mining.run import mine_parts, mine_to_file
from neural_sparse.mining.sources import (
    DenseSource,
    Scorer,
    Source,
    Sources,
    SparseSource,
    bm25_source,
    student_source,
)

__all__ = [
    "DenseSource",
    "Mined",
    "Miner",
    "MiningOptions",
    "Scorer",
    "Source",
    "Sources",
    "SparseSource",
    "bm25_source",
    "hard_negatives",
    "mine_parts",
    "mine_to_file",
    "student_source",
    "union_by_rank",
    "write_jsonl",
]
