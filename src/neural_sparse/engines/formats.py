"""Documents and queries for engines, each as a folder of files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from neural_sparse.engines import elasticsearch, milvus, pinecone
from neural_sparse.engines.bulk_files import write_rank_features, write_sparse_vector
from neural_sparse.engines.document_files import QUERY_SIDE
from neural_sparse.engines.elasticsearch import write_elasticsearch
from neural_sparse.engines.impacts import Scales, write_anserini, write_common_index
from neural_sparse.engines.milvus import write_milvus
from neural_sparse.engines.pgvector import write_pgvector
from neural_sparse.engines.pinecone import write_pinecone
from neural_sparse.engines.qdrant import write_qdrant
from neural_sparse.engines.query_package import write_query_side
from neural_sparse.engines.vectors import VectorSource
from neural_sparse.engines.vespa import write_vespa
from neural_sparse.errors import InputError
from neural_sparse.io.files import check_output_folder, replacing_folder, write_json
from neural_sparse.opensearch.export import MANIFEST
from neural_sparse.opensearch.guards import MAX_ID_BYTES

_PLAIN: dict[str, Callable[[Path, VectorSource], dict[str, Any]]] = {
    "rank_features": write_rank_features,
    "sparse_vector": write_sparse_vector,
    "elasticsearch": write_elasticsearch,
    "qdrant": write_qdrant,
    "milvus": write_milvus,
    "pgvector": write_pgvector,
    "vespa": write_vespa,
    "pinecone": write_pinecone,
}
_SCALED: dict[str, Callable[[Path, VectorSource, Scales], dict[str, Any]]] = {
    "anserini": write_anserini,
    "ciff": write_common_index,
}
VECTOR_FORMATS = (*_PLAIN, *_SCALED)
# Bytes that an engine takes of an id, where it has a limit: looked at before anything is encoded.
LONGEST_IDS: dict[str, int | None] = {
    "rank_features": MAX_ID_BYTES,
    "sparse_vector": MAX_ID_BYTES,
    "elasticsearch": elasticsearch.LIMITS.id_bytes,
    "milvus": milvus.LIMITS.id_bytes,
    "pinecone": pinecone.LIMITS.id_bytes,
}


def write_vectors(
    kind: str, output: str | Path, source: VectorSource, scales: Scales | None = None
) -> dict[str, Any]:
    """Write documents and queries for an engine; returns what export.json says of them.

    Beside them is `query/`, which makes more queries without torch, where the source has what that takes; export.json
    has the fingerprint of what made the vectors.

    Args:
        kind: "rank_features" (any OpenSearch or Elasticsearch), "sparse_vector" (OpenSearch 3.3, SEISMIC),
            "elasticsearch" (its sparse_vector), "qdrant", "milvus", "pgvector", "vespa", "pinecone", "anserini"
            (Lucene), "ciff" (PISA, BMP and others).
        scales: of whole-number impacts; for the last two.

    Raises:
        InputError: an unknown format; `output` holds something; documents or queries that the engine would refuse.
    """
    if kind not in VECTOR_FORMATS:
        raise InputError(f"unknown format {kind!r}: choose from {', '.join(VECTOR_FORMATS)}")
    output = check_output_folder(output)
    scales = scales or Scales()
    with replacing_folder(output) as folder:
        about: dict[str, Any] = {"format": kind}
        if kind in _SCALED:
            about |= _SCALED[kind](folder, source, scales)
            about["scales"] = {"documents": scales.documents, "queries": scales.queries}
        else:
            about |= _PLAIN[kind](folder, source)
        if source.side is not None:
            side = source.side
            written = write_query_side(side.name, side.tokenizer, side.weights, folder / QUERY_SIDE)
            about |= {"model": side.name, "queries_by": written["fingerprint"]}
        if source.fingerprint is not None:
            about["fingerprint"] = source.fingerprint.as_json()
        write_json(folder / MANIFEST, about)
    return about
