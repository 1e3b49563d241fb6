"""Near-duplicates found by MinHash, against comparing every text with every other."""

from __future__ import annotations

import random

import numpy as np
import pytest

from neural_sparse.text.shingles import clusters, gram_sets, minhash_bands, words

VOCABULARY = [f"word{number}" for number in range(2000)]


def texts_with_copies(seed: int, changes: int) -> list[str]:
    """100 texts of 60 words, and a copy of each with some words changed, in any order."""
    rng = random.Random(seed)
    texts = [[rng.choice(VOCABULARY) for _ in range(60)] for _ in range(60)]
    for text in texts[:60]:
        copy = list(text)
        for place in rng.sample(range(60), changes):
            copy[place] = rng.choice(VOCABULARY)
        texts.append(copy)
    rng.shuffle(texts)
    return [" ".join(text) for text in texts]


def jaccard(one: str, other: str, size: int) -> float:
    def grams(text: str) -> set[tuple[str, ...]]:
        split = words(text)
        return {tuple(split[at : at + size]) for at in range(len(split) - size + 1)} or {tuple(split)}

    return len(grams(one) & grams(other)) / len(grams(one) | grams(other))


def found(texts: list[str], size: int, threshold: float) -> np.ndarray:
    bands = minhash_bands([words(text) for text in texts], size)
    return clusters(bands, lambda rows: [texts[row] for row in rows], size, threshold)


@pytest.mark.parametrize(("size", "changes"), [(1, 3), (1, 12), (3, 1), (3, 8)])
def test_as_comparing_all_with_all(size: int, changes: int) -> None:
    texts = texts_with_copies(changes, changes)
    first = found(texts, size, 0.8)
    close = {
        (one, other)
        for other in range(len(texts))
        for one in range(other)
        if jaccard(texts[one], texts[other], size) >= 0.8
    }
    pairs = {(int(one), row) for row, one in enumerate(first) if one != row}
    assert pairs <= close  # what is said to be near is near
    assert len(pairs) >= 0.95 * len(close)  # and few are missed


def test_clusters_name_their_first_text() -> None:
    texts = [
        "a b c d e f g h i j",
        "other words",
        "a b c d e f g h i k",
        "J I H G F E D C B A!",
        "other words",
    ]
    assert found(texts, 1, 0.8).tolist() == [0, 1, 0, 0, 1]
    assert found(texts, 1, 1.0).tolist() == [0, 1, 2, 0, 1]


def test_short_and_empty_texts() -> None:
    assert found(["hi", "hi", "ho", "", ""], 3, 0.8).tolist() == [0, 0, 2, 3, 3]
    assert found([], 3, 0.8).tolist() == []


def test_sketches_do_not_depend_on_what_is_sketched_with_them() -> None:
    split = [words(text) for text in texts_with_copies(0, 5)] * 10  # more than are sketched at a time
    together = minhash_bands(split, 3)
    for row in (0, 17, 1023, 1024, 1199):
        np.testing.assert_array_equal(minhash_bands([split[row]], 3)[0], together[row])


def test_gram_sets_keep_texts_apart() -> None:
    grams, offsets = gram_sets([["a", "b", "c"], [], ["a"], ["a", "b", "c", "d"]], 3)
    assert np.diff(offsets).tolist() == [1, 1, 1, 2]
    assert grams[0] == grams[3]
