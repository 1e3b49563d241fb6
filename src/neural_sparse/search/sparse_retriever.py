"""A sparse encoder and the index of its documents, searched by text."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import scipy.sparse as sp

from neural_sparse.errors import refuse_one_string
from neural_sparse.search.hits import Hits
from neural_sparse.search.index import SparseIndex
from neural_sparse.search.vocabulary import check_vocabulary


class SparseRetriever:
    """Searches a SparseIndex with encoded queries.

    Args:
        index: The documents.
        encode_queries: texts -> csr_matrix [texts, vocabulary].
        vocabulary: Fingerprint of the encoder's vocabulary; compared with the index's where both are known.
        threads: As in SparseIndex.search.

    Raises:
        InputError: the vocabularies differ.
    """

    def __init__(
        self,
        index: SparseIndex,
        encode_queries: Callable[[Sequence[str]], sp.csr_matrix],
        vocabulary: str | None = None,
        threads: int | None = None,
    ) -> None:
        check_vocabulary(index.vocabulary, vocabulary)
        self.index = index
        self.encode_queries = encode_queries
        self.threads = threads

    @property
    def doc_ids(self) -> Sequence[str]:
        return self.index.doc_ids

    def search_texts(self, texts: Sequence[str], k: int) -> Hits:
        refuse_one_string(texts)
        return self.index.search(self.encode_queries(texts), k, threads=self.threads)
