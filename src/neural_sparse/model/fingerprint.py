"""Whose vectors an index or an export holds: model, query table, tokenizer and pruning, so that others are refused."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from neural_sparse.errors import InputError
from neural_sparse.model.pruning import Pruning
from neural_sparse.query import query_fingerprint
from neural_sparse.text.tokens import fingerprint

if TYPE_CHECKING:
    from neural_sparse.model.encoder import NeuralSparseEncoder

_NAMES = {
    "documents": "the document side's weights",
    "max_length": "the tokens read of a document",
    "queries": "the query table",
    "tokenizer": "the tokenizer",
    "pruning": "the pruning",
}


@dataclass(frozen=True)
class Fingerprint:
    """What decides the vectors of documents and queries.

    Attributes:
        name: what the model was called, for messages; not compared.
        documents: sha256 of the document side's tensors and activation.
        queries: as `query.QueryEncoder.fingerprint`: sha256 of tokens and query weights.
        tokenizer: as `text.tokens.fingerprint`.
        max_length: tokens read of a document.
        pruning: see `model.pruning.Pruning`; what was done to the vectors afterwards.
    """

    name: str
    documents: str
    queries: str
    tokenizer: str
    max_length: int
    pruning: Pruning

    @classmethod
    def of(cls, model: NeuralSparseEncoder, pruning: Pruning | None = None) -> Fingerprint:
        digest = hashlib.sha256(model.activation.encode())
        for name, tensor in sorted(model.routes["document"].state_dict().items()):
            digest.update(f"{name} {tuple(tensor.shape)}".encode())
            digest.update(memoryview(tensor.detach().float().cpu().contiguous().numpy()).cast("B"))
        tokenizer = model.tokenizer
        return cls(
            model.name,
            digest.hexdigest(),
            queries=query_fingerprint(tokenizer.get_vocab(), model.idf_table().vector),
            tokenizer=fingerprint(tokenizer),
            max_length=model.max_length,
            pruning=pruning or Pruning(),
        )

    @classmethod
    def read(cls, content: Mapping[str, Any]) -> Fingerprint:
        """From JSON. Raises KeyError or TypeError where something lacks."""
        return cls(**{**content, "pruning": Pruning(**content["pruning"])})

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    def require(self, other: Fingerprint, holder: str) -> None:
        """Refuse what is not of the same vectors.

        Args:
            holder: what carries this fingerprint, for the message.

        Raises:
            InputError: they differ; both are named, and in what.
        """
        if differing := [words for key, words in _NAMES.items() if getattr(self, key) != getattr(other, key)]:
            raise InputError(
                f"{holder} holds vectors of {self}; these are of {other}. They differ in {', '.join(differing)}: "
                "encode all documents with one of them, or name the other"
            )

    def require_documents(self, other: Fingerprint, holder: str) -> None:
        """As `require`, of what makes documents: query weights may have been refreshed."""
        self.require(replace(other, queries=self.queries), holder)

    def require_model(self, other: Fingerprint, holder: str) -> None:
        """As `require`, of network and tokenizer alone: an engine that encodes documents itself decides how many of
        their tokens it reads, and what it prunes."""
        self.require_documents(replace(other, max_length=self.max_length, pruning=self.pruning), holder)

    def require_queries(self, other: Fingerprint, holder: str) -> None:
        """As `require`, of what makes queries: its table and tokenizer alone."""
        if (self.queries, self.tokenizer) != (other.queries, other.tokenizer):
            self.require(other, holder)

    def __str__(self) -> str:
        kept = [f"{name} {value:g}" for name, value in asdict(self.pruning).items() if value]
        return (
            f"{self.name!r} (documents {self.documents[:8]}, {self.max_length} tokens, queries {self.queries[:8]}, "
            f"tokenizer {self.tokenizer[:8]}, pruning {' '.join(kept) or 'none'})"
        )
