"""Test texts recognised in training texts, against the plain rules."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from neural_sparse.corpora.overlap import TestTexts
from neural_sparse.text.shingles import words

VOCABULARY = list("abcdefghijklmnopqr")


def plain(text: list[str], test: list[str], queries: bool) -> bool:
    """The three rules, one after another."""
    size = 4 if queries else 8

    def grams(split: list[str]) -> set[tuple[str, ...]]:
        return {tuple(split[at : at + size]) for at in range(len(split) - size + 1)}

    if not text or not test:
        return False
    wanted = grams(test)
    contained = bool(wanted) and len(wanted & grams(text)) >= 0.8 * len(wanted)
    one, other = set(text), set(test)
    same_words = queries and len(one & other) >= 0.8 * len(one | other)
    return text == test or contained or same_words


@pytest.mark.parametrize("queries", [True, False])
@pytest.mark.parametrize("seed", range(4))
def test_as_the_plain_rules(tmp_path: Path, queries: bool, seed: int) -> None:
    rng = random.Random(seed)

    def text(longest: int) -> list[str]:
        return [rng.choice(VOCABULARY) for _ in range(rng.randint(0, longest))]

    tests = [text(14) for _ in range(60)]
    training = [text(14) for _ in range(100)]
    training += [[*text(6), *rng.choice(tests), *text(6)] for _ in range(100)]
    training += [rng.sample(found, len(found)) for found in tests]
    TestTexts.of([" ".join(found) for found in tests], queries).save(tmp_path)
    loaded = TestTexts.load(tmp_path, queries)
    expected = [any(plain(one, test, queries) for test in tests) for one in training]
    assert loaded.match(training).tolist() == expected
    assert 20 < sum(expected) < len(training) - 20


def test_case_and_punctuation_do_not_hide_a_test_query() -> None:
    tests = TestTexts.of(["What is the capital of France?", "Übergröße"], queries=True)
    texts = ["what is  the CAPITAL of france", "what is the capital of spain", "übergrösse", "ÜBERGRÖSSE", ""]
    assert tests.match([words(text) for text in texts]).tolist() == [True, False, False, False, False]


@pytest.mark.parametrize("queries", [True, False])
def test_nothing_to_look_for(queries: bool) -> None:
    assert TestTexts.of([], queries).match([["a"], []]).tolist() == [False, False]
    assert TestTexts.of(["one two"], queries).match([]).tolist() == []
    assert TestTexts.of(["one"], queries).match([["one"], ["two"]]).tolist() == [True, False]
