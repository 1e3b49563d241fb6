"""A document's text with what matched: where tokens lie, the best passage, pieces to be shown heavier or lighter."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from neural_sparse.text.words import Words

PASSAGE = 320  # characters


@dataclass(frozen=True)
class Span:
    """text[start:end] is (a part of) a token."""

    start: int
    end: int
    token: int


# Spans of a text in its composed form (`text.tokens.nfc`), in order.
FindSpans = Callable[[str], list[Span]]


def token_spans(tokenizer: Any, max_length: int | None = None) -> FindSpans:
    """Where a fast tokenizer finds its tokens; only those that a model of this length reads."""

    def find(text: str) -> list[Span]:
        text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        encoding = tokenizer.backend_tokenizer.encode(text, add_special_tokens=False)
        spans = [
            Span(start, end, token)
            for (start, end), token in zip(encoding.offsets, encoding.ids, strict=True)
        ]
        return spans if max_length is None else spans[: max(0, max_length - 2)]

    return find


def word_spans(words: Words) -> FindSpans:
    """Where BM25 finds its words."""
    pattern = re.compile(words.pattern)
    group = min(pattern.groups, 1)  # one that looks ahead has what it found in a group

    def find(text: str) -> list[Span]:
        spans = []
        for match in pattern.finditer(text):
            ids = words.known(match[group])
            spans += [Span(match.start(group), match.end(group), one) for one in ids]
        return spans

    return find


def best_passage(
    text: str, spans: Sequence[Span], weights: Mapping[int, float], width: int = PASSAGE
) -> tuple[int, int]:
    """Start and end of the stretch of at most about `width` characters whose distinct tokens weigh most.

    Args:
        spans: of this text, in order.
        weights: token -> what it adds to the score; others do not count.

    >>> text = "An apple a day. " * 5 + "Pears are sweet."
    >>> start, end = best_passage(text, [Span(80, 85, 7)], {7: 1.0}, width=30)
    >>> text[start:end]
    'An apple a day. Pears are sweet.'
    """
    if len(text) <= width:
        return 0, len(text)
    found = [span for span in spans if weights.get(span.token)]
    best, where = 0.0, (0, 0)
    first = 0
    inside: dict[int, int] = {}
    score = 0.0
    for span in found:  # a window that ends with this token
        inside[span.token] = inside.get(span.token, 0) + 1
        if inside[span.token] == 1:
            score += weights[span.token]
        while found[first].start < span.end - width and found[first] is not span:
            gone = found[first].token
            inside[gone] -= 1
            if not inside[gone]:
                score -= weights[gone]
            first += 1
        if score > best + 1e-9:
            best, where = score, (found[first].start, span.end)
    middle = (where[0] + where[1]) // 2 if best else width // 2
    start = min(max(0, middle - width // 2), len(text) - width)
    start = min(start, where[0]) if best else start
    end = max(start + width, where[1])
    return _word_start(text, start), _word_end(text, end)


def _word_start(text: str, place: int) -> int:
    """The beginning of the word, or of the sentence where it is near."""
    for back in range(place, max(0, place - 24), -1):
        if text[back - 1].isspace():
            return back
    return 0 if place < 24 else place


def _word_end(text: str, place: int) -> int:
    for forth in range(place, min(len(text), place + 24)):
        if text[forth].isspace():
            return forth
    return len(text) if len(text) - place < 24 else place


def pieces(
    text: str, spans: Sequence[Span], weights: Mapping[int, float], start: int = 0, end: int | None = None
) -> list[tuple[str, float]]:
    """text[start:end] in pieces, each with what its token adds to the score, 0 where it adds nothing.

    >>> pieces("sort a list", [Span(0, 4, 1), Span(5, 6, 2), Span(7, 11, 3)], {1: 2.0, 3: 0.5})
    [('sort', 2.0), (' a ', 0.0), ('list', 0.5)]
    """
    end = len(text) if end is None else end
    result: list[tuple[str, float]] = []
    place = start
    for span in spans:
        weight = weights.get(span.token, 0.0)
        if not weight or span.start < place or span.end > end:
            continue
        if span.start > place:
            result.append((text[place : span.start], 0.0))
        result.append((text[span.start : span.end], weight))
        place = span.end
    if place < end:
        result.append((text[place:end], 0.0))
    return result
