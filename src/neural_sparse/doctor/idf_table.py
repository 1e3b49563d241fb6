"""Rules for an IDF table: the training guide's range and mean, and what else cannot be right."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from neural_sparse.finding import Finding, ok, problem, warning
from neural_sparse.idf.inspection import HEAVIEST_ALLOWED
from neural_sparse.idf.weights import DEFAULT_IDF

# Below 1 on average most tokens would be in more than a third of all documents. The published tables have 7.98
# (MS MARCO) and 3.35 (multilingual); a table of tf, of probabilities or of ten documents is what falls below.
MEAN = 1.0
UNSEEN = 0.5  # share of the vocabulary; 0.05 in the published MS MARCO table
ENOUGH_DOCUMENTS = (
    100_000  # with so many, what is unseen is of another language rather than of too small a corpus
)
FEW_DOCUMENTS = 100
FREQUENT = 2.0  # in a text of any language some token is in every seventh document or more often
OTHER_TOKENIZER = 0.01  # share of unknown tokens; `idf_weights` refuses from here on
# Of the tokenizers in use; where no tokenizer is given they are known by name.
SPECIAL_NAMES = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "<pad>", "<unk>", "<s>", "</s>", "<mask>")
RECOUNT = "count again: neural-sparse idf CORPUS --model TOKENIZER --output idf.json"


def idf_findings(
    table: Mapping[str, Any], names: Sequence[str] | None = None, special: Sequence[str] = SPECIAL_NAMES
) -> list[Finding]:
    """All rules; if a weight is no number, only that.

    Args:
        table: {token: weight} as read from JSON.
        names: the tokenizer's tokens, if it is known.
        special: tokens that must not match anything.
    """
    bad = numbers(table)
    if bad.verdict == "problem":
        return [bad]
    ordinary = np.array([weight for token, weight in table.items() if token not in set(special)], np.float64)
    if not len(ordinary):
        return [problem("weights", "the table holds no token", RECOUNT)]
    findings = [value_range(ordinary), mean(ordinary), *documents(ordinary), unseen(ordinary)]
    findings.append(special_tokens({token: table[token] for token in special if token in table}))
    if names is not None:
        findings.append(vocabulary_size(table, names))
    return findings


def numbers(table: Mapping[str, Any]) -> Finding:
    bad = [
        token
        for token, weight in table.items()
        if isinstance(weight, bool) or not isinstance(weight, (int, float)) or not math.isfinite(weight)
    ]
    if bad:
        shown = ", ".join(f"{token!r}: {table[token]!r}" for token in bad[:3])
        return problem("weights", f"{len(bad):,} are no finite numbers ({shown})", RECOUNT)
    return ok("weights", f"{len(table):,} numbers")


def value_range(values: np.ndarray) -> Finding:
    """The guide's first figure (troubleshooting 1), held against what Lucene takes."""
    low, high = float(values.min()), float(values.max())
    found = f"{low:.2f} ~ {high:.2f}"
    if low == high:
        return problem("IDF range", found, f"all weights are equal, so no IDF was computed; {RECOUNT}")
    if light := int((values <= 0).sum()):
        return problem(
            "IDF range",
            f"{found}, {light:,} tokens weigh 0 or less",
            "OpenSearch fails a query that holds one of them; ln(1 + (N - df + 0.5) / (df + 0.5)) is always above 0: "
            f"{RECOUNT}",
        )
    if heavy := int((values > HEAVIEST_ALLOWED).sum()):
        return problem(
            "IDF range",
            f"{found}, {heavy:,} tokens weigh more than {HEAVIEST_ALLOWED:.0f}",
            f"OpenSearch fails a query that holds one of them; no corpus gives such an IDF: {RECOUNT}",
        )
    return ok("IDF range", found)


def mean(values: np.ndarray) -> Finding:
    """The guide's second figure (troubleshooting 1)."""
    found = f"{values.mean():.2f}"
    if values.mean() < MEAN:
        return warning(
            "IDF mean",
            found,
            f"below {MEAN:g}: the weights are no IDF, or of a handful of documents (published tables: 3.35 and 7.98); "
            f"{RECOUNT}",
        )
    return ok("IDF mean", found)


def documents(values: np.ndarray) -> list[Finding]:
    """How much was counted: a token in one of N documents weighs ln(1 + (N - 0.5) / 1.5)."""
    seen = values[values != DEFAULT_IDF]
    if not len(seen):
        return []
    lightest = float(seen.min())
    count = _documents(seen)
    if count < FEW_DOCUMENTS:
        return [
            warning(
                "corpus",
                f"as of about {count:,} documents",
                f"too few to tell frequent tokens from rare ones; {RECOUNT}, or take idf=FILE of a larger corpus",
            )
        ]
    if lightest > FREQUENT:
        return [
            warning(
                "corpus",
                f"the lightest token weighs {lightest:.2f}, as if none were frequent",
                "was the corpus counted whole, and by documents? idf=null counts the training documents",
            )
        ]
    return [ok("corpus", f"as of about {count:,} documents, if the rarest token is in one of them")]


def unseen(values: np.ndarray) -> Finding:
    """Tokens that weigh exactly the default, which the formula gives no token that occurs."""
    share = float((values == DEFAULT_IDF).mean())
    found = f"{share:.0%} of the tokens"
    if share <= UNSEEN:
        return ok("unseen tokens", found)
    seen = values[values != DEFAULT_IDF]
    if len(seen) and _documents(seen) >= ENOUGH_DOCUMENTS:
        return ok(
            "unseen tokens", found, "of other languages than the corpus, with so many documents counted"
        )
    return warning(
        "unseen tokens",
        found,
        f"they all weigh {DEFAULT_IDF:g}, less than most tokens that occur: count more documents "
        "(corpus=FILE adds some to those of the training data), or take idf=FILE of a larger corpus in this language",
    )


def _documents(seen: np.ndarray) -> int:
    return round((math.exp(min(float(seen.max()), HEAVIEST_ALLOWED)) - 1) * 1.5 + 0.5)


def special_tokens(weights: Mapping[str, float]) -> Finding:
    """No fault of a table: published ones give them weights, and one may occur as text ("[MASK]")."""
    heaviest = max(weights.values(), default=0.0)
    if heaviest > 0:
        found = f"up to {heaviest:.2f} in the file; they count as 0 in queries"
        return ok("special tokens", found, "set them to 0 for an engine that takes the file as it is")
    return ok("special tokens", "0" if weights else "not in the table")


def vocabulary_size(table: Mapping[str, Any], names: Sequence[str]) -> Finding:
    known = set(names)
    unknown = sum(token not in known for token in table)
    missing = sum(token not in table for token in names)
    found = f"{len(table):,} tokens, the tokenizer {len(names):,}; {unknown:,} unknown, {missing:,} missing"
    if unknown > OTHER_TOKENIZER * len(table):
        return problem(
            "vocabulary", found, f"the table belongs to another tokenizer; {RECOUNT} with the model's own"
        )
    if missing > OTHER_TOKENIZER * len(names):
        return warning("vocabulary", found, f"missing tokens weigh {DEFAULT_IDF:g}; {RECOUNT}")
    return ok("vocabulary", found)
