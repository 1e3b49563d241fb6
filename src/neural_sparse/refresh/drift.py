"""Whether the document side has drifted: new documents beside old ones, and rules with named thresholds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from itertools import chain
from typing import Any

import numpy as np
import scipy.sparse as sp

from neural_sparse.config import read_recipe
from neural_sparse.errors import InputError
from neural_sparse.evaluation.cost import FREQUENT_TERMS, term_share
from neural_sparse.finding import Finding, ok, warning
from neural_sparse.model.encoder import NeuralSparseEncoder
from neural_sparse.planning.estimate import Estimate, measured
from neural_sparse.planning.hardware import this_machine
from neural_sparse.planning.measure import encoding_speed
from neural_sparse.planning.rates import DEFAULT
from neural_sparse.planning.shapes import shape_of
from neural_sparse.planning.stages import plan
from neural_sparse.planning.workload import workload_of
from neural_sparse.text.shingles import words
from neural_sparse.text.tokens import tokenize

LOOKED_AT = 2000  # documents of each side
LEAST_LOOKED_AT = 20  # of fewer, shares are chance
MORE_UNSEEN = 0.1  # of all words, beyond what old documents have that other old ones lack
MORE_UNKNOWN = 0.01  # of all tokens
MORE_PIECES = 1.3  # times the tokens of a word
OTHER_TERMS = 1.5  # times the terms of a document, either way
MORE_SATURATED = 0.15  # share of the documents in the longest posting lists
MORE_CUT = 0.1  # of the documents
EMPTY = 0.01  # of the documents
RETRAINING = "tiny-cpu"  # the recipe that the estimate is of
SECONDS = 2.0  # of timing how fast documents are encoded here


@dataclass(frozen=True)
class DocumentSide:
    """Documents as words, as tokens and as vectors.

    Attributes:
        documents: how many were looked at.
        unseen: share of the words that stand that the other half of the old documents does not hold.
        unknown: share of the tokens that are the unknown one.
        pieces: tokens per word.
        cut: share of the documents that are longer than the model reads.
        terms: of a document's vector, on average. empty: share of the vectors without any.
        saturation: mean share of the documents in the posting lists of the ten most frequent terms.
    """

    documents: int
    unseen: float
    unknown: float
    pieces: float
    cut: float
    terms: float
    empty: float
    saturation: float

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def of(
        cls,
        texts: Sequence[str],
        vectors: sp.csr_matrix,
        known: frozenset[str],
        tokenizer: Any,
        max_length: int,
    ) -> DocumentSide:
        """
        Args:
            vectors: csr [documents, vocabulary] of these or of other documents of the same kind.
            known: words that were seen elsewhere.
        """
        said = list(chain.from_iterable(words(text) for text in texts))
        tokens = tokenize(list(texts), tokenizer)
        unknown = getattr(tokenizer, "unk_token_id", None)
        share = np.sort(term_share(vectors))[::-1][:FREQUENT_TERMS]
        terms = np.diff(vectors.indptr)
        return cls(
            len(texts),
            unseen=sum(word not in known for word in said) / max(1, len(said)),
            unknown=float(np.mean(tokens.ids == unknown)) if unknown is not None and len(tokens.ids) else 0.0,
            pieces=len(tokens.ids) / max(1, len(said)),
            cut=float(np.mean(tokens.lengths > max_length - 2)) if len(texts) else 0.0,
            terms=float(terms.mean()) if len(terms) else 0.0,
            empty=float(np.mean(terms == 0)) if len(terms) else 0.0,
            saturation=float(share[share > 0].mean()) if (share > 0).any() else 0.0,
        )


@dataclass(frozen=True)
class Drift:
    """Attributes:
    old, new: the two sides. findings: what the rules say of them.
    """

    old: DocumentSide
    new: DocumentSide
    findings: tuple[Finding, ...]

    @property
    def warnings(self) -> list[Finding]:
        return [one for one in self.findings if one.verdict != "ok"]

    def to_dict(self) -> dict[str, Any]:
        findings = [asdict(one) for one in self.findings]
        return {"old": self.old.to_dict(), "new": self.new.to_dict(), "findings": findings}


def drift_of(
    old: tuple[Sequence[str], sp.csr_matrix],
    new: tuple[Sequence[str], sp.csr_matrix],
    tokenizer: Any,
    max_length: int,
) -> Drift:
    """New documents beside old ones.

    Args:
        old, new: texts and vectors of the same documents, at most `LOOKED_AT` of each used.
    """
    half, other = old[0][: 2 * LOOKED_AT : 2], old[0][1 : 2 * LOOKED_AT : 2]
    known = frozenset(chain.from_iterable(words(text) for text in half))
    one = DocumentSide.of(other, old[1][: 2 * LOOKED_AT], known, tokenizer=tokenizer, max_length=max_length)
    two = DocumentSide.of(
        new[0][:LOOKED_AT], new[1][:LOOKED_AT], known, tokenizer=tokenizer, max_length=max_length
    )
    return Drift(one, two, tuple(rules(one, two)))


def rules(old: DocumentSide, new: DocumentSide) -> list[Finding]:
    """What has drifted, and what to do about it."""
    if min(old.documents, new.documents) < LEAST_LOOKED_AT:
        few = f"{old.documents} old and {new.documents} new documents"
        return [ok("document side", f"{few} are too few to compare (at least {LEAST_LOOKED_AT} of each)")]
    pairs = f"{old.documents:,} old, {new.documents:,} new documents"
    retrain = "the document side has learned nothing of these: train on the new documents, too"

    def rule(check: str, found: str, bad: bool, advice: str) -> Finding:
        return warning(check, found, advice) if bad else ok(check, found)

    ratio = new.terms / max(old.terms, 1e-9)
    return [
        rule(
            "unseen words",
            f"{old.unseen:.1%} of the words of old documents, now {new.unseen:.1%} of those of new ones ({pairs})",
            new.unseen > old.unseen + MORE_UNSEEN,
            retrain,
        ),
        rule(
            "unknown tokens",
            f"{old.unknown:.2%}, now {new.unknown:.2%} of the tokens",
            new.unknown > old.unknown + MORE_UNKNOWN,
            "the tokenizer does not know these characters, and no training teaches it: start from another model",
        ),
        rule(
            "tokens per word",
            f"{old.pieces:.2f}, now {new.pieces:.2f}",
            new.pieces > MORE_PIECES * old.pieces,
            retrain + ", or start from a model that knows this language",
        ),
        rule(
            "cut documents",
            f"{old.cut:.0%}, now {new.cut:.0%} are longer than the model reads",
            new.cut > old.cut + MORE_CUT,
            "split documents into passages, or train with a greater max_length",
        ),
        rule(
            "terms per document",
            f"{old.terms:.0f}, now {new.terms:.0f}",
            ratio > OTHER_TERMS or ratio < 1 / OTHER_TERMS,
            "the cost of a query and the meaning of a score change with it: train on the new documents, too",
        ),
        rule(
            "empty documents",
            f"{old.empty:.1%}, now {new.empty:.1%}",
            new.empty > old.empty + EMPTY,
            "no query finds them: train on the new documents, too",
        ),
        rule(
            "saturation",
            f"{old.saturation:.0%}, now {new.saturation:.0%} of the documents in the ten longest posting lists",
            new.saturation > old.saturation + MORE_SATURATED,
            "a term that most new documents have tells none from another: train on them, too",
        ),
    ]


def _known_size(name: str) -> bool:
    try:
        shape_of(name)
    except InputError:
        return False
    return True


def retraining(model: NeuralSparseEncoder, sample: Sequence[str], documents: int) -> list[Estimate]:
    """What training and encoding anew would take here: stages of the recipe `RETRAINING`.

    How fast documents are encoded is timed on the sample; the other rates are taken to be as much faster or slower than
    those that plans rest on.

    Args:
        documents: old and new ones.
    """
    texts = list(sample)[:512]
    lengths = tokenize(texts, model.tokenizer, model.max_length, special_tokens=True).lengths
    tokens = float(lengths.mean())
    shape = shape_of(model.name)
    flops = encoding_speed(model, texts, SECONDS) * (shape.body_flops(tokens) + shape.head_flops)
    machine = this_machine()
    if machine.devices:
        rates = replace(DEFAULT, of_devices={"encoding": measured(flops, "timed here")})
    else:
        rates = DEFAULT
        machine = replace(machine, core_speed=flops / machine.cores / DEFAULT.encoding.value)
    recipe = read_recipe(RETRAINING, ["train=documents"])
    teachers = tuple(one for one in recipe.teachers if one.name is None or _known_size(one.name))
    recipe = replace(recipe, init=model.name, max_length=model.max_length, teachers=teachers)
    work = workload_of(recipe, documents=documents, queries=documents)
    work = replace(work, document_tokens=measured(tokens, "counted in the new documents"))
    return plan(recipe, work, machine, rates)
