"""The query side alone, for a service that vendors it: tokenizer, weights and one file of Python without torch."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from neural_sparse import query
from neural_sparse.io.files import check_output_folder, replacing_folder, write_json, write_text
from neural_sparse.model.encoder import NeuralSparseEncoder
from neural_sparse.opensearch.export import MANIFEST
from neural_sparse.opensearch.packages import query_tokenizer
from neural_sparse.text.tokens import encode_queries

MODULE = "query_encoder.py"
_README = """\
# Query side of {name}

    pip install tokenizers numpy

    from query_encoder import QueryEncoder

    encoder = QueryEncoder("{folder}")
    encoder.tokens("a query")   # {{token: weight}}: query_tokens of OpenSearch, query_vector of Elasticsearch
    encoder.vector("a query")   # token ids and weights: Qdrant, Milvus, pgvector

The index has to hold documents of the same model: export.json has its fingerprint (`encoder.fingerprint`).
"""


def write_query_package(model: NeuralSparseEncoder, output: str | Path) -> dict[str, Any]:
    """Write tokenizer.json, model.safetensors (float32 [vocabulary]), query_encoder.py, README.md and export.json.

    Returns:
        What export.json says.

    Raises:
        InputError: `output` holds something.
        RuntimeError: what was written makes other vectors than the model (a bug, never seen).
    """
    return write_query_side(model.name, model.tokenizer, model.idf_table().vector, output)


def write_query_side(
    name: str, tokenizer: Any, weights: np.ndarray, output: str | Path, more: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """As `write_query_package`, of a tokenizer and weights float32 [vocabulary], without a model.

    Args:
        name: of the model, for README.md and export.json.
        more: what else export.json says.
    """
    output = check_output_folder(output)
    with replacing_folder(output) as folder:
        query_tokenizer(tokenizer).save(str(folder / query.TOKENIZER))
        save_file({"weight": np.ascontiguousarray(weights, np.float32)}, folder / query.WEIGHTS)
        write_text(folder / MODULE, Path(query.__file__).read_text(encoding="utf-8"))
        write_text(folder / "README.md", _README.format(name=name, folder=output.name))
        written = query.QueryEncoder(folder)
        _check(tokenizer, written)
        about = {
            "format": "query",
            "model": name,
            "tokens": len(written.weights),
            "fingerprint": written.fingerprint,
            **(more or {}),
        }
        write_json(folder / MANIFEST, about)
    return about


# Tokens of every kind: words, unknown letters, marks, composed and decomposed letters, repeats, nothing.
PROBES = (
    "sort a list of files",
    "e\u0301t\u00e9 caf\u00e9",
    "\u2603 .. ?! ##ing [UNK] [SEP]",
    "a a b",
    "",
    "\ud55c\uad6d\uc5b4 \u691c\u7d22",
)


def _check(tokenizer: Any, written: query.QueryEncoder) -> None:
    expected = encode_queries(PROBES, tokenizer, written.weights)
    for row, text in zip(expected.toarray(), PROBES, strict=True):
        ids, weights = written.vector(text)
        if ids.tolist() != row.nonzero()[0].tolist() or weights.tolist() != row[row > 0].tolist():
            raise RuntimeError(f"the query package makes another vector of {text!r}")
