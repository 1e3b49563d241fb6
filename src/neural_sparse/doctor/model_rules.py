"""Rules for a model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from neural_sparse.doctor.finding import Finding, ok, problem, warning
from neural_sparse.doctor.run_rules import DENSE, FEW_TERMS, MANY_TERMS
from neural_sparse.idf.inspection import HEAVIEST_ALLOWED

UNKNOWN = 0.3  # share of unknown tokens from which a language is not read
# Share of ordinary tokens that no text brings up, though the texts hold them all. Measured: 0.28 to 0.31 for a
# published start, 0.42 to 0.47 after training at FLOPS 0.7 to 1.
DEAD = 0.9


@dataclass(frozen=True)
class LanguageSample:
    """A language's sample texts.

    Attributes:
        terms: non-zero terms per text.
        unknown: share of unknown tokens.
    """

    terms: Sequence[int]
    unknown: float


def vocabularies(sizes: Mapping[str, int]) -> Finding:
    listed = ", ".join(f"{part} {size:,}" for part, size in sizes.items())
    if len(set(sizes.values())) > 1:
        return problem(
            "vocabulary", listed, "the parts belong to different models: save them together, from one run"
        )
    return ok("vocabulary", listed)


def broken_weights(names: Sequence[str]) -> Finding:
    """Parameters that hold NaN or infinity."""
    if names:
        return problem(
            "weights",
            f"NaN or infinite in {len(names)} tensors ({', '.join(names[:3])})",
            "take the checkpoint before; then a smaller learning_rate, bf16=false or max_grad_norm=1",
        )
    return ok("weights", "all finite")


def document_specials(heaviest: Mapping[str, float]) -> Finding:
    """{special token: its heaviest weight in a document}, those above 0 only."""
    if not heaviest:
        return ok("special tokens, documents", "silent")
    shown = ", ".join(f"{token} {weight:.2f}" for token, weight in heaviest.items())
    return warning(
        "special tokens, documents",
        f"weigh up to {shown}",
        "not where this package loads the folder, but in plain sentence-transformers they take room in the index and "
        "cost FLOPS: NeuralSparseEncoder(FOLDER).save_pretrained(FOLDER)",
    )


def query_specials(weights: Mapping[str, float]) -> Finding:
    """{special token: query weight}, those other than 0 only."""
    if not weights:
        return ok("special tokens, queries", "silent")
    shown = ", ".join(f"{token} {weight:g}" for token, weight in weights.items())
    return problem(
        "special tokens, queries",
        f"weigh {shown}",
        "not where this package loads the folder, but in plain sentence-transformers a query with an unknown character "
        "would match them: NeuralSparseEncoder(FOLDER).save_pretrained(FOLDER)",
    )


def query_weights(values: np.ndarray, own_table: bool) -> Finding:
    """
    Args:
        values: of ordinary tokens.
        own_table: whether the model brings a query table.
    """
    if not own_table:
        return ok("query weights", "none: a model to start from", "training gives it IDF (`idf=`)")
    if not np.isfinite(values).all():
        return problem("query weights", "NaN or infinite", "give the table again: idf='idf.json'")
    low, high = float(values.min()), float(values.max())
    found = f"{low:.2f} ~ {high:.2f}, mean {values.mean():.2f}"
    if low == high:
        return problem(
            "query weights", found, "all equal: the model was saved without IDF; idf='idf.json' gives it one"
        )
    if low < 0 or high > HEAVIEST_ALLOWED:
        return problem(
            "query weights",
            found,
            f"engines take weights from 0 to {HEAVIEST_ALLOWED:.0f}: idf='idf.json', or `export --clip-query-weights`",
        )
    if zeros := int((values == 0).sum()):
        share = zeros / len(values)
        return ok(
            "query weights",
            f"{found}; {zeros:,} tokens ({share:.1%}) weigh 0 and never match",
            "export clips them",
        )
    return ok("query weights", found)


def sample_terms(languages: Mapping[str, LanguageSample], vocabulary: int) -> list[Finding]:
    """How sparse the sample texts come out, in the languages that the tokenizer reads."""
    read = {name: sample for name, sample in languages.items() if sample.unknown <= UNKNOWN}
    strange = [name for name in languages if name not in read]
    if not read:
        return [
            problem(
                "sample texts",
                "most tokens are unknown in every language tried",
                "is this the model's own tokenizer? It has to be saved beside the weights",
            )
        ]
    findings = [
        ok(
            "languages",
            f"tokens are known in {', '.join(read)}" + (f"; not in {', '.join(strange)}" if strange else ""),
        )
    ]
    counts = {name: float(np.mean(sample.terms)) for name, sample in read.items()}
    typical = float(np.median(list(counts.values())))
    found = ", ".join(f"{name} {count:,.0f}" for name, count in counts.items()) + " terms per text"
    empty = [name for name, sample in read.items() if not any(sample.terms)]
    if len(empty) == len(read):
        advice = (
            "collapsed: train again with a smaller lambda_flops or learning_rate, or longer flops_ramp_steps"
        )
        findings.append(problem("sparsity", found, advice))
    elif typical > DENSE * vocabulary:
        advice = (
            f"dense, with {vocabulary:,} dimensions: not trained yet, or diverged. lambda_flops=0.02 makes it sparse; "
            "a smaller learning_rate keeps it from diverging"
        )
        findings.append(problem("sparsity", found, advice))
    elif typical > MANY_TERMS:
        advice = "lambda_flops too small: 0.05 instead of 0.02, or more num_steps (70,000 instead of 50,000)"
        findings.append(warning("sparsity", found, advice))
    elif typical < FEW_TERMS:
        advice = "lambda_flops too large: 0.01 instead of 0.02; or pre-train longer"
        findings.append(warning("sparsity", found, advice))
    elif empty:
        findings.append(ok("sparsity", found, f"nothing finds a text in {', '.join(empty)}"))
    else:
        findings.append(ok("sparsity", found))
    return findings


def dead_dimensions(share: float, looked_at: int) -> Finding:
    """
    Args:
        share: of the tokens looked at, those that no text brought up although it held them.
        looked_at: how many tokens.
    """
    found = f"{share:.0%} of {looked_at:,} tokens come up in no text, not even one that holds them"
    if share > DEAD:
        return warning(
            "dead dimensions",
            found,
            "queries with them find nothing: a smaller lambda_flops or learning_rate, or training data that hold more "
            "of the vocabulary",
        )
    return ok("dead dimensions", found)
