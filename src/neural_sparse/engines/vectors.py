"""Documents and queries of one vocabulary, encoded before or now: what is written for an engine, or searched in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from neural_sparse.corpora.corpus_file import corpus_file, read_corpus, read_queries
from neural_sparse.errors import InputError
from neural_sparse.model.encoder import NeuralSparseEncoder
from neural_sparse.model.fingerprint import Fingerprint
from neural_sparse.opensearch.guards import NamesCollideError, check_ids, check_query_side, server_names
from neural_sparse.search.encoded import MANIFEST, EncodedCollection
from neural_sparse.text.tokens import vocabulary


@dataclass(frozen=True)
class QuerySide:
    """What makes queries.

    Attributes:
        tokenizer: of transformers. weights: float32 [vocabulary], 0 for special tokens.
        name: of the model.
    """

    tokenizer: Any
    weights: NDArray[np.float32]
    name: str


@dataclass(frozen=True)
class VectorSource:
    """Documents and, where there are any, queries of one vocabulary.

    Attributes:
        tokens: name of each column, "" for special tokens; its number as text where names are not one-to-one.
        documents: csr [documents, vocabulary]; queries: csr [queries, vocabulary].
        side: makes more queries; None if it is not known.
        fingerprint: whose vectors they are; None if it is not known.
        numbered: whether `tokens` are numbers.
    """

    tokens: list[str]
    doc_ids: Sequence[str]
    texts: Sequence[str]
    documents: sp.csr_matrix
    query_ids: Sequence[str]
    query_texts: Sequence[str]
    queries: sp.csr_matrix
    side: QuerySide | None = None
    fingerprint: Fingerprint | None = None
    numbered: bool = False


def token_names(tokenizer: Any) -> tuple[list[str], bool]:
    """What an engine may call each id, [vocabulary], "" for special tokens, and whether that is its number.

    Tokens of SentencePiece and byte-level tokenizers have no names of their own once they are decoded; engines that
    take any name are given their numbers.

    Raises:
        InputError: as `opensearch.server_names`, but for names that collide.
    """
    try:
        return server_names(tokenizer), False
    except NamesCollideError:
        special = set(tokenizer.all_special_ids)
        count = len(vocabulary(tokenizer))
        return ["" if token in special else str(token) for token in range(count)], True


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
        InputError: no such model or corpus; a model without query weights.
    """
    folder = corpus if corpus is not None and corpus.is_dir() else None
    query_ids, query_texts = _queries(folder)
    if (Path(model) / MANIFEST).is_file():
        if idf is not None or max_length is not None:
            raise InputError(f"{model} is encoded already; --idf and --max-length are for models")
        encoded = EncodedCollection(model)
        weights = encoded.query_weights  # of a siamese model there are none
        rows = range(len(encoded.doc_ids))
        encoder: Any = encoded
        doc_ids: Sequence[str] = list(encoded.doc_ids)
        check_ids(doc_ids, longest_id)
        texts: Sequence[str] = [encoded.text(row) for row in rows]
        documents = encoded.index.vectors()
        name = str(encoded.about.get("model", model))
        fingerprint = encoded.fingerprint
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
        weights = encoder.idf_table().vector
        documents = encoder.encode_documents(texts, show_progress=True)
        name, fingerprint = encoder.name, Fingerprint.of(encoder)
    tokens, numbered = token_names(encoder.tokenizer)
    queries = encoder.encode_queries(query_texts)
    return VectorSource(
        tokens,
        doc_ids,
        texts=texts,
        documents=documents,
        query_ids=query_ids,
        query_texts=query_texts,
        queries=queries,
        side=QuerySide(encoder.tokenizer, weights, name),
        fingerprint=fingerprint,
        numbered=numbered,
    )


def _queries(folder: Path | None) -> tuple[list[str], list[str]]:
    file = folder / "queries.jsonl" if folder is not None else None
    if file is None or not file.is_file():
        return [], []
    queries = read_queries(file)
    return list(queries), list(queries.values())
