"""What is refreshed: an encoded index, or a model and its documents."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp

from neural_sparse.adapt.corpus import Text, documents_at, held
from neural_sparse.adapt.settings import corpus_sum
from neural_sparse.errors import InputError
from neural_sparse.idf import DocumentCounter, DocumentFrequencies, IdfWeights, idf_weights
from neural_sparse.idf.counting import text_batches
from neural_sparse.model.encoder import NeuralSparseEncoder
from neural_sparse.model.pruning import Pruning
from neural_sparse.refresh.settings import RefreshSettings
from neural_sparse.search.encoded import MANIFEST, EncodedCollection

MOST_SEARCHED = 100_000  # documents of an index that are judged among
_TOGETHER = 500  # documents of a large index whose vectors are read


@dataclass
class Base:
    """
    Attributes:
        name: as given. model_name: of what encodes its documents.
        tokenizer; weights: its query side.
        pruning: of its documents.
        index: of an encoded collection; None of a model.
    """

    name: str
    model_name: str
    tokenizer: Any
    weights: IdfWeights
    pruning: Pruning
    max_length: int | None
    corpus: Path | None = None
    index: EncodedCollection | None = None

    @classmethod
    def of(cls, settings: RefreshSettings) -> Base:
        """
        Raises:
            InputError: neither an index nor a model; a model without its documents; a siamese one.
        """
        folder = Path(settings.base)
        if (folder / MANIFEST).is_file():
            index = EncodedCollection(folder)
            _check_table(settings.base, index.query_encoder)
            about = index.about
            if "passages" in about:
                raise InputError(
                    f"{folder} holds passages: refresh the model ({about['model']}) with --corpus, and encode anew"
                )
            return cls(
                settings.base,
                settings.model or about["model"],
                index.tokenizer,
                weights=idf_weights(folder / "idf.json", index.tokenizer),
                pruning=Pruning(**about.get("pruning", {})),
                max_length=about["max_length"],
                index=index,
            )
        if settings.corpus is None:
            raise InputError(
                f"{settings.base} is a model, which does not know its documents: name them with --corpus, or refresh "
                "an index that `neural-sparse encode` made"
            )
        encoder = NeuralSparseEncoder(settings.base)
        _check_table(settings.base, encoder.query_encoder)
        found = cls(
            settings.base,
            settings.model or settings.base,
            encoder.tokenizer,
            weights=encoder.idf_table(),
            pruning=Pruning(),
            max_length=None,
            corpus=settings.corpus,
        )
        if settings.model is None:
            found.encoder = encoder
        return found

    @cached_property
    def encoder(self) -> NeuralSparseEncoder:
        """What encodes documents; loaded when it is first asked for."""
        return NeuralSparseEncoder(self.model_name, self.max_length)

    def counted(self, without: frozenset[str] = frozenset()) -> DocumentFrequencies:
        """In how many old documents each token occurs, those of `without` left out."""
        texts = (one.whole for one in self.documents() if one.doc_id not in without)
        source = None if self.index is not None or self.corpus is None else corpus_sum(self.corpus)
        return frequencies(texts, self.tokenizer, source)

    def documents(self) -> Iterator[Text]:
        """The old documents, streamed."""
        if self.index is not None:
            for row, doc_id in enumerate(self.index.doc_ids):
                yield Text(doc_id, "", self.index.text(row))
        elif self.corpus is not None:
            yield from documents_at(self.corpus)

    def sample(self, most: int, seed: int, without: frozenset[str], needed: frozenset[str]) -> list[Text]:
        """Old documents to judge among: `needed` ones, and others drawn by their ids."""
        most = most if self.index is None else MOST_SEARCHED  # whose vectors are there
        return held((one for one in self.documents() if one.doc_id not in without), most, seed, needed)

    def known_vectors(self, documents: list[Text]) -> tuple[sp.csr_matrix, np.ndarray]:
        """Vectors of the documents that the index holds word for word, and which these are: bool [documents]."""
        size = len(self.weights)
        if self.index is None:
            return sp.csr_matrix(np.zeros((0, size), np.float32)), np.zeros(len(documents), bool)
        row_of = {doc_id: row for row, doc_id in enumerate(self.index.doc_ids)}
        rows = [row_of.get(one.doc_id, -1) for one in documents]
        there = np.array(
            [
                row >= 0 and self.index.text(row) == one.whole
                for row, one in zip(rows, documents, strict=True)
            ],
            bool,
        )
        wanted = np.array([row for row, kept in zip(rows, there, strict=True) if kept], np.int64)
        if len(self.index.index) <= 2 * MOST_SEARCHED:
            return self.index.index.vectors()[wanted], there
        parts = [wanted[start : start + _TOGETHER] for start in range(0, len(wanted), _TOGETHER)]
        return sp.vstack([self.index.index.vectors(part.tolist()) for part in parts], format="csr"), there


def _check_table(name: str, query_encoder: str) -> None:
    if query_encoder != "inference-free":
        raise InputError(
            f"{name}: its queries go through a transformer (query_encoder: {query_encoder}), so that there are no "
            "query weights and nothing to refresh; add documents with `neural-sparse encode --update`, and train on "
            "them if queries are to know more of their words"
        )


def frequencies(texts: Iterable[str], tokenizer: Any, source: str | None) -> DocumentFrequencies:
    """Document frequencies of texts, streamed; `source` names where they came from."""
    counter = DocumentCounter(tokenizer)
    for batch in text_batches(texts):
        counter.add(batch)
    return counter.take(source)
