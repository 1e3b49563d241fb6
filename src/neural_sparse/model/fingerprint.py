"""Whose vectors an index or an export holds: model, query side, tokenizer and pruning, so that others are refused."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Protocol

from neural_sparse.errors import InputError
from neural_sparse.model.pruning import Pruning
from neural_sparse.text.tokens import fingerprint

_NAMES = {
    "documents": "the document side's weights",
    "max_length": "the tokens read of a document",
    "queries": "the query side",
    "tokenizer": "the tokenizer",
    "pruning": "the pruning",
}


class Described(Protocol):
    """What a fingerprint is made from: a `NeuralSparseEncoder`, or an `ExportedEncoder` of it."""

    name: str

    @property
    def documents_digest(self) -> str: ...
    @property
    def queries_digest(self) -> str: ...
    @property
    def tokenizer(self) -> Any: ...
    @property
    def max_length(self) -> int: ...


@dataclass(frozen=True)
class Fingerprint:
    """What decides the vectors of documents and queries.

    Attributes:
        name: what the model was called, for messages; not compared.
        documents: as `NeuralSparseEncoder.documents_digest`.
        queries: as `NeuralSparseEncoder.queries_digest`.
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
    def of(cls, model: Described, pruning: Pruning | None = None) -> Fingerprint:
        tokenizer = model.tokenizer
        return cls(
            model.name,
            model.documents_digest,
            queries=model.queries_digest,
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
        """As `require`, of what makes queries: query side and tokenizer alone."""
        if (self.queries, self.tokenizer) != (other.queries, other.tokenizer):
            self.require(other, holder)

    def __str__(self) -> str:
        kept = [f"{name} {value:g}" for name, value in asdict(self.pruning).items() if value]
        return (
            f"{self.name!r} (documents {self.documents[:8]}, {self.max_length} tokens, queries {self.queries[:8]}, "
            f"tokenizer {self.tokenizer[:8]}, pruning {' '.join(kept) or 'none'})"
        )
