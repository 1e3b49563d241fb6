"""What the leakage check says, against the rule applied to every pair of texts, one after another."""

from __future__ import annotations

import random

import pytest

from neural_sparse.corpora.collection import Collection
from neural_sparse.corpora.overlap import TestTexts
from neural_sparse.evaluation.leakage import Found, find_leakage
from neural_sparse.text.shingles import words


def share(test: list[str], text: list[str], queries: bool) -> float:
    """Of the test text's n-grams that the text holds; of the words that both share, where that is more."""
    size = 4 if queries else 8

    def grams(split: list[str]) -> set[tuple[str, ...]]:
        return {tuple(split[at : at + size]) for at in range(len(split) - size + 1)}

    held = len(grams(test) & grams(text)) / len(grams(test)) if grams(test) else 0.0
    both = set(test) | set(text)
    return max(held, len(set(test) & set(text)) / len(both) if queries and both else 0.0)


def plain(
    tests: dict[str, str], training: list[str], queries: bool, least: float
) -> tuple[list[Found], list[Found]]:
    """Equal and nearly equal ones; of several training texts the first equal one, or the first that holds most."""
    exact, near = [], []
    for test_id, test in tests.items():
        if not words(test):
            continue
        equal = [text for text in training if words(text) == words(test)]
        shares = [share(words(test), words(text), queries) for text in training]
        if equal:
            exact.append(Found(test_id, test, equal[0], 1.0))
        elif shares and max(shares) >= least:
            near.append(Found(test_id, test, training[shares.index(max(shares))], max(shares)))
    return exact, near


@pytest.mark.parametrize("least", [0.1, 0.4, 0.8, 1.0])
@pytest.mark.parametrize("seed", range(3))
def test_as_the_plain_rule(seed: int, least: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Which test texts, which training text holds each, and how much of it."""
    monkeypatch.setattr("neural_sparse.evaluation.leakage._SHOWN", 1000)
    monkeypatch.setattr("neural_sparse.evaluation.leakage._BATCH", 32)
    rng = random.Random(seed)

    def text(longest: int) -> list[str]:
        return [rng.choice("abcdefghijklmnopqr東京é") for _ in range(rng.randint(0, longest))]

    tests = [text(14) for _ in range(60)]
    training = [" ".join(text(14)) for _ in range(40)]
    training += [" ".join([*text(6), *rng.choice(tests), *text(6)]).upper() for _ in range(60)]
    training += [" - ".join(rng.sample(found, len(found))) for found in tests]
    training += rng.choices(training, k=20)
    queries = {f"q{row}": " ".join(found) + "?" for row, found in enumerate(tests[:30])}
    documents = {f"d{row}": " ".join(found) for row, found in enumerate(tests)}
    collection = Collection.of(documents, queries, {one: {"d3": 1, "d4": 1} for one in queries})
    result = find_leakage(collection, iter(training), contained=least)
    exact_queries, near_queries = plain(queries, training, True, least)
    exact_documents, near_documents = plain(documents, training, False, least)
    assert result.examples == exact_queries + near_queries + exact_documents + near_documents
    assert (result.exact_queries, result.near_queries) == (len(exact_queries), len(near_queries))
    assert (result.exact_documents, result.near_documents) == (len(exact_documents), len(near_documents))
    assert result.relevant_documents == sum(
        one.id in ("d3", "d4") for one in exact_documents + near_documents
    )
    assert result.training_texts == len(training)


def test_it_counts_what_cleaning_takes_out() -> None:
    """One rule: whether any training text matches is whether any test text is found."""
    rng = random.Random(5)
    tests = [[rng.choice("abcdefghij") for _ in range(rng.randint(1, 9))] for _ in range(200)]
    training = [[rng.choice("abcdefghij") for _ in range(rng.randint(1, 9))] for _ in range(120)]
    queries = {str(row): " ".join(test) for row, test in enumerate(tests)}
    matched = TestTexts.of(list(queries.values()), queries=True).match(training)
    assert 12 < matched.sum() < 108
    for text, found in zip(training, matched.tolist(), strict=True):
        collection = Collection.of({"d": ""}, queries, {one: {"d": 1} for one in queries})
        result = find_leakage(collection, [" ".join(text)])
        assert bool(result.exact_queries + result.near_queries) == found
