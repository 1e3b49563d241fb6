"""Korean texts as their morphemes, by kiwipiepy (extra `korean`)."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from functools import cache
from typing import TYPE_CHECKING

from neural_sparse.errors import InputError
from neural_sparse.text.languages import NOT_HANGUL

if TYPE_CHECKING:
    from kiwipiepy import Kiwi

# Nouns, verbs, adjectives, roots, determiners: what Lucene's Nori keeps, less auxiliary verbs and copulas.
_KEPT = ("N", "VV", "VA", "XR", "MM", "MAG", "W_")
_DROPPED = ("W_URL", "W_EMAIL")  # no Hangul in them


def check_korean() -> None:
    """
    Raises:
        InputError: the analyser is not installed.
    """
    try:
        import kiwipiepy  # noqa: F401
    except ImportError as error:
        raise InputError(
            "language korean cuts words into morphemes, which needs an analyser: pip install 'neural-sparse[korean]'; "
            "language bigrams (pairs of letters) needs none"
        ) from error


@cache
def _analyser(process: int) -> Kiwi:
    """One for each process: its threads do not survive a fork."""
    check_korean()
    from kiwipiepy import Kiwi

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    # Without its dictionary of names of several words: each of their words is to be found, and it takes half the time.
    return Kiwi(num_workers=cores, load_multi_dict=False)


def korean_words(texts: Sequence[str]) -> Iterator[list[str]]:
    """Content morphemes of each text in their dictionary form, and its words of other scripts as they are.

    "걸어갔다" is 걸어가: endings and particles are left out. Numbers and words of other scripts within a Korean word
    stand alone: "1990년에" is 1990 and 년.

    Raises:
        InputError: the analyser is not installed.
    """
    found = _analyser(os.getpid()).tokenize(texts)
    for text, morphemes in zip(texts, found, strict=True):
        words = NOT_HANGUL.findall(text)
        for morpheme in morphemes:
            if morpheme.tag.startswith(_KEPT):
                words += [word for word in morpheme.form.split() if not NOT_HANGUL.search(word)]
        yield words
