"""Inverse document frequency of a corpus on a model's own tokenizer: the query side of the retriever."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sized
from itertools import islice
from numbers import Real
from pathlib import Path
from typing import Any

import numba
import numpy as np
from tqdm import tqdm

from neural_sparse.errors import InputError
from neural_sparse.files import read_json, write_json
from neural_sparse.tokens import tokenize, vocabulary

DEFAULT_IDF = 1.0  # of a token that occurs in no document, as in the published tables


class IdfWeights(dict[str, float]):
    """{token: weight} over a whole vocabulary, in the order of its ids.

    Attributes:
        vector: float32 [vocabulary], the query weight of each id: the table's value, 0 for special tokens.
    """

    def __init__(self, table: Mapping[str, float], vector: np.ndarray) -> None:
        super().__init__(table)
        self.vector = vector


def compute_idf_weights(
    documents: Iterable[str],
    tokenizer: Any,
    save_path: str | Path | None = None,
    *,
    default_idf: float = DEFAULT_IDF,
    batch_size: int = 8192,
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
    counts, n_documents = document_frequencies(documents, tokenizer, batch_size, show_progress)
    if n_documents == 0:
        raise InputError("cannot compute IDF: the corpus is empty")
    idf = idf_from_counts(counts, n_documents)
    idf[counts == 0] = default_idf
    names = vocabulary(tokenizer)
    weights = idf_weights(dict(zip(names, idf.tolist(), strict=True)), tokenizer)
    seen = idf[counts > 0]
    if len(seen) == 0:
        raise InputError(f"cannot compute IDF: none of the {n_documents} documents has a token")
    if save_path is not None:
        save_idf_weights(weights, save_path)
    if show_progress:
        print(f"IDF range: {idf.min():.2f} ~ {idf.max():.2f}")
        print(f"IDF mean: {idf.mean():.2f}")
        print(f"{len(seen):,} of {len(idf):,} tokens occur in {n_documents:,} documents")
    return weights


def document_frequencies(
    documents: Iterable[str], tokenizer: Any, batch_size: int = 8192, show_progress: bool = True
) -> tuple[np.ndarray, int]:
    """In how many documents each token occurs, int64 [vocabulary], and the number of documents."""
    counts = np.zeros(len(vocabulary(tokenizer)), np.int64)
    last_document = np.full(len(counts), -1, np.int64)
    n_documents = 0
    total = len(documents) if isinstance(documents, Sized) else None
    with tqdm(total=total, desc="IDF", unit="doc", disable=None if show_progress else True) as progress:
        for batch in _batches(documents, batch_size):
            tokens = tokenize(batch, tokenizer)
            if len(tokens.ids) and tokens.ids.max() >= len(counts):
                raise InputError("the tokenizer gives ids beyond its own vocabulary")
            _count_once_per_document(tokens.ids, tokens.offsets, n_documents, counts, last_document)
            n_documents += len(batch)
            progress.update(len(batch))
    return counts, n_documents


def _batches(documents: Iterable[str], size: int) -> Iterator[list[str]]:
    if isinstance(documents, str):
        raise InputError("documents must be an iterable of texts, not one string")
    iterator = iter(documents)
    while batch := list(islice(iterator, size)):
        yield batch


@numba.njit(cache=True, nogil=True)
def _count_once_per_document(
    ids: np.ndarray, offsets: np.ndarray, first_document: int, counts: np.ndarray, last_document: np.ndarray
) -> None:
    for row in range(len(offsets) - 1):
        for position in range(offsets[row], offsets[row + 1]):
            token = ids[position]
            if last_document[token] != first_document + row:
                last_document[token] = first_document + row
                counts[token] += 1


def idf_from_counts(counts: np.ndarray, n_documents: int) -> np.ndarray:
    """ln(1 + (N - df + 0.5) / (df + 0.5)), BM25's non-negative IDF (arXiv 2411.04403, section 3), float64."""
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
        table = read_json(table)
        if not isinstance(table, dict):
            raise InputError(f"{source}: expected a flat JSON object {{token: weight}}")
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
        if isinstance(weight, bool) or not isinstance(weight, Real) or not np.isfinite(weight) or weight < 0:
            raise InputError(f"{source}: the weight of {token!r} is {weight!r}, not a number >= 0")
        if token in ids:
            vector[ids[token]] = weight
    full = dict(zip(names, vector.tolist(), strict=True))
    vector[tokenizer.all_special_ids] = 0.0
    return IdfWeights(full, vector.astype(np.float32))


def save_idf_weights(weights: Mapping[str, float], path: str | Path) -> None:
    """Write flat JSON {token: weight}, the format of OpenSearch's sparse tokenizers."""
    write_json(path, dict(weights))
