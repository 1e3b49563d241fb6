from __future__ import annotations

import re
import string

import numpy as np
import pytest

from neural_sparse.mining.duplicates import SHINGLE, Shingles, code_points


def plain(text: str) -> set[str]:
    simple = " ".join(re.findall(r"[^\W_]+", text.lower()))
    return {simple[i : i + SHINGLE] for i in range(max(1, len(simple) - SHINGLE + 1))} if simple else set()


def made_up(rng: np.random.Generator) -> str:
    letters = string.ascii_letters + "    ,.-가나다라é" + string.digits
    return "".join(rng.choice(list(letters), int(rng.integers(0, 60))))


def test_texts_are_reduced_to_their_words() -> None:
    rng = np.random.default_rng(0)
    texts = ["", "...", *(made_up(rng) for _ in range(60))]
    codes, offsets, whole = code_points(texts)
    for number, text in enumerate(texts):
        words = " ".join(re.findall(r"[^\W_]+", text.lower()))
        assert "".join(map(chr, codes[offsets[number] : offsets[number + 1]])) == words
        same = [words == " ".join(re.findall(r"[^\W_]+", other.lower())) for other in texts]
        assert (whole == whole[number]).tolist() == same


@pytest.mark.parametrize(("jaccard", "containment"), [(0.5, None), (None, 0.6), (0.4, 0.7), (None, None)])
def test_overlap_equals_the_formula(jaccard: float | None, containment: float | None) -> None:
    rng = np.random.default_rng(1)
    words = [made_up(rng) for _ in range(12)]
    documents = [" ".join(rng.choice(words, int(rng.integers(1, 7)))) for _ in range(80)]
    documents[7] = documents[3].upper() + " ..."
    positives, candidates = rng.integers(0, 80, 20), rng.integers(0, 80, (20, 30))
    positives[0], candidates[0, 0] = 3, 7
    wanted = rng.random((20, 30)) < 0.9
    wanted[0, 0] = True
    equal, near = Shingles(documents).overlap(positives, candidates, wanted, jaccard, containment)
    assert equal[0, 0]
    for query in range(20):
        mine = plain(documents[positives[query]])
        for column in range(30):
            theirs = plain(documents[candidates[query, column]])
            same = " ".join(re.findall(r"[^\W_]+", documents[positives[query]].lower())) == " ".join(
                re.findall(r"[^\W_]+", documents[candidates[query, column]].lower())
            )
            shared = len(mine & theirs)
            close = bool(mine) and (
                (jaccard is not None and shared >= jaccard * len(mine | theirs))
                or (containment is not None and shared >= containment * len(mine))
            )
            assert equal[query, column] == (same and wanted[query, column])
            assert near[query, column] == (close and not same and wanted[query, column])
    if jaccard or containment:
        assert 0 < near.sum() < near.size / 2


def test_what_is_remembered_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    from neural_sparse.mining import duplicates

    rng = np.random.default_rng(2)
    documents = [made_up(rng) * 2 for _ in range(30)]
    arguments = [
        (rng.integers(0, 30, 4), rng.integers(0, 30, (4, 5)), np.ones((4, 5), bool), 0.5, 0.5)
        for _ in range(6)
    ]
    once = Shingles(documents)
    monkeypatch.setattr(duplicates, "_KEPT", 50)
    forgetful = Shingles(documents)
    for argument in arguments:
        for a, b in zip(once.overlap(*argument), forgetful.overlap(*argument), strict=True):
            np.testing.assert_array_equal(a, b)


def test_full_width_and_composed_letters_are_the_same_text() -> None:
    documents = ["Ｃafe\u0301 ２００", "café 200", "half a pair \ud83d", "cafe 200"]
    equal, _ = Shingles(documents).overlap(
        np.array([0]), np.array([[1, 2, 3]]), np.ones((1, 3), bool), None, None
    )
    assert equal.tolist() == [[True, False, False]]
