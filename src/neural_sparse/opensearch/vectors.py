"""Vectors to write in some engine's format, encoded before or now, and whether OpenSearch ships their query table."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp

from neural_sparse.corpora.corpus_file import corpus_file, read_corpus, read_queries
from neural_sparse.errors import InputError
from neural_sparse.model.encoder import NeuralSparseEncoder
from neural_sparse.opensearch.guards import check_ids, check_query_side, server_names
from neural_sparse.search.encoded import MANIFEST, EncodedCollection

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


@dataclass(frozen=True)
class VectorSource:
    """Documents and, where there are any, queries of one vocabulary.

    Attributes:
        tokens: name of each column, "" for special tokens.
        documents: csr [documents, vocabulary]; queries: csr [queries, vocabulary].
    """

    tokens: list[str]
    doc_ids: Sequence[str]
    texts: Sequence[str]
    documents: sp.csr_matrix
    query_ids: Sequence[str]
    query_texts: Sequence[str]
    queries: sp.csr_matrix


def vector_source(
    model: str,
    corpus: Path | None,
    idf: Path | None,
    max_length: int | None,
    uniform_query_weights: bool = False,
    longest_id: int | None = None,
) -> VectorSource:
    """
    Args:
        longest_id: bytes that the engine takes of an id; looked at before anything is encoded.
        model: a model, which encodes `corpus`; or a folder made by `neural-sparse encode`, which holds its own.
        corpus: corpus.jsonl, or a folder that holds one and perhaps queries.jsonl.

    Raises:
        InputError: no such model or corpus; a model without query weights; a tokenizer whose names collide.
    """
    folder = corpus if corpus is not None and corpus.is_dir() else None
    query_ids, query_texts = _queries(folder)
    if (Path(model) / MANIFEST).is_file():
        if idf is not None or max_length is not None:
            raise InputError(f"{model} is encoded already; --idf and --max-length are for models")
        encoded = EncodedCollection(model)
        rows = range(len(encoded.doc_ids))
        encoder: Any = encoded
        doc_ids: Sequence[str] = list(encoded.doc_ids)
        check_ids(doc_ids, longest_id)
        texts: Sequence[str] = [encoded.text(row) for row in rows]
        documents = encoded.index.vectors()
    else:
        if corpus is None:
            raise InputError(
                "this format holds documents: give --corpus, or a folder made by `neural-sparse encode` as the model"
            )

        doc_ids, texts = read_corpus(corpus_file(corpus))
        check_ids(doc_ids, longest_id)
        encoder = NeuralSparseEncoder(model, max_length, idf=idf)
        if not uniform_query_weights:
            check_query_side(encoder)
        documents = encoder.encode_documents(texts, show_progress=True)
    tokens = server_names(encoder.tokenizer)
    queries = encoder.encode_queries(query_texts)
    return VectorSource(
        tokens,
        doc_ids,
        texts=texts,
        documents=documents,
        query_ids=query_ids,
        query_texts=query_texts,
        queries=queries,
    )


def _queries(folder: Path | None) -> tuple[list[str], list[str]]:
    file = folder / "queries.jsonl" if folder is not None else None
    if file is None or not file.is_file():
        return [], []
    queries = read_queries(file)
    return list(queries), list(queries.values())
