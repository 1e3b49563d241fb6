"""How often a document's own words stand in it, counted on the host without torch; see `model.own_words`."""

from __future__ import annotations

from typing import Any

import numpy as np

from neural_sparse.text.ragged import offsets_of, ranges, segment_ids


class WordClasses:
    """Which tokens are forms of one word.

    Args:
        classes: int64 [vocabulary], -1 for tokens that are not counted.

    Attributes:
        total: words there are.
    """

    def __init__(self, classes: np.ndarray) -> None:
        self._classes = classes
        order = np.argsort(classes, kind="stable")
        # Members of each class, one class after the other.
        self._members = order[classes[order] >= 0]
        sizes = np.bincount(classes[self._members], minlength=1)
        self._starts = offsets_of(sizes)
        self.total = len(sizes)

    def counts(
        self, ids: np.ndarray, offsets: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Own words of packed documents: `ids` [tokens], document i is offsets[i]:offsets[i + 1].

        Returns:
            documents, tokens, int64 [entries], each place once; count, length, float32 [entries], how often forms of
            the word stand in the document, and its counted tokens.
        """
        documents = segment_ids(np.diff(offsets))
        found = self._classes[ids]
        documents, found = documents[found >= 0], found[found >= 0]
        lengths = np.bincount(documents, minlength=len(offsets) - 1)
        pairs, counts = np.unique(documents * self.total + found, return_counts=True)
        documents, found = pairs // self.total, pairs % self.total
        # Each (document, class) once per member of the class.
        sizes = self._starts[found + 1] - self._starts[found]
        return (
            np.repeat(documents, sizes),
            self._members[ranges(self._starts[found], sizes)],
            np.repeat(counts, sizes).astype(np.float32),
            np.repeat(lengths[documents], sizes).astype(np.float32),
        )


def saturated(count: Any, length: Any, mean_length: Any, k1: float, b: float) -> Any:
    """BM25's term frequency, between 0 and 1: of words that stand `count` times in documents of `length` tokens.

    Takes arrays and tensors.
    """
    return count / (count + k1 * (1 - b + b * length / mean_length))
