"""Bringing an encoded collection up to date with a corpus file, with the model and settings it was encoded with."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import repeat
from pathlib import Path
from typing import Any, TypeVar

import scipy.sparse as sp

from neural_sparse.corpora.corpus_file import corpus_documents, corpus_fields, corpus_file
from neural_sparse.errors import InputError
from neural_sparse.io.urls import Location, location
from neural_sparse.model.fingerprint import Fingerprint
from neural_sparse.model.pruning import Pruning
from neural_sparse.search.changes import Change, ChangingCollection, EncodeDocuments, changing
from neural_sparse.search.doc_ids import DocumentIds
from neural_sparse.search.encoders import backend_of, encode_tokens, load_encoder
from neural_sparse.search.fields import check_kinds
from neural_sparse.text.tokens import tokenize

T = TypeVar("T")
BATCH = 5000  # documents of one change


@dataclass(frozen=True)
class Updated:
    """What an update did: documents added, replaced, unchanged and deleted, and how many there are now."""

    added: int
    replaced: int
    unchanged: int
    deleted: int
    documents: int


class DocumentModel:
    """A model that encodes documents as collections were encoded; loaded once for each length that they were read to.

    Raises:
        InputError: no such model.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.backend = backend_of(name)
        self.encoder = load_encoder(name, backend=self.backend)
        self._by_length = {self.encoder.max_length: self.encoder}

    def encode_for(self, about: Mapping[str, Any], folder: str | Path) -> EncodeDocuments:
        """
        Args:
            about: a collection's manifest.
            folder: named in errors.

        Raises:
            InputError: the collection was encoded with another model (both are named, and in what they differ), or by
                a version that did not say with which.
        """
        if "fingerprint" not in about:
            raise InputError(f"{folder}: written by an earlier version; encode the corpus again to change it")
        length = about["max_length"]
        if length not in self._by_length:
            self._by_length[length] = load_encoder(self.name, length, backend=self.backend)
        encoder, pruning = self._by_length[length], Pruning(**about["pruning"])
        Fingerprint.read(about["fingerprint"]).require_documents(
            Fingerprint.of(encoder, pruning), str(folder)
        )

        def encode(texts: Sequence[str]) -> sp.csr_matrix:
            tokens = tokenize(list(texts), encoder.tokenizer, encoder.max_length, special_tokens=True)
            return pruning(encode_tokens(encoder, tokens, bf16=about["bf16"]))

        return encode


def update_corpus(
    model: str,
    corpus: str | Location,
    folder: str | Path,
    *,
    delete_missing: bool = False,
    batch: int = BATCH,
) -> Updated:
    """Add the documents of a corpus file to an encoded collection, replace those whose text has changed.

    In batches, each whole on the disk or not at all: the same call goes on after an interruption.

    Args:
        delete_missing: also delete what the file does not hold.
        batch: documents of one change.

    Raises:
        InputError: no such corpus, model or collection; a malformed line or an id that occurs twice, before anything
            is encoded; a collection of another model, or one that another process changes.
    """
    file = corpus_file(location(corpus))
    ids = DocumentIds.of(name for name, _ in corpus_documents(file))
    if not len(ids):
        raise InputError(f"{file}: the corpus is empty")
    with changing(folder) as collection:
        encode = DocumentModel(model).encode_for(collection.collection.about, folder)
        kinds = collection.snapshot.kinds
        if kinds:  # before anything is encoded
            check_kinds(corpus_fields(file, list(kinds)), kinds)
        fields = (row for _, row in corpus_fields(file, list(kinds))) if kinds else repeat({})
        done = [
            collection.change(
                [name for (name, _), _ in part],
                [text for (_, text), _ in part],
                encode,
                fields=[row for _, row in part] if kinds else None,
            )
            for part in _batches(zip(corpus_documents(file), fields, strict=bool(kinds)), batch)
        ]
        if delete_missing:
            done.append(_delete_missing(collection, ids, encode))
        while collection.merge():
            pass
        return Updated(
            added=sum(one.added for one in done),
            replaced=sum(one.replaced for one in done),
            unchanged=sum(one.unchanged for one in done),
            deleted=sum(one.deleted for one in done),
            documents=len(collection.snapshot),
        )


def _delete_missing(collection: ChangingCollection, ids: DocumentIds, encode: EncodeDocuments) -> Change:
    snapshot = collection.snapshot
    names = [snapshot.doc_id(int(row)) for row in snapshot.rows()]
    missing = [name for name, row in zip(names, ids.find(names).tolist(), strict=True) if row < 0]
    return collection.change([], [], encode, missing)


def _batches(documents: Iterable[T], size: int) -> Iterator[list[T]]:
    part: list[T] = []
    for document in documents:
        part.append(document)
        if len(part) == size:
            yield part
            part = []
    if part:
        yield part
