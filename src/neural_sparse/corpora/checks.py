"""Is a collection sound: empty and repeated texts, and how much of it a model never sees."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from neural_sparse.corpora.collection import Collection
from neural_sparse.text.shingles import normalised

_SHOWN = 5
_SAMPLE = 20_000


@dataclass(frozen=True)
class Soundness:
    """Counts of what is odd in a collection, each with the first few ids.

    Attributes:
        empty_documents, empty_queries: texts without a letter or digit.
        duplicate_documents: documents whose normalised text an earlier document has; a relevant document's
            double takes its place in the ranking without being judged.
        duplicate_queries: as above, for queries.
        relevant_empty: relevant documents without text: no system can find them.
        truncated_documents: share of documents longer than the model reads; None without a tokenizer.
        truncated_tokens: share of all document tokens that the model never sees; None without a tokenizer.
            Both are estimated from `_SAMPLE` documents where there are more.
    """

    documents: int
    queries: int
    empty_documents: int
    empty_queries: int
    duplicate_documents: int
    duplicate_queries: int
    relevant_empty: int
    truncated_documents: float | None = None
    truncated_tokens: float | None = None
    examples: dict[str, list[str]] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    def remarks(self) -> list[str]:
        """What is worth saying, a sentence each; empty for a sound collection."""
        named = {
            "empty_documents": (self.empty_documents, self.documents, "documents have no text"),
            "empty_queries": (self.empty_queries, self.queries, "queries have no text"),
            "duplicate_documents": (
                self.duplicate_documents,
                self.documents,
                "documents repeat an earlier one",
            ),
            "duplicate_queries": (self.duplicate_queries, self.queries, "queries repeat an earlier one"),
            "relevant_empty": (self.relevant_empty, self.documents, "relevant documents have no text"),
        }
        said = [
            f"{count:,} of {total:,} {what} ({', '.join(self.examples[key])}{', ...' * (count > _SHOWN)})"
            for key, (count, total, what) in named.items()
            if count
        ]
        if self.truncated_documents:
            said.append(
                f"{self.truncated_documents:.0%} of the documents are longer than the model "
                f"reads: {self.truncated_tokens or 0:.0%} of all tokens are never seen"
            )
        return said


def check_collection(
    collection: Collection, tokenizer: Any = None, max_length: int | None = None
) -> Soundness:
    """Look for empty and repeated texts and, with a transformers tokenizer, for truncation.

    Args:
        max_length: tokens a model reads of a document, special ones included.
    """
    documents = [normalised(text) for text in collection.texts]
    queries = {query_id: normalised(text) for query_id, text in collection.queries.items()}
    without_text = {doc_id for doc_id, text in zip(collection.doc_ids, documents, strict=True) if not text}
    relevant = {
        doc_id for grades in collection.qrels.values() for doc_id, grade in grades.items() if grade >= 1
    }
    found = {
        "empty_documents": [doc_id for doc_id in collection.doc_ids if doc_id in without_text],
        "empty_queries": [query_id for query_id, text in queries.items() if not text],
        "duplicate_documents": _repeated(collection.doc_ids, documents),
        "duplicate_queries": _repeated(list(queries), list(queries.values())),
        "relevant_empty": [doc_id for doc_id in collection.doc_ids if doc_id in without_text & relevant],
    }
    truncated: float | None = None
    unseen: float | None = None
    if tokenizer is not None and max_length is not None:
        truncated, unseen = _truncation(
            collection.texts[:: max(1, -(-len(documents) // _SAMPLE))], tokenizer, max_length
        )
    return Soundness(
        len(documents),
        len(queries),
        **{key: len(ids) for key, ids in found.items()},
        truncated_documents=truncated,
        truncated_tokens=unseen,
        examples={key: ids[:_SHOWN] for key, ids in found.items() if ids},
    )


def _repeated(ids: Sequence[str], texts: Sequence[str]) -> list[str]:
    seen: set[str] = set()
    repeated = []
    for one, text in zip(ids, texts, strict=True):
        if text and text in seen:
            repeated.append(one)
        seen.add(text)
    return repeated


def _truncation(texts: Sequence[str], tokenizer: Any, max_length: int) -> tuple[float, float]:
    limit = max_length - tokenizer.num_special_tokens_to_add()
    truncated = total = unseen = 0
    for start in range(0, len(texts), 1000):
        # verbose=False: no warning about texts longer than the model takes, they are what is counted
        batch = tokenizer(
            list(texts[start : start + 1000]), add_special_tokens=False, truncation=False, verbose=False
        )
        for tokens in batch["input_ids"]:
            total += len(tokens)
            unseen += max(0, len(tokens) - limit)
            truncated += len(tokens) > limit
    return truncated / max(len(texts), 1), unseen / max(total, 1)
