"""Cleaning of examples: which are dropped and why, their language among it, and what of the others is repaired."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import asdict, dataclass, field
from functools import cache
from typing import Any, NamedTuple

import numpy as np

from neural_sparse.corpora.overlap import TestTexts
from neural_sparse.data.layouts import Example
from neural_sparse.data.repair import repair
from neural_sparse.errors import InputError
from neural_sparse.text.shingles import words

_READ = 250  # characters looked at; more costs time and changes next to nothing


def language_of(text: str) -> str:
    """ISO 639-1 code of the likeliest language (py3langid, whose model ships with the package)."""
    import py3langid

    return str(py3langid.classify(text[:_READ])[0])


def known_languages() -> frozenset[str]:
    """Codes that `language_of` can give."""
    import py3langid

    return frozenset(str(label) for label, _ in py3langid.rank("a text"))


def check_languages(languages: Collection[str]) -> None:
    """
    Raises:
        InputError: a code that is not known.
    """
    if languages and (unknown := sorted(set(languages) - known_languages())):
        raise InputError(f"unknown language {', '.join(unknown)}; use ISO 639 codes such as en, ko, de")


# Why an example is dropped, in the order in which it is looked at.
REASONS = {
    "unknown_id": "names a query or document that is not there",
    "too_few_texts": "a set of fewer than two texts",
    "not_relevant": "a label or score that is not above 0",
    "empty": "query or relevant document without a letter or digit",
    "same_text": "the query is the relevant document",
    "query_length": "query shorter or longer than allowed",
    "document_length": "relevant document shorter or longer than allowed",
    "language": "in another language",
    "test_query": "query or relevant document is (nearly) a test query",
    "test_document": "query or relevant document is (nearly) a test document",
    "duplicate": "the same query and relevant document were there before",
    "near_duplicate": "nearly the same query and relevant document were there before",
    "not_sampled": "left out by --sample",
}


@dataclass(frozen=True)
class Cleaning:
    """What is done to examples.

    Attributes:
        repair: undo mojibake, bring to NFC, remove control characters.
        languages: codes to keep (ISO 639-1); all if empty.
        min_query_words, max_query_words, min_document_words, max_document_words: lengths to keep; documents
            that are longer than a model reads do no harm, so there is no limit by default.
        near_duplicates: Jaccard similarity from which two texts count as one; None: only equal ones.
        decontaminate: test collections (names or folders) whose queries are dropped.
        decontaminate_documents: drop examples with documents of these collections too.
    """

    repair: bool = True
    languages: tuple[str, ...] = ()
    min_query_words: int = 1
    max_query_words: int | None = None
    min_document_words: int = 1
    max_document_words: int | None = None
    near_duplicates: float | None = 0.8
    decontaminate: tuple[str, ...] = ()
    decontaminate_documents: bool = False

    def __post_init__(self) -> None:
        if self.near_duplicates is not None and not 0 < self.near_duplicates <= 1:
            raise InputError(f"near_duplicates must be above 0 and at most 1, not {self.near_duplicates}")
        for kind in ("query", "document"):
            least, most = getattr(self, f"min_{kind}_words"), getattr(self, f"max_{kind}_words")
            if least < 0 or (most is not None and most < max(least, 1)):
                raise InputError(f"min_{kind}_words={least}, max_{kind}_words={most}: nothing can be kept")
        if self.decontaminate_documents and not self.decontaminate:
            raise InputError("name the test collections whose documents are to be kept out")

    def describe(self) -> dict[str, Any]:
        return {
            key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()
        }


class Cleaned(NamedTuple):
    """An example that is kept, and the words of its query and its relevant document."""

    example: Example
    query_words: list[str]
    document_words: list[str]


@dataclass
class Counts:
    """What happened to the examples of a part.

    Attributes:
        read: examples; documents: those without a query.
        dropped: examples by reason.
        negatives, negatives_dropped: hard negatives read, and dropped because they are empty, repeated, the
            positive, or test texts.
        repaired: texts that were changed by the repair.
    """

    read: int = 0
    documents: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    negatives: int = 0
    negatives_dropped: int = 0
    repaired: int = 0

    def add(self, other: Counts) -> None:
        for name in ("read", "documents", "negatives", "negatives_dropped", "repaired"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.dropped += other.dropped

    def to_dict(self) -> dict[str, Any]:
        order = list(REASONS)
        dropped = {key: self.dropped[key] for key in order if self.dropped[key]}
        return {**asdict(self), "dropped": dropped}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Counts:
        return cls(**{**values, "dropped": Counter(values["dropped"])})


class Cleaner:
    """Applies a `Cleaning` to batches of examples; what it keeps depends on the example alone.

    Args:
        test_queries, test_documents: of the collections to keep clear of.
    """

    def __init__(
        self,
        cleaning: Cleaning,
        test_queries: TestTexts | None = None,
        test_documents: TestTexts | None = None,
    ) -> None:
        self.cleaning = cleaning
        self._tests = {"test_query": test_queries, "test_document": test_documents}

    def clean(self, examples: Sequence[Example], counts: Counts) -> list[Cleaned]:
        """The examples that are kept, repaired; documents without a query are kept unless empty."""
        kept: list[Cleaned] = []
        # A document with many queries is repaired and taken apart once.
        repaired, split = cache(repair), cache(words)
        for example in examples:
            if example.query is None:
                counts.documents += 1
            else:
                counts.read += 1
                counts.negatives += len(example.documents) - 1
            if self.cleaning.repair:
                example = _repaired(example, repaired, counts)
            query_words = split(example.query) if example.query is not None else []
            document_words = split(example.documents[0])
            if reason := self._reason(example, query_words, document_words):
                counts.dropped[reason] += example.query is not None
                continue
            kept.append(Cleaned(example, query_words, document_words))
        kept = self._without_tests(kept, counts)
        return [
            one._replace(example=example)
            for one, example in zip(kept, self._negatives(kept, counts), strict=True)
        ]

    def _reason(self, example: Example, query: list[str], document: list[str]) -> str | None:
        if example.query is None:
            return None if document else "empty"
        settings = self.cleaning
        if not query or not document:
            return "empty"
        if query == document:
            return "same_text"
        if len(query) < settings.min_query_words or len(query) > (settings.max_query_words or len(query)):
            return "query_length"
        most = settings.max_document_words or len(document)
        if len(document) < settings.min_document_words or len(document) > most:
            return "document_length"
        # Together: a query alone is often too short to tell.
        if (
            settings.languages
            and language_of(f"{example.query}\n{example.documents[0]}") not in settings.languages
        ):
            return "language"
        return None

    def _without_tests(self, kept: list[Cleaned], counts: Counts) -> list[Cleaned]:
        for reason, tests in self._tests.items():
            if tests is None:
                continue
            asked = np.array([one.example.query is not None for one in kept], bool)
            documents = tests.match([one.document_words for one in kept])
            if reason == "test_query":  # no reason to lose a document of a corpus that no example names
                documents &= asked
            found = documents | tests.match([one.query_words for one in kept])
            counts.dropped[reason] += int((found & asked).sum())
            kept = [one for one, bad in zip(kept, found.tolist(), strict=True) if not bad]
        return kept

    def _negatives(self, kept: list[Cleaned], counts: Counts) -> list[Example]:
        """The examples without negatives that are empty, repeated, the positive or test texts."""
        split = [[words(text) for text in one.example.documents[1:]] for one in kept]
        flat = [found for texts in split for found in texts]
        bad = np.zeros(len(flat), bool)
        for tests in self._tests.values():
            if tests is not None:
                bad |= tests.match(flat)
        flags = iter(bad.tolist())
        cleaned = []
        for one, texts in zip(kept, split, strict=True):
            example = one.example
            places = [0]
            seen = {tuple(one.document_words), ()}
            for place, found in enumerate(map(tuple, texts), start=1):
                if next(flags) or found in seen:
                    counts.negatives_dropped += 1
                    continue
                seen.add(found)
                places.append(place)
            documents = tuple(example.documents[place] for place in places)
            scores = tuple(example.scores[place] for place in places) if example.scores else ()
            cleaned.append(Example(example.query, documents, scores))
        return cleaned


def _repaired(example: Example, repaired: Callable[[str], str], counts: Counts) -> Example:
    query = None if example.query is None else repaired(example.query)
    documents = tuple(map(repaired, example.documents))
    counts.repaired += query != example.query
    counts.repaired += sum(
        after != before for before, after in zip(example.documents, documents, strict=True)
    )
    return Example(query, documents, example.scores)
