"""Published SPLADE vectors of a real collection: the engine and the measures against a known score."""

from __future__ import annotations

from pathlib import Path

import ir_measures
import numpy as np
import pytest
import scipy.sparse as sp

from neural_sparse.corpora.collection import Collection
from neural_sparse.io.lines import read_jsonl
from neural_sparse.search import SparseIndex


def _read(path: Path, vocabulary: dict[str, int]) -> tuple[list[str], list[dict[int, float]]]:
    ids, vectors = [], []
    for row in read_jsonl(path):
        ids.append(row["_id"])
        vectors.append({vocabulary.setdefault(t, len(vocabulary)): w for t, w in row["vector"].items()})
    return ids, vectors


def _matrix(vectors: list[dict[int, float]], width: int) -> sp.csr_matrix:
    indptr = np.cumsum([0, *map(len, vectors)])
    data = np.array([weight for vector in vectors for weight in vector.values()], np.float32)
    return sp.csr_matrix(
        (data, [term for vector in vectors for term in vector], indptr), (len(vectors), width)
    )


@pytest.mark.parametrize("bits", [32, 8])
def test_splade_vectors_of_nfcorpus_score_as_published(shared_data: Path, bits: int) -> None:
    vocabulary: dict[str, int] = {}
    folder = shared_data / "vectors"
    doc_ids, docs = _read(folder / "nfcorpus-splade-v3-docs.jsonl", vocabulary)
    query_ids, queries = _read(
        folder / "nfcorpus-test-queries-splade_distil_cocodenser_medium.jsonl", vocabulary
    )
    index = SparseIndex.build(_matrix(docs, len(vocabulary)), doc_ids, bits=bits)
    hits = index.search(_matrix(queries, len(vocabulary)), 1000)
    # Integer weights tie often; the measure orders ties by document id, which is worth up to .001.
    run = {
        query_id: {doc_ids[doc]: score for doc, score in zip(docs, scores, strict=True) if doc >= 0}
        for query_id, docs, scores in zip(query_ids, hits.docs.tolist(), hits.scores.tolist(), strict=True)
    }
    qrels = Collection.load(shared_data / "collections" / "nfcorpus").qrels
    measure = ir_measures.nDCG @ 10
    assert ir_measures.calc_aggregate([measure], qrels, run)[measure] == pytest.approx(0.356, abs=5e-4)
