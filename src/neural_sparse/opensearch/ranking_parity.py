"""What truncation, or another form of the model, does to rankings of a collection."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import scipy.sparse as sp
import torch
from tqdm import tqdm

from neural_sparse.evaluation.measures import evaluate_run
from neural_sparse.evaluation.runs import run_from_hits
from neural_sparse.model.csr_rows import CsrRows
from neural_sparse.model.encoding import to_csr
from neural_sparse.model.layout import split_by_length
from neural_sparse.opensearch.lucene import stored
from neural_sparse.opensearch.parity import Check
from neural_sparse.search import Hits, SparseIndex
from neural_sparse.tokens import tokenize_windows

if TYPE_CHECKING:
    from neural_sparse.data.collection import Collection
    from neural_sparse.model.encoder import NeuralSparseEncoder

MEASURE = "nDCG@10"


class Rankings:
    """A model's rankings of a collection, to hold others against.

    Attributes:
        documents: csr [documents, vocabulary], the model's.
        score: mean nDCG@10 of exact scores.
    """

    def __init__(self, model: NeuralSparseEncoder, collection: Collection) -> None:
        self.model = model
        self.collection = collection
        self.query_ids = list(collection.queries)
        self.queries = model.encode_queries(list(collection.queries.values()))
        self.documents = model.encode_documents(collection.texts, show_progress=True)
        self.hits, self.score = self._rank(self.documents)

    def compare(self, what: str, documents: sp.csr_matrix) -> list[Check]:
        """nDCG@10 of other vectors minus the model's, and how many queries have another top 10."""
        hits, score = self._rank(documents)
        moved = int((hits.docs != self.hits.docs).any(axis=1).sum())
        n_queries = len(self.query_ids)
        note = (
            f"{self.collection.name}: {self.score:.4f} -> {score:.4f}; "
            f"{moved:,} of {n_queries:,} queries order their top 10 differently"
        )
        return [Check(f"{MEASURE}, {what}", n_queries, score - self.score, None, note)]

    def truncated(self) -> list[Check]:
        """Lucene's 9 bits against exact weights."""
        return self.compare("Lucene's 9 bits against exact", stored(self.documents))

    def encoded_by(self, run: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]) -> sp.csr_matrix:
        """The collection encoded by another form of the model, run(ids, mask) -> weights."""
        texts, pad_id = self.collection.texts, int(self.model.tokenizer.pad_token_id or 0)
        vectors = CsrRows(self.model.vocab_size)
        with tqdm(total=len(texts), desc="encoding", unit="doc", disable=None) as progress:
            for tokens in tokenize_windows(
                texts, self.model.tokenizer, self.model.max_length, special_tokens=True
            ):
                parts, order = [], []
                packed = torch.from_numpy(tokens.ids), torch.from_numpy(tokens.offsets)
                for rows, ids, mask in split_by_length(*packed, pad_id, 1024):
                    parts.append(to_csr(run(ids, mask)))
                    order.append(rows.numpy())
                    progress.update(len(rows))
                vectors.append(sp.vstack(parts, format="csr")[np.argsort(np.concatenate(order))])
        return vectors.matrix()

    def _rank(self, documents: sp.csr_matrix) -> tuple[Hits, float]:
        index = SparseIndex.build(documents, self.collection.doc_ids)
        hits = index.search(self.queries, 10)
        run = run_from_hits(hits, self.query_ids, index.doc_ids)
        return hits, evaluate_run(run, self.collection.qrels, [MEASURE]).means[MEASURE]
