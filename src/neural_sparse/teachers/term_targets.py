"""What terms a document should have, by teachers of the ensemble: targets for the document vectors themselves.

A ranking loss says of a document only what the queries at hand ask. What BM25 would count in it, what a sparse
teacher adds, and what the documents beside it speak of is known for all its terms at once, without any query.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch
from tqdm import tqdm
from transformers import AutoTokenizer

from neural_sparse.config import TeacherConfig
from neural_sparse.errors import InputError
from neural_sparse.model.csr_rows import CsrRows
from neural_sparse.model.location import model_folder
from neural_sparse.model.pruning import Pruning
from neural_sparse.teachers.bi_encoder import PreparedVectors
from neural_sparse.teachers.ensemble import PreparedEnsemble
from neural_sparse.teachers.loading import loading
from neural_sparse.teachers.rows import batches
from neural_sparse.text.ragged import segment_ids
from neural_sparse.text.tokens import tokenize_windows, vocabulary
from neural_sparse.text.words import token_classes

K1, B = 0.9, 0.4  # as the BM25 teacher's
NEIGHBORS = 10
NEIGHBOR_POOL = 100_000  # documents that neighbors are sought among; a random sample of more
BLOCK = 1024  # documents whose similarities are computed at once
WEIGHED_AT_ONCE = 1 << 16  # documents


class DocumentTerms:
    """Targets of documents, by row number; made when asked for, so that a corpus of them is never held.

    Args:
        words: BM25's share of each document and class of tokens [documents, classes], without IDF.
        members: 1 where a token [vocabulary] is of a class [classes, vocabulary].
        idf: [vocabulary], decides which terms are the heaviest.
        shares: weight of each source.
        kept: terms of a document, at most.
        sparse: the sparse teacher's vectors.
        neighbors: row numbers and shares (of sum 1) of each document's nearest others [documents, documents].
    """

    def __init__(
        self,
        words: sp.csr_matrix,
        members: sp.csr_matrix,
        idf: np.ndarray,
        shares: Mapping[str, float],
        kept: int,
        sparse: PreparedVectors | None = None,
        neighbors: sp.csr_matrix | None = None,
    ) -> None:
        self._words = words
        self._members = members
        counted = np.asarray(members.sum(0)).ravel() > 0
        self._idf = np.where(counted, idf, 0).astype(np.float32)
        self._shares = shares
        self._prune = Pruning(top_k=kept)
        self._sparse = sparse
        self._neighbors = neighbors

    def __call__(self, rows: np.ndarray) -> sp.csr_matrix:
        """float32 [rows, vocabulary], in the order of `rows`; nothing for tokens whose IDF is 0."""
        words = self._shares.get("bm25", 0.0) * self._words[rows]
        if self._neighbors is not None:
            words = words + self._shares["neighbors"] * (self._neighbors[rows] @ self._words)
        terms = words @ self._members
        if self._sparse is not None:
            terms = terms + self._shares["sparse"] * self._sparse.document_vectors(rows)
        paid = sp.csr_matrix(terms @ sp.diags_array(self._idf), dtype=np.float32)
        paid.eliminate_zeros()
        paid.sort_indices()
        paid = self._prune(paid)
        paid.data /= self._idf[paid.indices]
        return paid


def prepare_term_targets(
    shares: Mapping[str, float],
    kept: int,
    documents: Sequence[str],
    tokenizer: Any,
    idf: np.ndarray,
    max_length: int,
    configs: Sequence[TeacherConfig] = (),
    teachers: PreparedEnsemble | None = None,
    trust_remote_code: Collection[str] = (),
    language: str = "english",
) -> DocumentTerms:
    """Count words and find neighbors; what takes long (the teachers' vectors) is there already.

    Args:
        shares: of the sources: "bm25", "sparse" (the ensemble's first sparse teacher) and "neighbors" (what BM25
            counts in the documents that the first dense teacher finds nearest).
        kept: terms of a document, at most.
        tokenizer, idf, max_length: of the student; texts are cut where it cuts them.
        configs, teachers: the ensemble, prepared for `documents`.
        trust_remote_code: names of teachers whose own code may be run.
        language: whose stemmer says which tokens are forms of one word.

    Raises:
        InputError: a sparse teacher of another vocabulary.
    """
    classes = token_classes(tokenizer, language)
    words = bm25_words(documents, tokenizer, classes, max_length)
    first: dict[str, Any] = {}
    for config, teacher in zip(configs, teachers.teachers if teachers else (), strict=True):
        if config.kind not in first:
            first[config.kind] = teacher
            if config.kind == "sparse" and shares.get("sparse"):
                _check_vocabulary(str(config.name), tokenizer, config.name in trust_remote_code)
    return DocumentTerms(
        words,
        _members(classes, words.shape[1]),
        idf=idf,
        shares=shares,
        kept=kept,
        sparse=first["sparse"] if shares.get("sparse") else None,
        neighbors=nearest(first["dense"], len(documents)) if shares.get("neighbors") else None,
    )


def bm25_words(
    documents: Sequence[str], tokenizer: Any, classes: np.ndarray, max_length: int
) -> sp.csr_matrix:
    """tf / (tf + k1 (1 - b + b length / mean)), float32 [documents, classes]: BM25 without IDF."""
    width = int(classes.max(initial=0)) + 1
    counted = CsrRows(width)
    with tqdm(total=len(documents), desc="counting words", unit=" docs", disable=None) as progress:
        for tokens in tokenize_windows(documents, tokenizer, max_length, special_tokens=True):
            found = classes[tokens.ids]
            rows = segment_ids(tokens.lengths)[found >= 0]
            counts = sp.csr_matrix(
                (np.ones(len(rows), np.float32), (rows, found[found >= 0])), shape=(len(tokens), width)
            )
            counts.sum_duplicates()
            counted.append(counts)
            progress.update(len(tokens))
    counts = counted.matrix()
    lengths = np.asarray(counts.sum(1)).ravel()
    norm = (K1 * (1 - B + B * lengths / max(lengths.mean(), 1e-9))).astype(np.float32)
    for rows in batches(len(lengths), WEIGHED_AT_ONCE):
        here = slice(counts.indptr[rows.start], counts.indptr[rows.stop])
        of_entries = np.repeat(norm[rows], np.diff(counts.indptr[rows.start : rows.stop + 1]))
        counts.data[here] /= counts.data[here] + of_entries
    return counts


def _members(classes: np.ndarray, count: int) -> sp.csr_matrix:
    tokens = np.flatnonzero(classes >= 0)
    ones = np.ones(len(tokens), np.float32)
    return sp.csr_matrix((ones, (classes[tokens], tokens)), shape=(count, len(classes)))


def nearest(
    dense: PreparedVectors, total: int, count: int = NEIGHBORS, pool: int = NEIGHBOR_POOL, seed: int = 0
) -> sp.csr_matrix:
    """The nearest others of each of `total` documents by cosine, csr float32 [documents, documents].

    Rows sum to 1, or are empty. Exact up to `pool` documents; of more, they are sought among a random sample.
    """
    among = np.arange(total)
    if total > pool:
        among = np.sort(np.random.default_rng(seed).choice(total, pool, replace=False))
    device = "cuda" if torch.cuda.is_available() else "cpu"
    others = _unit(dense, among, device)
    count = min(count, len(among) - 1)
    columns, values = [], []
    for start in tqdm(range(0, total, BLOCK), desc="neighbors", unit_scale=BLOCK, unit=" docs", disable=None):
        rows = np.arange(start, min(start + BLOCK, total))
        similarity = _unit(dense, rows, device) @ others.T
        itself = torch.from_numpy(among[None] == rows[:, None]).to(device)
        best = similarity.masked_fill(itself, -torch.inf).topk(count, 1)
        columns.append(among[best.indices.cpu().numpy()])
        values.append(best.values.clamp_min(0).cpu().numpy())
    shares = np.concatenate(values).astype(np.float32)
    shares /= np.maximum(shares.sum(1, keepdims=True), 1e-9)
    indptr = np.arange(total + 1) * count
    found = sp.csr_matrix((shares.ravel(), np.concatenate(columns).ravel(), indptr), shape=(total, total))
    found.eliminate_zeros()
    return found


def _unit(dense: PreparedVectors, rows: np.ndarray, device: str) -> torch.Tensor:
    vectors = torch.from_numpy(np.asarray(dense.document_vectors(rows))).to(device)
    return torch.nn.functional.normalize(vectors, dim=1)


def _check_vocabulary(name: str, tokenizer: Any, trusted: bool) -> None:
    folder = model_folder(name)
    files = [folder / "tokenizer_config.json", *sorted(folder.glob("*/tokenizer_config.json"))]
    place = next((file.parent for file in files if file.is_file()), folder)
    with loading(name):
        own = AutoTokenizer.from_pretrained(str(place), trust_remote_code=trusted)
    if vocabulary(own) != vocabulary(tokenizer):
        raise InputError(
            f"term_targets: the sparse teacher {name} has another vocabulary than the student; leave out sparse"
        )
