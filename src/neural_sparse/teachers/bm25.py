"""BM25 as a teacher: no model, and often the best one on jargon."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from neural_sparse.search.bm25 import BM25Index
from neural_sparse.search.doc_ids import DocumentIds
from neural_sparse.teachers.bi_encoder import PreparedVectors
from neural_sparse.teachers.cache import TeacherCache
from neural_sparse.teachers.rows import StoredVectors


class BM25Teacher:
    """BM25 over the documents given to `prepare`, which should be the whole collection.

    Args as of `neural_sparse.search.bm25.BM25Index.build`; `language`, if given, instead of stemmer and stopwords.
    """

    name = "bm25"
    in_batch = True

    def __init__(
        self,
        k1: float = 0.9,
        b: float = 0.4,
        stemmer: str | None = "english",
        stopwords: str | Sequence[str] | None = "english_plus",
        language: str | None = None,
    ) -> None:
        self.k1 = k1
        self.b = b
        self.stemmer = stemmer
        self.stopwords = stopwords
        self.language = language

    def prepare(
        self,
        queries: Sequence[str],
        documents: Sequence[str],
        pairs: NDArray[np.int64] | None,
        cache: TeacherCache,
    ) -> PreparedVectors:
        """Fit on `documents`; nothing is cached, since fitting is quicker than checking what is on disk."""
        ids = DocumentIds.numbers(len(documents))
        index = BM25Index.build(
            documents,
            ids,
            k1=self.k1,
            b=self.b,
            stemmer=self.stemmer,
            stopwords=self.stopwords,
            language=self.language,
        )
        return PreparedVectors(
            self.name,
            StoredVectors.of(index.encode_queries(queries)),
            query_rows=np.arange(len(queries)),
            documents=StoredVectors.of(index.document_weights()),
            document_rows=np.arange(len(documents)),
        )
