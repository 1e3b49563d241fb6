"""Vectors for other engines, each as a folder of files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from neural_sparse.errors import InputError
from neural_sparse.io.files import check_output_folder, replacing_folder, write_json
from neural_sparse.opensearch.bulk_files import write_rank_features, write_sparse_vector
from neural_sparse.opensearch.export import MANIFEST
from neural_sparse.opensearch.impacts import Scales, write_anserini, write_common_index
from neural_sparse.opensearch.vectors import VectorSource

_Writer = Callable[[Path, VectorSource, Scales], dict[str, Any]]
_WRITERS: dict[str, _Writer] = {
    "rank_features": lambda folder, source, _: write_rank_features(folder, source),
    "sparse_vector": lambda folder, source, _: write_sparse_vector(folder, source),
    "anserini": write_anserini,
    "ciff": write_common_index,
}
VECTOR_FORMATS = tuple(_WRITERS)


def write_vectors(
    kind: str, output: str | Path, source: VectorSource, scales: Scales | None = None
) -> dict[str, Any]:
    """Write documents and queries for an engine; returns what export.json says of them.

    Args:
        kind: "rank_features" (any OpenSearch or Elasticsearch), "sparse_vector" (OpenSearch 3.3, SEISMIC),
            "anserini" (Lucene), "ciff" (PISA and others).
        scales: of whole-number impacts; not for the first two.

    Raises:
        InputError: an unknown format; `output` holds something; queries that the engine would refuse.
    """
    if kind not in _WRITERS:
        raise InputError(f"unknown format {kind!r}: choose from {', '.join(VECTOR_FORMATS)}")
    output = check_output_folder(output)
    scales = scales or Scales()
    with replacing_folder(output) as folder:
        about = {"format": kind, **_WRITERS[kind](folder, source, scales)}
        if kind in ("anserini", "ciff"):
            about["scales"] = {"documents": scales.documents, "queries": scales.queries}
        write_json(folder / MANIFEST, about)
    return about
