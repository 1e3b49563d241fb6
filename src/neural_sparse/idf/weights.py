"""The weight table: the formula, its file, and a table laid over a tokenizer's vocabulary."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from numbers import Real
from pathlib import Path
from typing import Any

import numpy as np

from neural_sparse.errors import InputError
from neural_sparse.idf.counting import BATCH, DocumentFrequencies, document_frequencies
from neural_sparse.io.files import read_json, write_json
from neural_sparse.text.tokens import fingerprint, vocabulary

DEFAULT_IDF = 1.0  # of a token that occurs in no document, as in the published tables


class IdfWeights(dict[str, float]):
    """{token: weight} over a whole vocabulary, in the order of its ids.

    Attributes:
        vector: float32 [vocabulary], the query weight of each id: the table's value, 0 for special tokens.
        default_idf: weight of tokens that occur in no document, which the formula gives no token that occurs.
    """

    def __init__(
        self, table: Mapping[str, float], vector: np.ndarray, default_idf: float = DEFAULT_IDF
    ) -> None:
        super().__init__(table)
        self.vector = vector
        self.default_idf = default_idf


def compute_idf_weights(
    documents: Iterable[str],
    tokenizer: Any,
    save_path: str | Path | None = None,
    *,
    default_idf: float = DEFAULT_IDF,
    batch_size: int = BATCH,
    show_progress: bool = True,
) -> IdfWeights:
    """Inverse document frequencies, the formula of `idf_from_counts`, of every token of the vocabulary.

    Args:
        documents: any iterable of texts; streamed, never held.
        tokenizer: the retriever's own tokenizer; special tokens are not added.
        save_path: where to write the table as flat JSON {token: weight}.
        default_idf: weight of tokens that occur in no document.

    Raises:
        InputError: no documents, or an entry that is no string.
    """
    if save_path is not None and Path(save_path).is_dir():
        raise InputError(f"cannot write {save_path}: it is a folder")
    frequencies = document_frequencies(documents, tokenizer, batch_size, show_progress)
    weights = weights_of(frequencies, tokenizer, default_idf)
    if save_path is not None:
        save_idf_weights(weights, save_path)
    if show_progress:
        print(describe(weights, frequencies))
    return weights


def weights_of(
    frequencies: DocumentFrequencies, tokenizer: Any, default_idf: float = DEFAULT_IDF
) -> IdfWeights:
    """The table that document frequencies give.

    Raises:
        InputError: no document, no token in any of them, or counts of another tokenizer.
    """
    counts, documents = frequencies.counts, frequencies.documents
    if frequencies.tokenizer != fingerprint(tokenizer):
        raise InputError("the counts belong to another tokenizer than the model's; count with the same model")
    if documents == 0:
        raise InputError("cannot compute IDF: the corpus is empty")
    if not counts.any():
        raise InputError(f"cannot compute IDF: none of the {documents} documents has a token")
    # As queries weigh them; the last bits of a float64 logarithm depend on the processor.
    idf = idf_from_counts(counts, documents).astype(np.float32)
    idf[counts == 0] = default_idf
    return idf_weights(dict(zip(vocabulary(tokenizer), idf.tolist(), strict=True)), tokenizer, default_idf)


def without_common(weights: IdfWeights, least: float) -> IdfWeights:
    """A table in which tokens that weigh less than `least` weigh nothing, as stop words do; those of no document keep
    their weight.

    >>> without_common(IdfWeights({"the": 0.1, "cat": 3.0}, np.array([0.1, 3.0], np.float32)), 1.5)
    {'the': 0.0, 'cat': 3.0}
    """

    def kept(weight: Any) -> Any:
        return (weight >= least) | (weight == weights.default_idf)

    table = {token: weight if kept(weight) else 0.0 for token, weight in weights.items()}
    vector = np.where(kept(weights.vector), weights.vector, np.float32(0))
    return IdfWeights(table, vector, weights.default_idf)


def adapt_weights(
    own: Mapping[str, float], trained: Mapping[str, float], start: Mapping[str, float], tokenizer: Any
) -> IdfWeights:
    """Trained query weights for another corpus: its own IDF times what training made of the IDF it began at.

    Args:
        own: IDF of the corpus; trained: the model's weights; start: the table that its training began at.

    Returns:
        own * trained / start; own where the start weighed a token 0.

    Raises:
        InputError: a table of another tokenizer.
    """
    new, learned, before = (
        idf_weights(table, tokenizer).vector.astype(np.float64) for table in (own, trained, start)
    )
    ratio = np.divide(learned, before, out=np.ones_like(learned), where=before > 0)
    return idf_weights(dict(zip(vocabulary(tokenizer), (new * ratio).tolist(), strict=True)), tokenizer)


def describe(weights: Mapping[str, float], frequencies: DocumentFrequencies) -> str:
    """Range and mean as the training guide prints them, and how much of the vocabulary was seen."""
    values = np.fromiter(weights.values(), np.float64, len(weights))
    seen = np.count_nonzero(frequencies.counts)
    return (
        f"IDF range: {values.min():.2f} ~ {values.max():.2f}\n"
        f"IDF mean: {values.mean():.2f}\n"
        f"{seen:,} of {len(values):,} tokens occur in {frequencies.documents:,} documents"
    )


def idf_from_counts(counts: np.ndarray, n_documents: int) -> np.ndarray:
    """ln(1 + (N - df + 0.5) / (df + 0.5)), BM25's non-negative IDF (arXiv 2411.04403, section 3), float64.

    >>> idf_from_counts(np.array([1, 50, 100]), 100).round(2)
    array([4.21, 0.69, 0.  ])
    """
    return np.log1p((n_documents - counts + 0.5) / (counts + 0.5))


def idf_weights(
    table: Mapping[str, float] | str | Path, tokenizer: Any, default_idf: float = DEFAULT_IDF
) -> IdfWeights:
    """A table {token: weight}, or the file that holds one, laid over a tokenizer's vocabulary.

    Args:
        table: tokens it lacks weigh `default_idf`; special tokens weigh 0 in queries whatever it says.

    Raises:
        InputError: a table of another tokenizer (more than a hundredth of its tokens are unknown), or
            a weight that is negative or not a number.
    """
    if isinstance(table, IdfWeights):
        if list(table) == vocabulary(tokenizer):
            return table
        source = "the IDF table"
    elif isinstance(table, Mapping):
        source = "the IDF table"
    else:
        source = str(table)
        table = read_table(table)
    names = vocabulary(tokenizer)
    ids = {name: index for index, name in enumerate(names)}
    unknown = [token for token in table if token not in ids]
    if not table or len(unknown) > 0.01 * len(table):
        raise InputError(
            f"{source} belongs to another tokenizer: {len(unknown):,} of its {len(table):,} tokens are unknown "
            f"here (for example {unknown[:3]}); compute one with `neural-sparse idf`"
        )
    vector = np.full(len(names), default_idf, np.float64)
    for token, weight in table.items():
        _check_weight(token, weight, source)
        if token in ids:
            vector[ids[token]] = weight
    full = dict(zip(names, vector.tolist(), strict=True))
    vector[tokenizer.all_special_ids] = 0.0
    return IdfWeights(full, vector.astype(np.float32), default_idf)


def _check_weight(token: str, weight: Any, source: str) -> None:
    if isinstance(weight, bool) or not isinstance(weight, Real) or not math.isfinite(weight) or weight < 0:
        raise InputError(f"{source}: the weight of {token!r} is {weight!r}, not a number >= 0")


def read_table(path: str | Path) -> dict[str, float]:
    """A file of flat JSON {token: weight}, as it is.

    Raises:
        InputError: no such file, no such JSON, or a weight that is negative or not a number.
    """
    table = read_json(path)
    if not isinstance(table, dict):
        raise InputError(f"{path}: expected a flat JSON object {{token: weight}}")
    for token, weight in table.items():
        _check_weight(token, weight, str(path))
    return table


def save_idf_weights(weights: Mapping[str, float], path: str | Path) -> None:
    """Write flat JSON {token: weight}, the format of OpenSearch's sparse tokenizers."""
    write_json(path, dict(weights))
